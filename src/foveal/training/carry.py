"""Incremental training: the weights of an earlier artifact, taken over into a network with the same or more classes."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from foveal.artifact import Artifact, check_fit
from foveal.errors import UserError
from foveal.models.network import ClassificationNetwork


@torch.no_grad()
def carry_over(
    network: ClassificationNetwork,
    earlier: Artifact,
    tensors: Mapping[str, Tensor],
    class_names: tuple[str, ...],
) -> list[str]:
    """Put the earlier weights into ``network``; rows of the last layer go by class name, new classes start fresh.

    The network must be built from the earlier artifact's specification but for the number of classes.

    Returns:
        A line that says what was taken over.

    Raises:
        UserError: when a class of the earlier model is missing now.
    """
    missing = [name for name in earlier.class_names if name not in class_names]
    if missing:
        raise UserError(
            f"the data lacks classes of the earlier model: {', '.join(missing[:5])}",
            "model",
            "Incremental training keeps all earlier classes and may add some: give pictures of each, or train anew.",
        )
    mine = network.state_dict()
    check_fit(mine, tensors, "model", network.classifier_names)
    rows = torch.tensor([class_names.index(name) for name in earlier.class_names])
    for name, tensor in mine.items():
        if name in network.classifier_names:
            tensor[rows] = tensors[name].to(tensor.dtype)
        else:
            tensor.copy_(tensors[name])
    added = [name for name in class_names if name not in earlier.class_names]
    more = f", {len(added)} new ({', '.join(added[:5])}{', ...' if len(added) > 5 else ''})" if added else ""
    return [f"weights taken over from the earlier model: {len(earlier.class_names)} classes stay{more}"]
