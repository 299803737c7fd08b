"""A sheet of thumbnails of labelled pictures, every class among them as far as there is room."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from foveal.data.boxes import to_pixels
from foveal.data.check import with_area
from foveal.data.decode import decode_upright
from foveal.draw import Caption, boxes_sheet, contact_sheet
from foveal.errors import BadPicture, UserError
from foveal.formats.multihot import looks_multi_hot
from foveal.records import Boxes, BoxSource, Dataset, Source

PICTURES, BOX_PICTURES = 36, 12
"""How many pictures a sheet has; those with boxes are larger."""


def draw_sheet(dataset: Dataset, count: int | None = None, seed: int = 0) -> Image.Image:
    """Draw training pictures with their labels or boxes.

    Args:
        count: how many; 36 when left out, 12 with boxes. Those that can't be read don't count.
        seed: of the choice.

    Raises:
        UserError: when no picture can be read.
    """
    source, names = dataset.train, dataset.class_names
    with_boxes = isinstance(source, BoxSource)
    count = count or (BOX_PICTURES if with_boxes else PICTURES)
    shown: list[tuple[int, NDArray[np.uint8], Boxes | None]] = []
    for row in choose_rows(source, seed):
        try:
            shown.append((row, *seen_picture(source, row)))
        except BadPicture:
            continue
        if len(shown) == count:
            break
    if not shown:
        raise UserError("none of its pictures can be read", source.origin, "`foveal check` tells why.")
    shown.sort(key=lambda each: each[0])
    pictures = [picture for _, picture, _ in shown]
    if with_boxes:
        return boxes_sheet(pictures, [boxes for _, _, boxes in shown if boxes is not None], names)
    text = label_texts(source, names)
    return contact_sheet(pictures, [Caption(text(row)) for row, _, _ in shown])


def seen_picture(source: Source, row: int) -> tuple[NDArray[np.uint8], Boxes | None]:
    """A picture's pixels (uint8 [H, W, 3], upright), and its boxes in them. Raises BadPicture."""
    where = source.where(row)
    sample = source.read(row)
    decoded = decode_upright(sample.picture, 3, where)
    if not isinstance(sample.label, Boxes):
        return decoded.pixels, None
    return decoded.pixels, to_pixels(with_area(sample.label), decoded, where)


def choose_rows(source: Source, seed: int = 0) -> Iterator[int]:
    """All rows in a mixed order that goes round the classes: one picture of each, then a second of each, ..."""
    rows, classes = _class_rows(source)
    shuffled = np.random.default_rng(seed).permutation(len(rows))
    rows, classes = rows[shuffled], classes[shuffled]
    order = np.argsort(classes, kind="stable")
    starts = np.searchsorted(classes[order], classes[order])
    turn = np.arange(len(order)) - starts  # the how manieth of its class
    seen: set[int] = set()
    for row in rows[order[np.lexsort((classes[order], turn))]].tolist():
        if row not in seen:
            seen.add(row)
            yield row


def label_texts(source: Source, class_names: tuple[str, ...]) -> Callable[[int], str]:
    """What tells in a person's words what the picture of a row has: its class, its classes, or how many boxes."""
    labels = source.labels()
    several = looks_multi_hot(labels)

    def text(row: int) -> str:
        values = labels.values[labels.offsets[row] : labels.offsets[row + 1]]
        if isinstance(source, BoxSource):
            return f"{len(values):,} box{'es' * (len(values) != 1)}"
        if several:
            return ", ".join(_name(number, class_names) for number in np.flatnonzero(values).tolist()) or "no class"
        return ", ".join(_name(value, class_names) for value in values.tolist())

    return text


def _name(value: float, class_names: tuple[str, ...]) -> str:
    return class_names[int(value)] if float(value).is_integer() and 0 <= value < len(class_names) else f"{value:g}"


def _class_rows(source: Source) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """A row for each picture's class: int64 [k] pictures, float32 [k] their classes; -1 for those without."""
    labels = source.labels()
    widths = np.diff(labels.offsets)
    rows, classes = np.repeat(np.arange(len(widths)), widths), labels.values
    if looks_multi_hot(labels) and not isinstance(source, BoxSource):
        there = labels.values == 1
        columns = np.arange(len(classes)) - labels.offsets[rows]
        rows, classes = rows[there], columns[there].astype(np.float32)
    bare = np.setdiff1d(np.arange(len(widths)), rows)
    return np.concatenate([rows, bare]), np.concatenate([classes, np.full(len(bare), -1, np.float32)])
