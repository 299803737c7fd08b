"""Data at an address, opened as if it lay on disk.

What lies below an address gets a folder among the copies of ``storage/cache.py``: lists, annotations, records and
archives are fetched, pictures are hollow files that are filled when they are read. So every form opens it as it opens
a folder. Shards (``.rec``, and WebDataset's ``.tar``) that would take too much of the cache are read through ranges
(``storage/ranges.py``).
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

from foveal.errors import UserError
from foveal.formats.pictures import is_hidden, is_picture_name
from foveal.formats.webdataset import looks_like_webdataset
from foveal.progress import track
from foveal.storage import stores
from foveal.storage.address import Address, is_address, parse_address
from foveal.storage.cache import expect_room, fetch, is_current, make_hollow, named, place_of, room_left
from foveal.storage.objects import StoredObject
from foveal.storage.ranges import close_ranged, open_ranged, part_size, ranged_file, whole_bound

ALONE = (".rec", ".zip", ".tar", ".tgz", ".gz", ".xz", ".bz2")  # files that need none beside them
FETCHED = frozenset((
    ".rec", ".idx", ".lst", ".csv", ".tsv", ".json", ".jsonl", ".manifest", ".xml", ".txt", ".yaml", ".yml", ".names",
    ".data", ".zip", ".tar", ".tgz", ".gz", ".xz", ".bz2", ".safetensors",
))  # fmt: skip
"""Suffixes of files that are fetched when data is opened; lower case."""
SHARDS = (".rec", ".tar")  # files of any size, of which every record can be read by itself
FETCHERS = 16  # objects at a time
COMPANIONS = ("classes.txt",)  # what is looked for beside a file that is opened alone


def local(path: str | Path, said: list[str] | None = None) -> Path:
    """Where the data of an address can be opened; a path is given back.

    Args:
        path: a path, a prefix (``s3://bucket/photos/``), or one object; of a list, table or annotation the folder that
            it lies in becomes openable, for it names pictures there.
        said: gets a line that tells what was found and fetched.

    Raises:
        UserError: when nothing is there, the store can't be reached or refuses, or the cache is too small for the files
            that must be here whole.
    """
    if not is_address(path):
        return Path(path)
    address = parse_address(path)
    above = address.at(address.key.rpartition("/")[0])
    if "{" in address.name and not address.http:  # stands for several shards
        _mirror(above, said)
        return place_of(address)
    if _stands_alone(address):
        try:
            there = stores.head(address)
        except FileNotFoundError:
            raise stores.no_object(address) from None
        place = place_of(address) if _range(address, [there], said) else fetch(address, there)
        if not address.http:
            _fetch_companions(address)
        return place
    found = _mirror(address, said)
    if found:
        return place_of(address)
    try:
        there = stores.head(address)
    except FileNotFoundError:
        raise UserError("nothing is there", str(address), "Check bucket and prefix.") from None
    if not is_picture_name(address.name):
        if above.name.lower() == "annotations":  # COCO's, whose pictures lie beside that folder
            above = above.at(above.key.rpartition("/")[0])
        _mirror(above, said)
    return fetch(address, there)


@contextmanager
def told_by_address() -> Iterator[None]:
    """Errors name the addresses of copies, not their places."""
    try:
        yield
    except UserError as error:
        error.what, error.where, error.remedy = named(error.what), named(error.where), named(error.remedy)
        raise


def picture_addresses(path: str | Path) -> list[str]:
    """The addresses of the pictures below a prefix, in order of key; the address itself where it is an object.

    Raises:
        UserError: when nothing is there, or no picture; when the store can't be reached or refuses.
    """
    address = parse_address(path)
    keys = [found.key for found in stores.list_objects(address)]
    if not keys:
        return [str(address)]
    pictures = sorted(key for key in keys if is_picture_name(key) and not is_hidden(key.rpartition("/")[2]))
    if not pictures:
        raise UserError(
            "no pictures below this address", str(address), "Pictures are told by their endings: .jpg, .png, ..."
        )
    return [str(address.at(key)) for key in pictures]


def _stands_alone(address: Address) -> bool:
    if address.http:
        if not address.name:
            raise UserError(
                "http servers have no list of what they hold", str(address), "Name one file: a .rec, a .zip or a .tar."
            )
        return True
    return address.name.lower().endswith(ALONE)


def _fetch_companions(address: Address) -> None:
    """What lies beside a file that is opened alone and has a meaning for it."""
    for name in COMPANIONS:
        beside = address.at("/".join((*address.key.split("/")[:-1], name)))
        try:
            there = stores.head(beside)
        except FileNotFoundError:
            place_of(beside).unlink(missing_ok=True)
        else:
            fetch(beside, there)


def _mirror(address: Address, said: list[str] | None) -> int:
    """Make what lies below an address openable; returns the number of objects."""
    root = place_of(address)
    names: set[str] = set()
    whole: list[StoredObject] = []
    total = 0
    empty: list[str] = []
    for found in stores.list_objects(address):
        place = place_of(address.at(found.key))
        if place == root or (not found.size and place.is_dir()):
            continue  # an empty object that stands for a folder
        if not is_current(place, found):
            _make_way(place, root, names)
            make_hollow(place, found)
        names.add(str(place))
        if not found.size:
            empty.append(str(place))
        total += found.size
        if place.suffix.lower() in FETCHED and not is_hidden(place.name):
            whole.append(found)
    names.difference_update(name for name in empty if os.path.isdir(name))  # a folder by now
    if not names:
        return 0
    _remove_others(root, names)
    ranged = _range(address, whole, said)
    whole = [found for found in whole if found.key not in ranged]
    size = sum(found.size for found in whole)
    expect_room(size, f"its lists, annotations and records have {size:,} bytes", address)
    _fetch_all(address, whole)
    if said is not None:
        told = f"{address}: {len(names):,} object{'s' * (len(names) != 1)}, {_size(total)}"
        told += f"; {len(whole):,} fetched ({_size(size)})" if whole else ""
        left = len(names) - len(whole) - len(ranged)
        said.append(told + (f"; {left:,} to be read when needed" if left else ""))
    return len(names)


def _range(address: Address, objects: Sequence[StoredObject], said: list[str] | None) -> set[str]:
    """Open the shards among objects through ranges, if they are too large to be fetched; returns their keys.

    A tar file that is no WebDataset shard has to be unpacked, and so is left to be fetched; the first one of a folder
    tells what all are.
    """
    shards = [found for found in objects if found.key.partition("?")[0].lower().endswith(SHARDS) and found.size]
    places = [place_of(address.at(found.key)) for found in shards]
    if sum(found.size for found in shards) <= min(whole_bound(), room_left(places)):
        for place in places:
            close_ranged(place)
        return set()
    ranged: list[StoredObject] = []
    webdataset: dict[Path, bool] = {}  # by folder
    for found in sorted(shards, key=lambda each: each.key):
        place = open_ranged(address.at(found.key), found)
        if ranged_file(place) is None:  # it is here whole
            continue
        if place.suffix.lower() == ".tar" and place.parent not in webdataset:
            webdataset[place.parent] = looks_like_webdataset(place)
        if place.suffix.lower() == ".rec" or webdataset[place.parent]:
            ranged.append(found)
        else:
            close_ranged(place)
    if said is not None and ranged:
        size = _size(sum(found.size for found in ranged))
        several = f"{len(ranged):,} shards" if len(ranged) > 1 else "one shard"
        said.append(f"{address}: {several} of {size} read through ranges of {_size(part_size())}, not fetched whole")
    return {found.key for found in ranged}


def _make_way(place: Path, root: Path, names: set[str]) -> None:
    """Take away what was a file and is a folder by now, or the other way round."""
    if place.is_dir():
        shutil.rmtree(place)
    for above in place.parents:
        if above == root.parent or above.is_dir():
            break
        if above.is_file() and str(above) not in names:
            above.unlink()


def _remove_others(root: Path, names: set[str]) -> None:
    """Take copies of what the store no longer has out of the way, and folders that are empty then."""
    for folder, _, files in os.walk(root, topdown=False):
        for name in files:
            place = os.path.join(folder, name)
            if place not in names and not name.startswith("."):
                os.unlink(place)
        if not os.listdir(folder):
            os.rmdir(folder)


def _fetch_all(address: Address, objects: Sequence[StoredObject]) -> None:
    """Fetch what is not here whole yet, and let it stay."""
    some = [found for found in objects if found.size]
    with ThreadPoolExecutor(FETCHERS, thread_name_prefix="foveal-fetch") as pool:
        try:
            done = pool.map(lambda found: fetch(address.at(found.key), found), some)
            for _ in track(done, len(some), f"fetching from {address}"):
                pass
        finally:
            pool.shutdown(cancel_futures=True)


def _size(count: int) -> str:
    for unit, scale in (("GB", 10**9), ("MB", 10**6)):
        if count >= scale:
            return f"{count / scale:.1f} {unit}"
    return f"{count / 1000:.1f} kB"
