"""What a look at a few pictures tells: their sizes, and whether they are grey."""

from __future__ import annotations

import io
from dataclasses import dataclass

import numpy as np
from PIL import Image, UnidentifiedImageError

from foveal.errors import BadPicture, UserError
from foveal.records import Source

LOOKED_AT = 128  # pictures; enough for a median, quick even over a network


@dataclass(frozen=True)
class Facts:
    """Sizes in pixels: medians over the pictures looked at, upright or not (the sides are not told apart).

    Attributes:
        short, long: median of the shorter and of the longer side.
        same: whether all have one size.
        height, width: the median height and width.
        grey: whether all have one channel.
        looked: how many pictures were looked at.
    """

    short: int
    long: int
    height: int
    width: int
    same: bool
    grey: bool
    looked: int


def look_at_pictures(source: Source) -> Facts:
    """Read the headers of up to 128 pictures, evenly spread. Raises UserError when none of them can be read."""
    rows = np.unique(np.linspace(0, len(source) - 1, min(LOOKED_AT, len(source))).astype(np.int64))
    sizes: list[tuple[int, int]] = []
    grey = True
    problem = ""
    for row in rows.tolist():
        try:
            with Image.open(io.BytesIO(source.read(row).picture)) as image:
                sizes.append(image.size)
                grey = grey and image.mode in ("1", "L", "I", "I;16", "F")
        except (BadPicture, UnidentifiedImageError, OSError, ValueError, Image.DecompressionBombError) as error:
            problem = (
                problem or f"{source.where(row)}: {str(error).splitlines()[0] if str(error) else type(error).__name__}"
            )
    if not sizes:
        raise UserError(
            f"none of the {len(rows)} pictures looked at can be read; the first: {problem}",
            source.origin,
            "The data must hold encoded pictures (JPEG, PNG or another form that Pillow reads).",
        )
    sides = np.asarray(sizes)
    return Facts(
        short=int(np.median(sides.min(axis=1))),
        long=int(np.median(sides.max(axis=1))),
        height=int(np.median(sides[:, 1])),
        width=int(np.median(sides[:, 0])),
        same=len(set(sizes)) == 1,
        grey=grey,
        looked=len(sizes),
    )
