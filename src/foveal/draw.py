"""Labels and boxes on pictures, for people to look at: uint8 [H, W, C] in, a Pillow picture out.

The text of a label stands in a strip below the picture, so that it hides nothing and reads on any background. Boxes
have one colour a class and lines with a rim, which show on any background too; their names stand where they hide least.
Tiny pictures are enlarged by whole factors without smoothing: what is shown is what the network was given.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from math import ceil

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from foveal.records import Boxes, Detections

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

COLOURS: tuple[Colour, ...] = (
    (86, 180, 233),
    (230, 159, 0),
    (0, 158, 115),
    (240, 228, 66),
    (204, 121, 167),
    (0, 114, 178),
    (213, 94, 0),
)
"""Of the classes, in turn: Okabe and Ito's, which the colour-blind tell apart too, neighbours far from each other."""

_PAD = 8  # pixels around a legend
_HIDDEN = 0.15  # share of a picture that names may cover
_FEW = 8  # objects on a small picture of a sheet that are named beside their boxes
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


def draw_boxes(
    image: NDArray[np.uint8],
    found: Detections | Boxes,
    class_names: Sequence[str],
    truth: Boxes | None = None,
    smallest: int = 2 * SMALLEST,
    named: bool = True,
) -> Image.Image:
    """The picture with its objects: a box in the colour of the class, its name and confidence beside it.

    Where names would hide too much of the picture, only confidences stand at the boxes, or nothing, and a strip below
    the picture tells which colour is which class.

    Args:
        image: uint8 [H, W, C], upright, C 1, 3 or 4 (alpha is dropped).
        found: what a network found, or labelled boxes in pixels of this picture; either may be empty.
        class_names: names in label order.
        truth: labelled boxes in pixels of this picture, drawn dashed and without names over what was found.
        smallest: narrower pictures are enlarged by a whole factor until they are at least this wide.
        named: whether names are written.

    Returns:
        An RGB picture of the size of ``image``, or a whole multiple; the strip comes below it.
    """
    picture = _enlarged(_picture(image), smallest)
    pen = ImageDraw.Draw(picture)
    line = max(2, round(min(picture.size) / 240))
    boxes = _on(found, picture)
    order = np.argsort(-_areas(boxes), kind="stable")  # small ones over large ones
    for i in order.tolist():
        _outline(pen, boxes[i], colour_of(int(found.cls[i])), line, picture.size)
    if truth is not None:
        for box, cls in zip(_on(truth, picture), truth.cls.tolist(), strict=True):
            _dashes(pen, box, colour_of(cls), line, picture.size)
    if not named:
        return picture
    font = _font(max(11, round(min(max(picture.size) / 50, min(picture.size) / 30))))
    texts, whole = _texts(found, class_names, picture.size, font)
    lines = (line + 2) * np.array([-1, -1, 1, 1])
    _plates(pen, found, boxes + lines, texts, picture.size, font)
    if whole:
        return picture
    classes, room = np.unique(found.cls).tolist(), max(picture.width, SMALLEST) - 2 * _PAD
    return _with_strip(picture, _legend(classes, class_names, False, room, STRIP, CHALK))


def boxes_sheet(
    pictures: Sequence[NDArray[np.uint8]],
    found: Sequence[Detections | Boxes],
    class_names: Sequence[str],
    truths: Sequence[Boxes] | None = None,
    columns: int = 3,
    tile: int = 360,
) -> Image.Image:
    """A grid of pictures with the boxes of their objects, and below it which colour is which class.

    Args:
        pictures: uint8 [H, W, C] each, of any size; shown whole, aspect kept, within ``tile`` pixels.
        found: one a picture. truths: labelled boxes in pixels, one a picture, drawn dashed.
        class_names: names in label order; those that occur are listed.
        columns: pictures side by side. tile: side of a picture's place, in pixels.
    """
    assert len(pictures) == len(found) and (truths is None or len(truths) == len(found))
    columns = max(1, min(columns, len(pictures)))
    gap = 12
    tiles = [
        thumbnail(image, tile, found[i], class_names, None if truths is None else truths[i])
        for i, image in enumerate(pictures)
    ]
    tops = [gap]
    for start in range(0, len(tiles), columns):
        tops.append(tops[-1] + max(each.height for each in tiles[start : start + columns]) + gap)
    width = gap + columns * (tile + gap)
    occurring = sorted({int(cls) for each in (*found, *(truths or ())) for cls in each.cls})
    legend = _legend(occurring, class_names, truths is not None, width - 2 * gap, PAPER, INK)
    sheet = Image.new("RGB", (width, tops[-1] + legend.height + (gap if legend.height else 0)), PAPER)
    for i, each in enumerate(tiles):
        sheet.paste(each, (gap + i % columns * (tile + gap) + (tile - each.width) // 2, tops[i // columns]))
    sheet.paste(legend, (gap, tops[-1]))
    return sheet


def thumbnail(
    image: NDArray[np.uint8],
    side: int,
    boxes: Detections | Boxes | None = None,
    class_names: Sequence[str] = (),
    truth: Boxes | None = None,
) -> Image.Image:
    """The picture whole, aspect kept, within ``side`` pixels, and its boxes on it, with names where they are few.

    Args:
        image: uint8 [H, W, C]; what is smaller is enlarged by a whole factor.
        boxes, class_names, truth: as of ``draw_boxes``.
    """
    picture = _within(_picture(image), side)
    if boxes is None:
        return picture
    few = len(boxes.cls) <= _FEW
    return draw_boxes(np.asarray(picture), boxes, class_names, truth, smallest=1, named=few)


def colour_of(cls: int) -> Colour:
    """The colour of a class: of ``COLOURS`` in turn, lighter in the second turn and darker in the third."""
    turn, place = divmod(cls, len(COLOURS))
    towards, share = ((0, 0.0), (255, 0.5), (0, 0.4))[turn % 3]
    red, green, blue = (round(value + (towards - value) * share) for value in COLOURS[place])
    return red, green, blue


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


def _on(boxes: Detections | Boxes, picture: Image.Image) -> NDArray[np.float64]:
    """float64 [n, 4], in pixels of the picture that is drawn on."""
    if isinstance(boxes, Detections):
        fractions = boxes.values.astype(np.float64)
    else:
        assert boxes.unit == "pixel" and boxes.of == "upright" and boxes.size is not None
        fractions = boxes.values / np.array([*boxes.size, *boxes.size], dtype=np.float64)
    return np.clip(fractions, 0, 1) * np.array([*picture.size, *picture.size], dtype=np.float64)


def _areas(boxes: NDArray[np.float64]) -> NDArray[np.float64]:
    areas: NDArray[np.float64] = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    return areas


def _rim(colour: Colour) -> Colour:
    """What stands out from a colour: dark from light ones, light from dark ones."""
    return INK if 0.299 * colour[0] + 0.587 * colour[1] + 0.114 * colour[2] > 110 else CHALK


def _outline(
    pen: ImageDraw.ImageDraw, box: NDArray[np.float64], colour: Colour, line: int, size: tuple[int, int]
) -> None:
    """A line around the box, outside it as far as the picture reaches, with a rim of one pixel on both sides."""
    left, top, right, bottom = _around(box, line + 2, size)
    pen.rectangle((left, top, right, bottom), outline=_rim(colour), width=line + 2)
    pen.rectangle((left + 1, top + 1, right - 1, bottom - 1), outline=colour, width=line)


def _around(box: NDArray[np.float64], margin: int, size: tuple[int, int]) -> tuple[int, int, int, int]:
    """First and last column and row of a frame around the box, within the picture and not less than 3 pixels wide."""
    left, top = (max(0, round(low) - margin) for low in box[:2].tolist())
    right, bottom = (min(side, round(high) + margin) - 1 for high, side in zip(box[2:].tolist(), size, strict=True))
    return min(left, max(0, size[0] - 3)), min(top, max(0, size[1] - 3)), max(right, left + 2), max(bottom, top + 2)


def _dashes(
    pen: ImageDraw.ImageDraw, box: NDArray[np.float64], colour: Colour, line: int, size: tuple[int, int]
) -> None:
    """Dashes of the class's colour and of what stands out from it."""
    left, top, right, bottom = _around(box, line + 1, size)
    dash = 3 * line + 2
    pen.rectangle((left, top, right, bottom), outline=colour, width=line)
    for x in range(left, right + 1, 2 * dash):
        for y in (top, bottom - line + 1):
            pen.rectangle((x, y, min(x + dash - 1, right), y + line - 1), fill=_rim(colour))
    for y in range(top, bottom + 1, 2 * dash):
        for x in (left, right - line + 1):
            pen.rectangle((x, y, x + line - 1, min(y + dash - 1, bottom)), fill=_rim(colour))


def _texts(
    found: Detections | Boxes, class_names: Sequence[str], size: tuple[int, int], font: ImageFont.FreeTypeFont
) -> tuple[list[str], bool]:
    """What stands at each box, as much as doesn't hide too much of the picture, and whether names are told by it."""
    scores = (
        [f"{score:.0%}" for score in found.scores.tolist()] if isinstance(found, Detections) else [""] * len(found.cls)
    )
    names = [shortened(_name(cls, class_names), round(0.6 * size[0]), font) for cls in found.cls.tolist()]
    whole = [f"{name} {score}".strip() for name, score in zip(names, scores, strict=True)]
    for texts in (whole, scores):
        covered = sum(plate[0] * plate[1] for plate in (_plate(text, font) for text in texts))
        if covered <= _HIDDEN * size[0] * size[1]:
            return texts, texts is whole
    return [""] * len(whole), False


def _plate(text: str, font: ImageFont.FreeTypeFont) -> tuple[int, int]:
    """Width and height of the plate that a text stands on; nothing for no text."""
    return (ceil(font.getlength(text)) + 6, sum(font.getmetrics())) if text else (0, 0)


def _name(cls: int, class_names: Sequence[str]) -> str:
    return class_names[cls] if cls < len(class_names) else str(cls)


def _plates(
    pen: ImageDraw.ImageDraw,
    found: Detections | Boxes,
    boxes: NDArray[np.float64],
    texts: Sequence[str],
    size: tuple[int, int],
    font: ImageFont.FreeTypeFont,
) -> None:
    """Write each text on a plate of its class's colour, where it hides the least of boxes and other plates."""
    plates = np.zeros((0, 4))
    for i, (cls, text) in enumerate(zip(found.cls.tolist(), texts, strict=True)):
        if not text:
            continue
        plate = _place(boxes, i, _plate(text, font), plates, size)
        plates = np.concatenate([plates, plate[None]])
        colour = colour_of(cls)
        left, top, right, bottom = (round(value) for value in plate.tolist())
        pen.rectangle((left, top, right - 1, bottom - 1), fill=colour)
        pen.text((left + 3, top), text, font=font, fill=_rim(colour))


def _place(
    boxes: NDArray[np.float64], own: int, plate: tuple[int, int], plates: NDArray[np.float64], size: tuple[int, int]
) -> NDArray[np.float64]:
    """Where a plate (width, height) of a box goes: float64 [4], within the picture where it fits."""
    left, top, right, bottom = boxes[own].tolist()
    width, height = plate
    corners = np.array(
        [  # best first
            (left, top - height),
            (right - width, top - height),
            (left, bottom),
            (right - width, bottom),
            (right, top),
            (left - width, top),
            (right, bottom - height),
            (left - width, bottom - height),
            (left + 3, top + 3),
            (right - width - 3, bottom - height - 3),
        ]
    )
    corners = np.clip(corners, 0, np.maximum(0, np.array([size[0] - width, size[1] - height])))
    places = np.concatenate([corners, corners + np.array(plate)], axis=1)
    hidden = (_shared(places, boxes) / np.maximum(_areas(boxes), 1)).sum(axis=1)
    over_plates = _shared(places, plates).sum(axis=1) / (width * height)
    best: NDArray[np.float64] = places[np.argmin(4 * over_plates + hidden + 0.003 * np.arange(len(places)))]
    return best


def _shared(a: NDArray[np.float64], b: NDArray[np.float64]) -> NDArray[np.float64]:
    """Areas that each of [n, 4] shares with each of [m, 4]: float64 [n, m]."""
    across = np.minimum(a[:, None, 2], b[:, 2]) - np.maximum(a[:, None, 0], b[:, 0])
    along = np.minimum(a[:, None, 3], b[:, 3]) - np.maximum(a[:, None, 1], b[:, 1])
    area: NDArray[np.float64] = np.maximum(across, 0) * np.maximum(along, 0)
    return area


def _legend(
    classes: Sequence[int], class_names: Sequence[str], dashed: bool, width: int, paper: Colour, ink: Colour
) -> Image.Image:
    """Lines of colour patches with names, ``width`` pixels wide; no pixel high without classes."""
    font, step, patch = _font(15), 24, 16
    entries = [(colour_of(cls), _name(cls, class_names)) for cls in classes]
    if dashed:
        entries.append((paper, "dashed: as labelled"))
    places: list[tuple[int, int, Colour, str]] = []
    x = y = 0
    for colour, name in entries:
        text = shortened(name, width - patch - 8, font)
        needed = patch + 8 + round(font.getlength(text))
        if x and x + needed > width:
            x, y = 0, y + step
        places.append((x, y, colour, text))
        x += needed + 20
    legend = Image.new("RGB", (width, y + step if places else 0), paper)
    pen = ImageDraw.Draw(legend)
    for x, y, colour, text in places:
        pen.rectangle((x, y + 3, x + patch, y + 3 + patch), fill=colour, outline=ink)
        pen.text((x + patch + 8, y + 2), text, font=font, fill=ink)
    return legend


def _with_strip(picture: Image.Image, legend: Image.Image) -> Image.Image:
    """The picture with a legend in a strip below it."""
    sheet = Image.new("RGB", (legend.width + 2 * _PAD, picture.height + legend.height + 2 * _PAD), STRIP)
    sheet.paste(picture, ((sheet.width - picture.width) // 2, 0))
    sheet.paste(legend, (_PAD, picture.height + _PAD))
    return sheet
