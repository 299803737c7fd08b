"""The preprocessing rule: how an upright picture becomes what the network sees. It is stored in the artifact.

    crop      shorter side to ``resize`` (the other by integer division), then the centre height x width; offsets
              are halved downwards. A picture that is too small in a side is enlarged first, its aspect kept.
    squeeze   forced to height x width, the aspect not kept (as the original's endpoint does).
    tiles     squares of ``tile_size`` pixels that overlap and together cover the picture, each resized to
              height x width: several views a picture.

Asking, evaluation and validation use ``views``; training's augmentation starts from the same sizes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
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

BEYOND = 127  # grey of what a tile shows beyond its picture
MOST_TILES = 100_000  # of a picture


_OF_TILES = ("tile_size", "tile_overlap")


@dataclass(frozen=True)
class Preprocessing:
    """The rule.

    Attributes:
        kind: ``crop``, ``squeeze`` or ``tiles``.
        channels: 3 (RGB), 1 (grey) or 4 (RGB and alpha).
        height, width: pixels of the network's input.
        resize: length of the shorter side before a crop; None leaves the picture as it is.
        antialias: whether shrinking averages (modern) or takes four neighbours (the original).
        tta_flip: whether the network is asked about the mirror image too, and the mean of both answers counts.
        tile_size: side of a tile in pixels of the upright picture; None but for ``tiles``.
        tile_overlap: share of its side, 0 to below 1, by which a tile overlaps the next one.
    """

    kind: Literal["crop", "squeeze", "tiles"]
    channels: int
    height: int
    width: int
    resize: int | None = None
    antialias: bool = True
    tta_flip: bool = False
    tile_size: int | None = None
    tile_overlap: float = 0.0

    def to_dict(self) -> dict[str, object]:
        """Plain JSON values; those of tiles only where there are any."""
        return {name: value for name, value in asdict(self).items() if name not in _OF_TILES or self.kind == "tiles"}

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


def tiles(height: int, width: int, tile_size: int, tile_overlap: float) -> list[Box]:
    """The tiles of a picture, row by row from its upper left corner.

    Along a side of L pixels there are as few of them as cover it in steps of at most ``tile_size * (1 - tile_overlap)``
    pixels, rounded (halves to the even number) and at least 1. They are spread evenly: of n tiles number i begins at
    i (L - tile_size) / (n - 1), cut to a whole number; so the first begins and the last ends with the picture, and
    neighbours overlap by at least what is asked for. A side that is no longer than a tile has one, which reaches beyond
    the picture where the side is shorter.

    Args:
        height, width: of the upright picture in pixels.
        tile_size, tile_overlap: as in ``Preprocessing``.

    Returns:
        (left, top, right, bottom) in pixels of the upright picture, each ``tile_size`` wide and high.

    Raises:
        UserError: for more than ``MOST_TILES``.
    """
    across, down = _starts(width, tile_size, tile_overlap), _starts(height, tile_size, tile_overlap)
    if len(across) * len(down) > MOST_TILES:
        raise UserError(
            f"a picture of {width:,} x {height:,} pixels makes {len(across) * len(down):,} tiles of {tile_size} that "
            f"overlap by {tile_overlap:g}, and {MOST_TILES:,} is the most",
            "tiles",
            "Train with a larger tile_size or a smaller tile_overlap.",
            "tile_overlap",
        )
    return [(left, top, left + tile_size, top + tile_size) for top in down for left in across]


def _starts(length: int, tile: int, overlap: float) -> list[int]:
    step = max(1, round(tile * (1 - overlap)))
    room = max(0, length - tile)
    gaps = -(-room // step)
    return [number * room // max(1, gaps) for number in range(gaps + 1)]


def tile_pixels(image: NDArray[np.uint8], tile: Box) -> NDArray[np.uint8]:
    """A tile of a picture (uint8 [H, W, C]): uint8 [tile_size, tile_size, C], grey beyond the picture.

    It may share the picture's memory.
    """
    left, top, right, bottom = tile
    part = image[top:bottom, left:right]
    if part.shape[:2] == (bottom - top, right - left):
        return part
    filled = np.full((bottom - top, right - left, image.shape[2]), BEYOND, dtype=np.uint8)
    filled[: part.shape[0], : part.shape[1]] = part
    return filled


def tile_view(rule: Preprocessing, image: NDArray[np.uint8], tile: Box) -> View:
    """One tile of a picture (uint8 [H, W, C]) as the network sees it."""
    left, top, right, bottom = tile
    pixels = resize(tile_pixels(image, tile), rule.height, rule.width, rule.antialias)
    x_scale, y_scale = (right - left) / rule.width, (bottom - top) / rule.height
    affine = np.array([[x_scale, 0.0, left], [0.0, y_scale, top]], dtype=np.float64)
    return View(pixels, affine, is_enlarged(rule, bottom - top, right - left))


def views(rule: Preprocessing, image: NDArray[np.uint8]) -> list[View]:
    """What the network is shown of one picture: a single view, or its tiles.

    Args:
        rule: the preprocessing rule.
        image: uint8 [H, W, C], upright, C as the rule says.
    """
    if rule.kind == "tiles":
        assert rule.tile_size is not None
        return [
            tile_view(rule, image, tile)
            for tile in tiles(image.shape[0], image.shape[1], rule.tile_size, rule.tile_overlap)
        ]
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
    values = {"tta_flip": False, "tile_size": None, "tile_overlap": 0.0, **values}  # not in the first artifacts
    missing, unknown = [n for n in names if n not in values], [n for n in values if n not in names]
    if missing or unknown:
        raise UserError(
            f"the preprocessing rule lacks {missing} and has {unknown} that this version does not know",
            where,
            "Was it written by a newer version? Update Foveal.",
        )
    kind = values["kind"]
    if kind not in ("crop", "squeeze", "tiles"):
        raise UserError(f"preprocessing kind {kind!r} is none of 'crop', 'squeeze', 'tiles'", where, "Update Foveal.")
    antialias, tta_flip = values["antialias"], values["tta_flip"]
    for name, value in (("antialias", antialias), ("tta_flip", tta_flip)):
        if not isinstance(value, bool):
            raise UserError(f"preprocessing {name} {value!r} is neither true nor false", where)
    channels, height, width = (_count(values, name, where) for name in ("channels", "height", "width"))
    if channels not in (1, 3, 4):
        raise UserError(f"preprocessing channels {channels} is none of 1, 3, 4", where)
    shorter = None if values["resize"] is None else _count(values, "resize", where)
    rule = Preprocessing("crop", channels, height, width, shorter, antialias is True, tta_flip is True)
    if kind != "tiles":
        return rule if kind == "crop" else replace(rule, kind="squeeze")
    overlap = values["tile_overlap"]
    if isinstance(overlap, bool) or not isinstance(overlap, int | float) or not 0 <= overlap < 1:
        raise UserError(f"preprocessing tile_overlap {overlap!r} is no number from 0 to below 1", where)
    return replace(rule, kind="tiles", tile_size=_count(values, "tile_size", where), tile_overlap=float(overlap))


def _count(values: Mapping[str, object], name: str, where: str) -> int:
    value = values[name]
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= 65_535:
        raise UserError(f"preprocessing {name} {value!r} is no whole number from 1 to 65535", where)
    return value
