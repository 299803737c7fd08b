"""Boxes as fractions of the upright picture, from the beginning of its file: pixels are not decoded for it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from foveal.data.boxes import to_pixels
from foveal.data.decode import Decoded, decode_upright, read_header
from foveal.records import Boxes

Size = tuple[int, int]
"""width, height in pixels."""


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
    if boxes.of == "upright" and boxes.size in (None, size):  # the orientation makes no difference then
        decoded = Decoded(np.broadcast_to(np.uint8(0), (header.height, header.width, 1)))
    else:
        decoded = decode_upright(picture, 1, where)
    pixels = to_pixels(boxes, decoded, where)
    values = pixels.values.astype(np.float64) / np.array([*size, *size])
    return replace(pixels, values=values.astype(np.float32), unit="fraction", size=size), size
