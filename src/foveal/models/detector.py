"""The network of a detector: what it is (a specification that an artifact stores) and the module built from it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from foveal.errors import UserError
from foveal.models.anchors import AnchorLayout, anchors_for
from foveal.models.backbone import backbone_maps, build_map_backbone, meta_shapes
from foveal.models.boxcoding import decode
from foveal.models.depths import plan_resnet, scaled
from foveal.models.normalise import Normalise
from foveal.models.pyramid import Pyramid, boxes_around, cells_for
from foveal.models.resnet import ResNet
from foveal.models.ssd import RESNET, TIMM, Ssd, initialise, vgg_plan
from foveal.models.stored import check_pictures, read_stored, refuse
from foveal.models.suppression import Rule, detect, detect_fixed, detect_scored, detect_scored_fixed
from foveal.models.vgg import VggReduced

VGG = "vgg-16"
RESNET50 = "resnet-50"
Head = Literal["ssd", "pyramid"]
Outputs = tuple[Tensor, Tensor, Tensor]
"""What a detector answers, see ``Detector.forward``."""
SMALLEST_VGG = 268  # pixels; below, the maps without padding are used up


@dataclass(frozen=True)
class DetectorSpec:
    """Everything that a detector is built from, but its weights. All of it is JSON.

    Attributes:
        base: ``vgg-16``, ``resnet-50``, or a network of timm's by its name (the setting ``base_network``).
        num_classes: without background.
        image_shape: channels, height, width of the network's input; a square.
        resnet: kind of ``resnet-50``, ``pre`` (the original's) or ``post`` (torchvision's); empty for others.
        head: what finds boxes on the maps: ``ssd`` or ``pyramid``.
        width: factor on filters, for trials; of ``vgg-16`` and ``resnet-50``.
        mean, std: normalisation, one number a channel in units of pixel values 0..255; empty: raw pixel values.
    """

    base: str
    num_classes: int
    image_shape: tuple[int, int, int]
    resnet: Literal["pre", "post", ""] = ""
    head: Head = "ssd"
    width: float = 1.0
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """For JSON; ``from_dict`` reads it back."""
        return asdict(self)

    @classmethod
    def from_dict(cls, stored: Mapping[str, Any], where: str = "network") -> DetectorSpec:
        """Read what ``as_dict`` gave and JSON kept.

        Raises:
            UserError: when a field is unknown, missing or of the wrong type; ``where`` names the file.
        """
        return read_stored(cls, stored, where)

    def check(self) -> None:
        """Raises ValueError for what no detector can be built from."""
        check_pictures(self.num_classes, self.image_shape, self.mean, self.std)
        kinds = ("pre", "post") if self.base == RESNET50 else ("",)
        ours = self.base in (VGG, RESNET50)
        refuse(
            (isinstance(self.base, str) and bool(self.base), f"base {self.base!r}"),
            (self.image_shape[1] == self.image_shape[2], f"image_shape {self.image_shape}, which is no square"),
            (self.resnet in kinds, f"resnet {self.resnet!r} of base {self.base!r}"),
            (self.head in ("ssd", "pyramid"), f"head {self.head!r}"),
            (self.width > 0 and (ours or self.width == 1), f"width {self.width} of base {self.base!r}"),
        )

    @property
    def label(self) -> str:
        """The detector in a person's words: ``SSD on ResNet-50 (pre)``."""
        head = "SSD" if self.head == "ssd" else "pyramid"
        if self.base == RESNET50:
            return f"{head} on ResNet-50 ({self.resnet})"
        return f"{head} on {'VGG-16' if self.base == VGG else self.base}"


class Detector(nn.Module):
    """Normalisation and a body; the body's parameters are all there is in its ``state_dict``, under ``body.``.

    Attributes:
        spec: what it was built from.
        anchors: float32 [A, 4], corner form, fractions of the network's input: what boxes are told from; SSD's anchors,
            or the cell of each place of a pyramid.
        background: whether the answers of an anchor begin with one for background, as SSD's do.
        prediction_names: parameters whose rows depend on the number of classes: row anchor * answers + class, with
            background being class 0.
    """

    anchors: Tensor

    def __init__(self, spec: DetectorSpec, body: Ssd | Pyramid, layout: AnchorLayout | None) -> None:
        super().__init__()
        self.spec = spec
        self.normalise = Normalise(spec.mean, spec.std)
        self.body = body
        self.background = spec.head == "ssd"
        self._layout = layout
        self._other: dict[int, Tensor] = {}
        self.register_buffer("anchors", self._anchors(spec.image_shape[1]), persistent=False)
        self.prediction_names = self._named("body.class_heads.", "body.classes.")

    @property
    def label(self) -> str:
        return self.spec.label

    def forward(self, batch: Tensor) -> Outputs:
        """uint8 [B, S, S, C] -> what is said of the anchors, where boxes lie from them, and the anchors [A, 4].

        SSD: logits float32 [B, A, classes + 1] (class 0 is background) and offsets float32 [B, A, 4]. Pyramid: logits
        float32 [B, A, classes], each for itself, and logarithms of distances float32 [B, A, 4]. S may be another side
        than the specification's, as far as the backbone takes it; A follows.
        """
        logits, offsets = self.body(self.normalise(batch))
        return logits.float(), offsets.float(), self._anchors_at(batch.shape[1])

    def multipliers(self) -> dict[str, tuple[float, float]]:
        """Factors on learning rate and weight decay, by name of the parameter, where they are not the usual ones
        (reference 2.2): the biases of SSD's prediction layers learn twice as fast and never decay, as other biases; the
        scale of VGG's first map decays by a tenth."""
        biases = [name for name in self._named("body.class_heads.", "body.box_heads.") if name.endswith(".bias")]
        return dict.fromkeys(biases, (2.0, 0.0)) | dict.fromkeys(self._named("body.scale"), (1.0, 0.1))

    def _named(self, *starts: str) -> tuple[str, ...]:
        return tuple(name for name, _ in self.named_parameters() if name.startswith(starts))

    def _anchors_at(self, side: int) -> Tensor:
        if side == self.spec.image_shape[1]:
            return self.anchors
        if side not in self._other or self._other[side].device != self.anchors.device:
            self._other[side] = self._anchors(side).to(self.anchors.device)
        return self._other[side]

    @torch.compiler.disable  # type: ignore[untyped-decorator]
    def _anchors(self, side: int) -> Tensor:
        shapes = meta_shapes(self.body, self.body.maps, (self.spec.image_shape[0], side, side))
        maps = [(shape[2], shape[3]) for shape in shapes]
        return torch.from_numpy(cells_for(maps) if self._layout is None else anchors_for(self._layout, maps, side))


def scored(head: Head, outputs: Outputs) -> tuple[Tensor, Tensor]:
    """A detector's answers, whatever its head, as scores and boxes.

    Returns:
        scores: float32 [B, A, classes], 0 to 1. boxes: float32 [B, A, 4], corner form, fractions, cut off at the edges.
    """
    logits, offsets, anchors = outputs
    if head == "ssd":
        return logits.softmax(dim=2)[..., 1:], decode(anchors, offsets)
    return logits.sigmoid(), boxes_around(anchors, offsets).clamp(0, 1)


def found(head: Head, outputs: Outputs, rule: Rule, fixed: bool = False) -> Tensor:
    """The boxes that count of a detector's answers: rows float32 [B, N, 6] as ``suppression.detect`` gives them.

    Args:
        fixed: N depends on shapes alone, as exported graphs need it (``suppression.detect_fixed``).
    """
    if head == "ssd":
        logits, offsets, anchors = outputs
        given = (logits.softmax(dim=2), offsets, anchors)
        return detect_fixed(*given, rule) if fixed else detect(*given, rule=rule)
    return (detect_scored_fixed if fixed else detect_scored)(*scored(head, outputs), rule)


def build_detector(spec: DetectorSpec) -> Detector:
    """Build a detector with starting weights drawn from torch's global generator.

    Raises:
        UserError: when no such network exists (timm's name, or one without the maps), timm is missing, or the picture
            is too small for it.
    """
    spec.check()
    backbone, channels, numbers = _backbone(spec)
    if spec.head == "pyramid":
        return Detector(spec, Pyramid(backbone, channels, spec.num_classes, numbers), None)
    plan = {VGG: vgg_plan(spec.image_shape[1]), RESNET50: RESNET}.get(spec.base, TIMM)
    ssd_channels = channels[-2:] if spec.base == RESNET50 else channels
    return Detector(spec, Ssd(backbone, plan, ssd_channels, spec.num_classes, spec.width, numbers), plan.layout)


def _backbone(spec: DetectorSpec) -> tuple[nn.Module, tuple[int, ...], tuple[int, ...]]:
    """The network that makes the maps, their channels, and, of timm's, their numbers. Raises as ``build_detector``.

    Where the original starts from random weights, its initialiser draws the backbone's as well.
    """
    channels, side, _ = spec.image_shape
    if spec.base == VGG:
        if side < SMALLEST_VGG:
            raise UserError(
                f"SSD on VGG-16 takes pictures of at least {SMALLEST_VGG}x{SMALLEST_VGG} pixels, not {side}x{side}",
                "image_shape",
                "Set image_shape=300 or more; smaller pictures are then enlarged.",
                "image_shape",
            )
        backbone = VggReduced(channels, spec.width)
        initialise(backbone)
        return backbone, (scaled(512, spec.width), scaled(1024, spec.width)), ()
    if spec.base == RESNET50:
        assert spec.resnet
        resnet = ResNet(plan_resnet(50, spec.resnet, side, spec.width), channels, 0)
        if spec.resnet == "pre":
            initialise(resnet)
        return resnet, tuple(resnet.plan.filters[-3:]), ()
    network, numbers = build_map_backbone(spec.base, spec.image_shape)
    shapes = meta_shapes(network, lambda x: backbone_maps(network, x, numbers), spec.image_shape)
    return network, tuple(shape[1] for shape in shapes), numbers
