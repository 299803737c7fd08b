"""``.idx`` files beside ``.rec`` files, as im2rec writes them: where each record starts.

    key <tab> byte offset

    0	0
    1	40

A third column and what follows is passed over, as MXNet does. Keys may be any text, but each only once. MXNet's reader
believes the offsets; here each has to be the start of a record.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from foveal.errors import UserError
from foveal.formats.recordio import (
    HEAD_BYTES,
    MAGIC,
    MAGIC_BYTES,
    MAX_PAYLOAD,
    Buffer,
    Damage,
    Fetch,
    Record,
    Run,
    read_record,
)

_LONGEST_LINE = 4096  # bytes
_HEAD = np.dtype([("magic", "<u4"), ("packed", "<u4"), ("first", f"S{HEAD_BYTES}")])
_AT_ONCE = 1024  # records
_MEND = "Write it anew from the .rec file (MXNet's rec2idx.py does), or leave --idx away: no .idx file is needed."


def read_idx(path: Path, buffer: Buffer, fetch: Fetch) -> NDArray[np.int64]:
    """The offsets that an index lists, int64 [n], sorted.

    ``buffer`` and ``fetch`` are of the ``.rec`` file that it belongs to.

    Raises:
        UserError: with the line, when it can't be read so, has a key or an offset twice, or an offset where no record
            starts; and when it is empty.
    """
    offsets, keys = array("q"), array("q")
    for number, line in _lines(path):
        fields = line.split(b"\t")
        if len(fields) < 2 or not fields[0] or not fields[1].isdigit():
            raise _broken(path, number, f"{_shown(line)} is no key, tab and byte offset")
        offset = int(fields[1])
        if offset >= len(buffer):
            told = f"byte {_shown(fields[1])} is not in the .rec file, which has {len(buffer):,} bytes"
            raise _broken(path, number, told)
        found = fetch(len(MAGIC_BYTES), offset)
        if found != MAGIC_BYTES:
            told = f"no record starts at byte {offset}: found {found.hex()} instead of {MAGIC_BYTES.hex()}"
            raise _broken(path, number, told)
        offsets.append(offset)
        keys.append(hash(fields[0]))
    if not offsets:
        raise UserError("it lists no record", str(path), _MEND, setting="idx")
    _refuse_twice(path, np.array(keys), 0)
    _refuse_twice(path, np.array(offsets), 1)
    return np.sort(np.array(offsets))


def read_listed(path: Path, buffer: Buffer, fetch: Fetch) -> Iterator[Run | Record | Damage]:
    """The records that the index ``path`` lists, in the order of the file, and as damage the bytes that it leaves out.

    Raises UserError as ``read_idx`` does.
    """
    offsets = read_idx(path, buffer, fetch)
    following = np.append(offsets[1:], len(buffer))
    reached = 0
    for row in range(0, len(offsets), _AT_ONCE):
        rows = slice(row, row + _AT_ONCE)
        for found in _read_some(buffer, fetch, offsets[rows], following[rows]):
            starts, ends = _extents(found)
            before = np.append(reached, ends[:-1])
            for gap in np.flatnonzero(before < starts):
                yield _left_out(path, int(before[gap]), int(starts[gap]))
            yield found
            reached = int(ends[-1])
    if reached < len(buffer):
        yield _left_out(path, reached, len(buffer))


def _read_some(
    buffer: Buffer, fetch: Fetch, offsets: NDArray[np.int64], following: NDArray[np.int64]
) -> Iterator[Run | Record | Damage]:
    """The records that start at ``offsets`` and have to end before ``following``; int64 [n] both."""
    fetched = b"".join(fetch(_HEAD.itemsize, offset).ljust(_HEAD.itemsize, b"\0") for offset in offsets.tolist())
    heads = np.frombuffer(fetched, _HEAD)
    lengths = heads["packed"].astype(np.int64)
    plain = (heads["magic"] == MAGIC) & (lengths <= MAX_PAYLOAD) & (offsets + 8 + (lengths + 3 & ~3) <= following)
    start = 0
    for row in [*np.flatnonzero(~plain).tolist(), len(offsets)]:
        if start < row:
            yield Run(offsets[start:row], lengths[start:row], heads["first"][start:row].tobytes())
        if row < len(offsets):
            yield _read_one(buffer, int(offsets[row]), int(following[row]))
        start = row + 1


def _read_one(buffer: Buffer, offset: int, following: int) -> Record | Damage:
    found = read_record(buffer, offset)
    if isinstance(found, str):
        return Damage(offset, following, found)
    if found.end > following:
        return Damage(offset, following, f"its length is wrong: it runs over the record at byte {following}")
    return found


def _extents(found: Run | Record | Damage) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Where records start and end, int64 [n] each."""
    if isinstance(found, Run):
        return found.offsets, found.offsets + 8 + (found.lengths + 3 & ~3)
    return np.array([found.offset]), np.array([found.end])


def _left_out(path: Path, start: int, end: int) -> Damage:
    return Damage(start, end, f"{path.name} lists no record in the {end - start:,} bytes from here")


def _lines(path: Path) -> Iterator[tuple[int, bytes]]:
    """Number and bytes of each line, without its end."""
    number = 0
    try:
        with path.open("rb") as file:
            while line := file.readline(_LONGEST_LINE):
                number += 1
                if len(line) == _LONGEST_LINE:
                    raise _broken(path, number, f"a line of {_LONGEST_LINE:,} bytes or more")
                yield number, line.rstrip(b"\r\n")
    except FileNotFoundError as error:
        told = "this index is asked for, and isn't there"
        remedy = "Put it there, or leave --idx away: no .idx file is needed."
        raise UserError(told, str(path), remedy, setting="idx") from error
    except OSError as error:
        told = f"can't be opened: {error.strerror}"
        raise UserError(told, str(path), "Check the path and who may read it.", setting="idx") from error


def _refuse_twice(path: Path, numbers: NDArray[np.int64], column: int) -> None:
    """Refuse a column that has a value twice: ``numbers`` are the hashes of keys (0), or the offsets (1)."""
    found, counts = np.unique(numbers, return_counts=True)
    twice = set(found[counts > 1].tolist())
    if not twice:
        return
    seen: dict[bytes | int, int] = {}
    for number, line in _lines(path):
        field = line.split(b"\t")[column]
        value = int(field) if column else field
        if (value if column else hash(value)) not in twice:
            continue
        if value in seen:
            name = "byte" if column else "the key"
            raise _broken(path, number, f"{name} {_shown(field)} stands in line {seen[value]:,} already")
        seen[value] = number


def _shown(field: bytes) -> str:
    text = field[:40].decode("utf-8", "replace")
    return text if text.isdigit() else repr(text)


def _broken(path: Path, number: int, what: str) -> UserError:
    return UserError(what, f"{path}, line {number:,}", _MEND, setting="idx")
