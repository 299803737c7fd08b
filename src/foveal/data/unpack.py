"""Archives of data, unpacked once into the user's cache folder and used from there.

    ~/.cache/foveal/unpacked/photos-1f8a90c2b7d3/      XDG_CACHE_HOME takes the place of ~/.cache

The name tells the archive's path, size and time of change, so that a changed archive is unpacked anew. What stands
under such a name is whole: it was written aside and renamed. The folder can be deleted at any time.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from itertools import islice
from pathlib import Path

from foveal.errors import UserError
from foveal.files import lock, sync
from foveal.formats.archive import archive_suffix, extract, member_names
from foveal.formats.pictures import is_hidden, is_picture_name
from foveal.formats.splits import SPLITS, split_in_name
from foveal.progress import track

_KEPT_FREE = 64 << 20  # bytes of the disk that are left to others
_TICK = 1_000_000  # bytes: progress counts megabytes
_ASIDE = ".part"
_ELSEWHERE = "Let XDG_CACHE_HOME name a folder on a disk where that works."
_LOOKED_AT = 1000  # members that tell what an archive holds


def unpacked(path: Path, said: list[str]) -> Path:
    """The folder with an archive's content; where it holds nothing but one folder, that one.

    Several processes may ask at once: one unpacks, the others wait for it. What a killed one left is removed.

    Raises:
        UserError: for an archive that can't be unpacked (see ``extract``), and a cache folder that can't be written.
    """
    target = unpacked_folder(path)
    try:
        before = target.is_dir()
        if not before:
            _unpack(path, target)
    except OSError as error:
        raise UserError(
            f"can't be written: {error.strerror}", str(error.filename or target.parent), _ELSEWHERE
        ) from error
    said.append(f"{path.name} is unpacked in {target}" + (", from an earlier time" if before else ""))
    return _inner(target, _stem(path))


def contents(path: Path, said: list[str]) -> Path:
    """``path``, or where an archive's content lies once it is unpacked."""
    return unpacked(path, said) if archive_suffix(path) and path.is_file() else path


def is_packed_data(path: Path) -> bool:
    """Whether a file is an archive in which a picture or records come before anything that a model has."""
    if not archive_suffix(path) or not path.is_file():
        return False
    for name in islice(member_names(path), _LOOKED_AT):
        if name.rpartition("/")[2] == "foveal.json":
            return False
        if is_picture_name(name) or name.lower().endswith((".rec", ".lst")):
            return True
    return False


def pictures_beside(listing: Path, said: list[str]) -> Path | None:
    """The content of an archive that has a list's, table's or COCO file's name, or its split in its name.

    None where there is no such archive, or the pictures may lie in a folder of that name.
    """
    try:
        split = split_in_name(listing)
        for archive in sorted(listing.parent.iterdir()):
            stem = _stem(archive)
            if not archive_suffix(archive) or not archive.is_file():
                continue
            same = stem == listing.stem or (split is not None and SPLITS.get(stem.lower()) == split)
            if same and not (listing.parent / stem).is_dir():
                return unpacked(archive, said)
    except OSError:
        return None
    return None


def unpacked_folder(path: Path) -> Path:
    """Where the content of an archive, as it is now, lies or will lie. Raises UserError when it can't be looked at."""
    try:
        found = path.stat()
    except OSError as error:
        raise UserError(
            f"can't be opened: {error.strerror}", str(path), "Check the path and who may read it."
        ) from error
    told = f"{path.resolve()}\0{found.st_size}\0{found.st_mtime_ns}"
    digest = hashlib.sha256(told.encode("utf-8", "surrogateescape")).hexdigest()
    return cache_folder() / f"{_stem(path)[:40]}-{digest[:12]}"


def cache_folder() -> Path:
    """``foveal/unpacked`` in the user's cache folder."""
    given = os.environ.get("XDG_CACHE_HOME", "")
    return (Path(given) if os.path.isabs(given) else Path.home() / ".cache") / "foveal" / "unpacked"


def _unpack(path: Path, target: Path) -> None:
    locks = target.parent / ".locks"
    told = False
    with ExitStack() as stack:
        while True:
            try:
                stack.enter_context(lock(locks / target.name, "another process unpacks this archive"))
                break
            except UserError as error:
                cause = error.__cause__
                if isinstance(cause, OSError) and not isinstance(cause, BlockingIOError | PermissionError):
                    raise UserError(f"no file can be locked: {cause.strerror}", str(locks), _ELSEWHERE) from error
                if not told:
                    print(f"waiting for another process that unpacks {path.name}", file=sys.stderr, flush=True)
                told = True
                time.sleep(0.2)
        if target.is_dir():
            return
        _sweep(target.parent, locks, target.name)
        aside = target.with_name(f".{target.name}{_ASIDE}")
        aside.mkdir()
        try:
            free = shutil.disk_usage(aside).free - _KEPT_FREE
            total = -(-path.stat().st_size // _TICK)
            for _ in track(_ticks(extract(path, aside, free)), total, f"unpacking {path.name} (MB)"):
                pass
            if hasattr(os, "sync"):
                os.sync()
            aside.rename(target)
            sync(target.parent)
        finally:
            shutil.rmtree(aside, ignore_errors=True)


def _ticks(positions: Iterator[int]) -> Iterator[int]:
    """A number for each megabyte that is gone through."""
    done = 0
    for position in positions:
        while done < position // _TICK:
            done += 1
            yield done


def _sweep(folder: Path, locks: Path, own: str) -> None:
    """Remove what killed processes left: of this archive, whose lock is held, and of those that nobody unpacks."""
    for aside in sorted(folder.glob(f".*{_ASIDE}")):
        name = aside.name[1 : -len(_ASIDE)]
        if name == own:
            shutil.rmtree(aside)
            continue
        try:
            with lock(locks / name, "it is being unpacked"):
                shutil.rmtree(aside)
        except UserError:
            continue


def _stem(path: Path) -> str:
    return path.name[: len(path.name) - len(archive_suffix(path))]


def _inner(folder: Path, stem: str) -> Path:
    """``folder``, or the folder that is all it holds, as ``photos/`` in photos.zip or ``test/`` in anything.

    One of another name that holds nothing but pictures isn't entered: it may be a class.
    """
    while True:
        there = [entry for entry in folder.iterdir() if not is_hidden(entry.name)]
        if len(there) != 1 or not there[0].is_dir():
            return folder
        no_class = there[0].name.lower() in (stem.lower(), *SPLITS)
        if not no_class and all(is_picture_name(each.name) and each.is_file() for each in there[0].iterdir()):
            return folder
        folder = there[0]
