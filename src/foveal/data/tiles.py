"""Training on the tiles of large pictures: a source whose rows are tiles, and what is seen in each.

Tiles are those that are asked about (``views.tiles``); what an augmentation or a mosaic takes for a picture is a tile.
A picture is decoded for its tiles, and kept while they are likely to be wanted (``Latest``).
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable, Sequence
from dataclasses import replace
from threading import Lock
from typing import Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from foveal.data.boxes import clipped
from foveal.data.decode import read_header
from foveal.data.resize import Box
from foveal.data.subset import BoxSubset
from foveal.data.threads import in_order
from foveal.data.views import tile_pixels, tiles
from foveal.errors import BadPicture
from foveal.records import Boxes, BoxSource, Label, Source

SHOWN = 0.4  # of an object's area, from which a tile has it
WINDOWS_KEPT = 5  # windows of tiles within which nearly every tile of a picture has come
Size = tuple[int, int]
"""width, height in pixels."""
Picture = tuple[NDArray[np.uint8], Label]
T = TypeVar("T")


class TiledSource(BoxSubset):
    """Pictures by their tiles. A row is a tile; reading it gives its whole picture, with all of its boxes, and
    ``loader.Decoder`` cuts the tile out.

    Attributes:
        tiles: int32 [m, 4], left, top, right, bottom of each row in pixels of its upright picture.
        shards: how many tiles each picture has, in order: pictures are to tiles what shards are to records.
        pixels: of all pictures together.
    """

    ranged = 0

    def __init__(
        self,
        source: BoxSource,
        rows: NDArray[np.int64],
        checked: Sequence[Boxes],
        regions: NDArray[np.int32],
        pixels: int,
    ) -> None:
        super().__init__(source, rows, checked)
        self.tiles = regions
        self.pixels = pixels
        changes = np.flatnonzero(np.diff(rows)) + 1
        self.shards = tuple(np.diff(np.concatenate([[0], changes, [len(rows)]])).tolist())

    @property
    def pictures(self) -> int:
        return len(self.shards)

    def tile(self, row: int) -> Box:
        """left, top, right, bottom in pixels of the upright picture."""
        left, top, right, bottom = self.tiles[row].tolist()
        return left, top, right, bottom


def picture_sizes(source: Source, rows: NDArray[np.int64], threads: int) -> list[Size | None]:
    """(width, height) of the upright pictures of these rows, from their headers; None for what can't be read."""

    def size(row: int) -> Size | None:
        try:
            header = read_header(source.read(row).picture, source.where(row))
        except BadPicture:
            return None
        return header.width, header.height

    return list(in_order(size, rows.tolist(), threads))


def cut_up(
    sizes: Sequence[Size | None], tile_size: int, tile_overlap: float
) -> tuple[NDArray[np.int64], NDArray[np.int32]]:
    """The tiles of pictures of these (width, height), one picture's after another.

    A picture of unknown size has one tile: it is told as one that can't be read when that has its turn.

    Returns:
        int64 [m], the number of each tile's picture, and int32 [m, 4], left, top, right, bottom.

    Raises:
        UserError: as ``views.tiles``.
    """
    regions = [np.zeros((0, 4), np.int32)]
    for size in sizes:
        width, height = size or (1, 1)
        regions.append(np.array(tiles(height, width, tile_size, tile_overlap), dtype=np.int32))
    numbers = np.repeat(np.arange(len(sizes)), [len(each) for each in regions[1:]])
    return numbers, np.concatenate(regions)


def cut_out(picture: Picture, tile: Box) -> Picture:
    """A tile of a decoded picture: uint8 [tile_size, tile_size, C], and the objects that it shows, in its pixels.

    An object belongs to a tile that shows ``SHOWN`` of its area or more, or its centre; it is cut to the tile.

    Args:
        picture: uint8 [H, W, C], upright, and its boxes in pixels. They are not changed.
        tile: left, top, right, bottom in pixels of the picture; may reach beyond it.
    """
    image, boxes = picture
    assert isinstance(boxes, Boxes) and boxes.unit == "pixel"
    left, top, right, bottom = tile
    x0, y0, x1, y1 = boxes.values.astype(np.float64).T
    seen = np.maximum(0, np.minimum(x1, right) - np.maximum(x0, left))
    seen = seen * np.maximum(0, np.minimum(y1, bottom) - np.maximum(y0, top))
    x, y = (x0 + x1) / 2, (y0 + y1) / 2
    centred = (left <= x) & (x < right) & (top <= y) & (y < bottom)
    shown = (seen >= SHOWN * (x1 - x0) * (y1 - y0)) | centred
    moved = replace(
        boxes,
        values=boxes.values[shown] - np.array([left, top, left, top], dtype=np.float32),
        cls=boxes.cls[shown],
        difficult=boxes.difficult[shown],
        crowd=boxes.crowd[shown],
        extra=boxes.extra[shown],
        size=(right - left, bottom - top),
    )
    return tile_pixels(image, tile), clipped(moved)


class Latest(Generic[T]):
    """What was made last, kept within a number of bytes, but the very last in any case; made once, however many threads
    ask for it."""

    def __init__(self, room: int, size: Callable[[T], int]) -> None:
        self._room = room
        self._size = size
        self._kept: OrderedDict[Hashable, T] = OrderedDict()
        self._making: dict[Hashable, Lock] = {}
        self._lock = Lock()

    def get(self, key: Hashable, make: Callable[[], T]) -> T:
        """What is kept by this key, or what ``make`` gives. Raises what that raises."""
        with self._lock:
            making = self._making.setdefault(key, Lock())
        with making:
            with self._lock:
                if key in self._kept:
                    self._kept.move_to_end(key)
                    return self._kept[key]
            made = make()
            with self._lock:
                self._kept[key] = made
                self._room -= self._size(made)
                while self._room < 0 and len(self._kept) > 1:
                    self._room += self._size(self._kept.popitem(last=False)[1])
            return made


def tiles_each(source: Source) -> int:
    """Tiles of a picture, about; 1 where a source has whole pictures."""
    return len(source) // source.pictures if isinstance(source, TiledSource) else 1


def window_for(source: TiledSource, room: int) -> int | None:
    """How many tiles a shuffle buffer may hold so that pictures, which come in one after the other, are decoded about
    once a pass, but as many as a picture has; None where all pictures fit into ``room`` bytes, in RGB, and are kept."""
    if 3 * source.pixels <= room:
        return None
    return max(tiles_each(source), int(room / (3 * source.pixels) * len(source) / WINDOWS_KEPT))
