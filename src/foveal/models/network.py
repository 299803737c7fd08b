"""The network of a classifier: what it is (a specification that an artifact stores) and the module built from it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

from torch import Tensor, nn

from foveal.errors import UserError
from foveal.models.backbone import backbone_classifier, backbone_features, build_backbone
from foveal.models.depths import plan_resnet
from foveal.models.normalise import Normalise
from foveal.models.resnet import ResNet
from foveal.models.stored import check_pictures, read_stored, refuse
from foveal.models.vgg import STRIDE, Vgg16

Family = Literal["resnet", "vgg", "timm"]


@dataclass(frozen=True)
class NetworkSpec:
    """Everything that a network is built from, but its weights. All of it is JSON.

    Attributes:
        family: ``resnet`` and ``vgg`` are ours; ``timm`` is any network of timm.
        num_classes: width of the last layer.
        image_shape: channels, height, width of the network's input.
        num_layers: depth of a ResNet; 16 for VGG; 0 for timm.
        resnet: kind of a ResNet, ``pre`` or ``post``; empty for others.
        backbone: timm's name; empty for others.
        width: factor on a ResNet's filters.
        mean, std: normalisation, one number a channel in units of pixel values 0..255; empty: raw pixel values.
    """

    family: Family
    num_classes: int
    image_shape: tuple[int, int, int]
    num_layers: int = 0
    resnet: Literal["pre", "post", ""] = ""
    backbone: str = ""
    width: float = 1.0
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """For JSON; ``from_dict`` reads it back."""
        return asdict(self)

    @classmethod
    def from_dict(cls, stored: Mapping[str, Any], where: str = "network") -> NetworkSpec:
        """Read what ``as_dict`` gave and JSON kept.

        Raises:
            UserError: when a field is unknown, missing or of the wrong type; ``where`` names the file.
        """
        return read_stored(cls, stored, where)

    def check(self) -> None:
        """Raises ValueError for what no network can be built from."""
        kinds = {"resnet": ("pre", "post"), "vgg": ("",), "timm": ("",)}
        check_pictures(self.num_classes, self.image_shape, self.mean, self.std)
        refuse(
            (type(self.num_layers) is int, f"num_layers {self.num_layers!r}"),
            (self.family in kinds, f"family {self.family!r}"),
            (self.resnet in kinds.get(self.family, ()), f"resnet {self.resnet!r} of family {self.family!r}"),
            (bool(self.backbone) == (self.family == "timm"), f"backbone {self.backbone!r} of family {self.family!r}"),
            (self.width > 0, f"width {self.width}"),
        )

    @property
    def label(self) -> str:
        """The network in a person's words: ``ResNet-18 (post)``."""
        if self.family == "resnet":
            return f"ResNet-{self.num_layers} ({self.resnet})"
        return "VGG-16" if self.family == "vgg" else self.backbone


class ClassificationNetwork(nn.Module):
    """Normalisation and a body; the body's parameters are all there is in its ``state_dict``, under ``body.``.

    Attributes:
        spec: what it was built from.
        classifier_names: parameters of the last layer, ``("body.fc.weight", "body.fc.bias")``.
    """

    def __init__(self, spec: NetworkSpec, body: nn.Module, classifier: tuple[str, ...]) -> None:
        super().__init__()
        self.spec = spec
        self.normalise = Normalise(spec.mean, spec.std)
        self.body = body
        self.classifier_names = tuple(
            name for name, _ in self.named_parameters() if name.rpartition(".")[0] in {f"body.{c}" for c in classifier}
        )

    def forward(self, batch: Tensor) -> Tensor:
        """uint8 [B, H, W, C] -> logits, float32 [B, num_classes]."""
        logits: Tensor = self.body(self.normalise(batch))
        return logits.float()

    def embed(self, batch: Tensor) -> Tensor:
        """uint8 [B, H, W, C] -> what goes into the last layer, float32 [B, F], as it is (not scaled to length 1)."""
        x = self.normalise(batch)
        if isinstance(self.body, ResNet | Vgg16):
            return self.body.embed(x).float()
        return backbone_features(self.body, x).float()


def build(spec: NetworkSpec) -> ClassificationNetwork:
    """Build a network with starting weights drawn from torch's global generator.

    Raises:
        UserError: when no such network exists (depth, timm's name), timm is missing, or the picture is too small.
    """
    spec.check()
    channels, height, width = spec.image_shape
    if spec.family == "timm":
        body = build_backbone(spec.backbone, spec.image_shape, spec.num_classes)
        return ClassificationNetwork(spec, body, backbone_classifier(body))
    if spec.family == "vgg":
        if min(height, width) < STRIDE:
            raise UserError(
                f"VGG-16 takes pictures of at least {STRIDE}x{STRIDE} pixels, not {width}x{height}",
                "image_shape",
                f"Set image_shape to {channels},{STRIDE},{STRIDE} or more; smaller pictures are then enlarged.",
                "image_shape",
            )
        return ClassificationNetwork(spec, Vgg16(channels, spec.num_classes), ("fc",))
    assert spec.resnet
    plan = plan_resnet(spec.num_layers, spec.resnet, height, spec.width)
    return ClassificationNetwork(spec, ResNet(plan, channels, spec.num_classes), ("fc",))
