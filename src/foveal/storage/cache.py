"""Copies of objects on disk, in a folder for each store that looks as the store does:

    ~/.cache/foveal/objects/s3/bucket/photos/cat/1.jpg      XDG_CACHE_HOME takes the place of ~/.cache

A copy has its object's size, and its time of change holds the object's version. It is whole, or *hollow*: a file of
that size which holds nothing (sparse, no disk space where the file system knows such files) and is filled when it is
read. Whole copies take FOVEAL_CACHE_GB at most (20); those that were not read for the longest time are hollowed.
Copies are written aside and renamed; large ones are fetched in parts, and a later call goes on with them.
"""

from __future__ import annotations

import functools
import hashlib
import math
import os
import re
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import BinaryIO

from foveal.errors import BadPicture, UserError
from foveal.files import lock
from foveal.storage import stores
from foveal.storage.address import Address, is_address, parse_address
from foveal.storage.credentials import s3_endpoint
from foveal.storage.objects import StoredObject

BOUND_GB = 20.0  # unless FOVEAL_CACHE_GB says otherwise
PART = 16 << 20  # bytes of a request; larger objects are fetched in parts
TOGETHER = 4  # parts at a time
KEPT_OF_BOUND = 0.9  # how full the cache is after making room
OLD_PART = 7 * 24 * 3600  # seconds after which a part that nobody went on with is removed
LOOK = 64  # first bytes of a file that tell a hollow one; no file that we read begins with so many zeros
RECENT = 60  # seconds in which a copy's time of reading is not written anew
_PARTS = ".parts"
RANGES = ".ranges"  # folder of the parts that ``storage/ranges.py`` keeps: each is a copy of its own
_UNFINISHED = re.compile(r"\.[0-9a-f]+\.[0-9]+\.part")
_TAG = re.compile(r"@[0-9a-f]{8}")

_lock = threading.Lock()
_used: dict[Path, int] = {}  # bytes of whole copies by cache folder, as this process knows
_checked: set[Path] = set()  # copies that were compared with the store in this process
_needed: dict[Path, int] = {}  # copies that stay whole while this process runs, and their bytes
_needed_in: dict[Path, int] = {}  # bytes of these by cache folder


def objects_folder() -> Path:
    """Where copies lie."""
    return _folder(os.environ.get("XDG_CACHE_HOME", ""), os.environ.get("HOME"))


@functools.cache
def _folder(given: str, home: str | None) -> Path:
    """Asked for with every picture that is read."""
    return (Path(given) if os.path.isabs(given) else Path.home() / ".cache") / "foveal" / "objects"


def cache_bound() -> int:
    """Bytes that whole copies may take. Raises UserError for a FOVEAL_CACHE_GB that is no positive number."""
    given = os.environ.get("FOVEAL_CACHE_GB", "")
    gigabytes = as_number(given) if given else BOUND_GB
    if not 0 < gigabytes < 1e9:
        raise UserError(
            f"{given!r} is no size of a cache",
            "FOVEAL_CACHE_GB",
            "Give gigabytes above 0, such as 50.",
            setting="FOVEAL_CACHE_GB",
        )
    return int(gigabytes * 1e9)


def as_number(given: str) -> float:
    """A number as an environment variable has it, or NaN."""
    try:
        return float(given)
    except ValueError:
        return math.nan


def place_of(address: Address) -> Path:
    """Where the copy of an object, or of the folder that a prefix is, lies.

    Raises:
        UserError: when the key is no path below a folder.
    """
    told, _, query = address.key.partition("?") if address.http else (address.key, "", "")
    told = told.strip("/")
    parts = told.split("/") if told else []
    if any(part in ("", ".", "..") or "\0" in part for part in parts) or address.bucket in (".", ".."):
        raise UserError(
            "this key can't be the name of a file", str(address), "No part of a key may be empty, . or .. here."
        )
    apart = query if address.http else s3_endpoint() if address.scheme == "s3" else ""
    tag = "@" + hashlib.sha256(apart.encode()).hexdigest()[:8] if apart else ""
    return objects_folder().joinpath(address.scheme + tag, address.bucket or "_", *parts)


def address_at(path: Path) -> Address | None:
    """The address whose copy a file is; None for files outside the cache."""
    root = f"{objects_folder()}{os.sep}"
    text = str(path)
    if not text.startswith(root):
        return None
    scheme, _, rest = Path(text[len(root) :]).as_posix().partition("/")
    bucket, _, key = rest.partition("/")
    return Address(_TAG.sub("", scheme), "" if bucket == "_" else bucket, key)


def named(text: str) -> str:
    """A text in which the places of copies are given as their addresses."""
    root = f"{objects_folder()}{os.sep}"
    if root not in text:
        return text
    return re.sub(re.escape(root) + r"([a-z][a-z0-9+.-]*)(?:@[0-9a-f]{8})?[/\\]_?", r"\1://", text)


def read_file(path: Path) -> bytes:
    """The content of a file; a hollow copy is filled from its store first.

    Raises:
        OSError: when the file can't be read. BadPicture: when the object is gone, or is another by now.
        UserError: when the store can't be reached or refuses.
    """
    content = path.read_bytes()
    address = address_at(path)
    if address is None:
        return content
    if any(content[:LOOK]) or not content:
        touch(path)
        return content
    stat = path.stat()
    return _fill(address, path, StoredObject(address.key, stat.st_size, stat.st_mtime_ns))


def read_address(address: str | Path, where: str = "") -> bytes:
    """One object's content, from its copy where there is one; a copy is compared with the store once a process.

    Args:
        address: ``s3://bucket/key``, or of another scheme.
        where: what names the address, such as ``train.manifest, line 3``, for messages.

    Raises:
        BadPicture: when there is no such object, or it has more than 1 GiB. UserError: when the store can't be reached
            or refuses.
    """
    told = parse_address(address)
    place = place_of(told)
    try:
        if not place.is_file():
            return _fill(told, place, None)
        if place not in _checked:
            _compare(told, place)
        return read_file(place)
    except FileNotFoundError:
        raise BadPicture(f"there is no such object in the store: {told}", where or str(told)) from None
    except BadPicture as error:
        raise BadPicture(error.what, where or error.where, error.remedy) from error


def fetch(address: Address, found: StoredObject | None = None) -> Path:
    """A whole copy of an object, which stays whole while this process runs.

    Args:
        found: what the store's list says of it; the store is asked when left out.

    Raises:
        UserError: when there is no such object, the store can't be reached or refuses, or the cache is too small.
    """
    place = place_of(address)
    try:
        there = found or stores.head(address)
        _need(place, there, address)
        if is_current(place, there) and is_whole(place):
            touch(place)
        elif there.size <= PART:
            _fill(address, place, there)
        else:
            _fetch_parts(address, place, there)
    except FileNotFoundError:
        raise stores.no_object(address) from None
    _checked.add(place)
    return place


def room_left(but: Iterable[Path] = ()) -> int:
    """Bytes that the cache may take beside what must stay whole, these copies left out."""
    held = _needed_in.get(objects_folder(), 0) - sum(_needed.get(place, 0) for place in but)
    return int(cache_bound() * KEPT_OF_BOUND) - held


def expect_room(size: int, what: str, address: Address) -> None:
    """Raises UserError when so many bytes, told of as ``what``, can't stay whole beside what must already."""
    limit = int(cache_bound() * KEPT_OF_BOUND)
    held = _needed_in.get(objects_folder(), 0)
    if size > room_left():
        beside = f" beside {held:,} of other files" if held else ""
        raise UserError(
            f"{what}, and they must be here whole{beside}: the cache has room for {limit:,}",
            str(address),
            "Set FOVEAL_CACHE_GB higher, or copy the data to a disk and name it there.",
        )


def _need(place: Path, there: StoredObject, address: Address) -> None:
    root = objects_folder()
    with _lock:
        before = _needed.get(place, 0)
        expect_room(there.size - before, f"it has {there.size:,} bytes", address)
        _needed[place] = there.size
        _needed_in[root] = _needed_in.get(root, 0) + there.size - before


def is_current(place: Path, there: StoredObject) -> bool:
    """Whether a copy, whole or hollow, is of what the store has."""
    try:
        stat = place.stat()
    except OSError:
        return False
    return stat.st_size == there.size and stat.st_mtime_ns == there.version and there.version != 0


def is_whole(place: Path) -> bool:
    """Whether a copy holds its object's content."""
    with place.open("rb") as file:
        start = file.read(LOOK)
    return any(start) or not start


def make_hollow(place: Path, there: StoredObject) -> None:
    """Put a file in a copy's place that has its size and version and holds nothing."""

    def write(path: Path, mode: str = "wb") -> None:
        with path.open(mode) as file:
            file.truncate(there.size)

    try:
        write(
            place, "xb"
        )  # where nothing is, nothing needs to be kept until the file is ready: half of it is hollow too
        os.utime(place, ns=(time.time_ns(), there.version))
    except OSError:  # there is a copy, or no folder yet; of what else is wrong the long way tells
        put_copy(place, there.version, write)


def ahead(names: Iterable[str], workers: int = 8) -> Iterator[str]:
    """Pass names on; the objects of those that are addresses are read into the cache some time before they are due.

    What can't be read is not told here: whoever reads it then is.
    """
    with ThreadPoolExecutor(workers, thread_name_prefix="foveal-ahead") as pool:
        waiting: deque[tuple[str, Future[bytes] | None]] = deque()
        try:
            for name in names:
                waiting.append((name, pool.submit(read_address, name) if is_address(name) else None))
                if len(waiting) > 2 * workers:
                    yield _due(*waiting.popleft())
            while waiting:
                yield _due(*waiting.popleft())
        finally:
            pool.shutdown(cancel_futures=True)


def _due(name: str, reading: Future[bytes] | None) -> str:
    if reading is not None:
        reading.exception()  # waits
    return name


def _compare(address: Address, place: Path) -> None:
    """Hollow a copy of what the store has no longer."""
    there = stores.head(address)
    if not is_current(place, there):
        make_hollow(place, there)
    _checked.add(place)


def _fill(address: Address, place: Path, expected: StoredObject | None) -> bytes:
    """Read an object, keep a copy, and return its content.

    Raises:
        BadPicture: when it is gone, is not what was ``expected``, or is too large. UserError: for the store's troubles.
        FileNotFoundError: when it is not there, and nothing was expected.
    """
    try:
        if expected is None and (there := stores.head(address)).size > PART:
            expected = there
        if expected is not None and expected.size > stores.LARGEST_READ:
            raise BadPicture(f"{expected.size:,} bytes are no picture", str(address))
        there, content = stores.read_all(address)
    except FileNotFoundError:
        if expected is None:
            raise
        raise BadPicture("there is no such object in the store any more", str(address)) from None
    if expected is not None and not there.is_like(expected):
        raise BadPicture("the object has changed since the data was opened", str(address), "Start again.")
    if len(content) != there.size:
        raise BadPicture(f"the store gave {len(content):,} of {there.size:,} bytes", str(address))
    put_copy(place, (expected or there).version, lambda aside: _write(aside, content))
    _checked.add(place)
    count_copy(there.size)
    return content


def _write(aside: Path, content: bytes) -> None:
    aside.write_bytes(content)


def put_copy(place: Path, version: int, write: Callable[[Path], None]) -> None:
    """Let ``write`` make a copy aside, give it its object's version, and put it in its place. Raises UserError."""
    aside = place.with_name(f".{threading.get_ident():x}.{os.getpid()}.part")
    try:
        _make_folder(place.parent)
        try:
            write(aside)
            os.utime(aside, ns=(time.time_ns(), version))
            os.replace(aside, place)
        finally:
            aside.unlink(missing_ok=True)
    except OSError as error:
        raise _no_room(error) from error


def _make_folder(folder: Path) -> None:
    """Stores have empty objects that stand for folders: a file of such a name makes room."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError):
        taken = next((each for each in (folder, *folder.parents) if each.is_file()), folder)
        address = address_at(taken)
        if address is None:
            raise
        if taken.stat().st_size:
            remedy = "Rename it: on disk a name is a file or a folder."
            raise UserError("the name of this object is that of a folder too", str(address), remedy) from None
        taken.unlink()
        _make_folder(folder)


def _no_room(error: OSError) -> UserError:
    return UserError(
        f"copies of objects can't be written: {error.strerror}",
        str(objects_folder()),
        "Make room there, set FOVEAL_CACHE_GB lower, or let XDG_CACHE_HOME name another folder.",
    )


def touch(place: Path) -> None:
    """Note that a copy was read."""
    stat = place.stat()
    if time.time() - stat.st_atime > RECENT:
        os.utime(place, ns=(time.time_ns(), stat.st_mtime_ns))


def _fetch_parts(address: Address, place: Path, there: StoredObject) -> None:
    """Fetch a large object part by part into a file that a later call goes on with, whichever process makes it."""
    digest = hashlib.sha256(f"{place}\0{there.size}\0{there.version}".encode("utf-8", "surrogateescape")).hexdigest()
    folder = objects_folder() / _PARTS / digest[:24]
    with _alone(folder):
        if is_current(place, there) and is_whole(place):  # another process was quicker
            return
        part = folder / "part"
        try:
            if there.version == 0:  # the store doesn't tell whether it is still the same
                part.unlink(missing_ok=True)
            _fetch_ranges(address, part, there)
            _make_folder(place.parent)
            os.utime(part, ns=(time.time_ns(), there.version))
            os.replace(part, place)
        except FileNotFoundError:
            raise
        except OSError as error:
            raise _no_room(error) from error
    count_copy(there.size)


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Hold a folder's lock, waiting for whoever holds it."""
    with ExitStack() as stack:
        while True:
            try:
                stack.enter_context(lock(folder, "another process fetches this object"))
                break
            except UserError:  # its only one: another holds it
                time.sleep(0.2)
        yield


def _fetch_ranges(address: Address, part: Path, there: StoredObject) -> None:
    def one(start: int) -> bytes | None:
        found = stores.read_range(address, start, min(start + PART, there.size))
        if found is not None and not found[0].is_like(there):
            part.unlink(missing_ok=True)
            raise UserError("the object changed while it was fetched", str(address), "Start again.")
        return found[1] if found is not None else None

    with part.open("ab") as file, ThreadPoolExecutor(TOGETHER) as pool:
        file.truncate(file.tell() // PART * PART)  # what a killed process had not finished writing
        starts = range(file.tell(), there.size, PART)
        for first in range(0, len(starts), TOGETHER):
            for content in pool.map(one, starts[first : first + TOGETHER]):
                if content is None:
                    _fetch_stream(address, file)
                    break
                file.write(content)
                file.flush()
            else:
                continue
            break
    got = part.stat().st_size
    if got != there.size:
        part.unlink()
        raise UserError(f"the store gave {got:,} of {there.size:,} bytes", str(address), "Start again.")


def _fetch_stream(address: Address, file: BinaryIO) -> None:
    """Where the server gives no ranges, from the start in one go."""
    file.truncate(0)
    file.writelines(stores.stream(address))


def count_copy(size: int) -> None:
    """Add a copy to what is known of the cache, and make room when it holds more than it may."""
    root, bound = objects_folder(), cache_bound()
    with _lock:
        if root not in _used:
            _used[root] = sum(bytes_on_disk for _, bytes_on_disk, _ in _copies(root))
        else:
            _used[root] += size
        if _used[root] > bound:
            _used[root] = _make_room(root, int(bound * KEPT_OF_BOUND))


def _make_room(root: Path, goal: int) -> int:
    """Hollow the copies that were not read for the longest time until ``goal`` bytes are left; returns what is."""
    with _alone(root / _PARTS):
        copies = sorted(_copies(root), key=lambda copy: copy[0])
        total = sum(bytes_on_disk for _, bytes_on_disk, _ in copies)
        for _, bytes_on_disk, place in copies:
            if total <= goal:
                break
            if place in _needed:
                continue
            if _UNFINISHED.fullmatch(place.name) or place.is_relative_to(root / _PARTS):
                if time.time() - place.stat().st_mtime < OLD_PART:
                    continue
                place.unlink()
            elif place.is_relative_to(root / RANGES):
                try:
                    place.unlink(missing_ok=True)
                except PermissionError:  # Windows removes no file that is being read
                    continue
            else:
                stat = place.stat()
                make_hollow(place, StoredObject("", stat.st_size, stat.st_mtime_ns))
            total -= bytes_on_disk
        return total


def _copies(root: Path) -> Iterator[tuple[float, int, Path]]:
    """Time of reading, bytes on disk and place of everything that takes room."""
    for folder, _, names in os.walk(root):
        for name in names:
            place = Path(folder, name)
            try:
                stat = place.stat()
            except FileNotFoundError:  # put in its place, or removed, by another process
                continue
            taken = stat.st_blocks * 512 if hasattr(stat, "st_blocks") else stat.st_size
            if taken:
                yield stat.st_atime, taken, place
