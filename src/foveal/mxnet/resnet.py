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

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from foveal.errors import UserError

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
    return {name: _mxnet_name(name) for name in names if not name.endswith(".num_batches_tracked")}


def _mxnet_name(name: str) -> str:
    layer, _, tensor = name.rpartition(".")
    unit = re.fullmatch(r"layer(\d+)\.(\d+)\.(\w+)", layer)
    if unit:
        part = "sc" if unit[3] == "downsample" else unit[3]
        there = f"stage{unit[1]}_unit{int(unit[2]) + 1}_{part}"
    else:
        there = _LAYERS[layer]
    if re.search(r"(bn|bn_data|norm)\d?$", layer):
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
    state = body.state_dict()
    names = mxnet_names(state)
    wanted = set(names.values())
    missing = sorted(wanted - set(arrays))
    left_over = sorted(set(arrays) - wanted - {FIXED_GAMMA})
    differ = [
        f"{there} is {_shape(arrays[there].shape)}, the network takes {_shape(state[ours].shape)}"
        for ours, there in names.items()
        if there in arrays and arrays[there].shape != tuple(state[ours].shape)
    ]
    for what, found in (("missing", missing), ("not in the network", left_over), ("of another shape", differ)):
        if found:
            more = f" and {len(found) - 5} more" if len(found) > 5 else ""
            raise UserError(
                f"{len(found)} arrays are {what}: {'; '.join(found[:5])}{more}",
                origin or "MXNet arrays",
                "The arrays belong to another network: compare num_layers, image_shape and num_classes.",
            )
    for ours, there in names.items():
        state[ours] = torch.from_numpy(arrays[there].astype(np.float32))
    body.load_state_dict(state)


def _shape(shape: Iterable[int]) -> str:
    return "x".join(map(str, shape))
