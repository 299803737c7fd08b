"""Boxes in the labels of image records and ``.lst`` lists, as MXNet's detection iterator takes them.

    [A, B, extra header..., (class, xmin, ymin, xmax, ymax, extra...) * N]        float32

    A   numbers of the header, itself and B included; at least 2
    B   numbers of an object; at least 5, its sixth number marks it as difficult
    N   objects; 0 is legal here (MXNet wants one)

Classes count from 0, coordinates are fractions of width and height of the upright picture. Mostly A is 2 and B is 5.
What the extra numbers mean is not said by the form: they are kept, so that a label can be written again to the byte.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from foveal.errors import BadPicture, UserError
from foveal.formats.boxfiles import ObjectTable
from foveal.records import Boxes, Labels, Sample, Source, SourceAround

SHORTEST_HEADER, SHORTEST_OBJECT = 2, 5
_LOOKED_AT = 10_000  # records that tell what the labels of a source are
_LAYOUT = (
    "A label is [A, B, ..., then class, xmin, ymin, xmax, ymax of each object]: A=2 numbers in the header, B=5 in an"
    " object, coordinates as fractions of width and height. `foveal pack` writes it."
)
_ORIGINAL = (  # reference 1.1, word for word
    "Not enough annotation packed in the list file or the RecordIO file. Each object requires at least five numbers"
    " [label_id, xmin, ymin, ymax] for annotation."
)


@dataclass(frozen=True)
class Layout:
    """How n labels are laid out; int64 [n] each: lengths of the header and of an object, and number of objects."""

    header: NDArray[np.int64]
    width: NDArray[np.int64]
    count: NDArray[np.int64]


class BoxLabelSource(SourceAround):
    """A source whose labels are laid out as boxes, as a source of boxes.

    Args:
        source: image records, or a list, read with all numbers of their labels.
        channel: ``train`` or ``validation`` in training, for the original's message.

    Raises:
        UserError: when a label breaks a rule of the layout; the first is named, with its numbers.
    """

    def __init__(self, source: Source, channel: str = "") -> None:
        self.source = source
        self._stored = source.labels()
        fits = fitting(self._stored)
        if not fits.all():
            raise _broken(source, self._stored, fits, channel)
        self._layout = lay_out(self._stored)
        offsets = np.concatenate([[0], np.cumsum(self._layout.count)]).astype(np.int64)
        self.objects = _table(self._stored, self._layout, offsets)

    @property
    def class_names(self) -> tuple[str, ...] | None:
        return self.source.class_names

    def labels(self) -> Labels:
        return Labels(self.objects.ids, self.objects.offsets)

    def stored(self, index: int) -> NDArray[np.float32]:
        """The whole label of a record as it lies in the file: float32 [A + N * B]."""
        return self._stored.values[self._stored.offsets[index] : self._stored.offsets[index + 1]]

    def header(self, index: int) -> NDArray[np.float32]:
        """The header of a record's label: float32 [A]."""
        return self.stored(index)[: self._layout.header[index]]

    def boxes(self, index: int) -> Boxes:
        """``extra`` has the numbers of each object after the fifth, ``difficult``'s among them."""
        rows = self.stored(index)[self._layout.header[index] :].reshape(-1, int(self._layout.width[index]))
        return boxes_of(rows, self.where(index))

    def where(self, index: int) -> str:
        return self.source.where(index)

    def read(self, index: int) -> Sample:
        return replace(self.source.read(index), label=self.boxes(index))

    def fingerprint(self) -> str:
        return self.source.fingerprint()


def look_like_boxes(labels: Labels) -> bool:
    """Whether at least half of the first 10,000 labels have several numbers that are laid out as boxes."""
    offsets = labels.offsets[: _LOOKED_AT + 1]
    if len(offsets) < 2:
        return False
    fits = fitting(Labels(labels.values[: offsets[-1]], offsets))
    return 2 * int(fits.sum()) >= len(fits)


def fitting(labels: Labels) -> NDArray[np.bool_]:
    """bool [n], which labels keep to the layout."""
    length = np.diff(labels.offsets)
    first, second = _firsts(labels, length)
    with np.errstate(invalid="ignore"):
        fits = (first >= SHORTEST_HEADER) & (second >= SHORTEST_OBJECT) & (first <= length) & (length >= 2)
        fits &= (first == np.floor(first)) & (second == np.floor(second)) & np.isfinite(second)
        short = fits & (second <= length)  # warns of a signalling NaN as well
    header = np.where(fits, first, 2).astype(np.int64)
    width = np.where(short, second, np.iinfo(np.int32).max).astype(np.int64)
    fits &= (length - header) % width == 0
    return np.asarray(fits, dtype=np.bool_)


def lay_out(labels: Labels) -> Layout:
    """The layout of labels that all keep to it."""
    length = np.diff(labels.offsets)
    first, second = _firsts(labels, length)
    header, width = first.astype(np.int64), np.minimum(second, 2**31).astype(np.int64)
    return Layout(header, width, (length - header) // width)


def boxes_of(rows: NDArray[np.float32], where: str) -> Boxes:
    """Objects of one label.

    Args:
        rows: float32 [n, B]: class, xmin, ymin, xmax, ymax and further numbers.

    Raises:
        BadPicture: for a class that is no whole number.
    """
    kinds = rows[:, 0]
    whole = np.isfinite(kinds) & (kinds == np.floor(kinds)) & (np.abs(kinds) < 2**24)
    if not whole.all():
        row = int(np.argmin(whole))
        raise BadPicture(f"the class {kinds[row]:.9g} of object {row + 1} is no class number", where)
    difficult = rows[:, 5] > 0 if rows.shape[1] > SHORTEST_OBJECT else np.zeros(len(rows), dtype=np.bool_)
    return Boxes(
        values=rows[:, 1:5],
        cls=kinds.astype(np.int64),
        unit="fraction",
        of="upright",
        difficult=difficult,
        crowd=np.zeros(len(rows), dtype=np.bool_),
        extra=rows[:, 5:],
    )


def compose(boxes: Boxes, header: NDArray[np.float32] | None = None) -> NDArray[np.float32]:
    """The label of boxes in fractions: the header, then class, corners and ``extra`` of each object.

    Args:
        header: float32 [A], as ``BoxLabelSource.header`` gives it; A and B alone when left out.
    """
    assert boxes.unit == "fraction"
    width = SHORTEST_OBJECT + boxes.extra.shape[1]
    head = np.array([SHORTEST_HEADER, width], dtype=np.float32) if header is None else header
    assert head[0] == len(head) and head[1] == width
    rows = np.concatenate([boxes.cls[:, None].astype(np.float32), boxes.values, boxes.extra], axis=1)
    return np.concatenate([head, rows.reshape(-1)]).astype(np.float32)


def box_label(boxes: Boxes, width: int = 0, size: tuple[int, int] | None = None) -> NDArray[np.float32]:
    """The label of boxes in fractions, whose extra numbers are left out: float32 [A + n * B].

    Args:
        width: B, 5 or 6, the sixth number marking difficult objects and crowds; 0: 6 where there are any, else 5.
        size: width and height in pixels of the picture, for the header: [4, B, width, height].
    """
    marks = boxes.difficult | boxes.crowd
    width = width or SHORTEST_OBJECT + int(marks.any())
    extra = marks.astype(np.float32)[:, None][:, : width - SHORTEST_OBJECT]
    head = [SHORTEST_HEADER, width] if size is None else [SHORTEST_HEADER + 2, width, *size]
    return compose(replace(boxes, extra=extra), np.array(head, dtype=np.float32))


def _firsts(labels: Labels, length: NDArray[np.int64]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """A and B of each label; nan where a label has no such number."""
    padded = np.append(labels.values, np.full(2, np.nan, dtype=np.float32))
    start = labels.offsets[:-1]
    first = np.where(length >= 1, padded[start], np.float32(np.nan))
    return first, np.where(length >= 2, padded[np.minimum(start + 1, len(padded) - 1)], np.float32(np.nan))


def _table(labels: Labels, layout: Layout, offsets: NDArray[np.int64]) -> ObjectTable:
    row = np.repeat(np.arange(len(layout.count)), layout.count)
    within = np.arange(offsets[-1]) - offsets[row]
    place = labels.offsets[row] + layout.header[row] + layout.width[row] * within
    corners = labels.values[place[:, None] + np.arange(1, 5)]
    sixth = layout.width[row] > SHORTEST_OBJECT
    difficult = np.zeros(len(place), dtype=np.bool_)
    difficult[sixth] = labels.values[place[sixth] + 5] > 0
    return ObjectTable(
        values=corners,
        ids=labels.values[place],
        difficult=difficult,
        crowd=np.zeros(len(place), dtype=np.bool_),
        offsets=offsets,
        sizes=np.zeros((len(layout.count), 2), dtype=np.int32),
        unit="fraction",
    )


def _broken(source: Source, labels: Labels, fits: NDArray[np.bool_], channel: str) -> UserError:
    row = int(np.argmin(fits))
    values = labels.values[labels.offsets[row] : labels.offsets[row + 1]]
    others = int((~fits).sum()) - 1
    what = broken_rule(values) + (f" ({others:,} more labels are broken)" if others else "")
    if channel:
        return UserError(f"{_ORIGINAL}\n{source.where(row)}: {what}", remedy=_LAYOUT)
    return UserError(what, source.where(row), _LAYOUT)


def broken_rule(values: NDArray[np.float32]) -> str:
    """Which rule of the layout a label that doesn't fit breaks, with its numbers."""
    shown = ", ".join(f"{value:g}" for value in values[:7].tolist()) + (", ..." if len(values) > 7 else "")
    if len(values) < 2:
        return f"the label [{shown}] is one class number, and no boxes"
    header, width = float(values[0]), float(values[1])
    if not (header.is_integer() and header >= SHORTEST_HEADER):
        what = f"the label begins with A={header:g}, and the length of its header is a whole number from 2: [{shown}]"
    elif not (width.is_integer() and width >= SHORTEST_OBJECT):
        what = f"the label goes on with B={width:g}, and the length of an object is a whole number from 5: [{shown}]"
    elif header > len(values):
        what = f"the label announces a header of A={header:g} numbers, and has {len(values)}: [{shown}]"
    else:
        rest = len(values) - int(header)
        return f"{rest} numbers follow the header, which is no multiple of B={width:g} numbers an object: [{shown}]"
    if len(values) % SHORTEST_OBJECT == 0 and _ordered(values.reshape(-1, SHORTEST_OBJECT)):
        count = len(values) // SHORTEST_OBJECT
        what += f"; these are {count} object{'s' * (count != 1)} of 5 numbers, with no header 2, 5 before them"
    return what


def _ordered(rows: NDArray[np.float32]) -> bool:
    return bool(((rows[:, 3] > rows[:, 1]) & (rows[:, 4] > rows[:, 2])).all())
