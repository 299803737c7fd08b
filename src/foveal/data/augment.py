"""Random changes of training pictures: drawn as plain numbers, then applied.

The original's three levels, with its ranges and in its order: resize, affine warp with a white border, crop, colour
in HLS, mirror. Grey pictures keep their lightness: the original's colour step needs three channels. Ours, for recipe
modern: ``pad_crop`` for small pictures and ``random_resized_crop`` for photographs.

All random numbers of a picture come from the generator handed in, and the drawing of a level always takes the same
numbers of it in the same order, whatever the picture.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import cos, exp, log, pi, sin, sqrt

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from foveal.data.colour import jitter, shift_hls
from foveal.data.resize import Box, mirrored, resize, warp
from foveal.data.views import Preprocessing, Size, enlarged_sizes, first_sizes, middle, resized_sizes, views

Bytes = NDArray[np.uint8]


@dataclass(frozen=True)
class Ranges:
    """What the original's reader may draw.

    Attributes:
        crop, mirror: random crop instead of the centre; mirrored from left to right with probability 0.5.
        hue, saturation, lightness: largest shift either way, in OpenCV's 8-bit HLS.
        angle: largest rotation either way, whole degrees.
        shear: largest shear either way. aspect: ratio of vertical to horizontal scale, from 1 - aspect to 1 + aspect.
    """

    crop: bool = False
    mirror: bool = False
    hue: int = 0
    saturation: int = 0
    lightness: int = 0
    angle: int = 0
    shear: float = 0.0
    aspect: float = 0.0


LEVELS = {
    "crop": Ranges(crop=True, mirror=True),
    "crop_color": Ranges(crop=True, mirror=True, hue=36, saturation=50, lightness=50),
    "crop_color_transform": Ranges(True, True, hue=36, saturation=50, lightness=50, angle=10, shear=0.1, aspect=0.25),
}
"""augmentation_type of the original: MXNet's set_data_aug_level 1, 2, 3."""

OURS = ("pad_crop", "random_resized_crop")

AREA = {"crop": (0.35, 1.0), "squeeze": (0.6, 1.0)}  # share of the picture that random_resized_crop keeps, by the rule
ASPECT = (
    3 / 4,
    4 / 3,
)  # of that part, relative to what the rule shows when asking: the network's input, or the picture
JITTER = 0.2  # random_resized_crop scales brightness, contrast and saturation by 1 - JITTER to 1 + JITTER
_TRIES = 10  # parts drawn before the largest middle one is taken
_PADDED = 14  # pad_crop adds 1/14 of the input's side on each border (2 pixels of 28)


@dataclass(frozen=True)
class Draw:
    """Everything that happens to one picture, in this order; what is None, 0 or False does not happen.

    Attributes:
        part: what of the source is used, in its pixels (left, top, right, bottom).
        sizes: sizes (height, width) it is resized to, one after the other.
        matrix: forward affine map, two rows of three, between pixel centres; ``warped`` is the result's (height, width)
            and ``fill`` the value around the picture.
        enlarged: further sizes, where the warped picture is smaller than the network's input.
        corner: (top, left) of the crop; with ``padded``, of a picture with that many reflected pixels on each border.
        hls: shifts of hue, lightness and saturation. jitter: factors of brightness, contrast and saturation.
        mirror: left and right change places.
    """

    part: Box | None = None
    sizes: tuple[Size, ...] = ()
    matrix: tuple[tuple[float, float, float], tuple[float, float, float]] | None = None
    warped: Size | None = None
    fill: int = 255
    enlarged: tuple[Size, ...] = ()
    corner: tuple[int, int] = (0, 0)
    padded: int = 0
    hls: tuple[int, int, int] | None = None
    jitter: tuple[float, float, float] | None = None
    mirror: bool = False


def augment(image: Bytes, level: str | None, rule: Preprocessing, rng: Generator, flip: bool = True) -> Bytes:
    """One random version of a picture at the network's size.

    Args:
        image: uint8 [H, W, C], upright, C as the rule says. It is not changed.
        level: None or "none" (the centre crop of ``views``), a key of ``LEVELS``, or one of ``OURS``.
        rule: the preprocessing rule.
        rng: the picture's own generator.
        flip: whether mirroring is allowed; it is not for text and digits.

    Returns:
        uint8 [height, width, C], contiguous.
    """
    if level is None or level == "none":
        return views(rule, image)[0].pixels
    return apply(image, draw_parameters(level, (image.shape[0], image.shape[1]), rule, rng, flip), rule)


def draw_parameters(level: str, shape: Size, rule: Preprocessing, rng: Generator, flip: bool = True) -> Draw:
    """Draw what ``augment`` does to a picture of ``shape`` (height, width)."""
    if level in LEVELS:
        return draw_original(LEVELS[level], shape, rule, rng, flip)
    if level == "pad_crop":
        return _draw_pad_crop(shape, rule, rng, flip)
    assert level == "random_resized_crop", level
    return _draw_random_resized_crop(shape, rule, rng, flip)


def draw_original(ranges: Ranges, shape: Size, rule: Preprocessing, rng: Generator, flip: bool = True) -> Draw:
    """Draw as the original's reader does (reference 2.6): in its distributions, not from its random stream."""
    coins = iter(rng.random(12).tolist())
    part, (height, width) = _used(rule, shape)
    sizes = first_sizes(rule, height, width)
    height, width = sizes[-1] if sizes else (height, width)
    shear = (2 * next(coins) - 1) * ranges.shear
    angle = _integer(next(coins), -ranges.angle, ranges.angle)
    aspect = 1 + (2 * next(coins) - 1) * ranges.aspect
    matrix = None
    if ranges.angle or ranges.shear or ranges.aspect:
        matrix = affine_matrix(shear, angle, aspect, (height, width))
    enlarged = enlarged_sizes(rule, height, width)
    warped = None if matrix is None else (height, width)
    height, width = enlarged[-1] if enlarged else (height, width)
    top, left = height - rule.height, width - rule.width
    rows, columns = next(coins), next(coins)
    corner = (_integer(rows, 0, top), _integer(columns, 0, left)) if ranges.crop else (top // 2, left // 2)
    hue, lightness, saturation = (
        _shift(limit, next(coins), next(coins)) for limit in (ranges.hue, ranges.lightness, ranges.saturation)
    )
    hls = (hue, lightness, saturation) if (hue or lightness or saturation) and rule.channels != 1 else None
    mirror = next(coins) < 0.5 and ranges.mirror and flip
    return Draw(part, sizes, matrix, warped, 255, enlarged, corner, 0, hls, None, mirror)


def affine_matrix(
    shear: float, angle: int, aspect: float, shape: Size
) -> tuple[tuple[float, float, float], tuple[float, float, float]]:
    """The original's forward map of a picture of ``shape`` (height, width), about its centre; angle in degrees.

    ``aspect`` is vertical over horizontal scale; the two average 1.
    """
    height, width = shape
    across, along = cos(angle / 180 * pi), sin(angle / 180 * pi)
    horizontal = 2 / (1 + aspect)
    vertical = aspect * horizontal
    m00, m01 = horizontal * across - shear * along * vertical, horizontal * along + shear * across * vertical
    m10, m11 = -along * vertical, across * vertical
    m02 = (width - (m00 * width + m01 * height)) / 2
    m12 = (height - (m10 * width + m11 * height)) / 2
    return (m00, m01, m02), (m10, m11, m12)


def _used(rule: Preprocessing, shape: Size) -> tuple[Box | None, Size]:
    """The part of the picture that counts (None: all of it), and its height and width."""
    if rule.kind == "squeeze":
        return None, shape
    left, top, right, bottom = middle(*shape)
    used = (bottom - top, right - left)
    return (None if used == shape else (left, top, right, bottom)), used


def _integer(uniform: float, low: int, high: int) -> int:
    """A whole number from low to high, both included, of a number in [0, 1)."""
    return low + int(uniform * (high - low + 1))


def _shift(limit: int, fine: float, coarse: float) -> int:
    """A colour shift within ``limit`` either way, cut towards 0; of two numbers, so that it peaks a little at 0."""
    return int(limit * (2 * (fine + 4 * coarse) / 5 - 1))


def _draw_pad_crop(shape: Size, rule: Preprocessing, rng: Generator, flip: bool) -> Draw:
    rows, columns, mirror = rng.random(3).tolist()
    part, (height, width) = _used(rule, shape)
    sizes = resized_sizes(rule, height, width)
    height, width = sizes[-1] if sizes else (height, width)
    pad = round(max(rule.height, rule.width) / _PADDED)
    corner = (
        _integer(rows, 0, height + 2 * pad - rule.height),
        _integer(columns, 0, width + 2 * pad - rule.width),
    )
    return Draw(part=part, sizes=sizes, corner=corner, padded=pad, mirror=flip and mirror < 0.5)


def _draw_random_resized_crop(shape: Size, rule: Preprocessing, rng: Generator, flip: bool) -> Draw:
    numbers = rng.random(4 * _TRIES + 4)
    brightness, contrast, saturation = (1 + (2 * numbers[:3] - 1) * JITTER).tolist()
    return Draw(
        part=_random_part(shape, rule, numbers[4:].reshape(_TRIES, 4).tolist()),
        sizes=((rule.height, rule.width),),
        jitter=(brightness, contrast, saturation),
        mirror=flip and bool(numbers[3] < 0.5),
    )


def _random_part(shape: Size, rule: Preprocessing, tries: list[list[float]]) -> Box:
    """A part of the picture with area and aspect uniform (the aspect by its logarithm) within AREA and ASPECT."""
    height, width = shape
    target = width / height if rule.kind == "squeeze" else rule.width / rule.height
    least, most = AREA[rule.kind]
    for area, aspect, x, y in tries:
        share = least + area * (most - least)
        ratio = target * exp(log(ASPECT[0]) + aspect * log(ASPECT[1] / ASPECT[0]))
        w = round(sqrt(share * height * width * ratio))
        h = round(sqrt(share * height * width / ratio))
        if 1 <= w <= width and 1 <= h <= height:
            left, top = _integer(x, 0, width - w), _integer(y, 0, height - h)
            return left, top, left + w, top + h
    w = max(1, min(width, round(height * target * ASPECT[1])))
    h = max(1, min(height, round(width / (target * ASPECT[0]))))
    left, top = (width - w) // 2, (height - h) // 2
    return left, top, left + w, top + h


def apply(image: Bytes, draw: Draw, rule: Preprocessing) -> Bytes:
    """Do what was drawn.

    Args:
        image: uint8 [H, W, C], the picture that ``draw`` was drawn for.
        draw: the numbers.
        rule: the preprocessing rule; its size and its resampling count here.

    Returns:
        uint8 [height, width, C], contiguous.
    """
    pixels = image
    if draw.part is not None:
        left, top, right, bottom = draw.part
        pixels = pixels[top:bottom, left:right]
    for size in draw.sizes:
        pixels = resize(pixels, *size, rule.antialias)
    top, left = draw.corner
    window = (left, top, left + rule.width, top + rule.height)
    if draw.matrix is not None and draw.warped is not None:
        pixels, window = _warped(pixels, draw, draw.warped, window)
    for size in draw.enlarged:
        pixels = resize(pixels, *size, rule.antialias)
    pixels = _crop(pixels, window, draw.padded)
    if draw.hls is not None:
        moved = shift_hls(pixels[:, :, :3], *draw.hls)
        pixels = moved if pixels.shape[2] == 3 else np.concatenate([moved, pixels[:, :, 3:]], axis=2)
    if draw.jitter is not None:
        pixels = jitter(pixels, *draw.jitter)
    return mirrored(pixels) if draw.mirror else np.ascontiguousarray(pixels)


def _warped(pixels: Bytes, draw: Draw, warped: Size, window: Box) -> tuple[Bytes, Box]:
    """The warped picture and the crop that is left to do; only the crop is warped when nothing comes between."""
    matrix = np.array(draw.matrix, dtype=np.float64)
    if draw.enlarged:
        return warp(pixels, matrix, (0, 0, warped[1], warped[0]), draw.fill), window
    left, top, right, bottom = window
    return warp(pixels, matrix, window, draw.fill), (0, 0, right - left, bottom - top)


def _crop(pixels: Bytes, window: Box, padded: int) -> Bytes:
    """The window of the picture; of the picture with reflected borders where it is padded."""
    left, top, right, bottom = window
    if not padded:
        return pixels[top:bottom, left:right]
    rows = _reflected(np.arange(top - padded, bottom - padded), pixels.shape[0])
    columns = _reflected(np.arange(left - padded, right - padded), pixels.shape[1])
    return pixels.take(rows, axis=0).take(columns, axis=1)


def _reflected(positions: NDArray[np.intp], size: int) -> NDArray[np.intp]:
    """Positions outside 0..size-1 mirrored at the outermost pixels, as often as needed."""
    period = max(1, 2 * (size - 1))
    folded = np.abs(positions) % period
    return np.minimum(folded, period - folded) if size > 1 else np.zeros_like(positions)
