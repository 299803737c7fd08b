"""The preprocessing rule: how an upright picture becomes what the network sees. It is stored in the artifact.

    crop      shorter side to ``resize`` (the other by integer division), then the centre height x width; offsets
              are halved downwards. A picture that is too small in a side is enlarged first, its aspect kept.
    squeeze   forced to height x width, the aspect not kept (as the original's endpoint does).

Asking, evaluation and validation use ``views``; training's augmentation starts from the same sizes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from foveal.data.resize import Box, resize
from foveal.errors import UserError

Size = tuple[int, int]
"""height, width in pixels."""

LONGEST = 64
"""A picture's longer side counts up to this many times the shorter; a line of 1 x 60,000 pixels, resized to a shorter
side of 224, would take gigabytes. The middle is kept, which is what the centre crop shows anyway."""


@dataclass(frozen=True)
class Preprocessing:
    """The rule.

    Attributes:
        kind: ``crop`` or ``squeeze``.
        channels: 3 (RGB), 1 (grey) or 4 (RGB and alpha).
        height, width: pixels of the network's input.
        resize: length of the shorter side before a crop; None leaves the picture as it is.
        antialias: whether shrinking averages (modern) or takes four neighbours (the original).
    """

    kind: Literal["crop", "squeeze"]
    channels: int
    height: int
    width: int
    resize: int | None = None
    antialias: bool = True

    def to_dict(self) -> dict[str, object]:
        """Plain JSON values."""
        return asdict(self)

    @staticmethod
    def from_dict(values: Mapping[str, object], where: str = "") -> Preprocessing:
        """The rule of ``to_dict``. Raises UserError naming the entry that is missing, unknown or impossible."""
        return _from_dict(values, where)


@dataclass(frozen=True)
class View:
    """One region of a picture as the network sees it.

    Attributes:
        pixels: uint8 [height, width, channels].
        affine: float64 [2, 3], from the network's pixels to the upright picture's, both continuous (the first pixel
            covers 0 to 1): ``x, y = affine @ (x_network, y_network, 1)``.
        enlarged: whether the picture is smaller than the network's input in a side.
    """

    pixels: NDArray[np.uint8]
    affine: NDArray[np.float64]
    enlarged: bool


def modern_resize(height: int, width: int) -> int:
    """The shorter side before the centre crop in recipe modern: the crop is 0.875 of it (224 of 256)."""
    return round(max(height, width) / 0.875)


def is_enlarged(rule: Preprocessing, height: int, width: int) -> bool:
    """Whether a picture of this size is smaller than the network's input in a side."""
    return height < rule.height or width < rule.width


def middle(height: int, width: int) -> Box:
    """The part of a picture that is used: all of it, but for lines longer than ``LONGEST`` times their breadth."""
    used_height, used_width = min(height, LONGEST * width), min(width, LONGEST * height)
    top, left = (height - used_height) // 2, (width - used_width) // 2
    return left, top, left + used_width, top + used_height


def resized_sizes(rule: Preprocessing, height: int, width: int) -> tuple[Size, ...]:
    """The sizes (height, width) a picture goes through before the crop, in order; empty when it stays as it is.

    The original resizes again when a side is still too small, each time from what it has; so do we.
    """
    first = first_sizes(rule, height, width)
    return first + enlarged_sizes(rule, *(first[-1] if first else (height, width)))


def first_sizes(rule: Preprocessing, height: int, width: int) -> tuple[Size, ...]:
    """The size that the rule itself asks for, or nothing; in training the affine warp comes after it."""
    if rule.kind == "squeeze":
        return ((rule.height, rule.width),)
    return () if rule.resize is None else (shorter_side(height, width, rule.resize),)


def shorter_side(height: int, width: int, length: int) -> Size:
    """(height, width) with the shorter side ``length``, the other by integer division, at least 1."""
    if height > width:
        return length * height // width, length
    return length, length * width // height


def enlarged_sizes(rule: Preprocessing, height: int, width: int) -> tuple[Size, ...]:
    """The sizes a picture too small for the crop goes through: first its height is mended, then its width.

    The ratio is taken in float32 and the product cut, as MXNet does.
    """
    sizes: tuple[Size, ...] = ()
    if height < rule.height:
        ratio = np.float32(rule.height) / np.float32(height)
        height, width = rule.height, max(1, int(ratio * np.float32(width)))
        sizes += ((height, width),)
    if width < rule.width:
        ratio = np.float32(rule.width) / np.float32(width)
        # Where float32 falls short by one pixel the crop would not fit; it is as high as it was, or higher.
        height, width = max(height, int(ratio * np.float32(height))), rule.width
        sizes += ((height, width),)
    return sizes


def views(rule: Preprocessing, image: NDArray[np.uint8]) -> list[View]:
    """What the network is shown of one picture: a single view with either kind.

    Args:
        rule: the preprocessing rule.
        image: uint8 [H, W, C], upright, C as the rule says.
    """
    height, width = image.shape[:2]
    used = middle(height, width) if rule.kind == "crop" else (0, 0, width, height)
    pixels = image[used[1] : used[3], used[0] : used[2]]
    used_height, used_width = pixels.shape[:2]
    for size in resized_sizes(rule, used_height, used_width):
        pixels = resize(pixels, *size, rule.antialias)
    top, left = (pixels.shape[0] - rule.height) // 2, (pixels.shape[1] - rule.width) // 2
    x_scale, y_scale = used_width / pixels.shape[1], used_height / pixels.shape[0]
    affine = np.array([[x_scale, 0.0, used[0] + left * x_scale], [0.0, y_scale, used[1] + top * y_scale]])
    pixels = np.ascontiguousarray(pixels[top : top + rule.height, left : left + rule.width])
    return [View(pixels, affine, is_enlarged(rule, height, width))]


def _from_dict(values: Mapping[str, object], where: str) -> Preprocessing:
    names = [field.name for field in fields(Preprocessing)]
    missing, unknown = [n for n in names if n not in values], [n for n in values if n not in names]
    if missing or unknown:
        raise UserError(
            f"the preprocessing rule lacks {missing} and has {unknown} that this version does not know",
            where,
            "Was it written by a newer version? Update Foveal.",
        )
    kind = values["kind"]
    if kind not in ("crop", "squeeze"):
        raise UserError(f"preprocessing kind {kind!r} is neither 'crop' nor 'squeeze'", where, "Update Foveal.")
    antialias = values["antialias"]
    if not isinstance(antialias, bool):
        raise UserError(f"preprocessing antialias {antialias!r} is neither true nor false", where)
    channels, height, width = (_count(values, name, where) for name in ("channels", "height", "width"))
    if channels not in (1, 3, 4):
        raise UserError(f"preprocessing channels {channels} is none of 1, 3, 4", where)
    shorter = None if values["resize"] is None else _count(values, "resize", where)
    return Preprocessing("crop" if kind == "crop" else "squeeze", channels, height, width, shorter, antialias)


def _count(values: Mapping[str, object], name: str, where: str) -> int:
    value = values[name]
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= 65_535:
        raise UserError(f"preprocessing {name} {value!r} is no whole number from 1 to 65535", where)
    return value
