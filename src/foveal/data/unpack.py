"""Archives of data, unpacked once into the user's cache folder and used from there.

    ~/.cache/foveal/unpacked/photos-1f8a90c2b7d3/      XDG_CACHE_HOME takes the place of ~/.cache

The name tells the archive's path, size and time of change, so that a changed archive is unpacked anew. What stands
under such a name is whole: it was written aside and renamed. All of them take FOVEAL_CACHE_GB at most (20): when one
comes in, those that were not opened for the longest time go, but none that a running process has opened.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from itertools import islice
from pathlib import Path

from foveal.errors import UserError
from foveal.files import lock, sync
from foveal.formats.archive import archive_suffix, extract, member_names
from foveal.formats.pictures import is_hidden, is_picture_name
from foveal.formats.splits import SPLITS, split_in_name
from foveal.progress import track
from foveal.storage.cache import cache_bound

_KEPT_FREE = 64 << 20  # bytes of the disk that are left to others
_TICK = 1_000_000  # bytes: progress counts megabytes
_ASIDE = ".part"
_LOCKS = ".locks"
_ELSEWHERE = "Let XDG_CACHE_HOME name a folder on a disk where that works."
_LOOKED_AT = 1000  # members that tell what an archive holds

_held: dict[Path, ExitStack] = {}  # what this process has opened, and the locks that keep others from removing it


def unpacked(path: Path, said: list[str]) -> Path:
    """The folder with an archive's content; where it holds nothing but one folder, that one.

    Several processes may ask at once: one unpacks, the others wait for it. What a killed one left is removed. The
    folder stays while this process runs.

    Raises:
        UserError: for an archive that can't be unpacked (see ``extract``), and a cache folder that can't be written.
    """
    target = unpacked_folder(path)
    try:
        _hold(target)
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
    locks = target.parent / _LOCKS
    with ExitStack() as stack:
        _lock(stack, locks / target.name, f"unpacks {path.name}")
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
    _make_room(target.parent)


def _lock(stack: ExitStack, folder: Path, what: str, *, shared: bool = False) -> None:
    """Hold a lock until ``stack`` ends; waits for the process that ``what`` tells of.

    Raises UserError where nothing can be locked.
    """
    told = False
    while True:
        try:
            stack.enter_context(lock(folder, "another process " + what, shared=shared))
            return
        except UserError as error:
            cause = error.__cause__
            if isinstance(cause, OSError) and not isinstance(cause, BlockingIOError | PermissionError):
                told_why = f"no file can be locked: {cause.strerror}"
                raise UserError(told_why, str(folder.parent), _ELSEWHERE) from error
            if not told:
                print(f"waiting for another process that {what}", file=sys.stderr, flush=True)
            told = True
            time.sleep(0.2)


def _uses(tree: Path) -> Path:
    """The folder whose lock those share that have opened a tree; its time of change is that of the last opening."""
    return tree.parent / _LOCKS / f"{tree.name}.used"


def _hold(tree: Path) -> None:
    """Keep a tree, there already or soon to be, from being removed while this process runs."""
    if tree not in _held or not _uses(tree).is_dir():  # the cache may have been deleted since
        stack = ExitStack()
        _lock(stack, _uses(tree), f"removes {tree}", shared=True)
        _held[tree] = stack
    os.utime(_uses(tree))


def _make_room(folder: Path) -> None:
    """Remove trees that nobody has open, the longest unopened first, until all take no more than they may."""
    bound = cache_bound()
    trees = []
    for tree in folder.iterdir():
        if not tree.name.startswith(".") and tree.is_dir():
            with suppress(FileNotFoundError):  # removed by another process meanwhile
                used = _uses(tree) if _uses(tree).is_dir() else tree
                trees.append((used.stat().st_mtime, tree, _size(tree)))
    total = sum(size for _, _, size in trees)
    for _, tree, size in sorted(trees):
        if total > bound and _remove(tree):
            total -= size


def _size(tree: Path) -> int:
    """Bytes of all files below a folder."""
    return sum(os.lstat(os.path.join(folder, name)).st_size for folder, _, names in os.walk(tree) for name in names)


def _remove(tree: Path) -> bool:
    """Remove a tree unless a process, this one included, has it open. Returns whether it is gone."""
    try:
        with lock(tree.parent / _LOCKS / tree.name, "it is unpacked"), lock(_uses(tree), "it is in use"):
            if tree.is_dir():
                gone = tree.with_name(f".{tree.name}{_ASIDE}")
                tree.rename(gone)
                shutil.rmtree(gone)
            return True
    except UserError:
        return False


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
