"""What was read of a large ``.rec`` file when it was opened, kept so that it opens at once the next time.

    ~/.cache/foveal/indices/train.rec-5d1c0f7a2b3c4d5e      XDG_CACHE_HOME takes the place of ~/.cache

A line of JSON (which file, as it was then; how many records and labels; what was left out and why), then the offsets
(int64), how many labels each record has (int32) and the labels (float32), little-endian. It holds for the file of that
place, inode, size, and times of change to the nanosecond, and is looked into: at 256 records the file is read again.
Whatever doesn't fit is passed over, and the file read as if for the first time.
"""

from __future__ import annotations

import hashlib
import json
import os
from array import array
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from foveal.files import write_aside
from foveal.formats.recordio import HEAD_BYTES, MAGIC_BYTES, Fetch
from foveal.records import BadRecord

WORTH = 1 << 30  # bytes of a file; smaller ones open as quickly without
KEPT = 1 << 30  # bytes of all indices; those that were not used for the longest time go
_VERSION = 1
_LONGEST_LINE = 1 << 20  # bytes; a file of which more is left out isn't kept
_LOOKED_AT = 256  # records

Identity = list[str | int]


@dataclass
class Index:
    """What is kept of the records of files: offsets (int64), labels (float32, little-endian), how many each has
    (int32), and what was left out."""

    offsets: array[int] = field(default_factory=lambda: array("q"))
    values: bytearray = field(default_factory=bytearray)
    widths: array[int] = field(default_factory=lambda: array("i"))
    bad: list[BadRecord] = field(default_factory=list)

    def add(self, other: Index) -> None:
        """Put the records of another file behind these."""
        self.offsets += other.offsets
        self.values += other.values
        self.widths += other.widths
        self.bad += other.bad


def keep(path: Path, index: Index, of: Identity | None) -> None:
    """Keep the index of a file, if it is worth it, that was ``of`` before it was read, and still is.

    Where that can't be written, it is left to the next opening.
    """
    if of is None or of != identity(path):
        return
    head = {"file": of, "records": len(index.offsets), "values": len(index.values) // 4}
    line = json.dumps(head | {"bad": [[bad.where, bad.reason] for bad in index.bad]}).encode() + b"\n"
    parts: list[bytes | bytearray] = [
        np.array(index.offsets, "<i8").tobytes(),
        np.array(index.widths, "<i4").tobytes(),
        index.values,
    ]
    if len(line) > _LONGEST_LINE or len(line) + sum(map(len, parts)) > KEPT:
        return

    def write(aside: Path) -> None:
        with aside.open("wb") as file:
            file.writelines([line, *parts])

    place = _place(path)
    with suppress(OSError):  # a home that can't be written to, or a full disk: nothing is lost but time
        place.parent.mkdir(parents=True, exist_ok=True)
        write_aside(place, write)
        _make_room(place.parent)


def kept(path: Path, fetch: Fetch, of: Identity | None) -> Index | None:
    """The index that was kept of a file that is ``of`` now, if it holds."""
    if of is None:
        return None
    try:
        place = _place(path)
        with place.open("rb") as file:
            head = json.loads(file.readline(_LONGEST_LINE))
            if head["file"] != of:
                return None
            count, values = int(head["records"]), int(head["values"])
            if count < 1 or file.tell() + 12 * count + 4 * values != os.fstat(file.fileno()).st_size:
                return None
            offsets, widths = np.fromfile(file, "<i8", count), np.fromfile(file, "<i4", count)
            index = Index(array("q", offsets.astype(np.int64).tobytes()), bytearray(file.read()))
            index.widths.frombytes(widths.astype(np.int32).tobytes())
            index.bad.extend(BadRecord(str(where), str(reason)) for where, reason in head["bad"])
        os.utime(place)
    except (OSError, ValueError, KeyError, TypeError):  # not there, or not ours: the file is read instead
        return None
    steps = np.diff(offsets)
    if offsets[0] < 0 or (steps < 8).any() or (widths < 1).any() or widths.sum(dtype=np.int64) != values:
        return None
    return index if _agrees(index, widths, fetch) else None


def _agrees(index: Index, widths: NDArray[np.int32], fetch: Fetch) -> bool:
    """Whether records start where the index says, those with one label in their header with that label."""
    ends = np.cumsum(widths, dtype=np.int64)
    for row in np.linspace(0, len(widths) - 1, _LOOKED_AT).astype(int).tolist():
        head = fetch(8 + HEAD_BYTES, index.offsets[row])
        if head[:4] != MAGIC_BYTES:
            return False
        if head[8:12] == bytes(4) and head[7] < 0x20:  # a whole record, its label in its header
            end = 4 * int(ends[row])
            if widths[row] != 1 or index.values[end - 4 : end] != head[12:16]:
                return False
    return True


def identity(path: Path) -> Identity | None:
    """What tells a file from what it is after any change; None where its index isn't worth keeping."""
    try:
        stat = path.stat()
    except OSError:  # gone since it was opened
        return None
    if stat.st_size < WORTH:
        return None
    return [_VERSION, str(path.resolve()), stat.st_dev, stat.st_ino, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns]


def _place(path: Path) -> Path:
    given = os.environ.get("XDG_CACHE_HOME", "")
    cache = Path(given) if os.path.isabs(given) else Path.home() / ".cache"
    name = hashlib.sha256(os.fsencode(path.resolve())).hexdigest()[:16]
    return cache / "foveal" / "indices" / f"{path.name[:100]}-{name}"


def _make_room(folder: Path) -> None:
    """Remove what was not used for the longest time, until the rest takes ``KEPT`` bytes at most."""
    there = sorted(((entry.stat(), entry.path) for entry in os.scandir(folder)), key=lambda each: -each[0].st_mtime_ns)
    taken = 0
    for stat, path in there:
        taken += stat.st_size
        if taken > KEPT:
            os.unlink(path)
