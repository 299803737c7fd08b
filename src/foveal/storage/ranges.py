"""Large objects that are read through ranges, in parts, as if they were files in memory.

    ~/.cache/foveal/objects/.ranges/train.rec-5d1c0f7a2b3c4d5e/000012      XDG_CACHE_HOME takes the place of ~/.cache

A part is a copy like those of ``cache``: written aside and renamed, counted, and the first to go when it was not read
for the longest time. Where reading goes on from one part to the next, the parts that follow are fetched ahead. The
object's own place holds a hollow file, so that data is recognised by names and sizes as in a folder.
"""

from __future__ import annotations

import functools
import hashlib
import os
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

from foveal.errors import UserError
from foveal.storage import stores
from foveal.storage.address import Address
from foveal.storage.cache import (
    PART,
    RANGES,
    TOGETHER,
    as_number,
    cache_bound,
    count_copy,
    fetch,
    is_current,
    is_whole,
    make_hollow,
    objects_folder,
    place_of,
    put_copy,
    room_left,
    touch,
)
from foveal.storage.objects import StoredObject

AHEAD = 3  # parts
LEAST = 8  # parts that the cache must have room for: those being read, and those ahead
WHOLE_OF_BOUND = 0.5  # share of the cache up to which shards are fetched whole
SEARCHED = 1 << 20  # bytes that are searched at a time
_START_AGAIN = "Start again."

_known: dict[Path, RangedFile] = {}


def whole_bound() -> int:
    """Bytes up to which the shards of a data set are fetched whole: FOVEAL_WHOLE_GB, or half of the cache.

    Raises UserError for a FOVEAL_WHOLE_GB that is no number from 0 on.
    """
    given = os.environ.get("FOVEAL_WHOLE_GB", "")
    if not given:
        return int(cache_bound() * WHOLE_OF_BOUND)
    gigabytes = as_number(given)
    if not 0 <= gigabytes < 1e9:
        raise UserError(
            f"{given!r} is no number of gigabytes",
            "FOVEAL_WHOLE_GB",
            "Give one from 0 on, such as 10; with 0 no shard is fetched whole.",
            setting="FOVEAL_WHOLE_GB",
        )
    return int(gigabytes * 1e9)


def open_ranged(address: Address, there: StoredObject) -> Path:
    """Make an object readable through ranges for this process; returns its place, at which a hollow file stands.

    A whole copy is used where there is one and it may stay; of a server that gives no ranges the object is fetched.

    Raises:
        UserError: when the store can't be reached or refuses, or the cache is too small for some parts.
    """
    place = place_of(address)
    known = _known.get(place)
    if known is not None and known.there == there and is_current(place, there):
        return place
    _known.pop(place, None)
    if is_current(place, there) and is_whole(place) and there.size <= room_left([place]):
        return fetch(address, there)
    least = min(there.size, LEAST * PART)
    if least > room_left():
        raise UserError(
            f"it is read in parts of {PART:,} bytes, {LEAST} of which must have room: the cache has {room_left():,}",
            str(address),
            "Set FOVEAL_CACHE_GB higher.",
        )
    ranged = RangedFile(address, there)
    if not ranged.gives_ranges():
        return fetch(address, there)
    if not is_current(place, there):
        make_hollow(place, there)
    _known[place] = ranged
    return place


def part_size() -> int:
    """Bytes of a range that is asked for."""
    return PART


def close_ranged(place: Path) -> None:
    """Let what stands at a place be a file again."""
    _known.pop(place, None)


def ranged_file(path: Path) -> RangedFile | None:
    """What reads the object whose place a path is, where this process reads it through ranges."""
    return _known.get(path)


class RangedFile:
    """An object as a buffer: ``len`` and slices, which are bytes. Reading is thread-safe.

    Reading raises UserError when the store can't be reached or refuses, and when the object is another by now.
    """

    def __init__(self, address: Address, there: StoredObject) -> None:
        self.address = address
        self.there = there
        once = "" if there.version else os.urandom(8).hex()  # what a store does not tell apart is not kept
        told = f"{place_of(address)}\0{there.size}\0{there.version}\0{PART}\0{once}"
        digest = hashlib.sha256(told.encode("utf-8", "surrogateescape")).hexdigest()
        self._folder = objects_folder() / RANGES / f"{address.name[:100]}-{digest[:16]}"
        self._lock = threading.Lock()
        self._coming: dict[int, Future[bytes]] = {}
        self._ahead: set[int] = set()  # parts fetched ahead and not read yet

    def __len__(self) -> int:
        return self.there.size

    def __getitem__(self, wanted: slice) -> bytes:
        start, stop, step = wanted.indices(len(self))
        assert step == 1
        pieces: list[bytes] = []
        while start < stop:
            number, offset = divmod(start, PART)
            count = min(stop - start, PART - offset)
            pieces.append(self._read(number, offset, count))
            start += count
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def find(self, wanted: bytes, start: int = 0) -> int:
        """The first byte from ``start`` on where ``wanted`` stands, or -1."""
        while start < len(self):
            found = self[start : start + SEARCHED + len(wanted) - 1].find(wanted)
            if found >= 0:
                return start + found
            start += SEARCHED
        return -1

    def onward(self) -> Callable[[int, int], bytes]:
        """(count, position) -> bytes, fewer at the end: quick where positions go up, for it holds one part in memory.

        For one thread.
        """
        held, first, end = b"", 0, 0

        def read(count: int, position: int) -> bytes:
            nonlocal held, first, end
            if position < first or position + count > end:
                number = position // PART
                if number * PART != first or not held:
                    first = number * PART
                    held = self[first : first + PART]
                    end = first + len(held)
                if position + count > end:
                    return self[position : position + count]
            return held[position - first : position - first + count]

        return read

    def gives_ranges(self) -> bool:
        """Whether the server gives parts: all but some behind http do. Raises UserError as reading does."""
        if not self.address.http or self._place(0).exists():
            return True
        content = self._ask(0, min(PART, len(self)))
        if content is not None:
            self._keep(0, content)
        return content is not None

    def _read(self, number: int, offset: int, count: int) -> bytes:
        content = self._kept(number, offset, count)
        if content is not None:
            if number in self._ahead:
                self._ahead.discard(number)
                self._fetch_ahead(number)
            return content
        coming = self._fetch(number)
        self._ahead.discard(number)
        if number == 0 or self._place(number - 1).exists():
            self._fetch_ahead(number)
        return coming.result()[offset : offset + count]

    def _kept(self, number: int, offset: int, count: int) -> bytes | None:
        """Bytes of a part that is here."""
        place = self._place(number)
        try:
            with place.open("rb", buffering=0) as file:
                file.seek(offset)
                content = file.read(count)
        except FileNotFoundError:
            return None
        with suppress(FileNotFoundError):  # made room for another part meanwhile
            touch(place)
        return content if len(content) == count else None

    def _fetch_ahead(self, number: int) -> None:
        for following in range(number + 1, min(number + AHEAD, (len(self) - 1) // PART) + 1):
            if following not in self._ahead and not self._place(following).exists():
                self._ahead.add(following)
                self._fetch(following)

    def _fetch(self, number: int) -> Future[bytes]:
        """A part that is on its way, asked for once however many want it."""
        with self._lock:
            coming = self._coming.get(number)
            if coming is None:
                coming = self._coming[number] = _pool().submit(self._bring, number)
        return coming

    def _bring(self, number: int) -> bytes:
        try:
            start = number * PART
            stop = min(start + PART, len(self))
            content = self._kept(number, 0, stop - start)  # it came while this was on its way here
            if content is not None:
                return content
            content = self._ask(start, stop)
            if content is None or len(content) != stop - start:
                got = 0 if content is None else len(content)
                what = f"the store gave {got:,} of the {stop - start:,} bytes from {start:,} on"
                raise UserError(what, str(self.address), _START_AGAIN)
            self._keep(number, content)
            return content
        finally:
            with self._lock:
                del self._coming[number]

    def _keep(self, number: int, content: bytes) -> None:
        put_copy(self._place(number), self.there.version, lambda aside: _write(aside, content))
        count_copy(len(content))

    def _ask(self, start: int, stop: int) -> bytes | None:
        try:
            found = stores.read_range(self.address, start, stop)
        except FileNotFoundError:
            told = "there is no such object in the store any more"
            raise UserError(told, str(self.address), _START_AGAIN) from None
        if found is None:
            return None
        if not found[0].is_like(self.there):
            raise UserError("the object has changed since the data was opened", str(self.address), _START_AGAIN)
        return found[1]

    def _place(self, number: int) -> Path:
        return self._folder / f"{number:06d}"


def _write(aside: Path, content: bytes) -> None:
    aside.write_bytes(content)


@functools.cache
def _pool() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(TOGETHER, thread_name_prefix="foveal-parts")
