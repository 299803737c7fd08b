"""Labels checked once, at the border: whole numbers, in range, without gaps."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from foveal.errors import UserError
from foveal.records import BadRecord, Labels, Source

_LISTED = 5  # classes named in a message


def class_indices(
    source: Source,
    num_classes: int | None,
    class_names: tuple[str, ...] | None,
    *,
    channel: str = "",
    gaps_allowed: bool = False,
) -> tuple[NDArray[np.int64], list[BadRecord]]:
    """The class index of each picture, for single-label classification.

    Args:
        num_classes: the setting; None to take as many as are named, or as the labels count.
        class_names: names in label order where the data names its classes, else None.
        channel: of the training that the data is for, for messages.
        gaps_allowed: whether numbers without a picture, below the largest, are fine where neither ``num_classes``
            nor names say how many classes there are. They are in data that is judged on; in training data they mostly
            mean ids that count from 1, or ids of another set.

    Returns:
        int64 [len(source)], each in 0..classes - 1; and the records that the source left out on opening.

    Raises:
        UserError: for a source without pictures, labels that are no whole numbers or out of range, several labels in a
            record, gaps, and fewer classes asked for than the data names. The first offending record is named.
    """
    if not len(source):
        raise UserError(
            "it holds no picture", source.origin, f"Give {channel and channel + ' '}data with at least one picture."
        )
    if num_classes is not None and class_names is not None and num_classes < len(class_names):
        raise UserError(
            f"num_classes is {num_classes}, but the data has {len(class_names)} classes: {_listed(class_names)}",
            source.origin,
            f"Set num_classes to {len(class_names)} or leave it out, or take classes out of the data.",
            setting="num_classes",
        )
    labels = source.labels()
    _check_single(source, labels)
    values = labels.values
    _check_whole(source, values)
    indices = values.astype(np.int64)
    limit = num_classes if num_classes is not None else len(class_names) if class_names is not None else None
    _check_range(source, indices, limit, "num_classes" if num_classes is not None else "named")
    if limit is None and not gaps_allowed:
        _check_gaps(source, indices)
    return indices, list(source.bad)


def count_warnings(
    indices: NDArray[np.int64],
    class_names: Sequence[str],
    num_classes: int | None,
    num_training_samples: int | None,
) -> tuple[str, ...]:
    """What is odd, but legal, in the numbers of the training data: a line each.

    Args:
        indices: int64 [n], from ``class_indices``.
        class_names: in label order; for classes beyond it, their number is told.
        num_classes, num_training_samples: as the user set them, or None.
    """
    lines = []
    found = len(indices)
    if num_training_samples is not None and num_training_samples != found:
        lines.append(
            f"num_training_samples is {num_training_samples:,}, but the training data holds {found:,} pictures; "
            f"{found:,} is used"
        )
    total = max(num_classes or 0, len(class_names), int(indices.max()) + 1 if found else 0)
    counts = np.bincount(indices, minlength=total)
    empty = [class_names[row] if row < len(class_names) else str(row) for row in np.flatnonzero(counts == 0).tolist()]
    if empty:
        lines.append(f"{len(empty)} of {total} classes have no training picture: {_listed(empty)}")
    if np.count_nonzero(counts) == 1:
        lines.append("all training pictures are of one class, so there is nothing to tell apart")
    return tuple(lines)


def _check_single(source: Source, labels: Labels) -> None:
    widths = np.diff(labels.offsets)
    several = np.flatnonzero(widths != 1)
    if not len(several):
        return
    row = int(several[0])
    values = labels.values[labels.offsets[row] : labels.offsets[row + 1]]
    if _looks_like_boxes(values):
        raise UserError(
            f"{len(values)} label numbers, which look like boxes ({values[0]:g}, {values[1]:g}, ...)",
            source.where(row),
            "Image classification takes one class number a picture; this is data for object detection.",
        )
    raise UserError(
        f"{len(values)} labels in one record ({len(several):,} of {len(source):,} records are so)",
        source.where(row),
        "Single-label classification takes one class number a picture.",
    )


def _looks_like_boxes(values: NDArray[np.float32]) -> bool:
    """Whether labels are laid out as [A, B, extra..., objects of B numbers] (reference 3.3)."""
    if len(values) < 2 or not np.isfinite(values[:2]).all():
        return False
    header, width = float(values[0]), float(values[1])
    fits = header.is_integer() and width.is_integer() and header >= 2 and width >= 5
    return fits and len(values) >= header and (len(values) - int(header)) % int(width) == 0


def _check_whole(source: Source, values: NDArray[np.float32]) -> None:
    wrong = ~np.isfinite(values) | (np.abs(values) >= 2**24)  # beyond 2^24 float32 skips whole numbers
    wrong |= np.where(wrong, 0, values) != np.floor(np.where(wrong, 0, values))
    if wrong.any():
        row = int(np.argmax(wrong))
        raise UserError(
            f"the label {values[row]:.9g} is no class number",
            source.where(row),
            "Class numbers are whole numbers that count from 0.",
        )


def _check_range(source: Source, indices: NDArray[np.int64], limit: int | None, by: str) -> None:
    wrong = indices < 0 if limit is None else (indices < 0) | (indices >= limit)
    if not wrong.any():
        return
    row = int(np.argmax(wrong))
    value, largest = int(indices[row]), int(indices.max())
    if limit is None:
        raise UserError(f"class id {value} is below 0", source.where(row), "Ids count from 0: renumber the data.")
    if by == "num_classes":
        told, cure = f"num_classes={limit}", f"set num_classes to {largest + 1}"
    else:
        told, cure = f"the data names {limit} classes", "add the missing names"
    remedy = "Ids count from 0: renumber them" + (f", or {cure}." if value >= limit else ".")
    raise UserError(
        f"class id {value} is outside 0..{limit - 1} ({told})", source.where(row), remedy,
        setting="num_classes" if by == "num_classes" else "",
    )  # fmt: skip


def _check_gaps(source: Source, indices: NDArray[np.int64]) -> None:
    used = np.unique(indices)
    largest = int(used[-1])
    if len(used) == largest + 1:
        return
    missing: list[str] = []
    for number in range(largest + 1):  # ends after a few: `used` is sorted, so a gap shows early or is found by value
        at = number - len(missing)
        if used[at] != number:
            missing.append(str(number))
            if len(missing) > _LISTED:
                break
    raise UserError(
        f"class ids {int(used[0])}..{largest} are used, but no picture has class {_listed(missing)}",
        source.origin,
        f"Number the {len(used)} classes 0..{len(used) - 1}, or set num_classes={largest + 1} to keep the gaps.",
        setting="num_classes",
    )


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names[:_LISTED]) + (", ..." if len(names) > _LISTED else "")
