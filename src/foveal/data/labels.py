"""The labels of classification as one array: a class a picture, or a row of numbers where it has any number of them.

one a picture        int64 [n], the class
any number           float32 [n, C], 1 for the classes that a picture has, else 0
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from foveal.data.check import class_indices, class_sets
from foveal.data.subset import Subset
from foveal.records import BadRecord, Source


def class_labels(
    source: Source,
    several: bool,
    num_classes: int | None,
    class_names: tuple[str, ...] | None,
    *,
    channel: str = "",
    gaps_allowed: bool = False,
) -> tuple[NDArray[Any], list[BadRecord]]:
    """The checked labels of a source, and the records that it left out on opening.

    Args:
        several: whether rows of numbers are wanted; data with one label a picture gives rows with a single 1.
        num_classes, class_names, channel, gaps_allowed: as in ``class_indices``.

    Raises:
        UserError: as ``class_indices`` and ``class_sets`` do.
    """
    if several and (num_classes == 1 or (np.diff(source.labels().offsets) != 1).any()):
        return class_sets(source, num_classes, class_names, channel=channel)
    indices, left_out = class_indices(source, num_classes, class_names, channel=channel, gaps_allowed=gaps_allowed)
    if not several:
        return indices, left_out
    rows = np.zeros((len(indices), max(num_classes or 0, len(class_names or ()), int(indices.max()) + 1)), np.float32)
    rows[np.arange(len(indices)), indices] = 1
    return rows, left_out


def classes_of(labels: NDArray[Any]) -> NDArray[np.int64]:
    """The classes of all pictures, a picture's one after another: int64 [m]."""
    return labels if labels.ndim == 1 else np.nonzero(labels)[1].astype(np.int64)


def labelled(source: Source, rows: NDArray[np.int64], labels: NDArray[Any]) -> Subset:
    """The pictures ``rows`` (int64 [m]) of a source, with these checked labels, which are those of all its rows."""
    chosen = labels[rows]
    return Subset(source, rows, chosen.tolist() if labels.ndim == 1 else list(chosen))
