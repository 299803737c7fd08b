"""One look at every picture of a source: whether it can be read, how large it is, what it looks like, its boxes.

Pictures are decoded by threads and forgotten; what is kept is 310 bytes of each, and 20 bytes of each box.
"""

from __future__ import annotations

import hashlib
import os
from array import array
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from itertools import chain
from pathlib import PurePosixPath

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from foveal.checking.alike import SIDE, Look, look_of
from foveal.data.boxes import to_pixels
from foveal.data.check import with_area
from foveal.data.decode import decode_upright, read_header
from foveal.data.threads import in_order
from foveal.errors import BadPicture
from foveal.progress import track
from foveal.records import Boxes, Source

KINDS_ALIKE = {"MPO": "JPEG", "APNG": "PNG", "DIB": "BMP", "AVIFS": "AVIF"}
_TOGETHER = 8  # pictures that a thread takes at a time


@dataclass(frozen=True)
class PictureLook:
    """One readable picture.

    Attributes:
        size: width, height in pixels, upright. kind: Pillow's name of its form. grey: whether it has one channel.
        misnamed: its name's suffix, where that is of another form. digest: 16 bytes of its file's hash.
        boxes: in pixels of the picture, cut to it, without those of no area; None where it has none by its nature.
        outside: how many boxes had nothing within the picture.
        rescaled: whether the stated size is another than the picture's, and the boxes are scaled along.
        fault: why its boxes can't be brought into the picture, where they can't.
    """

    size: tuple[int, int]
    kind: str
    grey: bool
    misnamed: str
    digest: bytes
    look: Look
    boxes: Boxes | None
    outside: int
    rescaled: bool
    fault: str


@dataclass(frozen=True)
class Measured:
    """A source, looked at; n pictures, of which those in ``unreadable`` have zeros in all arrays.

    Attributes:
        unreadable: row -> why.
        size: int32 [n, 2], width and height in pixels, upright.
        grey: bool [n], one channel. kinds: form of the file -> how many.
        misnamed: row -> suffix and form, of files whose suffix is that of another form.
        digest: uint64 [n, 2], of the encoded files. bits: uint64 [n, 4]. small: uint8 [n, 256].
        box_rows: int64 [m], the picture of each box within its picture. box_sizes: float32 [m, 2], width and height in
            pixels, cut to the picture.
        outside: row -> boxes of which nothing lies in the picture.
        rescaled: rows whose boxes state another size, and are scaled.
        misfits: row -> why its boxes can't be brought into the picture.
    """

    unreadable: dict[int, str]
    size: NDArray[np.int32]
    grey: NDArray[np.bool_]
    kinds: dict[str, int]
    misnamed: dict[int, tuple[str, str]]
    digest: NDArray[np.uint64]
    bits: NDArray[np.uint64]
    small: NDArray[np.uint8]
    box_rows: NDArray[np.int64]
    box_sizes: NDArray[np.float32]
    outside: dict[int, int]
    rescaled: list[int]
    misfits: dict[int, str]

    @property
    def readable(self) -> NDArray[np.int64]:
        """int64 [k], the rows that can be read."""
        return np.flatnonzero(self.size[:, 0] > 0)


def measure(source: Source, what: str, workers: int | None = None, quiet: bool = False) -> Measured:
    """Decode every picture once.

    Args:
        what: is done, for the line of progress: ``checking train``.
        workers: threads; the number of cores, at most 16, when left out.
        quiet: show no progress.
    """
    count = len(source)
    size, grey = np.zeros((count, 2), np.int32), np.zeros(count, np.bool_)
    digest, bits = np.zeros((count, 2), np.uint64), np.zeros((count, 4), np.uint64)
    small = np.zeros((count, SIDE * SIDE), np.uint8)
    kinds: dict[str, int] = {}
    unreadable, misnamed, outside, misfits = {}, {}, {}, {}
    rescaled: list[int] = []
    box_rows, box_sizes = array("q"), array("f")
    for row, seen in enumerate(track(_looks(source, workers), count, what, quiet=quiet)):
        if isinstance(seen, str):
            unreadable[row] = seen
            continue
        size[row], grey[row] = seen.size, seen.grey
        digest[row] = np.frombuffer(seen.digest, np.uint64)
        bits[row], small[row] = seen.look.bits, seen.look.small
        kinds[seen.kind] = kinds.get(seen.kind, 0) + 1
        if seen.misnamed:
            misnamed[row] = (seen.misnamed, seen.kind)
        if seen.outside:
            outside[row] = seen.outside
        if seen.rescaled:
            rescaled.append(row)
        if seen.fault:
            misfits[row] = seen.fault
        if seen.boxes is not None:
            sides = seen.boxes.values[:, 2:] - seen.boxes.values[:, :2]
            box_rows.extend([row] * len(sides))
            box_sizes.frombytes(np.ascontiguousarray(sides, dtype=np.float32).tobytes())
    return Measured(
        unreadable, size, grey, kinds, misnamed, digest, bits, small,
        np.array(box_rows, dtype=np.int64), np.array(box_sizes, dtype=np.float32).reshape(-1, 2),
        outside, rescaled, misfits,
    )  # fmt: skip


def look_at(source: Source, row: int) -> PictureLook | str:
    """One picture, or why it can't be read."""
    where = source.where(row)
    try:
        sample = source.read(row)
        header = read_header(sample.picture, where)
        decoded = decode_upright(sample.picture, 1, where)
    except BadPicture as error:
        return error.what
    boxes, outside, rescaled, fault = None, 0, False, ""
    if isinstance(sample.label, Boxes):
        stored = with_area(sample.label)
        try:
            boxes = to_pixels(stored, decoded, where)
            outside = len(stored.cls) - len(boxes.cls)
            rescaled = stored.size is not None and stored.size not in (decoded.size, decoded.stored)
        except BadPicture as error:
            fault = error.what
    return PictureLook(
        size=decoded.size,
        kind=header.kind,
        grey=header.grey,
        misnamed=_other_suffix(sample.key, header.kind),
        digest=hashlib.blake2b(sample.picture, digest_size=16).digest(),
        look=look_of(decoded.pixels[:, :, 0]),
        boxes=boxes,
        outside=outside,
        rescaled=rescaled,
        fault=fault,
    )


def _looks(source: Source, workers: int | None) -> Iterator[PictureLook | str]:
    """Every picture in order, a bounded number of them ahead of what is asked for."""

    def work(start: int) -> list[PictureLook | str]:
        return [look_at(source, row) for row in range(start, min(start + _TOGETHER, len(source)))]

    starts = range(0, len(source), _TOGETHER)
    return chain.from_iterable(in_order(work, starts, workers or max(1, min(16, os.cpu_count() or 1))))


@cache
def _kinds_by_suffix() -> dict[str, str]:
    return {suffix: KINDS_ALIKE.get(kind, kind) for suffix, kind in Image.registered_extensions().items()}


def _other_suffix(key: str, kind: str) -> str:
    """The suffix of a file's name where it is that of another form than ``kind``, else an empty text."""
    suffix = PurePosixPath(key.partition(" (")[0]).suffix.lower()
    named = _kinds_by_suffix().get(suffix)
    return suffix if named is not None and named != KINDS_ALIKE.get(kind, kind) else ""
