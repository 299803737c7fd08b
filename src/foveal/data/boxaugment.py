"""Random changes of training pictures with boxes: drawn as plain numbers, then applied.

SSD's own augmentation as the original has it (reference 2.6), in its order: colour in HLS, contrast, mirror, zoom out
(the picture somewhere on a larger grey canvas), zoom in (a crop that overlaps an object enough), resize to the
network's square with a kernel drawn among five.

A picture without objects, which the original can't read, is cropped as if it were itself its only object, so that what
is empty doesn't betray itself by never being zoomed into. Crowd boxes are no targets.

All random numbers of a picture come from the generator handed in, and drawing always takes the same number of them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.random import Generator
from numpy.typing import NDArray
from torch import Tensor

from foveal.data.colour import scale_contrast, shift_hls
from foveal.data.resize import KERNELS, Box, mirrored, resample
from foveal.data.views import Preprocessing, Size, views
from foveal.records import Boxes

Bytes = NDArray[np.uint8]
Floats = NDArray[np.float32]
Frame = tuple[float, float, float, float]
"""left, top, width, height as fractions of the picture that it is laid over; may be larger than that."""

FILL = 127  # the canvas around a picture that was zoomed out
CONTRAST_FROM = 0.001  # smaller changes of contrast are left out
PAD_FROM = 1.05  # smaller canvases are left out


@dataclass(frozen=True)
class Sampler:
    """What crops are tried for.

    Attributes:
        scales: square root of the crop's share of the picture, least and most.
        aspects: width over height in pixels, least and most.
        overlap: an object must have at least this IoU with the crop; 0: any crop with an object's centre.
        trials: crops drawn before the sampler gives up.
    """

    scales: tuple[float, float] = (0.3, 1.0)
    aspects: tuple[float, float] = (0.5, 2.0)
    overlap: float = 0.0
    trials: int = 25


@dataclass(frozen=True)
class BoxRanges:
    """What may be drawn, and how often.

    Attributes:
        hue, saturation, lightness: largest shift either way, in OpenCV's 8-bit HLS. contrast: largest change of the
            factor 1. Each has its own coin of ``colour_chance``.
        mirror_chance, pad_chance, crop_chance: of mirroring, zooming out and zooming in.
        pad: sides of the largest canvas, in those of the picture.
        samplers: for zooming in; tried in random order until one succeeds.
        kernels: of the last resize, all equally likely.
    """

    hue: int = 0
    saturation: int = 0
    lightness: int = 0
    contrast: float = 0.0
    colour_chance: float = 0.5
    mirror_chance: float = 0.0
    pad_chance: float = 0.0
    pad: float = 1.0
    crop_chance: float = 0.0
    samplers: tuple[Sampler, ...] = ()
    kernels: tuple[str, ...] = ("bilinear",)


SSD = BoxRanges(
    hue=18,
    saturation=32,
    lightness=32,
    contrast=0.5,
    mirror_chance=0.5,
    pad_chance=0.5,
    pad=4.0,
    crop_chance=5 / 6,
    samplers=tuple(Sampler(overlap=least) for least in (0.1, 0.3, 0.5, 0.7, 0.9)),
    kernels=KERNELS,
)
"""The settings of the open SSD example, which the original is taken to have."""

LEVELS = ("ssd", "none")


@dataclass(frozen=True)
class BoxDraw:
    """Everything that happens to one picture, in this order; what is None, 0 or False does not happen.

    Attributes:
        hls: shifts of hue, lightness and saturation. contrast: factor of all values.
        mirror: left and right change places.
        pad: the canvas laid over the picture (left and top are 0 or below). border: its pixels on the left, at the top,
            on the right and at the bottom of the picture.
        crop: the part of the canvas that is kept. rectangle: the same in the canvas's pixels (left, top, width,
            height), each cut to a whole number, as the original does; so labels may be off by a part of a pixel.
        kernel: of the resize to the network's size. fill: value of the canvas around the picture.
    """

    hls: tuple[int, int, int] | None = None
    contrast: float | None = None
    mirror: bool = False
    pad: Frame | None = None
    border: tuple[int, int, int, int] = (0, 0, 0, 0)
    crop: Frame | None = None
    rectangle: tuple[int, int, int, int] | None = None
    kernel: str = "bilinear"
    fill: int = FILL


def augment_boxes(
    image: Bytes, boxes: Boxes, rule: Preprocessing, rng: Generator, level: str = "ssd", flip: bool = True
) -> tuple[Bytes, Floats]:
    """One random version of a picture at the network's size, and its objects.

    Args:
        image: uint8 [H, W, C], upright, C as the rule says. It is not changed.
        boxes: its objects, in pixels of the upright picture (``data.boxes.to_pixels``); n may be 0.
        rule: the preprocessing rule, of kind ``squeeze``.
        rng: the picture's own generator.
        level: ``ssd``, or ``none``: what asking sees.
        flip: whether mirroring is allowed; it is not where left and right mean something.

    Returns:
        uint8 [height, width, C], contiguous, and float32 [n, 6]: class, xmin, ymin, xmax, ymax, difficult (0 or 1), as
        fractions of the network's input; n may be 0.
    """
    assert level in LEVELS, level
    targets = targets_of(boxes)
    if level == "none":
        return views(rule, image)[0].pixels, targets
    draw = draw_change(SSD, (image.shape[0], image.shape[1]), targets, rule.channels, rng, flip)
    return apply(image, draw, rule), move(targets, draw)


def targets_of(boxes: Boxes) -> Floats:
    """The rows that training takes: float32 [n, 6], of pixels; crowd boxes are left out."""
    assert boxes.unit == "pixel" and boxes.of == "upright" and boxes.size is not None
    width, height = boxes.size
    rows = np.empty((len(boxes.values), 6), dtype=np.float32)
    rows[:, 0] = boxes.cls
    rows[:, 1:5] = boxes.values / np.array([width, height, width, height], dtype=np.float32)
    rows[:, 5] = boxes.difficult
    return rows[~boxes.crowd]


def collate_boxes(targets: list[Any]) -> Tensor:
    """Targets of a batch: float32 [B, max(1, most rows), 6] of arrays float32 [n, 6], padded with -1."""
    most = max([1, *(len(rows) for rows in targets)])
    batch = np.full((len(targets), most, 6), -1, dtype=np.float32)
    for i, rows in enumerate(targets):
        batch[i, : len(rows)] = rows
    return torch.from_numpy(batch)


def draw_change(
    ranges: BoxRanges, shape: Size, targets: Floats, channels: int, rng: Generator, flip: bool = True
) -> BoxDraw:
    """Draw what ``augment_boxes`` does to a picture of ``shape`` (height, width), in the original's distributions.

    Args:
        targets: float32 [n, 6], its objects as fractions; the crop depends on them.
        channels: colour is shifted where there are three.
    """
    trials = sum(sampler.trials for sampler in ranges.samplers)
    numbers = rng.random(15 + len(ranges.samplers) + 4 * trials)
    coins = iter(numbers[:15].tolist())
    shifts = [_gated(next(coins), next(coins), ranges.colour_chance) for _ in range(4)]
    hue, saturation, lightness = (
        int(shift * limit)
        for shift, limit in zip(shifts, (ranges.hue, ranges.saturation, ranges.lightness), strict=False)
    )
    hls = (hue, lightness, saturation) if (hue or lightness or saturation) and channels == 3 else None
    change = shifts[3] * ranges.contrast
    mirror = next(coins) < ranges.mirror_chance and flip
    kernel = ranges.kernels[int(next(coins) * len(ranges.kernels))]
    height, width = shape
    pad, border = _draw_pad(ranges, shape, *(next(coins) for _ in range(4)))
    draw = BoxDraw(hls, 1 + change if abs(change) > CONTRAST_FROM else None, mirror, pad, border, kernel=kernel)
    if next(coins) >= ranges.crop_chance:
        return draw
    canvas = (height + border[1] + border[3], width + border[0] + border[2])
    order = np.argsort(numbers[15 : 15 + len(ranges.samplers)])
    crop = _draw_crop(
        [ranges.samplers[i] for i in order],
        canvas[1] / canvas[0],
        move(targets if len(targets) else _WHOLE, draw),
        numbers[15 + len(ranges.samplers) :].reshape(trials, 4),
    )
    if crop is None:
        return draw
    left, top = int(crop[0] * canvas[1]), int(crop[1] * canvas[0])
    rectangle = (left, top, max(1, int(crop[2] * canvas[1])), max(1, int(crop[3] * canvas[0])))
    return BoxDraw(hls, draw.contrast, mirror, pad, border, crop, rectangle, kernel)


_WHOLE = np.array([[0, 0, 0, 1, 1, 0]], dtype=np.float32)  # a picture that is its own object


def _gated(coin: float, amount: float, chance: float) -> float:
    """From -1 to 1 with the chance given, else 0."""
    return 2 * amount - 1 if coin < chance else 0.0


def _draw_pad(
    ranges: BoxRanges, shape: Size, coin: float, size: float, x: float, y: float
) -> tuple[Frame | None, tuple[int, int, int, int]]:
    """The canvas around the picture and its borders in pixels, cut to whole ones."""
    scale = 1 + size * (ranges.pad - 1)
    if coin >= ranges.pad_chance or scale < PAD_FROM:
        return None, (0, 0, 0, 0)
    height, width = shape
    x, y = x * (scale - 1), y * (scale - 1)
    border = (int(x * width), int(y * height), int((scale - x - 1) * width), int((scale - y - 1) * height))
    return (-x, -y, scale, scale), border


def _draw_crop(samplers: list[Sampler], aspect: float, targets: Floats, numbers: NDArray[np.float64]) -> Frame | None:
    """The first crop that meets its sampler's demand, all trials of one sampler before those of the next.

    Args:
        samplers: in the order they are tried in. aspect: width over height of the canvas in pixels.
        targets: float32 [n, 6], the objects on the canvas. numbers: float64 [trials of all, 4], from 0 to 1.
    """
    limits = np.array([(*s.scales, *s.aspects, s.overlap) for s in samplers], dtype=np.float64)
    limits = limits.reshape(-1, 5).repeat([s.trials for s in samplers], axis=0)
    scale = limits[:, 0] + numbers[:, 0] * (limits[:, 1] - limits[:, 0])
    narrow = np.maximum(limits[:, 2] / aspect, scale**2)
    wide = np.minimum(limits[:, 3] / aspect, 1 / scale**2)
    stretch = np.sqrt(narrow + numbers[:, 1] * (wide - narrow))
    width, height = np.minimum(1, scale * stretch), np.minimum(1, scale / stretch)
    left, top = numbers[:, 2] * (1 - width), numbers[:, 3] * (1 - height)
    frames = np.stack([left, top, width, height], axis=1)
    overlaps = _iou(frames, targets)
    fits = _centred(frames, targets).any(axis=1) & ((overlaps >= limits[:, 4:]).any(axis=1) | (limits[:, 4] <= 0))
    found = np.flatnonzero(fits)
    if not len(found):
        return None
    x, y, w, h = frames[found[0]].tolist()
    return x, y, w, h


def _iou(frames: NDArray[np.float64], targets: Floats) -> NDArray[np.float64]:
    """Intersection over union of frames [t, 4] and objects [n, 6]: float64 [t, n]."""
    x0, y0, x1, y1 = targets[:, 1:5].astype(np.float64).T
    left, top, width, height = (frames[:, i, None] for i in range(4))
    across = np.minimum(left + width, x1) - np.maximum(left, x0)
    along = np.minimum(top + height, y1) - np.maximum(top, y0)
    shared = np.maximum(across, 0) * np.maximum(along, 0)
    overlap: NDArray[np.float64] = shared / (width * height + (x1 - x0) * (y1 - y0) - shared)
    return overlap


def _centred(frames: NDArray[np.float64], targets: Floats) -> NDArray[np.bool_]:
    """Whether the centre of an object lies in a frame: bool [t, n]."""
    x, y = (targets[:, 1] + targets[:, 3]) * np.float32(0.5), (targets[:, 2] + targets[:, 4]) * np.float32(0.5)
    left, top, width, height = (frames[:, i, None] for i in range(4))
    inside: NDArray[np.bool_] = (left <= x) & (x < left + width) & (top <= y) & (y < top + height)
    return inside


def move(targets: Floats, draw: BoxDraw) -> Floats:
    """The objects as fractions of what is left of the picture.

    Those whose centre is outside the crop are dropped, the others cut to it.

    Args:
        targets: float32 [n, 6], as fractions of the picture. draw: what happens to it.

    Returns:
        float32 [m, 6], a new array; m may be 0.
    """
    moved = targets.copy()
    if draw.mirror:
        moved[:, [1, 3]] = 1 - targets[:, [3, 1]]
    if draw.pad is not None:
        moved = _projected(moved, draw.pad)
    if draw.crop is not None:
        kept = _centred(np.array([draw.crop], dtype=np.float64), moved)[0]
        moved = _projected(moved[kept], draw.crop)
    whole = (moved[:, 3] > moved[:, 1]) & (moved[:, 4] > moved[:, 2])  # rounding may leave nothing of a sliver
    return moved[whole]


def _projected(targets: Floats, frame: Frame) -> Floats:
    """Objects as fractions of a frame, cut to it."""
    left, top, width, height = (np.float32(value) for value in frame)
    corner, size = np.array([left, top, left, top]), np.array([width, height, width, height])
    out = targets.copy()
    out[:, 1:5] = np.clip((targets[:, 1:5] - corner) / size, 0, 1)
    return out


def apply(image: Bytes, draw: BoxDraw, rule: Preprocessing) -> Bytes:
    """Do what was drawn.

    The canvas is never built, and colour is changed only where it is seen: in the crop, or after the resize where that
    leaves fewer pixels. Which of the two comes first makes no difference to the kernel ``nearest`` and a small one to
    the others; the original always changes the whole picture first.

    Args:
        image: uint8 [H, W, C], the picture that ``draw`` was drawn for.
        draw: the numbers.
        rule: the preprocessing rule; its size counts here.

    Returns:
        uint8 [height, width, C], contiguous.
    """
    height, width = image.shape[:2]
    left, top, right, bottom = -draw.border[0], -draw.border[1], width + draw.border[2], height + draw.border[3]
    if draw.rectangle is not None:
        left, top = left + draw.rectangle[0], top + draw.rectangle[1]
        right, bottom = left + draw.rectangle[2], top + draw.rectangle[3]
    seen = (max(0, left), max(0, top), min(width, right), min(height, bottom))
    if draw.mirror:
        pixels = mirrored(image[seen[1] : seen[3], max(0, width - seen[2]) : max(0, width - seen[0])])
    else:
        pixels = image[seen[1] : seen[3], seen[0] : seen[2]]
    box = (left - seen[0], top - seen[1], right - seen[0], bottom - seen[1])
    if rule.height * rule.width >= (right - left) * (bottom - top):
        return _own(resample(_coloured(pixels, draw), rule.height, rule.width, draw.kernel, box, draw.fill), image)
    out = _own(resample(pixels, rule.height, rule.width, draw.kernel, box, draw.fill), image)
    part = _shown(box, pixels.shape[:2], rule)
    out[part] = _coloured(out[part], draw)
    return out


def _coloured(pixels: Bytes, draw: BoxDraw) -> Bytes:
    if draw.hls is not None and pixels.size:
        pixels = shift_hls(pixels, *draw.hls)
    return pixels if draw.contrast is None else scale_contrast(pixels, draw.contrast)


def _own(pixels: Bytes, image: Bytes) -> Bytes:
    """Pixels that may be written to and handed on: never those of the picture itself."""
    return pixels.copy() if np.may_share_memory(pixels, image) else pixels


def _shown(box: Box, shape: tuple[int, ...], rule: Preprocessing) -> tuple[slice, slice]:
    """Rows and columns of the network's input where a picture of ``shape`` is seen, laid over by ``box``."""
    left, top, right, bottom = box
    rows = np.array([-top, shape[0] - top]) * (rule.height / (bottom - top))
    columns = np.array([-left, shape[1] - left]) * (rule.width / (right - left))
    return (
        slice(max(0, int(np.floor(rows[0]))), max(0, int(np.ceil(rows[1])))),
        slice(max(0, int(np.floor(columns[0]))), max(0, int(np.ceil(columns[1])))),
    )
