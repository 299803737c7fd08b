"""Names of MXNet's ResNet v2 (reference, section 6.8) and ours, and how arrays come from one to the other.

ours                            MXNet's
bn_data.bias                    arg:bn_data_beta
conv1.weight                    arg:conv0_weight
bn1.running_mean                aux:bn0_moving_mean
layer2.0.conv1.weight           arg:stage2_unit1_conv1_weight
layer2.0.downsample.weight      arg:stage2_unit1_sc_weight
norm.weight                     arg:bn1_gamma
fc.bias                         arg:fc1_bias
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from numpy.typing import NDArray
from torch import nn

from foveal.mxnet.fill import fill
from foveal.mxnet.freeze import matching

FIXED_GAMMA = "arg:bn_data_gamma"  # stored with any value, read as 1 (fix_gamma), so it has no place in our network
_LAYERS = {"bn_data": "bn_data", "conv1": "conv0", "bn1": "bn0", "norm": "bn1", "fc": "fc1"}
_NORM_TENSORS = {
    "weight": "arg:{}_gamma",
    "bias": "arg:{}_beta",
    "running_mean": "aux:{}_moving_mean",
    "running_var": "aux:{}_moving_var",
}


def mxnet_names(names: Iterable[str]) -> dict[str, str]:
    """MXNet's name of each of our ``pre`` ResNet's tensors, e.g. of ``network.state_dict()``.

    ``num_batches_tracked``, which MXNet does not count, is left out.
    """
    return {name: mxnet_name(name) for name in names if not name.endswith(".num_batches_tracked")}


def mxnet_name(name: str) -> str:
    """MXNet's name of one tensor. ``post`` has a normalisation in its shortcuts that MXNet has not: ``..._sc_bn``."""
    layer, _, tensor = name.rpartition(".")
    unit = re.fullmatch(r"layer(\d+)\.(\d+)\.(\w+)(\.1)?(?:\.0)?", layer)
    if unit:
        part = "sc" if unit[3] == "downsample" else unit[3]
        there = f"stage{unit[1]}_unit{int(unit[2]) + 1}_{part}{'_bn' if unit[4] else ''}"
    else:
        there = _LAYERS[layer]
    if re.search(r"(bn|bn_data|norm)\d?$|downsample\.1$", layer):
        return _NORM_TENSORS[tensor].format(there)
    return f"arg:{there}_{tensor}"


def load_mxnet(body: nn.Module, arrays: Mapping[str, NDArray[Any]], origin: str = "") -> None:
    """Fill a ``pre`` ResNet with the arrays of a ``.params`` file, by name.

    Args:
        body: a ``ResNet`` of kind ``pre``.
        arrays: as ``read_params`` gives them; float16 is cast to float32.
        origin: the file, for errors.

    Raises:
        UserError: when a tensor is missing, left over, or of another shape; the network is then unchanged.
    """
    names = mxnet_names(body.state_dict())
    fill(body, names, arrays, (FIXED_GAMMA,), origin, "num_layers, image_shape and num_classes")


def frozen_names(network: nn.Module, named: bool, pattern: str) -> tuple[str, ...]:
    """Names of the parameters of a classifier that ``freeze_layer_pattern`` keeps from learning.

    Args:
        network: a ``ClassificationNetwork``.
        named: whether its body is one of our ResNets, which have the original's names.
        pattern: a regular expression, matched from the start of the original's name (``stage1_unit1_conv1_weight``), of
            ours (``body.layer1.0.conv1.weight``), and of ours without ``body.``.

    Raises:
        UserError: when it is no regular expression.
    """
    calls = {}
    for name, _ in network.named_parameters():
        inner = name.removeprefix("body.")
        calls[name] = (mxnet_name(inner).removeprefix("arg:") if named else "", name, inner)
    return matching(calls, pattern)
