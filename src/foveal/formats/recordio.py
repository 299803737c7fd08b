"""RecordIO: any number of byte strings in one file, as MXNet (dmlc-core) frames them.

A file is a row of parts, a record is one part or several. All numbers are little-endian.

    offset      size     content of a part
    0           4        magic 0xced7230a (bytes 0a 23 d7 ce)
    4           4        upper 3 bits: kind; lower 29 bits: length of the data
    8           length   data
    8 + length  0..3     zeros, up to a multiple of 4

    kind 0 a whole record, 1 its first part, 2 a middle part, 3 the last part

A writer ends a part wherever the magic stands in the payload at a multiple of 4, and leaves these 4 bytes out; a reader
puts them back between the parts. So within a part's data the magic never stands at a multiple of 4, which is how a
record whose length was damaged, and that therefore runs over its neighbours, can be told from a sound one.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterable, Iterator
from mmap import ACCESS_READ, mmap
from pathlib import Path
from typing import NamedTuple

from foveal.errors import UserError
from foveal.files import write_aside, write_text

MAGIC = 0xCED7230A
MAGIC_BYTES = MAGIC.to_bytes(4, "little")
MAX_PAYLOAD = (1 << 29) - 1  # bytes: what 29 bits can count
_HEADER = struct.Struct("<II")
_WHOLE, _FIRST, _MIDDLE, _LAST = range(4)

Buffer = bytes | mmap


class Record(NamedTuple):
    """A record's place: bytes ``offset`` to ``end`` of the file, headers and padding included.

    ``parts`` has (first byte of the data, its length) of each part.
    """

    offset: int
    end: int
    parts: tuple[tuple[int, int], ...]


class Damage(NamedTuple):
    """Bytes ``offset`` to ``end`` that hold no readable record, and why."""

    offset: int
    end: int
    reason: str


def open_buffer(path: Path) -> Buffer:
    """Map a file into memory for reading; an empty file gives ``b""``. Raises UserError when it can't be opened."""
    try:
        with path.open("rb") as file:
            return mmap(file.fileno(), 0, access=ACCESS_READ) if os.fstat(file.fileno()).st_size else b""
    except OSError as error:
        raise UserError(
            f"can't be opened: {error.strerror}", str(path), "Check the path and who may read it."
        ) from error


def read_record(buffer: Buffer, offset: int) -> Record | str:
    """The record that starts at byte ``offset``, or what is wrong there."""
    position = offset
    parts: list[tuple[int, int]] = []
    size = len(buffer)
    while True:
        if size - position < 8:
            left = size - position
            if not parts:
                return f"cut short: {left} byte{'s' * (left != 1)} at the end of the file hold no record"
            return f"cut short: the file ends before the last part of a record of {len(parts)} or more parts"
        magic, packed = _HEADER.unpack_from(buffer, position)
        kind, length = packed >> 29, packed & MAX_PAYLOAD
        if magic != MAGIC:
            found = bytes(buffer[position : position + 4]).hex()
            at = f"the next part of a record should start at byte {position}" if parts else "no record starts here"
            return f"{at}: found {found} instead of {MAGIC_BYTES.hex()}"
        if kind > _LAST:
            return f"a part of unknown kind {kind}"
        if kind in (_MIDDLE, _LAST) and not parts:
            return f"a {'middle' if kind == _MIDDLE else 'last'} part without a first part before it"
        if kind in (_WHOLE, _FIRST) and parts:
            return f"a first part without a last part: another record starts at byte {position}"
        end = position + 8 + (length + 3 & ~3)
        if end > size:
            return f"cut short: {length:,} bytes are announced, the file ends after {max(0, size - position - 8):,}"
        parts.append((position + 8, length))
        position = end
        if kind in (_WHOLE, _LAST):
            return Record(offset, end, tuple(parts))


def content(buffer: Buffer, record: Record) -> bytes:
    """A record's payload, with the magic put back between its parts."""
    if len(record.parts) == 1:
        start, length = record.parts[0]
        return bytes(buffer[start : start + length])
    return MAGIC_BYTES.join(bytes(buffer[start : start + length]) for start, length in record.parts)


def scan(buffer: Buffer, *, thorough: bool = False) -> Iterator[Record | Damage]:
    """All records of a file in order, and its damaged stretches between them; together they cover every byte.

    After damage the reading goes on at the next place, at any alignment, where a credible record starts.
    Only headers are read, unless ``thorough``: then the data is searched too, and a record of wrong length is found
    even where it happens to end on the border of another record.
    """
    position, size = 0, len(buffer)
    held: Record | None = None  # yielded only when what follows it is known to be sound
    while position < size:
        found = read_record(buffer, position)
        if isinstance(found, str) or thorough:
            inner = _runs_over(buffer, held) if held is not None else None
            if held is not None and inner is not None:
                yield Damage(held.offset, inner, f"its length is wrong: it runs over the record at byte {inner}")
                held, position = None, inner
                continue
        if held is not None:
            yield held
        if isinstance(found, str):
            resumed = _next_record(buffer, position + 1)
            yield Damage(position, resumed, found)
            held, position = None, resumed
        else:
            held, position = found, found.end
    if held is not None:
        yield held


def _next_record(buffer: Buffer, start: int) -> int:
    """First byte at or after ``start`` where a credible record starts, or the file's size."""
    place = buffer.find(MAGIC_BYTES, start)
    while place >= 0:
        found = read_record(buffer, place)
        if isinstance(found, Record) and (_is_border(buffer, found.end) or _runs_over(buffer, found) is None):
            return place
        place = buffer.find(MAGIC_BYTES, place + 1)
    return len(buffer)


def _is_border(buffer: Buffer, position: int) -> bool:
    return position == len(buffer) or buffer[position : position + 4] == MAGIC_BYTES


def _runs_over(buffer: Buffer, record: Record) -> int | None:
    """Where, inside the data of ``record``, another one starts that is followed by a third or by the end; else None."""
    for start, length in record.parts:
        place = buffer.find(MAGIC_BYTES, start, start + length)
        while place >= 0:
            if (place - start) % 4 == 0:
                inner = read_record(buffer, place)
                if isinstance(inner, Record) and _is_border(buffer, inner.end):
                    return place
            place = buffer.find(MAGIC_BYTES, place + 1, start + length)
    return None


def frame(payload: bytes) -> bytes:
    """The bytes of one record. Raises UserError for a payload of 2^29 bytes or more."""
    if len(payload) > MAX_PAYLOAD:
        raise UserError(
            f"a record of {len(payload):,} bytes is too large for RecordIO, which holds at most {MAX_PAYLOAD:,}",
            remedy="Leave this picture out, or store it smaller.",
        )
    pieces: list[bytes] = []
    start = 0
    place = payload.find(MAGIC_BYTES)
    while place >= 0:
        if place % 4 == 0:
            pieces.append(payload[start:place])
            start = place + 4
            place = payload.find(MAGIC_BYTES, start)
        else:
            place = payload.find(MAGIC_BYTES, place + 1)
    pieces.append(payload[start:])
    if len(pieces) == 1:
        return _part(_WHOLE, payload)
    middle = [_part(_MIDDLE, piece) for piece in pieces[1:-1]]
    return b"".join([_part(_FIRST, pieces[0]), *middle, _part(_LAST, pieces[-1])])


def _part(kind: int, data: bytes) -> bytes:
    return _HEADER.pack(MAGIC, kind << 29 | len(data)) + data + bytes(-len(data) % 4)


def write_records(path: Path, records: Iterable[tuple[int | str, bytes]], *, index: bool = True) -> int:
    """Write ``path`` (and ``.idx`` beside it) from (key for the index, payload); returns how many records.

    Both files are written aside and renamed, so that what stands there is whole. A line of the index is
    ``key<tab>byte offset``, in file order.
    """
    lines: list[str] = []

    def write(aside: Path) -> None:
        offset = 0
        with aside.open("wb") as file:
            for key, payload in records:
                framed = frame(payload)
                file.write(framed)
                lines.append(f"{key}\t{offset}\n")
                offset += len(framed)

    write_aside(path, write)
    if index:
        write_text(path.with_suffix(".idx"), "".join(lines))
    return len(lines)
