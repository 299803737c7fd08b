"""Labels checked once, at the border: whole class numbers, in range, without gaps; boxes that can be meant."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from foveal.errors import UserError
from foveal.formats.boxfiles import ObjectTable, object_table
from foveal.formats.boxlabels import look_like_boxes
from foveal.formats.multihot import looks_multi_hot
from foveal.records import BadRecord, Boxes, BoxSource, Labels, Source

_LISTED = 5  # classes named in a message
_NAMED = 40  # classes up to which the option that numbers them anew is told whole
_FAR_OUT = 0.5  # as a share of the picture: coordinates beyond its border by more are no fractions
_CORNERS = ("xmin", "ymin", "xmax", "ymax")
Place = Callable[[int], str]
"""Number of a label -> its place in a person's words."""


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
    _check_given(source, num_classes, class_names, channel)
    labels = source.labels()
    _check_single(source, labels)
    indices = _class_numbers(labels.values, source.where, num_classes, class_names)
    if num_classes is None and class_names is None and not gaps_allowed:
        _check_gaps(source, indices, "picture")
    return indices, list(source.bad)


def class_sets(
    source: Source, num_classes: int | None, class_names: tuple[str, ...] | None, *, channel: str = ""
) -> tuple[NDArray[np.float32], list[BadRecord]]:
    """The classes of each picture, where one has several (or none).

    Args:
        num_classes, class_names, channel: as in ``class_indices``.

    Returns:
        float32 [len(source), C], 1 for the classes that a picture has, else 0; and the records that the source left
        out on opening.

    Raises:
        UserError: for a source without pictures, rows of several widths or of another number of classes, numbers
            other than 0 and 1, and fewer classes asked for than the data names. The first offending record is named.
    """
    _check_given(source, num_classes, class_names, channel)
    labels = source.labels()
    widths = np.diff(labels.offsets)
    limit = num_classes if num_classes is not None else len(class_names) if class_names is not None else int(widths[0])
    wrong = widths != limit
    if wrong.any():
        row = int(wrong.argmax())
        told = f"num_classes={limit}" if num_classes is not None else f"{limit:,} classes"
        raise UserError(
            f"{widths[row]:,} label number{'s' * int(widths[row] != 1)}, and {limit:,} are expected ({told})",
            source.where(row),
            "A picture with several labels has a 0 or 1 for each class, in the same order everywhere.",
            setting="num_classes" if num_classes is not None else "",
        )
    wrong = (labels.values != 0) & (labels.values != 1)
    if wrong.any():
        row, column = divmod(int(wrong.argmax()), limit)
        raise UserError(
            f"label {column + 1} is {labels.values[row * limit + column]:g}, and can only be 0 or 1",
            source.where(row),
            "A picture with several labels has a 0 or 1 for each class, in the same order everywhere.",
        )
    return labels.values.reshape(-1, limit), list(source.bad)


@dataclass(frozen=True)
class CheckedBoxes:
    """The boxes of a source, without those that have no area.

    Attributes:
        classes: int64 [m], class of every object, a picture's objects one after another.
        offsets: int64 [n + 1]; picture i has the objects ``offsets[i]:offsets[i + 1]``.
        boxes: the boxes of each picture, made when they are asked for.
        left_out: what the source left out on opening.
        said: what is odd, but legal: a line each.
    """

    classes: NDArray[np.int64]
    offsets: NDArray[np.int64]
    boxes: Sequence[Boxes]
    left_out: list[BadRecord]
    said: tuple[str, ...]


def check_objects(
    source: BoxSource,
    num_classes: int | None,
    class_names: tuple[str, ...] | None,
    *,
    channel: str = "",
    gaps_allowed: bool = False,
    numbers: NDArray[np.int64] | None = None,
) -> CheckedBoxes:
    """Check the boxes of every picture, for object detection; pictures are not read.

    Args:
        num_classes, class_names, channel, gaps_allowed: as in ``class_indices``.
        numbers: int64 [classes of the data]; the class that each counts as from here on (a model's own numbers).

    Boxes whose corners are not in order (xmax <= xmin or ymax <= ymin) are dropped, as MXNet's reader does, and told
    in a line. What reaches beyond its picture is no fault: it is cut off where pixels are known.

    Raises:
        UserError: for a source without pictures or without objects, coordinates that are not finite, fractions far
            outside of 0..1, and class numbers as in ``class_indices``. The first offending record is named.
    """
    _check_given(source, num_classes, class_names, channel)
    table = object_table(source)
    where = _object_places(source, table)
    _check_corners(table, where)
    sound = table.sound()
    if not sound.any():
        boxes = f"none of its {len(sound):,} boxes has an area" if len(sound) else "it holds no box"
        told = f"{boxes} ({len(source):,} picture{'s' * (len(source) != 1)})"
        raise UserError(told, source.origin, f"Give {channel and channel + ' '}data with at least one object.")
    kept = np.flatnonzero(sound)
    classes = _class_numbers(table.ids[kept], lambda row: where(int(kept[row])), num_classes, class_names)
    if num_classes is None and class_names is None and not gaps_allowed:
        _check_gaps(source, classes, "box")
    offsets = np.concatenate([[0], np.cumsum(sound)])[table.offsets].astype(np.int64)
    said = _flat_line(table, np.flatnonzero(~sound), where) + _outside_line(table, kept, where)
    boxes_of = KeptBoxes(source, np.arange(len(source), dtype=np.int64), numbers)
    classes = classes if numbers is None else numbers[classes]
    return CheckedBoxes(classes, offsets, boxes_of, list(source.bad), said)


class KeptBoxes(Sequence[Boxes]):
    """The boxes with an area of the rows ``rows`` (int64 [m]) of a source, made when they are asked for.

    ``numbers``: as in ``check_objects``.
    """

    def __init__(self, source: BoxSource, rows: NDArray[np.int64], numbers: NDArray[np.int64] | None = None) -> None:
        self.source = source
        self.rows = rows
        self.numbers = numbers

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> Boxes:  # type: ignore[override]
        boxes = with_area(self.source.boxes(int(self.rows[index])))
        return boxes if self.numbers is None else replace(boxes, cls=self.numbers[boxes.cls])

    def part(self, rows: NDArray[np.int64]) -> KeptBoxes:
        """Those of ``rows`` (int64 [k]), counted in this sequence."""
        return KeptBoxes(self.source, self.rows[rows], self.numbers)


def with_area(boxes: Boxes) -> Boxes:
    """Boxes without those whose corners are not in order."""
    sound = (boxes.values[:, 2] > boxes.values[:, 0]) & (boxes.values[:, 3] > boxes.values[:, 1])
    if sound.all():
        return boxes
    return replace(
        boxes,
        values=boxes.values[sound],
        cls=boxes.cls[sound],
        difficult=boxes.difficult[sound],
        crowd=boxes.crowd[sound],
        extra=boxes.extra[sound],
    )


def box_warnings(
    checked: CheckedBoxes,
    source: BoxSource,
    class_names: Sequence[str],
    num_classes: int | None,
    num_training_samples: int | None,
    label_width: int | None,
) -> tuple[str, ...]:
    """What is odd, but legal, in the numbers of the training data: a line each.

    Args:
        class_names, num_classes, num_training_samples: as in ``count_warnings``.
        label_width: the original's width of a label, which is no bound here.
    """
    lines = [*_sample_warning(len(source), num_training_samples)]
    total = max(num_classes or 0, len(class_names), int(checked.classes.max()) + 1)
    counts = np.bincount(checked.classes, minlength=total)
    empty = [class_names[row] if row < len(class_names) else str(row) for row in np.flatnonzero(counts == 0).tolist()]
    if empty:
        lines.append(f"{len(empty)} of {total} classes have no training box: {_listed(empty)}")
    most = np.diff(checked.offsets)
    row = int(most.argmax())
    width = 2 + 5 * int(most[row])
    if label_width is not None and width > label_width:
        objects = f"{most[row]:,} object{'s' * int(most[row] != 1)}"
        lines.append(
            f"label_width is {label_width:,}, but {source.where(row)} has {objects}, for which {width:,} numbers are "
            "needed; all objects of all pictures are used"
        )
    return tuple(lines)


def count_warnings(
    indices: NDArray[np.int64],
    class_names: Sequence[str],
    num_classes: int | None,
    num_training_samples: int | None,
    pictures: int | None = None,
) -> tuple[str, ...]:
    """What is odd, but legal, in the numbers of the training data: a line each.

    Args:
        indices: int64 [n], from ``class_indices``.
        class_names: in label order; for classes beyond it, their number is told.
        num_classes, num_training_samples: as the user set them, or None.
        pictures: how many there are, where each has any number of the classes in ``indices``; None: one each.
    """
    found = len(indices) if pictures is None else pictures
    lines = [*_sample_warning(found, num_training_samples)]
    total = max(num_classes or 0, len(class_names), int(indices.max()) + 1 if len(indices) else 0)
    counts = np.bincount(indices, minlength=total)
    empty = [class_names[row] if row < len(class_names) else str(row) for row in np.flatnonzero(counts == 0).tolist()]
    if empty:
        lines.append(f"{len(empty)} of {total} classes have no training picture: {_listed(empty)}")
    if pictures is None and np.count_nonzero(counts) == 1:
        lines.append("all training pictures are of one class, so there is nothing to tell apart")
    return tuple(lines)


def _sample_warning(found: int, stated: int | None) -> tuple[str, ...]:
    if stated is None or stated == found:
        return ()
    told = f"num_training_samples is {stated:,}, but the training data holds {found:,} pictures; {found:,} is used"
    return (told,)


def _check_given(source: Source, num_classes: int | None, class_names: tuple[str, ...] | None, channel: str) -> None:
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


def _object_places(source: BoxSource, table: ObjectTable) -> Place:
    """Number of an object -> ``train.rec, record 3 at byte 40960, object 2``."""

    def place(number: int) -> str:
        row = int(np.searchsorted(table.offsets, number, side="right")) - 1
        return f"{source.where(row)}, object {number - int(table.offsets[row]) + 1}"

    return place


def _check_corners(table: ObjectTable, where: Place) -> None:
    values = table.values
    wrong = ~np.isfinite(values)
    if wrong.any():
        row, corner = divmod(int(wrong.argmax()), 4)
        told = f"{_CORNERS[corner]} is {values[row, corner]:g}"
        raise UserError(told, where(row), "Coordinates are finite numbers: mend the label.")
    if table.unit == "pixel":
        return
    wrong = ((values < -_FAR_OUT) | (values > 1 + _FAR_OUT)) & table.sound()[:, None]
    if not wrong.any():
        return
    row, corner = divmod(int(wrong.argmax()), 4)
    largest = float(values[table.sound()].max())
    kind, cure = ("per cent", "divide them by 100") if largest <= 100 else ("pixels", "divide them by width and height")
    others = int(wrong.any(axis=1).sum()) - 1
    told = f"{_CORNERS[corner]} is {values[row, corner]:g}, and coordinates are fractions of the picture, 0 to 1"
    told += f" ({others:,} more boxes are so)" if others else ""
    raise UserError(
        told, where(row), f"These look like {kind}: {cure}." if largest > 1 + _FAR_OUT else "Mend the label."
    )


def _flat_line(table: ObjectTable, flat: NDArray[np.int64], where: Place) -> tuple[str, ...]:
    if not len(flat):
        return ()
    corners = ", ".join(f"{value:g}" for value in table.values[flat[0]].tolist())
    count = "a box without area is" if len(flat) == 1 else f"{len(flat):,} boxes without area are"
    first = "" if len(flat) == 1 else "the first: "
    return (f"{count} left out; {first}{where(int(flat[0]))}: {corners}",)


def _outside_line(table: ObjectTable, kept: NDArray[np.int64], where: Place) -> tuple[str, ...]:
    """About boxes of which nothing lies in a picture of the stated size; they fall away when they are cut to it."""
    sizes = np.ones((len(table.sizes), 2)) if table.unit == "fraction" else table.sizes
    size = sizes[table.rows()[kept]]
    x0, y0, x1, y1 = table.values[kept].T
    outside = (size[:, 0] > 0) & ((x1 <= 0) | (y1 <= 0) | (x0 >= size[:, 0]) | (y0 >= size[:, 1]))
    if not outside.any():
        return ()
    row = int(kept[outside.argmax()])
    corners = ", ".join(f"{value:g}" for value in table.values[row].tolist())
    count = int(outside.sum())
    told = (
        "a box lies outside its picture and is" if count == 1 else f"{count:,} boxes lie outside their pictures and are"
    )
    return (f"{told} left out; {'' if count == 1 else 'the first: '}{where(row)}: {corners}",)


def _class_numbers(
    values: NDArray[np.float32], where: Place, num_classes: int | None, class_names: tuple[str, ...] | None
) -> NDArray[np.int64]:
    """Labels as class numbers (int64, same length), whole and in range."""
    _check_whole(values, where)
    indices = values.astype(np.int64)
    limit = num_classes if num_classes is not None else len(class_names) if class_names is not None else None
    _check_range(indices, where, limit, "num_classes" if num_classes is not None else "named")
    return indices


def _check_single(source: Source, labels: Labels) -> None:
    widths = np.diff(labels.offsets)
    several = np.flatnonzero(widths != 1)
    if not len(several):
        return
    if looks_multi_hot(labels):
        raise UserError(
            "its pictures have several labels each, and one is expected",
            source.origin,
            "Train with multi_label=1, or give each picture one label.",
            setting="multi_label",
        )
    row = int(several[0])
    values = labels.values[labels.offsets[row] : labels.offsets[row + 1]]
    if look_like_boxes(Labels(values, np.array([0, len(values)], dtype=np.int64))):
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


def _check_whole(values: NDArray[np.float32], where: Place) -> None:
    wrong = ~np.isfinite(values) | (np.abs(values) >= 2**24)  # beyond 2^24 float32 skips whole numbers
    wrong |= np.where(wrong, 0, values) != np.floor(np.where(wrong, 0, values))
    if wrong.any():
        row = int(np.argmax(wrong))
        raise UserError(
            f"the label {values[row]:.9g} is no class number",
            where(row),
            "Class numbers are whole numbers that count from 0.",
        )


def _check_range(indices: NDArray[np.int64], where: Place, limit: int | None, by: str) -> None:
    wrong = indices < 0 if limit is None else (indices < 0) | (indices >= limit)
    if not wrong.any():
        return
    row = int(np.argmax(wrong))
    value, largest = int(indices[row]), int(indices.max())
    if limit is None:
        raise UserError(f"class id {value} is below 0", where(row), "Ids count from 0: renumber the data.")
    if by == "num_classes":
        told, cure = f"num_classes={limit}", f"set num_classes to {largest + 1}"
    else:
        told, cure = f"the data names {limit} classes", "add the missing names"
    remedy = "Ids count from 0: renumber them" + (f", or {cure}." if value >= limit else ".")
    raise UserError(
        f"class id {value} is outside 0..{limit - 1} ({told})", where(row), remedy,
        setting="num_classes" if by == "num_classes" else "",
    )  # fmt: skip


def _check_gaps(source: Source, indices: NDArray[np.int64], carrier: str) -> None:
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
        f"class ids {int(used[0])}..{largest} are used, but no {carrier} has class {_listed(missing)}",
        source.origin,
        f"Number the {len(used)} classes 0..{len(used) - 1} with --names {_as_names(used)}, or set"
        f" num_classes={largest + 1} to keep the gaps.",
        setting="num_classes",
    )


def _as_names(used: NDArray[np.int64]) -> str:
    """The option that gives each number itself as a name, and so brings them together."""
    pairs = [f"{number}={number}" for number in used[:_NAMED].tolist()]
    return ",".join(pairs) + (",..." if len(used) > _NAMED else "")


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names[:_LISTED]) + (", ..." if len(names) > _LISTED else "")
