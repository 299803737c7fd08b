"""What a look at a few pictures tells: their sizes, and whether they are grey."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from foveal.data.decode import read_header
from foveal.errors import BadPicture, UserError
from foveal.records import Source

LOOKED_AT = 128  # pictures; enough for a median, quick even over a network


@dataclass(frozen=True)
class Facts:
    """Sizes in pixels: medians over the pictures looked at that can be read, upright.

    Attributes:
        short, long: median of the shorter and of the longer side.
        aspect: the mean of short / long side, 0..1.
        same: whether all have one size.
        height, width: the median height and width.
        grey: whether all have one channel.
        looked: how many pictures were looked at. unread: how many of them can't be read.
        first_unread: where the first of these is, and why; empty when there is none.
    """

    short: int
    long: int
    height: int
    width: int
    aspect: float
    same: bool
    grey: bool
    looked: int
    unread: int
    first_unread: str


def look_at_pictures(source: Source) -> Facts:
    """Read the headers of up to 128 pictures, evenly spread. Raises UserError when none of them can be read."""
    rows = np.unique(np.linspace(0, len(source) - 1, min(LOOKED_AT, len(source))).astype(np.int64))
    sizes: list[tuple[int, int]] = []
    grey = True
    unread: list[str] = []
    for row in rows.tolist():
        try:
            header = read_header(source.read(row).picture, source.where(row))
        except BadPicture as error:
            unread.append(f"{error.where or source.where(row)}: {error.what}")
        else:
            sizes.append((header.width, header.height))
            grey = grey and header.grey
    if not sizes:
        raise UserError(
            f"none of the {len(rows)} pictures looked at can be read; the first: {unread[0]}",
            source.origin,
            "The data must hold encoded pictures (JPEG, PNG or another form that Pillow reads).",
        )
    sides = np.asarray(sizes)
    return Facts(
        short=int(np.median(sides.min(axis=1))),
        long=int(np.median(sides.max(axis=1))),
        height=int(np.median(sides[:, 1])),
        width=int(np.median(sides[:, 0])),
        aspect=float((sides.min(axis=1) / sides.max(axis=1)).mean()),
        same=len(set(sizes)) == 1,
        grey=grey,
        looked=len(rows),
        unread=len(unread),
        first_unread=unread[0] if unread else "",
    )
