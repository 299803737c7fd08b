"""Writing so that nothing is half there: aside, synced, renamed."""

from __future__ import annotations

import hashlib
import json
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from foveal.errors import UserError

CHUNK = 1 << 20  # bytes read at a time when hashing
_SHARERS = 1 << 16  # bytes of a lock's file on Windows, which locks parts of files and knows no shared locks


def write_aside(path: Path, write: Callable[[Path], None]) -> None:
    """Let ``write`` make a file beside ``path``, flush it to disk, and only then give it that name.

    Whoever opens ``path`` at any moment finds the old file or the new one, whole.
    """
    aside = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        write(aside)
        sync(aside)
        os.replace(aside, path)
    finally:
        aside.unlink(missing_ok=True)
    sync(path.parent)


def write_text(path: Path, text: str) -> None:
    """Write UTF-8 text by ``write_aside``, with line feeds on every platform."""
    write_aside(path, lambda aside: _write_bytes(aside, text.encode("utf-8")))


def write_json(path: Path, value: Mapping[str, object] | Sequence[object]) -> None:
    """Write JSON with sorted keys, one field a line, by ``write_aside``."""
    write_text(path, json.dumps(value, indent=1, sort_keys=True, ensure_ascii=False, allow_nan=False) + "\n")


def sync(path: Path) -> None:
    """Flush a file, or on POSIX a folder's entries, to disk. Windows can't open a folder, and needn't."""
    if path.is_dir() and sys.platform == "win32":
        return
    handle = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def sha256(path: Path) -> str:
    """SHA-256 of a file's bytes, in hex."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def _write_bytes(path: Path, content: bytes) -> None:
    path.write_bytes(content)


@contextmanager
def lock(folder: Path, what: str, *, shared: bool = False) -> Iterator[None]:
    """Hold ``folder`` (made when missing) for this process; the system lets go of it however the process ends.

    Args:
        shared: hold it together with all others that want it shared.

    Raises:
        UserError: when another process holds it; ``what`` says what that one does.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".lock").open("a+b") as file:
        try:
            _take(file.fileno(), shared)
        except OSError as error:
            raise UserError(what, str(folder), "Wait for it, or name another output folder.") from error
        yield


def _take(handle: int, shared: bool) -> None:
    if sys.platform == "win32":
        import msvcrt

        os.lseek(handle, os.getpid() % _SHARERS if shared else 0, os.SEEK_SET)
        msvcrt.locking(handle, msvcrt.LK_NBLCK, 1 if shared else _SHARERS)
    else:
        import fcntl

        fcntl.flock(handle, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
