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

What is promised of a damaged file (bytes overwritten, cut out or put in between): damage costs the records that it
touches. Another record is found again where the next one follows it directly, or the file's end; unless the damaged
bytes read as a record that ends exactly where some record starts, and so swallow those before it. ``scan`` with
``thorough`` finds those too, where the damage has moved them by a multiple of 4. Time is linear in the file's size.
"""

from __future__ import annotations

import itertools
import os
import re
import struct
import sys
from array import array
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from mmap import ACCESS_READ, mmap
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from foveal.errors import UserError
from foveal.files import write_aside, write_text
from foveal.storage.ranges import SEARCHED, RangedFile, ranged_file

MAGIC = 0xCED7230A
MAGIC_BYTES = MAGIC.to_bytes(4, "little")
MAX_PAYLOAD = (1 << 29) - 1  # bytes: what 29 bits can count
MAPPED = 128 << 20  # bytes of mapped files that this process holds at a time, about
HEAD_BYTES = 8  # of each record's data, kept in a Run
_HEADER = struct.Struct("<II")
_HEAD = struct.Struct(f"<II{HEAD_BYTES}s")
_WHOLE, _FIRST, _MIDDLE, _LAST = range(4)
_START = re.compile(re.escape(MAGIC_BYTES) + rb"(?=...[\x00-\x3f])", re.DOTALL)  # of a part of kind 0 or 1
_RUN = 1024  # records
_MARK = 16  # parts
_MARKS = 1_000_000  # places, about 100 MB

Buffer = bytes | mmap | memoryview | RangedFile
Fetch = Callable[[int, int], bytes]
"""(count, position) -> that many bytes of a file, fewer at its end."""


class Record(NamedTuple):
    """A record's place: bytes ``offset`` to ``end`` of the file, headers and padding included.

    ``parts`` has (first byte of the data, its length) of each part.
    """

    offset: int
    end: int
    parts: tuple[tuple[int, int], ...]


class Run(NamedTuple):
    """Whole records of one part each: ``offsets`` int64 [n] in the file, ``lengths`` int64 [n] of the data in bytes,
    ``heads`` the first 8 bytes of the data of each, one after another (where there are fewer, what follows them)."""

    offsets: NDArray[np.int64]
    lengths: NDArray[np.int64]
    heads: bytes


class Damage(NamedTuple):
    """Bytes ``offset`` to ``end`` that hold no readable record, and why."""

    offset: int
    end: int
    reason: str


def open_buffer(path: Path) -> bytes | mmap | RangedFile:
    """Map a file into memory for reading; an empty file gives ``b""``, and the place of an object that is read through
    ranges what reads it. Raises UserError when it can't be opened."""
    ranged = ranged_file(path)
    if ranged is not None:
        return ranged
    try:
        with path.open("rb") as file:
            return mmap(file.fileno(), 0, access=ACCESS_READ) if os.fstat(file.fileno()).st_size else b""
    except OSError as error:
        raise _unreadable(path, error) from error


def let_go(buffer: Buffer) -> None:
    """Take what was touched of a mapped file out of this process's memory; it comes back when it is touched again.

    The system would do it when memory is short. Until then it counts as the process's, and looks like a leak.
    """
    if sys.platform != "win32" and isinstance(buffer, mmap):
        from mmap import MADV_DONTNEED

        with suppress(OSError):  # advice: where memory is locked (mlockall) it is not taken
            buffer.madvise(MADV_DONTNEED)


@contextmanager
def fetching(path: Path, buffer: Buffer) -> Iterator[Fetch]:
    """Read few bytes here and there in a file: without mapping whole pages, which costs three times the time.

    Raises UserError when the file can't be read.
    """
    if isinstance(buffer, RangedFile):
        yield buffer.onward()
        return
    if sys.platform == "win32":
        yield lambda count, position: bytes(buffer[position : position + count])
        return
    try:
        with path.open("rb", buffering=0) as file:
            yield partial(os.pread, file.fileno())
    except OSError as error:
        raise _unreadable(path, error) from error


def _unreadable(path: Path, error: OSError) -> UserError:
    return UserError(f"can't be opened: {error.strerror}", str(path), "Check the path and who may read it.")


def read_record(buffer: Buffer, offset: int) -> Record | str:
    """The record that starts at byte ``offset``, or what is wrong there."""
    end = _Chains(buffer).end(offset)
    return _fault(buffer, offset, -1 - end) if end < 0 else _record(buffer, offset, end)


def payload(view: memoryview | RangedFile, offset: int) -> memoryview | str:
    """The payload of the record at byte ``offset``, or what is wrong there. ``view`` is of a whole file.

    No copy is made of a record of one part of a file in memory; of several, they are joined with the magic between
    them.
    """
    start, size = offset + 8, len(view)
    if start <= size and isinstance(view, memoryview):
        magic, packed = _HEADER.unpack_from(view, offset)
        if magic == MAGIC and packed <= MAX_PAYLOAD and start + (packed + 3 & ~3) <= size:
            return view[start : start + packed]
    found = read_record(view, offset)
    return found if isinstance(found, str) else memoryview(content(view, found))


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
    return _scan(_Chains(buffer), 0, thorough)


def records(buffer: Buffer, fetch: Fetch) -> Iterator[Run | Record | Damage]:
    """What ``scan`` finds when it isn't thorough, most records in runs, quickly: one small read a record."""
    chains = _Chains(buffer)
    position, size = 0, len(buffer)
    while position < size:
        offsets, lengths, heads, position = _leap(fetch, position, size)
        full = len(offsets) == _RUN
        if position < size and offsets:  # what follows may show that the last one's length is wrong
            position = offsets.pop()
        if offsets:
            count = len(offsets)
            yield Run(np.array(offsets), np.array(lengths[:count], dtype=np.int64), bytes(heads[: HEAD_BYTES * count]))
        if not full and position < size:
            for found in _scan(chains, position, thorough=False):
                yield found
                position = found.end
                if isinstance(found, Record):
                    break


def _leap(fetch: Fetch, position: int, size: int) -> tuple[array[int], array[int], bytearray, int]:
    """Offsets, lengths and heads of the whole records of one part from ``position`` on, and where they end."""
    offsets, lengths, heads = array("q"), array("q"), bytearray()
    count, unpack, keep_offset, keep_length = _HEAD.size, _HEAD.unpack, offsets.append, lengths.append
    last = size - count  # where a head still fits
    for _ in range(_RUN):
        if position > last:
            break
        magic, packed, first = unpack(fetch(count, position))
        end = position + 8 + (packed + 3 & ~3)
        if magic != MAGIC or packed > MAX_PAYLOAD or end > size:
            break
        keep_offset(position)
        keep_length(packed)
        heads += first
        position = end
    return offsets, lengths, heads, position


def _scan(chains: _Chains, position: int, thorough: bool) -> Iterator[Record | Damage]:
    buffer, size = chains.buffer, len(chains.buffer)
    held = -1  # a record that ends at position; it is yielded only when what follows it is known to be sound
    mapped = position
    while True:
        end = chains.end(position) if position < size else size
        if held >= 0:
            inner = -1
            if end < 0 or thorough:
                inner = chains.sound(held + 8, position, step=1 if end < 0 else 4)
            if inner >= 0:
                yield Damage(held, inner, f"its length is wrong: it runs over the record at byte {inner}")
                held, position = -1, inner
                continue
            yield _record(buffer, held, position)
        if position == size:
            return
        if end < 0:
            resumed = chains.next(position + 1)
            yield Damage(position, resumed, _fault(buffer, position, -1 - end))
            held, position = -1, resumed
        else:
            held, position = position, end
        if position - mapped > MAPPED:
            let_go(buffer)
            mapped = position


class _Chains:
    """Which parts of a file follow each other as a record.

    A damaged file may have any number of places from which the same long chain of parts is reached. It is walked once:
    what came of it is kept for every 16th part.
    """

    def __init__(self, buffer: Buffer) -> None:
        self.buffer = buffer
        self.known: dict[int, int] = {}  # where a middle or last part starts -> what ``end`` gives for its record

    def end(self, offset: int) -> int:
        """Where the record that starts at byte ``offset`` ends, or -1 - the byte where reading it fails."""
        size, position, marks = len(self.buffer), offset, list[int]()
        for count in itertools.count():
            if count % _MARK == _MARK - 1:
                marks.append(position)
            if count and position in self.known:
                found = self.known[position]
                break
            if size - position < 8:
                found = -1 - position
                break
            magic, packed = _header(self.buffer, position)
            kind = packed >> 29
            after = position + 8 + ((packed & MAX_PAYLOAD) + 3 & ~3)
            if magic != MAGIC or kind > _LAST or after > size or (kind in (_MIDDLE, _LAST)) != (count > 0):
                found = -1 - position
                break
            if kind in (_WHOLE, _LAST):
                found = after
                break
            position = after
        if len(self.known) > _MARKS:
            self.known.clear()
        self.known.update(dict.fromkeys(marks, found))
        return found

    def sound(self, start: int, stop: int, step: int = 1) -> int:
        """The first byte in ``start`` to ``stop``, in steps of ``step``, where a record starts that is followed by
        another one or by the end; or -1."""
        for place in _starts(self.buffer, start, min(stop + 7, len(self.buffer))):
            if (place - start) % step == 0 and self._is_border(self.end(place)):
                return place
        return -1

    def next(self, start: int) -> int:
        """First byte at or after ``start`` where a credible record starts, or the file's size.

        Credible is what is followed by another record or by the end; and among damage a record that does not run over
        such a one.
        """
        ahead = -1  # the next record that is followed by another one, once it was looked for
        for place in _starts(self.buffer, start, len(self.buffer)):
            end = self.end(place)
            if end < 0:
                continue
            if self._is_border(end):
                return place
            if ahead < 0:
                ahead = self.sound(place + 8, end)
            if ahead < 0 or end <= ahead:
                return place
        return len(self.buffer)

    def _is_border(self, position: int) -> bool:
        if position < 0:
            return False
        return position == len(self.buffer) or self.buffer[position : position + 4] == MAGIC_BYTES


def _header(buffer: Buffer, position: int) -> tuple[int, int]:
    """Magic, and kind and length, of the part that starts there; at least 8 bytes are left."""
    if isinstance(buffer, RangedFile):
        return _HEADER.unpack(buffer[position : position + 8])
    return _HEADER.unpack_from(buffer, position)


def _starts(buffer: Buffer, start: int, stop: int) -> Iterator[int]:
    """Where something between two bytes reads like the start of a record; its first 8 bytes lie between them."""
    if isinstance(buffer, RangedFile):
        for place in range(start, stop, SEARCHED):
            for match in _START.finditer(buffer[place : min(place + SEARCHED + 7, stop)]):
                if match.start() < SEARCHED:
                    yield place + match.start()
        return
    for match in _START.finditer(buffer, start, stop):
        yield match.start()


def _record(buffer: Buffer, offset: int, end: int) -> Record:
    """The record that is known to reach from ``offset`` to ``end``."""
    parts: list[tuple[int, int]] = []
    position = offset
    while position < end:
        length = _header(buffer, position)[1] & MAX_PAYLOAD
        parts.append((position + 8, length))
        position += 8 + (length + 3 & ~3)
    return Record(offset, end, tuple(parts))


def _fault(buffer: Buffer, offset: int, position: int) -> str:
    """Why reading the record at ``offset`` fails at byte ``position``."""
    left = len(buffer) - position
    if left < 8:
        if position == offset:
            return f"cut short: {left} byte{'s' * (left != 1)} at the end of the file hold no record"
        return "cut short: the file ends before the last part of this record"
    magic, packed = _header(buffer, position)
    kind, length = packed >> 29, packed & MAX_PAYLOAD
    if magic != MAGIC:
        found = f"found {bytes(buffer[position : position + 4]).hex()} instead of {MAGIC_BYTES.hex()}"
        if position == offset:
            return f"no record starts here: {found}"
        return f"the next part of a record should start at byte {position}: {found}"
    if kind > _LAST:
        return f"a part of unknown kind {kind}"
    if kind in (_MIDDLE, _LAST) and position == offset:
        return f"a {'middle' if kind == _MIDDLE else 'last'} part without a first part before it"
    if kind in (_WHOLE, _FIRST) and position != offset:
        return f"a first part without a last part: another record starts at byte {position}"
    return f"cut short: {length:,} bytes are announced, the file ends after {left - 8:,}"


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
