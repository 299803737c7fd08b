"""Headers of tar files: where each member lies, told without reading it.

    offset  size   a header, a block of 512 bytes; the member's bytes follow, filled up to a multiple of 512
    0       100    name, ended by a NUL byte where it is shorter
    124     12     size: octal digits, or a number to the base 256 whose first byte is 80
    148     8      checksum: the sum of the block's bytes, these 8 counted as blanks
    156     1      kind: 0 a file, 1 and 2 links, 3, 4 and 6 devices, 5 a folder; L, K and x tell of the next member
    157     100    what a link leads to
    257     6      "ustar" and NUL (POSIX), or "ustar" and a blank (GNU)
    345     155    what goes before the name (POSIX)

Blocks of zeros end the file; where another tar file was put behind it, reading goes on there.
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from mmap import mmap
from typing import NamedTuple, Protocol

from foveal.formats.recordio import Damage
from foveal.storage.ranges import RangedFile

BLOCK = 512  # bytes
Buffer = bytes | mmap | RangedFile
_LONGEST_NAME = 65_536  # bytes of a long name, or of everything that POSIX's extended header says
_MAGIC = b"ustar"
_RECORD = re.compile(rb"(\d{1,6}) ([^=\n]+)=")
_KINDS = {
    b"0": "file", b"\0": "file", b"7": "file", b"5": "folder", b"2": "link", b"1": "hard link",
    b"3": "device", b"4": "device", b"6": "pipe", b"S": "sparse file",
}  # fmt: skip
_AHEAD = {b"L": "path", b"K": "linkpath"}  # what GNU's extra members tell of the next one


class Stream(Protocol):
    """Bytes that are read from front to back; ``seek`` only goes forward."""

    def read(self, size: int, /) -> bytes: ...

    def seek(self, position: int, /) -> object: ...


class Member(NamedTuple):
    """A member: its header at byte ``offset``, its ``size`` bytes from ``start``.

    ``kind``: file, folder, link, hard link, device, pipe, sparse file, or unknown; ``target``: what a link leads to.
    """

    name: str
    kind: str
    offset: int
    start: int
    size: int
    target: str = ""


def walk(stream: Stream, position: int = 0, length: int | None = None) -> Iterator[Member | Damage]:
    """The members from byte ``position`` on, in order; after a ``Damage`` none follow.

    Args:
        length: bytes of the whole file, where they are known: a member that runs over them is damage.

    The one who reads a member's bytes from the stream needn't leave it at a particular place.
    """
    told: dict[str, str] = {}  # of the next member
    first = position  # where what belongs to it begins
    ended = False
    while True:
        stream.seek(position if length is None else min(position, length))
        block = stream.read(BLOCK)
        if not block.strip(b"\0"):
            if len(block) < BLOCK:
                return
            position, ended, told = position + BLOCK, True, {}
            first = position
            continue
        header = _header(block, position)
        if isinstance(header, str):
            if not ended:  # else it is what some programs leave behind the end
                yield Damage(first, position, header)
            return
        kind, member = header
        if length is not None and member.start + member.size > length:
            left = max(0, length - member.start)
            told_size = f"cut short: {member.size:,} bytes are announced, the file ends after {left:,}"
            yield Damage(first, position, told_size)
            return
        position = member.start + -(-member.size // BLOCK) * BLOCK
        if kind in (b"L", b"K", b"x"):
            if member.size > _LONGEST_NAME:
                yield Damage(first, position, f"{member.size:,} bytes are no name")
                return
            stream.seek(member.start)
            text = stream.read(member.size)
            told |= _extended(text) if kind == b"x" else {_AHEAD[kind]: _text(text)}
            continue
        if kind == b"g":  # says of all members what nothing here depends on
            continue
        member = _told(member, told)
        position = member.start + -(-member.size // BLOCK) * BLOCK
        if length is not None and member.start + member.size > length:
            yield Damage(first, member.offset, f"cut short: {member.size:,} bytes are announced, the file ends before")
            return
        yield member
        told, first, ended = {}, position, False


def scan(buffer: Buffer) -> Iterator[Member | Damage]:
    """All members of an uncompressed tar file, and its damaged stretches between them.

    After damage the reading goes on at the next header, at any alignment.
    """
    stream = stream_of(buffer)
    position: int | None = 0
    while position is not None:
        start, position = position, None
        for found in walk(stream, start, len(buffer)):
            if isinstance(found, Damage):
                position = _next_header(buffer, found.end + 1)
                yield Damage(found.offset, len(buffer) if position is None else position, found.reason)
            else:
                yield found


def stream_of(buffer: Buffer) -> Stream:
    """A buffer to be read from front to back."""
    if isinstance(buffer, RangedFile):
        return _Onward(buffer)
    return io.BytesIO(buffer) if isinstance(buffer, bytes) else buffer


class _Onward:
    def __init__(self, file: RangedFile) -> None:
        self._fetch, self._position = file.onward(), 0

    def read(self, size: int, /) -> bytes:
        content = self._fetch(size, self._position)
        self._position += len(content)
        return content

    def seek(self, position: int, /) -> None:
        self._position = position


def begins_like_tar(start: bytes) -> bool:
    """Whether the first 512 bytes of a file are a member's header."""
    return bool(start.strip(b"\0")) and not isinstance(_header(start[:BLOCK], 0), str)


def _next_header(buffer: Buffer, start: int) -> int | None:
    place = buffer.find(_MAGIC, start)
    while place >= 0:
        header = place - 257
        if header >= start and not isinstance(_header(bytes(buffer[header : header + BLOCK]), header), str):
            return header
        place = buffer.find(_MAGIC, place + 1)
    return None


def _header(block: bytes, offset: int) -> tuple[bytes, Member] | str:
    """Kind and member, or what is wrong with the header."""
    if len(block) < BLOCK:
        return f"cut short: {len(block)} bytes at the end are no header"
    stored, counted = _number(block[148:156]), sum(block) - sum(block[148:156]) + 8 * 32
    if stored != counted and stored != counted - 256 * sum(byte >= 128 for byte in block[:148] + block[156:]):
        return "no header of a tar file: its checksum is wrong"
    size = _number(block[124:136])
    if size is None:
        return f"the size {block[124:136]!r} is no number"
    kind = block[156:157]
    name = _text(block[:100])
    if block[257:263] == b"ustar\0" and block[345]:
        name = f"{_text(block[345:500])}/{name}"
    known = _KINDS.get(kind, "unknown")
    if known == "file" and name.endswith("/"):  # as very old programs write folders
        known = "folder"
    has_data = known in ("file", "sparse file", "unknown")
    return kind, Member(name, known, offset, offset + BLOCK, size if has_data else 0, _text(block[157:257]))


def _told(member: Member, told: dict[str, str]) -> Member:
    """A member with what was told of it ahead of its header."""
    if not told:
        return member
    if any(key.startswith("GNU.sparse.") for key in told):
        member = member._replace(kind="sparse file")
    if re.fullmatch(r"\d{1,18}", told.get("size", "")) and member.kind == "file":
        member = member._replace(size=int(told["size"]))
    return member._replace(name=told.get("path", member.name), target=told.get("linkpath", member.target))


def _extended(text: bytes) -> dict[str, str]:
    """The records of POSIX's extended header: ``length key=value`` and a line feed each. What is none ends them."""
    found: dict[str, str] = {}
    place = 0
    while match := _RECORD.match(text, place):
        end = place + int(match[1])
        if end <= match.end():
            break
        found[_text(match[2])] = text[match.end() : end - 1].decode("utf-8", "surrogateescape")
        place = end
    return found


def _number(field: bytes) -> int | None:
    if field[0] & 0x80:
        return int.from_bytes(field[1:], "big") if field[0] == 0x80 else None
    digits = field.split(b"\0", 1)[0].strip(b" ")
    if not digits.isdigit():
        return None if digits else 0
    try:
        return int(digits, 8)
    except ValueError:
        return None


def _text(field: bytes) -> str:
    return field.split(b"\0", 1)[0].decode("utf-8", "surrogateescape")
