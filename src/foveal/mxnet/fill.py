"""Arrays of a ``.params`` file into a network of ours, by name."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from foveal.errors import UserError


def fill(
    network: nn.Module,
    names: Mapping[str, str],
    arrays: Mapping[str, NDArray[Any]],
    ignored: Iterable[str],
    origin: str,
    compare: str,
) -> None:
    """Fill a network; float16 is cast to float32.

    Args:
        network: takes the arrays.
        names: MXNet's name of each of its tensors.
        arrays: as ``read_params`` gives them.
        ignored: names that may be there, and have no place in the network.
        origin: the file, for errors.
        compare: the settings that make two networks differ, for errors.

    Raises:
        UserError: when a tensor is missing, left over, or of another shape; the network is then unchanged.
    """
    state = network.state_dict()
    wanted = set(names.values())
    missing = sorted(wanted - set(arrays))
    left_over = sorted(set(arrays) - wanted - set(ignored))
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
                f"The arrays belong to another network: compare {compare}.",
            )
    for ours, there in names.items():
        state[ours] = torch.from_numpy(arrays[there].astype(np.float32))
    network.load_state_dict(state)


def _shape(shape: Iterable[int]) -> str:
    return "x".join(map(str, shape))
