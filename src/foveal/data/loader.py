"""Batches, made beside the training step.

The workers are threads: the decoders, NumPy and Pillow release the interpreter's lock while they work, so
threads keep cores busy without copies between processes, shared-memory limits or a second import of torch.
Memory is bounded by ``workers + 2`` batches, and the result does not depend on the number of workers.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from threading import Lock
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from foveal.data.boxes import to_pixels
from foveal.data.decode import decode_upright
from foveal.data.order import Order
from foveal.data.tiles import Latest, Picture, TiledSource, cut_out
from foveal.errors import BadPicture
from foveal.records import BadRecord, Boxes, Label, Source

Prepared = tuple[NDArray[np.uint8], Any]
Prepare = Callable[[NDArray[np.uint8], Label, int, int], Prepared]
"""(decoded picture uint8 [H, W, C], label, row, pass) -> (pixels uint8 [h, w, c], target)."""


@dataclass(frozen=True)
class Batch:
    """Pictures of one step.

    Attributes:
        pixels: uint8 [B, h, w, c], on the CPU. B is smaller than asked for where pictures could not be read.
        targets: what ``collate`` made of the targets, on the CPU.
        rows: int64 [B], rows of the source.
        bad: the pictures left out of this batch.
    """

    pixels: Tensor
    targets: Any
    rows: NDArray[np.int64]
    bad: tuple[BadRecord, ...]


class Decoder:
    """Reads and decodes pictures of one source, and keeps the decoded ones while they fit ``cache_bytes``.

    Keeping them saves the decoding in every later pass; a set that does not fit is kept in part. ``smaller`` holds the
    rows seen so far whose pictures fall below ``smallest`` (height, width) in a side: they are enlarged later.

    Of a ``TiledSource`` it gives tiles. The pictures that they are cut from are kept, the latest ones, whatever fits.
    """

    def __init__(self, source: Source, channels: int, cache_bytes: int = 0, smallest: tuple[int, int] = (0, 0)) -> None:
        self.source = source
        self.channels = channels
        self.smallest = smallest
        self.smaller: set[int] = set()
        self._room = cache_bytes
        self._kept: dict[int, tuple[NDArray[np.uint8], Label]] = {}
        self._whole: Latest[Picture] = Latest(cache_bytes, lambda picture: picture[0].nbytes)
        self._lock = Lock()

    def __call__(self, row: int) -> tuple[NDArray[np.uint8], Label]:
        """The decoded picture (uint8 [H, W, C], not to be written to) and its label; boxes in pixels of that picture.

        Raises BadPicture.
        """
        if isinstance(self.source, TiledSource):
            picture = self._whole.get(int(self.source.rows[row]), lambda: self._decoded(row))
            return cut_out(picture, self.source.tile(row))
        kept = self._kept.get(row)
        if kept is not None:
            return kept
        image, label = self._decoded(row)
        with self._lock:
            if image.shape[0] < self.smallest[0] or image.shape[1] < self.smallest[1]:
                self.smaller.add(row)
            if image.nbytes <= self._room:
                self._room -= image.nbytes
                self._kept[row] = (image, label)
        return image, label

    def _decoded(self, row: int) -> Picture:
        sample = self.source.read(row)
        where = self.source.where(row)
        decoded = decode_upright(sample.picture, self.channels, where)
        label = sample.label
        return decoded.pixels, to_pixels(label, decoded, where) if isinstance(label, Boxes) else label


def default_workers(processes: int = 1) -> int:
    """Threads that decode beside the step: one less than the cores for each of so many processes, between 1 and 8."""
    return max(1, min(8, (os.cpu_count() or 2) // processes - 1))


def make_batch(
    decoder: Decoder,
    rows: NDArray[np.int64],
    passes: NDArray[np.int64],
    prepare: Prepare,
    collate: Callable[[list[Any]], Any],
) -> Batch:
    """Read, decode and prepare the pictures of ``rows``; those that cannot be read are left out and named."""
    pixels, targets, kept, bad = [], [], [], []
    for row, number in zip(rows.tolist(), passes.tolist(), strict=True):
        try:
            image, label = decoder(row)
        except BadPicture as error:
            bad.append(BadRecord(error.where or decoder.source.where(row), error.what))
            continue
        picture, target = prepare(image, label, row, number)
        pixels.append(picture)
        targets.append(target)
        kept.append(row)
    nothing = torch.zeros((0, 1, 1, decoder.channels), dtype=torch.uint8)
    stacked = torch.from_numpy(np.stack(pixels)) if pixels else nothing
    return Batch(stacked, collate(targets), np.asarray(kept, dtype=np.int64), tuple(bad))


def batches(
    decoder: Decoder,
    order: Order,
    slices: Iterator[range],
    preparing: Callable[[range], Prepare],
    collate: Callable[[list[Any]], Any],
    workers: int,
) -> Generator[Batch, None, None]:
    """A batch of the positions in each of ``slices``, in order, made ahead by ``workers`` threads.

    With 0 workers each batch is made when it is asked for. ``preparing`` gives what prepares the pictures of a batch.
    """

    def work(places: range) -> Batch:
        rows, passes = order.rows(places)
        return make_batch(decoder, rows, passes, preparing(places), collate)

    if workers == 0:
        for places in slices:
            yield work(places)
        return
    waiting: deque[Future[Batch]] = deque()
    pool = ThreadPoolExecutor(workers, thread_name_prefix="foveal-loader")
    try:
        for places in slices:
            waiting.append(pool.submit(work, places))
            if len(waiting) > workers + 1:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(wait=False, cancel_futures=True)
