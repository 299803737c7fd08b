"""Several classes a picture as numbers: multi-hot rows, a 1 for each class that the picture has, else a 0."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from foveal.records import Labels


def looks_multi_hot(labels: Labels) -> bool:
    """Whether all labels have one width, more than 1, and hold only 0 and 1."""
    widths = np.diff(labels.offsets)
    if not len(widths) or widths[0] < 2 or (widths != widths[0]).any():
        return False
    return bool(((labels.values == 0) | (labels.values == 1)).all())


def multi_hot(sets: Sequence[Sequence[int]], classes: int) -> Labels:
    """``Labels`` of a row of ``classes`` numbers for each set of class numbers, all of them in 0..classes - 1."""
    rows = np.zeros((len(sets), classes), dtype=np.float32)
    for row, numbers in zip(rows, sets, strict=True):
        row[list(numbers)] = 1
    return Labels(rows.reshape(-1), np.arange(len(sets) + 1, dtype=np.int64) * classes)
