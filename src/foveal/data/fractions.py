"""Boxes of an encoded picture in its upright frame, mostly from the beginning of its file, without its pixels."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from foveal.data.boxes import to_pixels
from foveal.data.decode import Decoded, Header, decode_upright, read_header
from foveal.records import Boxes

Size = tuple[int, int]
"""width, height in pixels."""


def to_upright(boxes: Boxes, picture: bytes, header: Header, where: str = "") -> Boxes:
    """The objects of an encoded picture in its upright frame, cut to it as in training; ``size`` is the picture's.

    Fractions of the upright picture stay fractions, all else becomes pixels. Objects that nothing is left of are
    dropped.

    Args:
        header: what ``read_header`` tells of ``picture``.

    Raises:
        BadPicture: when the picture can't be read, or its size isn't the one that the boxes are of.
    """
    size = (header.width, header.height)
    if boxes.of == "upright" and boxes.size in (None, size):  # the orientation makes no difference then
        decoded = Decoded(np.broadcast_to(np.uint8(0), (header.height, header.width, 1)))
    else:
        decoded = decode_upright(picture, 1, where)
    inside = boxes.unit == "fraction" and bool(((boxes.values >= 0) & (boxes.values <= 1)).all())
    if inside and boxes.of == "upright" and boxes.size in (None, size):
        return replace(boxes, size=size)
    return to_pixels(boxes, decoded, where)


def to_fractions(boxes: Boxes, picture: bytes, where: str = "") -> tuple[Boxes, Size]:
    """The objects of an encoded picture as fractions (float32) of the upright picture, and its size.

    Fractions of the upright picture stay as they are stored. All else is cut to the picture, as in training; objects
    that nothing is left of are dropped.

    Raises:
        BadPicture: when the picture can't be read, or its size isn't the one that the boxes are of.
    """
    header = read_header(picture, where)
    size = (header.width, header.height)
    if boxes.unit == "fraction" and boxes.of == "upright" and boxes.size in (None, size):
        return boxes, size
    return fractions_of(to_upright(boxes, picture, header, where)), size


def fractions_of(boxes: Boxes) -> Boxes:
    """Boxes of the upright picture of their ``size`` as fractions of it."""
    assert boxes.of == "upright" and boxes.size is not None
    if boxes.unit == "fraction":
        return boxes
    values = boxes.values.astype(np.float64) / np.array([*boxes.size, *boxes.size])
    return replace(boxes, values=values.astype(np.float32), unit="fraction")
