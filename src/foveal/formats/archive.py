"""Archives of a data set, zip and tar (plain, or compressed by gzip, bzip2 or xz), unpacked so that they do no harm.

What is written is counted while it is written: an archive's own word for sizes isn't relied on. Names that lead out of
the folder, that are one where upper and lower case are, or that occur twice are refused, and so are devices. A link is
written as the file that it leads to, and refused where that isn't a file of the archive.
"""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import os
import posixpath
import shutil
import stat
import struct
import unicodedata
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path, PureWindowsPath
from typing import Any, BinaryIO, Protocol

from foveal.errors import UserError
from foveal.formats.pictures import LONGEST_PATH, is_hidden, short, shown
from foveal.formats.recordio import Damage
from foveal.formats.tar import BLOCK, Member, Stream, begins_like_tar, walk

SUFFIXES = (".zip", ".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tbz", ".tar.xz", ".txz")
MOST_MEMBERS = 1_000_000
MOST_TIMES, ALWAYS_ALLOWED = 100, 1 << 30  # unpacked bytes: up to 100 times the archive's, and 1 GiB in any case
_LARGEST_DIRECTORY = 512 << 20  # bytes of a zip file's directory
_XZ_MEMORY = 256 << 20  # bytes; what xz writes at its strongest takes 65 MB to read
_CHUNK = 1 << 20
_ANY = 1 << 62  # bytes free, where nothing is written
_LONGEST_NAME = 1024  # characters of a member's name, folders included
_BROKEN = (
    zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, OSError, ValueError, struct.error, OverflowError,
    NotImplementedError,
)  # fmt: skip
_ENTRY = b"PK\x01\x02"  # how each entry of a zip file's directory begins
_BY_HAND = "Unpack it yourself, and name the folder."
_AGAIN = "Copy or download it again."
_OTHERS = {b"7z\xbc\xaf\x27\x1c": "7z", b"Rar!": "RAR", b"\x28\xb5\x2f\xfd": "Zstandard"}


def archive_suffix(path: Path) -> str:
    """The suffix by which a name is an archive's, as ``.tar.gz``; empty when it is none."""
    name = path.name.lower()
    return max((suffix for suffix in SUFFIXES if name.endswith(suffix)), key=len, default="")


def extract(path: Path, folder: Path, free: int) -> Iterator[int]:
    """Unpack an archive into ``folder``, which is empty; yields, after each member, the bytes that were gone through.

    Which kind it is, its first bytes tell. Hidden files (macOS's among them) are left out.

    Args:
        free: bytes that may be written, of those that the disk has left.

    Raises:
        UserError: for an archive that is broken, encrypted, of an unknown kind, too large, or that would do harm.
    """
    try:
        file = path.open("rb")
    except OSError as error:
        raise UserError(
            f"can't be opened: {error.strerror}", str(path), "Check the path and who may read it."
        ) from error
    tree = _Tree(path, folder, free)
    with file, _broken(str(path)):
        start = file.read(BLOCK)
        file.seek(0)
        if not start:
            raise UserError("the file is empty", str(path), _AGAIN)
        if start.startswith((_ENTRY[:2] + b"\3\4", _ENTRY[:2] + b"\5\6")):
            yield from _extract_zip(path, tree)
        elif begins_like_tar(start) or not start.strip(b"\0"):
            yield from _extract_tar(file, tree, file, path.stat().st_size)
        else:
            yield from _extract_tar(_Forward(_decompressed(file, start, path), tree), tree, file, None)
    if not tree.members:
        raise UserError("the archive is empty", str(path), "Pack the pictures again.")
    tree.finish()


def member_names(path: Path) -> Iterator[str]:
    """Names of the members, in order and unchecked, as far as they can be read."""
    try:
        with path.open("rb") as file:
            start = file.read(BLOCK)
            file.seek(0)
            if start.startswith(_ENTRY[:2]):
                with _Counted(path) as directory, zipfile.ZipFile(directory) as archive:
                    yield from archive.namelist()
                return
            stream = (
                file if begins_like_tar(start) else _Forward(_decompressed(file, start, path), _Tree(path, path, _ANY))
            )
            for found in walk(stream):
                if isinstance(found, Member):
                    yield found.name
    except (*_BROKEN, UserError):
        return


class _Tree:
    """What is written of an archive, with its bounds."""

    def __init__(self, archive: Path, folder: Path, free: int) -> None:
        self.archive = archive
        self.folder = folder
        self.free = free
        self.most = max(ALWAYS_ALLOWED, MOST_TIMES * archive.stat().st_size)
        self.members = self.bytes = 0
        self._names: dict[str, tuple[str, bool]] = {}  # without regard to case -> (as written, whether a folder)
        self._links: dict[str, tuple[str, str]] = {}  # member -> (what it leads to, as it says itself)

    def count(self) -> None:
        """Count a member. Raises UserError when there are too many."""
        self.members += 1
        if self.members > MOST_MEMBERS:
            raise UserError(f"it has more than {MOST_MEMBERS:,} members", str(self.archive), _BY_HAND)

    def check(self, size: int) -> None:
        """Raise UserError when ``size`` bytes in all are too many."""
        if size > self.most:
            packed = self.archive.stat().st_size
            raise UserError(
                f"it has {packed:,} bytes and unpacks to more than {self.most:,}, as only an archive made to fill a "
                "disk does",
                str(self.archive),
                f"If it is sound: {_BY_HAND[0].lower()}{_BY_HAND[1:]}",
            )
        if size > self.free:
            raise UserError(
                f"unpacked it has more than the {self.free:,} bytes that are free in {self.folder}",
                str(self.archive),
                "Make room, or let XDG_CACHE_HOME name a folder on a larger disk.",
            )

    def where(self, name: str) -> str:
        return shown(f"{self.archive}, member {short(name, LONGEST_PATH)}")

    def file(self, name: str, read: Callable[[int], bytes]) -> int:
        """Write a file, and return its bytes; nothing of a hidden one is written."""
        kept = self._place(name, folder=False)
        if not kept:
            return 0
        path = self.folder / kept
        written = 0
        with _unwritable(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("xb") as file:
                while chunk := self._chunk(read, name):
                    written += len(chunk)
                    self.bytes += len(chunk)
                    self.check(self.bytes)
                    file.write(chunk)
        return written

    def folder_of(self, name: str) -> None:
        """Check the name of a folder; folders are made when a file comes into them."""
        self._place(name, folder=True)

    def link(self, name: str, target: str, base: str) -> None:
        """Remember a link whose ``target`` counts from the folder ``base`` of the archive."""
        kept = self._place(name, folder=False)
        led = posixpath.normpath(posixpath.join(base, target))
        if _leads_out(target) or led.startswith("..") or led == ".":
            raise UserError(f"it links to {short(target)!r}, out of the archive", self.where(name), _BY_HAND)
        if kept:
            self._links[kept] = (led, target)

    def finish(self) -> None:
        """Write the links, as the files that they lead to."""
        for name, (led, target) in self._links.items():
            for _ in range(40):  # as many as Linux follows
                led = self._links[led][0] if led in self._links else led
            source = self.folder / led
            if not source.is_file() or led in self._links:
                raise UserError(f"it links to {short(target)!r}, no file of the archive", self.where(name), _BY_HAND)
            path = self.folder / name
            with _unwritable(path):
                path.parent.mkdir(parents=True, exist_ok=True)
                try:
                    os.link(source, path)
                except OSError:  # not every disk has a second name for a file, and none has any number of them
                    self.bytes += source.stat().st_size
                    self.check(self.bytes)
                    shutil.copyfile(source, path)

    def _chunk(self, read: Callable[[int], bytes], name: str) -> bytes:
        with _broken(self.where(name)):
            return read(_CHUNK)

    def _place(self, name: str, *, folder: bool) -> str:
        """The path of a member, without ``./``; empty for a hidden one. Raises UserError for names that do harm."""
        path = name.replace("\\", "/")
        if _leads_out(path) or ".." in path.split("/"):
            raise UserError("its name leads out of the folder it is unpacked into", self.where(name), _BY_HAND)
        parts = [part for part in path.split("/") if part not in ("", ".")]
        if any(map(is_hidden, parts)) or not parts:
            return ""
        if "\0" in path or len(path) > _LONGEST_NAME or max(len(os.fsencode(part)) for part in parts) > 255:
            raise UserError("no file can have this name", self.where(name), _BY_HAND)
        path = "/".join(parts)
        if folder and self._names.get(_folded(path)) == (path, True):
            return path
        for end in range(1, len(parts)):
            self._take("/".join(parts[:end]), name, folder=True)
        self._take(path, name, folder=folder)
        return path

    def _take(self, path: str, name: str, *, folder: bool) -> None:
        there = self._names.get(_folded(path))
        if there is None:
            self._names[_folded(path)] = (path, folder)
        elif there[0] != path:
            raise UserError(
                f"its name and {short(there[0], LONGEST_PATH)} differ only in upper and lower case",
                self.where(name),
                "On many disks these are one: rename one of them.",
            )
        elif there[1] != folder:
            raise UserError("this is the name of a file and of a folder", self.where(name), _BY_HAND)
        elif not folder:
            raise UserError("two members have this name", self.where(name), _BY_HAND)


def _folded(path: str) -> str:
    return unicodedata.normalize("NFC", path).casefold()


def _leads_out(path: str) -> bool:
    """Whether a path counts from a disk's root, here or on Windows."""
    windows = PureWindowsPath(path)
    return path.startswith("/") or bool(windows.drive or windows.root)


@contextmanager
def _broken(where: str) -> Iterator[None]:
    try:
        yield
    except _BROKEN as error:
        told = getattr(error, "strerror", None) or str(error) or type(error).__name__
        raise UserError(f"can't be unpacked: {told}", where, _AGAIN) from error


@contextmanager
def _unwritable(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise UserError(
            f"can't be written: {error.strerror}", shown(str(path)), "Let XDG_CACHE_HOME name a folder that can be."
        ) from error


class _Counted(io.FileIO):
    """A zip file whose directory is refused before ``zipfile`` makes an object of each of its entries."""

    def read(self, size: int | None = -1, /) -> bytes:
        if size is not None and size > _LARGEST_DIRECTORY:
            raise UserError(f"its directory takes {size:,} bytes", str(self.name), _BY_HAND)
        content = super().read(-1 if size is None else size)
        if content.count(_ENTRY) > MOST_MEMBERS:
            raise UserError(f"it has more than {MOST_MEMBERS:,} members", str(self.name), _BY_HAND)
        return content


def _extract_zip(path: Path, tree: _Tree) -> Iterator[int]:
    done = 0
    with _Counted(path) as file, zipfile.ZipFile(file) as archive:
        members = archive.infolist()
        tree.check(sum(member.file_size for member in members))
        for member in members:
            tree.count()
            _refuse_method(member, tree)
            kind = stat.S_IFMT(member.external_attr >> 16)
            if member.filename.endswith("/"):  # ``is_dir`` fails for an empty name
                tree.folder_of(member.filename)
            elif kind == stat.S_IFLNK:
                if member.file_size > _LONGEST_NAME:
                    raise UserError("it is a link to no name a file can have", tree.where(member.filename), _BY_HAND)
                target = archive.read(member)[:_LONGEST_NAME].decode("utf-8", "surrogateescape")
                tree.link(member.filename, target, posixpath.dirname(member.filename))
            elif kind not in (0, stat.S_IFREG):
                raise _no_file("a device or pipe", tree.where(member.filename))
            else:
                with archive.open(member) as content:
                    tree.file(member.filename, content.read)
            done += member.compress_size
            yield done


def _refuse_method(member: zipfile.ZipInfo, tree: _Tree) -> None:
    if member.flag_bits & 1:
        raise UserError("it is encrypted", tree.where(member.filename), _BY_HAND)
    if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2):
        raise UserError(
            f"it is compressed by zip's method {member.compress_type}, which isn't read",
            tree.where(member.filename),
            _BY_HAND,
        )


def _extract_tar(stream: Stream, tree: _Tree, file: BinaryIO, length: int | None) -> Iterator[int]:
    """Members of a tar file that is read from front to back; ``file`` is what lies on the disk."""
    for found in walk(stream, 0, length):
        if isinstance(found, Damage):
            raise UserError(f"can't be unpacked: at byte {found.offset:,}: {found.reason}", str(tree.archive), _AGAIN)
        tree.count()
        if found.kind == "folder":
            tree.folder_of(found.name)
        elif found.kind in ("link", "hard link"):
            base = posixpath.dirname(found.name) if found.kind == "link" else ""
            tree.link(found.name, found.target, base)
        elif found.kind == "file":
            _extract_member(stream, found, tree)
        else:
            raise _no_file(
                f"a {found.kind}" if found.kind != "unknown" else "of an unknown kind", tree.where(found.name)
            )
        yield file.tell()


def _extract_member(stream: Stream, member: Member, tree: _Tree) -> None:
    stream.seek(member.start)
    left = member.size

    def read(size: int) -> bytes:
        nonlocal left
        content = stream.read(min(size, left))
        left -= len(content)
        if left and not content:
            raise EOFError(f"it is cut short: {left:,} of {member.size:,} bytes are missing")
        return content

    tree.file(member.name, read)


def _no_file(what: str, where: str) -> UserError:
    return UserError(f"it is {what}, and only files, folders and links are unpacked", where, _BY_HAND)


class _Readable(Protocol):
    def read(self, size: int, /) -> bytes: ...


class _Forward:
    """What an archive decompresses to, read from front to back and counted."""

    def __init__(self, stream: _Readable, tree: _Tree) -> None:
        self._stream, self._tree, self._position = stream, tree, 0

    def read(self, size: int, /) -> bytes:
        content = self._stream.read(size)
        self._position += len(content)
        self._tree.check(self._position)
        return content

    def seek(self, position: int, /) -> int:
        while self._position < position and self.read(min(_CHUNK, position - self._position)):
            pass
        return self._position


def _decompressed(file: BinaryIO, start: bytes, path: Path) -> _Readable:
    """The tar file in a compressed one, whose first bytes are ``start``."""
    if start.startswith(b"\x1f\x8b"):
        return gzip.GzipFile(fileobj=file)
    if start.startswith(b"BZh"):
        return bz2.BZ2File(file)
    if start.startswith(b"\xfd7zXZ\0"):
        return io.BufferedReader(_Xz(file))
    kind = next((kind for first, kind in _OTHERS.items() if start.startswith(first)), "")
    told = f"this is a {kind} archive, which isn't read" if kind else "this is no archive: it begins like none"
    raise UserError(told, str(path), _BY_HAND if kind else "Copy or download it again, or rename it for what it is.")


class _Xz(io.RawIOBase):
    """What an xz file decompresses to, in bounded memory (``lzma.LZMAFile`` takes as much as the file asks for)."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._decompressor = lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=_XZ_MEMORY)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any, /) -> int:
        content = b""
        while not content:
            if self._decompressor.eof:
                rest = self._decompressor.unused_data.lstrip(b"\0") or self._file.read(_CHUNK).lstrip(b"\0")
                if not rest:
                    return 0
                self._decompressor = lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=_XZ_MEMORY)
            else:
                rest = self._file.read(_CHUNK) if self._decompressor.needs_input else b""
                if self._decompressor.needs_input and not rest:
                    raise EOFError("the compressed data ends too early")
            content = self._decompressor.decompress(rest, len(buffer))
        buffer[: len(content)] = content
        return len(content)
