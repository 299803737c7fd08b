"""Asking about large pictures: tile by tile, in batches that mix the tiles of several pictures.

A tile is cut when its batch is made, so that beside a decoded picture only one batch is held, and what was found.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from itertools import islice
from typing import Generic, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from foveal.data.loader import Batch, Decoder
from foveal.data.resize import Box
from foveal.data.threads import in_order
from foveal.data.views import Preprocessing, View, tile_view, tiles
from foveal.errors import BadPicture
from foveal.models.merging import merge
from foveal.models.suppression import Rule
from foveal.records import BadRecord, Boxes, Detections

K = TypeVar("K")
Watch = Callable[[K, list[Box]], Iterable[Box]]
"""(a picture's key, its tiles) -> the same tiles, to see how far they are."""


@dataclass
class _Asked(Generic[K]):
    """A picture some of whose tiles may still be asked about; ``size`` None: one that can't be read."""

    key: K
    size: tuple[int, int] | None
    tiles: int
    affines: list[NDArray[np.float64]] = field(default_factory=list)
    rows: list[NDArray[np.float32]] = field(default_factory=list)

    @property
    def done(self) -> bool:
        return len(self.rows) == self.tiles


def detect_in_tiles(
    pictures: Iterable[tuple[K, NDArray[np.uint8] | None]],
    rule: Preprocessing,
    suppression: Rule,
    answer: Callable[[Tensor], Tensor],
    batch_size: int,
    watch: Watch[K] | None = None,
) -> Iterator[tuple[K, Detections | None]]:
    """What is found in each picture, in their order.

    Args:
        pictures: a key of any kind, and uint8 [H, W, C], upright, or None for one that can't be read: its answer is
            None. The next is asked for when the one before is cut up.
        rule: of kind ``tiles``.
        suppression: what ``answer`` suppresses by.
        answer: tiles as the network sees them, uint8 [B, height, width, C] -> rows float32 [B, N, 6], on the CPU, as
            ``models.suppression.detect`` gives them.
        batch_size: tiles that are asked about together.
    """
    waiting: deque[_Asked[K]] = deque()
    views = _views(pictures, rule, waiting, watch)
    while batch := list(islice(views, batch_size)):
        rows = answer(torch.from_numpy(np.stack([view.pixels for _, view in batch]))).numpy()
        for (picture, view), each in zip(batch, rows, strict=True):
            picture.affines.append(view.affine)
            picture.rows.append(each[each[:, 0] >= 0])
        del batch, rows
        while waiting and waiting[0].done:
            yield _answered(waiting.popleft(), rule, suppression)
    while waiting:
        yield _answered(waiting.popleft(), rule, suppression)


def _views(
    pictures: Iterable[tuple[K, NDArray[np.uint8] | None]],
    rule: Preprocessing,
    waiting: deque[_Asked[K]],
    watch: Watch[K] | None,
) -> Iterator[tuple[_Asked[K], View]]:
    assert rule.tile_size is not None
    image: NDArray[np.uint8] | None
    for key, image in pictures:
        if image is None:
            waiting.append(_Asked(key, None, 0))
            continue
        height, width = image.shape[:2]
        each = tiles(height, width, rule.tile_size, rule.tile_overlap)
        picture = _Asked(key, (width, height), len(each))
        waiting.append(picture)
        for tile in each if watch is None else watch(key, each):
            yield picture, tile_view(rule, image, tile)
        image = None  # not held while the next one is decoded


def _answered(picture: _Asked[K], rule: Preprocessing, suppression: Rule) -> tuple[K, Detections | None]:
    if picture.size is None:
        return picture.key, None
    shape = (rule.height, rule.width)
    return picture.key, merge(picture.rows, picture.affines, shape, picture.size, suppression)


def ask_in_tiles(
    pictures: Decoder,
    rule: Preprocessing,
    suppression: Rule,
    workers: int,
    rows: range | None,
    batch_size: int,
    answer: Callable[[Tensor], Tensor],
) -> Iterator[tuple[Batch, list[Detections]]]:
    """``detection.ask`` for a rule of tiles: each picture of ``rows`` once, in a batch of its own without pixels.

    One picture is decoded ahead while the network is asked (with ``workers``): two are in memory at most.
    """

    def read(row: int) -> tuple[tuple[int, Boxes | BadRecord], NDArray[np.uint8] | None]:
        try:
            image, label = pictures(row)
        except BadPicture as error:
            return (row, BadRecord(error.where or pictures.source.where(row), error.what)), None
        assert isinstance(label, Boxes)
        return (row, label), image

    rows = range(len(pictures.source)) if rows is None else rows
    nothing = torch.zeros((0, rule.height, rule.width, rule.channels), dtype=torch.uint8)
    decoded = in_order(read, rows, 2 if workers else 1, ahead=1)
    for (row, told), found in detect_in_tiles(decoded, rule, suppression, answer, batch_size):
        if found is None:
            assert isinstance(told, BadRecord)
            yield Batch(nothing, [], np.zeros(0, np.int64), (told,)), []
        else:
            yield Batch(nothing, [told], np.array([row], np.int64), ()), [found]
