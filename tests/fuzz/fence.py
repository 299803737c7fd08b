"""A fence around a folder: nothing is changed outside it, and what lies there can't be seen."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

_CODE = (sys.prefix, sys.base_prefix, str(Path(__file__).resolve().parents[2] / "src"), "/proc/self/")
_CHANGES = {
    "os.mkdir", "os.rename", "os.link", "os.symlink", "os.remove", "os.rmdir", "os.truncate", "os.chmod", "os.utime",
}  # fmt: skip
_LISTINGS = {"os.listdir", "os.scandir"}
_fenced: list[str] = []  # the folder, while there is one
_hooked: list[bool] = []


class Escaped(BaseException):
    """Something outside the folder was about to be changed."""


@contextmanager
def fenced(folder: Path) -> Iterator[None]:
    """While this lasts, changing something outside ``folder`` raises Escaped, and reading there PermissionError.

    Symbolic links aren't made inside either. Python's own files can be read.
    """
    if not _hooked:
        sys.addaudithook(_audit)  # can't be taken away again; it does nothing while nothing is fenced
        _hooked.append(True)
    _fenced[:] = [os.path.realpath(folder)]
    try:
        yield
    finally:
        _fenced.clear()


@contextmanager
def unfenced() -> Iterator[None]:
    """Open the fence for what the test itself does."""
    before = list(_fenced)
    _fenced.clear()
    try:
        yield
    finally:
        _fenced[:] = before


def _audit(event: str, args: tuple[Any, ...]) -> None:
    if not _fenced or not (event == "open" or event in _CHANGES or event in _LISTINGS):
        return
    named = args[: 2 if event in ("os.rename", "os.link", "os.symlink") else 1]
    paths = [os.fsdecode(each) for each in named if isinstance(each, str | bytes | os.PathLike)]
    reads = event in _LISTINGS
    if event == "open":
        reads = not args[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)
        if reads and paths and paths[0].startswith(_CODE):
            return
    outside = next((path for path in paths if not _inside(path)), None)
    if outside is not None and reads:
        raise PermissionError(13, "outside the fence", outside)
    if outside is not None or event == "os.symlink":
        raise Escaped(f"{event} of {outside or paths}")


def _inside(path: str) -> bool:
    """Whether a path is in the folder, in which there are no symbolic links. What has a NUL byte is nowhere."""
    if "\0" in path or (path.startswith(_fenced[0] + os.sep) and ".." not in path):
        return True
    whole = os.path.abspath(path)
    return whole == _fenced[0] or whole.startswith(_fenced[0] + os.sep)
