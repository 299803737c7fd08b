"""Pictures encoded anew: upright, cropped, resized, as JPEG or PNG. Boxes follow."""

from __future__ import annotations

import io
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import simplejpeg
from numpy.typing import NDArray
from PIL import Image

from foveal.data.boxes import clipped
from foveal.data.decode import decode, read_header
from foveal.data.resize import resize
from foveal.errors import BadPicture
from foveal.records import Boxes

Size = tuple[int, int]
"""width, height in pixels."""
_LONGEST_JPEG = 65_500  # pixels a side that libjpeg takes


@dataclass(frozen=True)
class Encoding:
    """How pictures are encoded anew.

    Attributes:
        shorter: the shorter side in pixels, aspect kept, the other side rounded down as im2rec does; None: as it is.
        center_crop: cut the longer side to the shorter one first, as im2rec does.
        quality: of JPEG, 1 to 100.
        kind: None: PNG stays PNG, all else becomes JPEG.
        grey: None: grey stays grey, and colour colour.
    """

    shorter: int | None = None
    center_crop: bool = False
    quality: int = 95
    kind: Literal["JPEG", "PNG"] | None = None
    grey: bool | None = None


@dataclass(frozen=True)
class Reencoded:
    """An encoded picture, and where it comes from.

    Attributes:
        picture: the encoded file. kind: ``JPEG`` or ``PNG``. grey: one channel.
        size: its (width, height). before: that of the upright picture it was made of.
        corner: left and top of what was cut out of that, in its pixels.
        cut: (width, height) of what was cut out of it.
    """

    picture: bytes
    kind: str
    grey: bool
    size: Size
    before: Size
    corner: Size
    cut: Size


def reencode(picture: bytes, encoding: Encoding, where: str = "") -> Reencoded:
    """Decode, turn upright, crop, resize and encode. Raises BadPicture for what can't be read."""
    header = read_header(picture, where)
    grey = header.grey if encoding.grey is None else encoding.grey
    pixels = decode(picture, 1 if grey else 3, where)
    height, width = pixels.shape[:2]
    before = cut = (width, height)
    left = top = 0
    if encoding.center_crop:
        side = min(cut)
        left, top, cut = (width - side) // 2, (height - side) // 2, (side, side)
        pixels = pixels[top : top + side, left : left + side]
    size = cut if encoding.shorter is None else shorter_side(cut, encoding.shorter)
    if size != cut:
        pixels = resize(np.ascontiguousarray(pixels), size[1], size[0], antialias=True)
    kind = encoding.kind or ("PNG" if header.kind == "PNG" else "JPEG")
    if kind == "JPEG" and max(size) > _LONGEST_JPEG:
        told = f"{size[0]} x {size[1]} pixels are more than JPEG holds, which is {_LONGEST_JPEG:,} a side"
        raise BadPicture(told, where, "Resize it to less, or write PNG.")
    encoded = _png(pixels) if kind == "PNG" else _jpeg(pixels, encoding.quality)
    return Reencoded(encoded, kind, grey, size, before, (left, top), cut)


def follow(boxes: Boxes, done: Reencoded) -> Boxes:
    """Boxes of the upright picture, in pixels or fractions, in the picture made of it; cut to it where it was cropped.

    Boxes that nothing is left of are dropped. ``size`` becomes the new one.
    """
    unit = np.array(done.before if boxes.unit == "fraction" else (1, 1), dtype=np.float64)
    scale = np.array(done.size, dtype=np.float64) / np.array(done.cut)
    corner = np.tile(np.array(done.corner, dtype=np.float64), 2)
    values = (boxes.values * np.tile(unit, 2) - corner) * np.tile(scale, 2)
    if done.cut == done.before:
        kept = values if boxes.unit == "pixel" else boxes.values
        return replace(boxes, values=kept.astype(np.float32), size=done.size)
    return clipped(replace(boxes, values=values.astype(np.float32), unit="pixel", size=done.size))


def shorter_side(size: Size, side: int) -> Size:
    """Width and height with the shorter of the two ``side``, the other rounded down as im2rec does, at least 1."""
    width, height = size
    if width < height:
        return side, max(1, height * side // width)
    return max(1, width * side // height), side


def _jpeg(pixels: NDArray[np.uint8], quality: int) -> bytes:
    grey = pixels.shape[2] == 1
    encoded: bytes = simplejpeg.encode_jpeg(
        np.ascontiguousarray(pixels),
        quality=quality,
        colorspace="GRAY" if grey else "RGB",
        colorsubsampling="Gray" if grey else "444",
    )
    return encoded


def _png(pixels: NDArray[np.uint8]) -> bytes:
    kept = io.BytesIO()
    Image.fromarray(pixels[:, :, 0] if pixels.shape[2] == 1 else pixels).save(kept, "PNG")
    return kept.getvalue()
