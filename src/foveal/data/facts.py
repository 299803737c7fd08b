"""What a look at a few pictures tells: their sizes, whether they are grey, how large the objects in them are."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from foveal.data.check import with_area
from foveal.data.decode import read_header
from foveal.data.fractions import to_fractions
from foveal.errors import BadPicture, UserError
from foveal.formats.boxfiles import object_table
from foveal.records import BoxSource, Source

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
    rows = _rows(len(source))
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


@dataclass(frozen=True)
class BoxFacts:
    """How many objects there are, and how large.

    Attributes:
        boxes: of all pictures; those without area don't count.
        empty: pictures without objects.
        median, most: boxes a picture, over the pictures that have some.
        sides: the 5 %, 50 % and 95 % quantile of a box's side as a share of its picture's, sqrt(areas), 0..1, over the
            pictures looked at; None where no box was seen in them.
    """

    boxes: int
    empty: int
    median: int
    most: int
    sides: tuple[float, float, float] | None


def look_at_boxes(source: BoxSource) -> BoxFacts:
    """Count the boxes of all pictures, and measure those of up to 128, evenly spread."""
    table = object_table(source)
    sound = table.sound()
    counts = np.bincount(table.rows()[sound], minlength=len(source))
    sides: list[float] = []
    for row in _rows(len(source)).tolist():
        try:
            boxes, _ = to_fractions(with_area(source.boxes(row)), source.read(row).picture, source.where(row))
        except BadPicture:
            continue
        x0, y0, x1, y1 = boxes.values.astype(np.float64).T
        sides += np.sqrt((x1 - x0) * (y1 - y0)).tolist()
    low, middle, high = np.quantile(sides, [0.05, 0.5, 0.95]).tolist() if sides else (0.0, 0.0, 0.0)
    return BoxFacts(
        boxes=int(sound.sum()),
        empty=int((counts == 0).sum()),
        median=int(np.median(counts[counts > 0])) if sound.any() else 0,
        most=int(counts.max(initial=0)),
        sides=(low, middle, high) if sides else None,
    )


def _rows(length: int) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    """Rows of up to 128 pictures, evenly spread."""
    return np.unique(np.linspace(0, length - 1, min(LOOKED_AT, length)).astype(np.int64))
