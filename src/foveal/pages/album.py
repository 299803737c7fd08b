"""Pictures for a page, in bounded bytes: read again from the data, drawn on, made small."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from foveal.data.decode import read_header
from foveal.data.loader import Decoder
from foveal.draw import thumbnail
from foveal.errors import BadPicture
from foveal.records import Boxes, Detections, Source
from foveal.report.page import Shown, inside

SIDE = 224  # pixels of a thumbnail
BOX_SIDE = 320  # of one with boxes
BYTES = 3_500_000  # of all pictures of a page together
MEASURED = 5_000  # pictures whose sizes are read, evenly spread
_ROOM = 6  # times a box's longer side is shown around it


class Album:
    """Shows pictures of a source until ``BYTES`` are used up."""

    def __init__(self, pictures: Source) -> None:
        self.pictures = pictures
        self.left = BYTES
        self._decode = Decoder(pictures, 3)

    def whole(self, row: int, caption: str) -> Shown | None:
        """The picture of a row; None where it can't be read any more or the page is full."""
        read = self._read(row)
        return None if read is None else self._kept(row, read[0], None, None, (), SIDE, caption)

    def boxed(
        self,
        row: int,
        caption: str,
        class_names: Sequence[str],
        found: Boxes | Detections,
        truth: Boxes | None = None,
        around: NDArray[np.floating] | None = None,
    ) -> Shown | None:
        """The picture of a row with boxes; None as ``whole``.

        Args:
            found: drawn whole, with names. truth: drawn dashed.
            around: float [4], a box in pixels; a small one is shown with its surroundings instead of the whole picture.
        """
        read = self._read(row)
        if read is None:
            return None
        window = _window(read[0].shape[1], read[0].shape[0], around)
        pixels = read[0][window[1] : window[3], window[0] : window[2]]
        cut_truth = None if truth is None else _cut_boxes(truth, window)
        return self._kept(row, pixels, _cut(found, window), cut_truth, class_names, BOX_SIDE, caption)

    def _read(self, row: int) -> tuple[NDArray[np.uint8], object] | None:
        if self.left <= 0:
            return None
        try:
            return self._decode(row)
        except BadPicture:
            return None

    def _kept(
        self,
        row: int,
        pixels: NDArray[np.uint8],
        found: Boxes | Detections | None,
        truth: Boxes | None,
        class_names: Sequence[str],
        side: int,
        caption: str,
    ) -> Shown | None:
        address = inside(thumbnail(pixels, side, found, class_names, truth))
        self.left -= len(address)
        place = self.pictures.where(row).removeprefix(self.pictures.origin).lstrip("/\\")
        return Shown(address, ": ".join(filter(None, (caption, place))))


def picture_sizes(pictures: Source, rows: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Sizes of up to ``MEASURED`` pictures, from their headers.

    Returns:
        int64 [m] positions in ``rows``, int64 [m, 2] their width and height in pixels, upright.
    """
    places = np.unique(np.linspace(0, len(rows) - 1, min(MEASURED, len(rows))).astype(np.int64))
    kept, sizes = [], []
    for place in places.tolist():
        row = int(rows[place])
        try:
            header = read_header(pictures.read(row).picture, pictures.where(row))
        except BadPicture:
            continue
        kept.append(place)
        sizes.append((header.width, header.height))
    return np.array(kept, np.int64), np.array(sizes, np.int64).reshape(-1, 2)


def _window(width: int, height: int, around: NDArray[np.floating] | None) -> tuple[int, int, int, int]:
    """What is shown: left, top, right, bottom in pixels. All of it, but for a small box in a large picture."""
    if around is None:
        return 0, 0, width, height
    side = max(BOX_SIDE // 2, _ROOM * round(float(max(around[2] - around[0], around[3] - around[1]))))
    if side >= 0.75 * max(width, height):
        return 0, 0, width, height
    wide, high = min(side, width), min(side, height)
    left = int(np.clip(round(float(around[0] + around[2] - wide) / 2), 0, width - wide))
    top = int(np.clip(round(float(around[1] + around[3] - high) / 2), 0, height - high))
    return left, top, left + wide, top + high


def _cut(boxes: Boxes | Detections, window: tuple[int, int, int, int]) -> Boxes | Detections:
    if isinstance(boxes, Boxes):
        return _cut_boxes(boxes, window)
    values, kept, size = _moved(boxes.pixels, window)
    sides = np.array([*size, *size], dtype=np.float32)
    return Detections(values / sides, boxes.cls[kept], boxes.scores[kept], size)


def _cut_boxes(boxes: Boxes, window: tuple[int, int, int, int]) -> Boxes:
    values, kept, size = _moved(boxes.values, window)
    nothing = np.zeros(len(values), bool)
    extra = np.zeros((len(values), 0), np.float32)
    return Boxes(values, boxes.cls[kept], "pixel", "upright", nothing, nothing, extra, size)


def _moved(
    values: NDArray[np.float32], window: tuple[int, int, int, int]
) -> tuple[NDArray[np.float32], NDArray[np.bool_], tuple[int, int]]:
    """Boxes in pixels of a window, which of them it shows, and its size."""
    size = window[2] - window[0], window[3] - window[1]
    moved = np.clip(values - np.array([*window[:2], *window[:2]], np.float32), 0, [*size, *size]).astype(np.float32)
    kept = (moved[:, 2] > moved[:, 0]) & (moved[:, 3] > moved[:, 1])
    return moved[kept], kept, size
