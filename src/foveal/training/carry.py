"""Incremental training: the weights of an earlier artifact, taken over into a network with the same or more classes."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from foveal.artifact import DESCRIPTION, Artifact, check_fit
from foveal.errors import UserError
from foveal.models.detector import Detector
from foveal.models.network import ClassificationNetwork


@torch.no_grad()
def carry_over(
    network: ClassificationNetwork | Detector,
    earlier: Artifact,
    tensors: Mapping[str, Tensor],
    class_names: tuple[str, ...],
) -> list[str]:
    """Put the earlier weights into ``network``; answers for classes go by class name, new classes start fresh.

    The network must be built from the earlier artifact's specification but for the number of classes; a detector may
    take another size of picture, if it has the same maps there.

    Returns:
        A line that says what was taken over.

    Raises:
        UserError: when a class of the earlier model is missing now, or the weights do not fit.
    """
    missing = [name for name in earlier.class_names if name not in class_names]
    if missing:
        raise UserError(
            f"the data lacks classes of the earlier model: {', '.join(missing[:5])}",
            "model",
            "Incremental training keeps all earlier classes and may add some: give pictures of each, or train anew.",
        )
    mine = network.state_dict()
    background = isinstance(network, Detector) and network.background
    by_class = network.prediction_names if isinstance(network, Detector) else network.classifier_names
    check_fit(mine, tensors, "model", by_class)
    rows = [class_names.index(name) for name in earlier.class_names]
    if background:  # row 0
        rows = [0, *(1 + row for row in rows)]
    answers = len(class_names) + background
    wrong = [name for name in by_class if len(tensors[name]) * answers != len(mine[name]) * len(rows)]
    if wrong:
        raise UserError(
            f"the weights do not answer for the {len(earlier.class_names)} classes that {DESCRIPTION} names "
            f"({len(wrong)} tensors, e.g. {wrong[0]})",
            "model",
            "Copy the artifact again.",
        )
    for name, tensor in mine.items():
        if name in by_class:
            # [anchors * answers, ...] of a detector, [answers, ...] of a classifier
            theirs = tensors[name].to(tensor.dtype)
            tensor.unflatten(0, (-1, answers))[:, rows] = theirs.unflatten(0, (-1, len(rows)))
        else:
            tensor.copy_(tensors[name])
    added = [name for name in class_names if name not in earlier.class_names]
    more = f", {len(added)} new ({', '.join(added[:5])}{', ...' if len(added) > 5 else ''})" if added else ""
    return [f"weights taken over from the earlier model: {len(earlier.class_names)} classes stay{more}"]
