"""Labels on pictures, for people to look at: uint8 [H, W, C] in, a Pillow picture out.

Text stands in a strip below the picture, so that it hides nothing and reads on any background. Tiny pictures are
enlarged by whole factors without smoothing: what is shown is what the network was given.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from math import ceil

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

Colour = tuple[int, int, int]

PAPER: Colour = (250, 250, 250)
INK: Colour = (25, 25, 28)
STRIP: Colour = (32, 33, 36)
CHALK: Colour = (245, 245, 245)
RIGHT: Colour = (24, 128, 56)
WRONG: Colour = (197, 34, 31)
PLAIN: Colour = (95, 99, 104)

SMALLEST = 240
"""Pixels of width that a labelled picture has at least, so that a line of text fits below it."""

_CUT = "..."  # the font that comes with Pillow has no ellipsis


@dataclass(frozen=True)
class Caption:
    """What is written below one picture of a contact sheet.

    Attributes:
        predicted: the answer. score: its probability, 0..1. true: the label, when known.
    """

    predicted: str
    score: float | None = None
    true: str | None = None


def draw_label(image: NDArray[np.uint8], lines: Sequence[str], smallest: int = SMALLEST) -> Image.Image:
    """The picture with lines of text in a strip below it.

    Args:
        image: uint8 [H, W, C], C 1, 3 or 4 (alpha is dropped).
        lines: text; what is too long for the picture's width ends in "...". What follows a tab stands at the right
            edge and is never cut ("golden retriever\\t97.3 %").
        smallest: narrower pictures are enlarged by a whole factor until they are at least this wide, and the rest is
            filled up at both sides where that would make them too high.

    Returns:
        An RGB picture; the strip is below the picture's pixels, which are unchanged but for the enlarging.
    """
    picture = _enlarged(_picture(image), smallest)
    width = max(picture.width, smallest)
    size = max(14, round(width / 24))
    font, pad = _font(size), size // 2
    line_height = round(size * 1.3)
    strip = len(lines) * line_height + 2 * pad if lines else 0
    sheet = Image.new("RGB", (width, picture.height + strip), STRIP)
    sheet.paste(picture, ((width - picture.width) // 2, 0))
    pen = ImageDraw.Draw(sheet)
    for i, line in enumerate(lines):
        text, _, fixed = line.partition("\t")
        top, room = picture.height + pad + i * line_height, width - 2 * pad
        if fixed:
            pen.text((width - pad, top), fixed, font=font, fill=CHALK, anchor="ra")
            room -= round(font.getlength(fixed)) + pad
        pen.text((pad, top), shortened(text, room, font), font=font, fill=CHALK)
    return sheet


def contact_sheet(
    pictures: Sequence[NDArray[np.uint8]], captions: Sequence[Caption], columns: int = 6, tile: int = 150
) -> Image.Image:
    """A grid of pictures with their answers below them: right ones green, wrong ones red with the true label.

    Args:
        pictures: uint8 [H, W, C] each, of any size; shown whole, aspect kept, within ``tile`` pixels.
        captions: one a picture.
        columns: pictures side by side. tile: side of a picture's place, in pixels.
    """
    assert len(pictures) == len(captions)
    columns = max(1, min(columns, len(pictures)))
    rows = max(1, ceil(len(pictures) / columns))
    gap = 12
    font, small = _font(15), _font(13)
    text = 44
    sheet = Image.new("RGB", (gap + columns * (tile + gap), gap + rows * (tile + text + gap)), PAPER)
    pen = ImageDraw.Draw(sheet)
    for i, (image, caption) in enumerate(zip(pictures, captions, strict=True)):
        left, top = gap + i % columns * (tile + gap), gap + i // columns * (tile + text + gap)
        picture = _within(_picture(image), tile)
        sheet.paste(picture, (left + (tile - picture.width) // 2, top + (tile - picture.height) // 2))
        right = caption.true is None or caption.true == caption.predicted
        colour = PLAIN if caption.true is None else RIGHT if right else WRONG
        pen.rectangle((left, top + tile + 3, left + tile - 1, top + tile + 5), fill=colour)
        score = "" if caption.score is None else f" {caption.score:.0%}"
        room = tile - round(font.getlength(score))
        pen.text((left, top + tile + 8), shortened(caption.predicted, room, font) + score, font=font, fill=colour)
        if not right:
            pen.text((left, top + tile + 27), shortened(f"true: {caption.true}", tile, small), font=small, fill=INK)
    return sheet


def shortened(text: str, room: int, font: ImageFont.FreeTypeFont) -> str:
    """The text in one line, cut to ``room`` pixels with "..." at its end where it is longer."""
    text = " ".join(text.split())
    if font.getlength(text) <= room:
        return text
    low, high = 0, len(text)  # the longest beginning that fits
    while low < high:
        middle = (low + high + 1) // 2
        if font.getlength(text[:middle].rstrip() + _CUT) <= room:
            low = middle
        else:
            high = middle - 1
    return text[:low].rstrip() + _CUT


@cache
def _font(size: int) -> ImageFont.FreeTypeFont:
    font = ImageFont.load_default(size)
    assert isinstance(font, ImageFont.FreeTypeFont), "Pillow's wheels have FreeType"
    return font


def _picture(image: NDArray[np.uint8]) -> Image.Image:
    if image.shape[2] == 1:
        return Image.fromarray(np.ascontiguousarray(image[:, :, 0])).convert("RGB")
    return Image.fromarray(np.ascontiguousarray(image[:, :, :3]))


def _enlarged(picture: Image.Image, smallest: int) -> Image.Image:
    """By a whole factor to at least ``smallest`` pixels of width, unless the height would pass twice that."""
    factor = max(1, min(ceil(smallest / picture.width), 2 * smallest // picture.height))
    return (
        picture
        if factor == 1
        else picture.resize((picture.width * factor, picture.height * factor), Image.Resampling.NEAREST)
    )


def _within(picture: Image.Image, side: int) -> Image.Image:
    """Whole and with its aspect in a square of ``side``: enlarged by a whole factor or shrunk smoothly."""
    longest = max(picture.size)
    if longest <= side:
        factor = side // longest
        return picture.resize((picture.width * factor, picture.height * factor), Image.Resampling.NEAREST)
    size = (max(1, picture.width * side // longest), max(1, picture.height * side // longest))
    return picture.resize(size, Image.Resampling.BOX if longest > 4 * side else Image.Resampling.LANCZOS)
