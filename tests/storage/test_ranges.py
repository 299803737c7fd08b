"""Large objects read through ranges: the right bytes, each part asked for once, within the bound of the cache."""

from __future__ import annotations

import os
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from foveal.errors import UserError
from foveal.storage import cache, ranges, stores
from foveal.storage.address import Address, parse_address
from foveal.storage.ranges import RangedFile

PART = 1000


@pytest.fixture(autouse=True)
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ranges, "PART", PART)


def ranged(address: str) -> RangedFile:
    told = parse_address(address)
    file = ranges.ranged_file(ranges.open_ranged(told, stores.head(told)))
    assert file is not None
    return file


def asked(website: Any) -> list[int]:
    """First bytes of the ranges that were asked for, in order."""
    return [int(each.partition("bytes=")[2].partition("-")[0]) for each in website.asked if "bytes=" in each]


@pytest.fixture
def content() -> bytes:
    return os.urandom(20 * PART + 300)


@pytest.fixture
def file(website: Any, content: bytes) -> RangedFile:
    website.files["/train.rec"] = content
    return ranged(f"{website.url}/train.rec")


def test_slices_are_those_of_the_object(file: RangedFile, content: bytes) -> None:
    assert len(file) == len(content)
    for part in (slice(0, 10), slice(990, 1010), slice(500, 5200), slice(-700, None), slice(7, 7), slice(None)):
        assert file[part] == content[part]
    place = cache.place_of(file.address)
    assert (place.stat().st_size, place.stat().st_blocks) == (len(content), 0)


def test_a_place_within_a_part_and_across_two_is_found(file: RangedFile, content: bytes) -> None:
    for wanted in (content[450:470], content[995:1005], content[-5:], b"nowhere in this object"):
        assert file.find(wanted) == content.find(wanted)
        assert file.find(wanted, 996) == content.find(wanted, 996)


def test_searching_goes_on_over_the_border_of_what_is_searched_at_a_time(
    file: RangedFile, content: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ranges, "SEARCHED", 64)
    for start in (60, 64, 1022, 12_345):
        assert file.find(content[start : start + 8]) == start


def test_reading_onward_asks_for_each_part_once_and_ahead(file: RangedFile, content: bytes, website: Any) -> None:
    read = file.onward()
    got = b"".join(read(70, position) for position in range(0, len(content), 70))
    assert got == content
    assert sorted(asked(website)) == list(range(0, len(content), PART))


def test_threads_that_want_one_part_ask_for_it_once(file: RangedFile, content: bytes, website: Any) -> None:
    with ThreadPoolExecutor(8) as pool:
        starts = [17 * number % len(content) for number in range(2000)]
        assert list(pool.map(lambda start: file[start : start + 40], starts)) == [
            content[start : start + 40] for start in starts
        ]
    assert sorted(asked(website)) == list(range(0, len(content), PART))


def test_parts_stay_for_the_next_process(file: RangedFile, content: bytes, website: Any) -> None:
    assert file[:] == content
    website.asked.clear()
    ranges._known.clear()
    assert ranged(str(file.address))[:] == content
    assert asked(website) == []


def test_the_cache_keeps_to_its_bound(website: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ranges, "PART", 4096)  # what a file takes on disk at least
    monkeypatch.setenv("FOVEAL_CACHE_GB", "0.00005")
    monkeypatch.setattr(cache, "RECENT", -1)
    website.files["/train.rec"] = content = os.urandom(80_000)
    file = ranged(f"{website.url}/train.rec")
    for _ in range(2):
        for start in range(0, len(content), 1000):
            assert file[start : start + 1000] == content[start : start + 1000]
            kept = sum(taken for _, taken, _ in cache._copies(cache.objects_folder()))
            assert kept <= 50_000 + 4 * 4096  # those that come in at the same time
    assert 20 < len(asked(website)) <= 41  # all of them in each pass, for what came first has made room


def test_an_object_that_changed_is_told(file: RangedFile, content: bytes, website: Any) -> None:
    assert file[:10] == content[:10]
    website.files["/train.rec"] = os.urandom(len(content))
    with pytest.raises(UserError) as caught:
        file[15_000:15_010]
    assert str(caught.value) == f"{file.address}: the object has changed since the data was opened\nStart again."


def test_an_object_that_went_away_is_told(file: RangedFile, website: Any) -> None:
    del website.files["/train.rec"]
    with pytest.raises(UserError) as caught:
        file[15_000:15_010]
    assert str(caught.value) == f"{file.address}: there is no such object in the store any more\nStart again."


def test_another_version_is_another_file(file: RangedFile, content: bytes, website: Any) -> None:
    assert file[:] == content
    website.files["/train.rec"] = b"z" * len(content)
    assert ranged(str(file.address))[:30] == b"z" * 30


def test_a_server_without_ranges_is_fetched_whole(website: Any, content: bytes) -> None:
    website.ranges = False
    website.files["/train.rec"] = content
    address = parse_address(f"{website.url}/train.rec")
    place = ranges.open_ranged(address, stores.head(address))
    assert ranges.ranged_file(place) is None
    assert place.read_bytes() == content


def test_a_copy_that_is_here_whole_is_used(bucket: Any) -> None:
    address = parse_address(bucket.put("train.rec", b"r" * 5000))
    cache.fetch(address)
    place = ranges.open_ranged(address, stores.head(address))
    assert (ranges.ranged_file(place), cache.is_whole(place)) == (None, True)


def test_a_torn_part_is_fetched_again(file: RangedFile, content: bytes) -> None:
    assert file[:] == content
    for part in cache.objects_folder().rglob("000003"):
        part.write_bytes(b"")
    assert file[2900:4100] == content[2900:4100]


def test_a_cache_without_room_for_parts_is_told(website: Any, content: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    website.files["/train.rec"] = content
    monkeypatch.setenv("FOVEAL_CACHE_GB", "0.000008")
    with pytest.raises(UserError) as caught:
        ranged(f"{website.url}/train.rec")
    assert str(caught.value) == (
        f"{website.url}/train.rec: it is read in parts of 1,000 bytes, 8 of which must have room: the cache has 7,200\n"
        "Set FOVEAL_CACHE_GB higher."
    )


@pytest.mark.parametrize("given", ["much", "-1", "nan"])
def test_a_bound_of_what_is_fetched_whole_that_is_no_number_is_told(
    given: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FOVEAL_WHOLE_GB", given)
    with pytest.raises(UserError) as caught:
        ranges.whole_bound()
    told = f"FOVEAL_WHOLE_GB: {given!r} is no number of gigabytes"
    assert str(caught.value) == f"{told}\nGive one from 0 on, such as 10; with 0 no shard is fetched whole."


def test_shards_up_to_half_of_the_cache_are_fetched_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FOVEAL_CACHE_GB", "8")
    assert ranges.whole_bound() == 4_000_000_000
    monkeypatch.setenv("FOVEAL_WHOLE_GB", "0")
    assert ranges.whole_bound() == 0


def test_a_store_that_breaks_off_while_reading_ahead_is_told_to_who_reads(
    file: RangedFile, content: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = stores.read_range

    def breaks(address: Address, start: int, stop: int) -> Any:
        if start >= 2000:
            raise UserError("the store doesn't answer as it should", str(address), "")
        return read(address, start, stop)

    monkeypatch.setattr(stores, "read_range", breaks)
    assert file[1000:1999] == content[1000:1999]
    with pytest.raises(UserError, match="doesn't answer"):
        file[2000:2010]
    monkeypatch.setattr(stores, "read_range", read)
    assert file[2000:2010] == content[2000:2010]
    assert threading.active_count() < 50
