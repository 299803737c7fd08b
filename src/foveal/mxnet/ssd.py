"""Names of the original's detectors (reference, section 6.8) and ours, and how arrays come from one to the other.

ours                                          MXNet's
body.backbone.features.0.weight               arg:conv1_1_weight
body.backbone.fc6.bias                        arg:fc6_bias
body.backbone.layer2.0.conv1.weight           arg:stage2_unit1_conv1_weight        (as in ``foveal.mxnet.resnet``)
body.scale                                    arg:relu4_3_scale
body.extras.0.conv1.weight                    arg:multi_feat_2_conv_1x1_conv_weight
body.class_heads.0.weight                     arg:relu4_3_cls_pred_conv_weight     (ResNet: arg:_plus12_cls_...)
body.box_heads.2.bias                         arg:multi_feat_2_conv_3x3_relu_loc_pred_conv_bias

``post`` ResNets, which the original has not, get the names that their layers would have there. Networks of timm's have
none in their backbones, nor in the normalisations that follow them; detectors with a pyramid have none at all.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from numpy.typing import NDArray
from torch import nn

from foveal.mxnet import resnet
from foveal.mxnet.fill import fill
from foveal.mxnet.freeze import matching

BACKBONE = "body.backbone."
VGG_SOURCES = ("relu4_3", "relu7")
RESNET_SOURCES = ("_plus12", "_plus15")
NORMS = "body.norms."
PYRAMID = "body.lateral."
OTHER_SOURCES = ("stride8", "stride16", "stride32")  # of timm's networks, which the original has not
# torchvision's numbers of VGG's convolutions, and the original's names.
VGG_LAYERS = {
    "0": "conv1_1",
    "2": "conv1_2",
    "5": "conv2_1",
    "7": "conv2_2",
    "10": "conv3_1",
    "12": "conv3_2",
    "14": "conv3_3",
    "17": "conv4_1",
    "19": "conv4_2",
    "21": "conv4_3",
    "24": "conv5_1",
    "26": "conv5_2",
    "28": "conv5_3",
}


def mxnet_names(names: Iterable[str]) -> dict[str, str]:
    """MXNet's name of each of our detector's tensors, e.g. of ``detector.state_dict()``.

    Left out: ``num_batches_tracked``, which MXNet does not count, and of timm's networks the backbones and what
    normalises their maps.
    """
    names = list(names)
    if any(name.startswith(PYRAMID) for name in names):
        return {}
    vgg = f"{BACKBONE}fc6.weight" in names
    # timm's ResNets have names like ours, and a map more of their own.
    ours = vgg or _count(names, "body.class_heads.") - _count(names, "body.extras.") == len(RESNET_SOURCES)
    sources = VGG_SOURCES if vgg else RESNET_SOURCES if ours else OTHER_SOURCES
    found: dict[str, str] = {}
    for name in names:
        inner = name.removeprefix(BACKBONE)
        if name.endswith(".num_batches_tracked") or name.startswith(NORMS):
            continue
        if inner == name:
            found[name] = f"arg:{_head_name(name.removeprefix('body.'), sources)}"
        elif vgg:
            found[name] = f"arg:{_vgg_name(inner)}"
        elif ours:
            found[name] = resnet.mxnet_name(inner)
    return found


def _count(names: Iterable[str], start: str) -> int:
    """How many modules there are in the list whose tensors' names begin with ``start``."""
    return len({name.removeprefix(start).partition(".")[0] for name in names if name.startswith(start)})


def _head_name(name: str, sources: tuple[str, ...]) -> str:
    if name == "scale":
        return "relu4_3_scale"
    part, number, rest = name.split(".", 2)
    if part == "extras":
        layer, tensor = rest.split(".")
        return f"multi_feat_{int(number) + len(sources)}_conv_{'1x1' if layer == 'conv1' else '3x3'}_conv_{tensor}"
    index = int(number)
    source = sources[index] if index < len(sources) else f"multi_feat_{index}_conv_3x3_relu"
    return f"{source}_{'cls' if part == 'class_heads' else 'loc'}_pred_conv_{rest}"


def _vgg_name(name: str) -> str:
    layer, _, tensor = name.rpartition(".")
    return f"{VGG_LAYERS.get(layer.removeprefix('features.'), layer)}_{tensor}"


def load_mxnet(detector: nn.Module, arrays: Mapping[str, NDArray[Any]], origin: str = "") -> None:
    """Fill a detector with the arrays of a ``.params`` file of the original's object detection, by name.

    Args:
        detector: a ``Detector`` on ``vgg-16`` or the ``pre`` ``resnet-50``.
        arrays: as ``read_params`` gives them; float16 is cast to float32.
        origin: the file, for errors.

    Raises:
        UserError: when a tensor is missing, left over, or of another shape; the network is then unchanged.
    """
    names = mxnet_names(detector.state_dict())
    fill(detector, names, arrays, (resnet.FIXED_GAMMA,), origin, "base_network, image_shape and num_classes")


def frozen_names(detector: nn.Module, pattern: str) -> tuple[str, ...]:
    """Names of the parameters that ``freeze_layer_pattern`` keeps from learning (reference, section 2.8).

    Args:
        detector: a ``Detector``.
        pattern: a regular expression, matched from the start of the original's name (``conv1_1_weight``), of ours
            (``body.backbone.features.0.weight``), and of ours without ``body.`` or ``body.backbone.``.

    Raises:
        UserError: when it is no regular expression.
    """
    ours = [name for name, _ in detector.named_parameters()]
    theirs = mxnet_names(ours)
    calls = {}
    for name in ours:
        inner = (name.removeprefix("body."), name.removeprefix(BACKBONE))
        calls[name] = (theirs.get(name, "").removeprefix("arg:"), name, *inner)
    return matching(calls, pattern)
