"""Boxes as a data form stores them to boxes in pixels of the upright picture.

The one place where the two meet: what is stored may be fractions or pixels, of the picture as it lies in its file or
as it is seen, and of a picture whose size the source states. Everything above sees upright pixels only.

Coordinates are continuous: pixel i covers i to i + 1, and the picture 0 to its width and height.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from foveal.data.decode import RIGHT_TO_LEFT, TURNED, UPSIDE_DOWN, Decoded
from foveal.errors import BadPicture
from foveal.records import Boxes

Size = tuple[int, int]
"""width, height in pixels."""


def to_pixels(boxes: Boxes, decoded: Decoded, where: str = "") -> Boxes:
    """The objects of a decoded picture in pixels of the upright picture.

    A stated size that isn't the picture's is heeded where it explains itself: with width and height exchanged in a
    picture that EXIF turns by 90 degrees, it tells which of the two the boxes refer to, whatever ``of`` says; with the
    picture's aspect (but for a pixel that was rounded), the picture was resized after it was labelled, and the boxes
    are scaled along. A width or height of 0 states nothing. Fractions need no size, so theirs is never wrong.

    What lies outside the picture is cut off; objects that nothing is left of are dropped.

    Args:
        boxes: as stored; n may be 0.
        decoded: the picture.
        where: file or record, for the error.

    Returns:
        Boxes in pixels (float32), ``of`` upright, ``size`` the upright picture's (width, height).

    Raises:
        BadPicture: pixels of a picture whose stated size doesn't fit this one.
    """
    frame, scale = _frame(boxes, decoded, where)
    width, height = decoded.stored if frame == "stored" else decoded.size
    unit = (width, height) if boxes.unit == "fraction" else scale
    values = boxes.values.astype(np.float64) * np.array([*unit, *unit], dtype=np.float64)
    if frame == "stored" and decoded.orientation != 1:
        values = turned(values, decoded.orientation, decoded.size)
    return clipped(replace(boxes, values=values.astype(np.float32), unit="pixel", of="upright", size=decoded.size))


def turned(values: NDArray[np.float64], orientation: int, size: Size) -> NDArray[np.float64]:
    """Boxes of the picture as stored (float64 [n, 4], pixels) in the upright picture of ``size``.

    Exactly what ``decode`` does to the pixels for EXIF's ``orientation`` (1 to 8).
    """
    x0, y0, x1, y1 = values.T
    if orientation in TURNED:
        x0, y0, x1, y1 = y0, x0, y1, x1
    if orientation in RIGHT_TO_LEFT:
        x0, x1 = size[0] - x1, size[0] - x0
    if orientation in UPSIDE_DOWN:
        y0, y1 = size[1] - y1, size[1] - y0
    return np.stack([x0, y0, x1, y1], axis=1)


def clipped(boxes: Boxes) -> Boxes:
    """Boxes in pixels cut to the picture of their ``size``, without those that nothing is left of."""
    assert boxes.unit == "pixel" and boxes.size is not None
    width, height = boxes.size
    values = np.clip(boxes.values, 0, np.array([width, height, width, height], dtype=np.float32))
    whole = (values[:, 2] > values[:, 0]) & (values[:, 3] > values[:, 1])
    if whole.all():
        return replace(boxes, values=values)
    return replace(
        boxes,
        values=values[whole],
        cls=boxes.cls[whole],
        difficult=boxes.difficult[whole],
        crowd=boxes.crowd[whole],
        extra=boxes.extra[whole],
    )


def _frame(boxes: Boxes, decoded: Decoded, where: str) -> tuple[str, tuple[float, float]]:
    """Whether the values refer to the stored or the upright picture, and what pixels are multiplied by."""
    sizes = {"stored": decoded.stored, "upright": decoded.size}
    frames = [boxes.of, *(name for name in sizes if name != boxes.of)]  # what the source says comes first
    stated = boxes.size
    if stated is None or min(stated) <= 0:
        return frames[0], (1.0, 1.0)
    for name in frames:
        if sizes[name] == stated:
            return name, (1.0, 1.0)
    for name in frames:
        if _same_aspect(stated, sizes[name]):
            return name, (sizes[name][0] / stated[0], sizes[name][1] / stated[1])
    if boxes.unit == "fraction":
        return frames[0], (1.0, 1.0)
    width, height = sizes[boxes.of]
    raise BadPicture(
        f"its boxes are of a picture of {stated[0]} x {stated[1]} pixels, and this one has {width} x {height}",
        where,
        "Correct the size in the label or give the picture that was labelled.",
    )


def _same_aspect(a: Size, b: Size) -> bool:
    """Whether one is the other resized, its sides rounded: within a pixel of the smaller one."""
    small, large = sorted((a, b))
    return abs(large[0] * small[1] / large[1] - small[0]) <= 1 or abs(large[1] * small[0] / large[0] - small[1]) <= 1
