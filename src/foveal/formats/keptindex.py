"""What was read of a large ``.rec`` file, or of any shard in a store, kept so that it opens at once the next time.

    ~/.cache/foveal/indices/train.rec-5d1c0f7a2b3c4d5e      XDG_CACHE_HOME takes the place of ~/.cache

A line of JSON (which file, as it was then; how many records and labels; what was left out and why), then the offsets
(int64), how many labels each record has (int32) and the labels (float32), little-endian. Of a tar file, compressed,
that line, a line of JSON for each member or damage, and one with what was read beside pictures. It holds for the file
of that place, inode, size, and times of change to the nanosecond, and is looked into: at 256 records the file is read
again. Of an object that is read through ranges it holds for its address, size and version, whatever its size, and isn't
looked into. Whatever doesn't fit is passed over, and the file read as if for the first time.
"""

from __future__ import annotations

import hashlib
import json
import os
import zlib
from array import array
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from foveal.files import write_aside
from foveal.formats.recordio import HEAD_BYTES, MAGIC_BYTES, Damage, Fetch
from foveal.formats.tar import Member
from foveal.records import BadRecord
from foveal.storage.ranges import ranged_file

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


@dataclass
class Members:
    """What is kept of a tar file: its members and damage in order, and by their first byte the texts read of it."""

    found: list[Member | Damage] = field(default_factory=list)
    texts: dict[int, bytes] = field(default_factory=dict)


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

    _write(path, [line, *parts])


def keep_members(path: Path, members: Members, of: Identity | None) -> None:
    """Keep what was read of a tar file, as ``keep`` does."""
    if of is None or of != identity(path):
        return
    lines = [json.dumps({"file": of, "found": len(members.found)})]
    lines += [json.dumps([type(each).__name__, *each]) for each in members.found]
    lines.append(json.dumps({start: text.decode("latin-1") for start, text in members.texts.items()}))
    content = "\n".join(lines).encode()
    if len(content) <= KEPT:
        _write(path, [zlib.compress(content, 1)])


def _write(path: Path, parts: Sequence[bytes | bytearray]) -> None:
    def write(aside: Path) -> None:
        with aside.open("wb") as file:
            file.writelines(parts)

    place = _place(path)
    with suppress(OSError):  # a home that can't be written to, or a full disk: nothing is lost but time
        place.parent.mkdir(parents=True, exist_ok=True)
        write_aside(place, write)
        _make_room(place.parent)


def kept_members(path: Path, of: Identity | None) -> Members | None:
    """What was kept of a tar file that is ``of`` now, if it holds."""
    if of is None:
        return None
    try:
        place = _place(path)
        packed = zlib.decompressobj()
        lines = packed.decompress(place.read_bytes(), KEPT).decode().split("\n")
        head = json.loads(lines[0])
        if not packed.eof or head["file"] != of or len(lines) != head["found"] + 2:
            return None
        found = [_found(*json.loads(line)) for line in lines[1:-1]]
        texts = {int(start): str(text).encode("latin-1") for start, text in json.loads(lines[-1]).items()}
        os.utime(place)
    except (OSError, zlib.error, ValueError, KeyError, TypeError, AttributeError):  # not there, or not ours
        return None
    return Members(found, texts)


def _found(kind: str, *fields: str | int) -> Member | Damage:
    types = (str, str, int, int, int, str) if kind == "Member" else (int, int, str)
    if tuple(map(type, fields)) != types:
        raise ValueError
    return Member(*fields) if kind == "Member" else Damage(*fields)  # type: ignore[arg-type]  # looked at above


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
    return index if ranged_file(path) is not None or _agrees(index, widths, fetch) else None


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
    """What tells a file from what it is after any change; None where nothing does, or its index isn't worth keeping."""
    ranged = ranged_file(path)
    if ranged is not None:
        return [_VERSION, str(path), ranged.there.size, ranged.there.version] if ranged.there.version else None
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
