"""Copies of objects: whole or hollow, bounded, and never half of one taken for whole."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from foveal.errors import BadPicture, UserError
from foveal.storage import cache, stores
from foveal.storage.address import parse_address

KILLED = """
import sys
from foveal.storage import cache
from foveal.storage.address import parse_address
cache.PART = 1000
cache.TOGETHER = 1
cache.fetch(parse_address(sys.argv[1]))
"""


def parts_left() -> list[Path]:
    return [path for path in cache.objects_folder().rglob("*part") if path.is_file()]


def hollow(address: str) -> Path:
    """What opening a folder makes of a picture."""
    told = parse_address(address)
    cache.make_hollow(cache.place_of(told), stores.head(told))
    return cache.place_of(told)


def kept() -> int:
    """Bytes on disk of the copies."""
    return sum(path.stat().st_blocks * 512 for path in cache.objects_folder().rglob("*") if path.is_file())


def test_a_hollow_file_has_the_objects_size_and_is_filled_when_it_is_read(bucket: Any) -> None:
    content = os.urandom(100_000)
    place = hollow(bucket.put("train/1.jpg", content))
    before = place.stat()
    assert (before.st_size, before.st_blocks) == (100_000, 0)
    assert cache.read_file(place) == content == place.read_bytes()
    after = place.stat()
    assert (after.st_size, after.st_mtime_ns) == (before.st_size, before.st_mtime_ns)


def test_a_whole_copy_is_read_without_the_store(bucket: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    place = hollow(bucket.put("train/1.jpg", b"picture"))
    cache.read_file(place)
    monkeypatch.setattr(stores, "read_all", None)
    assert cache.read_file(place) == b"picture"


def test_an_address_is_compared_with_the_store_once_a_process(bucket: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    address = bucket.put("1.jpg", b"first")
    assert cache.read_address(address) == b"first"
    bucket.put("1.jpg", b"second")
    assert cache.read_address(address) == b"first"
    monkeypatch.setattr(cache, "_checked", set())  # as another process
    assert cache.read_address(address) == b"second"


def test_files_outside_the_cache_are_read_as_they_are(tmp_path: Path) -> None:
    (tmp_path / "zeros").write_bytes(bytes(200))
    assert cache.read_file(tmp_path / "zeros") == bytes(200)


def test_an_object_that_went_away_is_told(bucket: Any) -> None:
    place = hollow(bucket.put("train/1.jpg", b"picture"))
    bucket.remove("train/1.jpg")
    with pytest.raises(BadPicture) as caught:
        cache.read_file(place)
    assert str(caught.value) == f"s3://{bucket.name}/train/1.jpg: there is no such object in the store any more"


def test_an_object_that_changed_since_is_told(bucket: Any) -> None:
    place = hollow(bucket.put("train/1.jpg", b"picture"))
    bucket.put("train/1.jpg", b"another")
    with pytest.raises(BadPicture) as caught:
        cache.read_file(place)
    told = "the object has changed since the data was opened\nStart again."
    assert str(caught.value) == f"s3://{bucket.name}/train/1.jpg: {told}"


def test_an_address_of_nothing_is_told_with_its_line(bucket: Any) -> None:
    with pytest.raises(BadPicture) as caught:
        cache.read_address(f"s3://{bucket.name}/no.jpg", "train.manifest, line 3")
    told = f"train.manifest, line 3: there is no such object in the store: s3://{bucket.name}/no.jpg"
    assert str(caught.value) == told


def test_what_is_far_too_large_for_a_picture_is_told(bucket: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stores, "LARGEST_READ", 999)
    place = hollow(bucket.put("train/1.jpg", bytes(1000)))
    with pytest.raises(BadPicture) as caught:
        cache.read_file(place)
    assert str(caught.value) == f"s3://{bucket.name}/train/1.jpg: 1,000 bytes are no picture"


def test_the_cache_keeps_what_was_read_last_within_its_bound(bucket: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FOVEAL_CACHE_GB", "0.0003")
    monkeypatch.setattr(cache, "RECENT", -1)
    contents = [os.urandom(40_000) for _ in range(12)]
    places = [hollow(bucket.put(f"train/{number}.jpg", each)) for number, each in enumerate(contents)]
    for _ in range(2):
        for place, content in zip(places, contents, strict=True):
            assert cache.read_file(places[0]) == contents[0]
            assert cache.read_file(place) == content
            assert kept() <= 300_000
    assert cache.is_whole(places[0]) and cache.is_whole(places[11])
    assert not cache.is_whole(places[1])
    assert [place.stat().st_size for place in places] == [40_000] * 12


def test_what_a_process_needs_whole_stays(bucket: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FOVEAL_CACHE_GB", "0.0001")
    needed = cache.fetch(parse_address(bucket.put("train.rec", b"r" * 60_000)))
    for number in range(4):
        cache.read_address(bucket.put(f"{number}.jpg", b"p" * 40_000))
    assert cache.is_whole(needed)
    assert kept() <= 110_000


def test_large_objects_come_in_parts(bucket: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache, "PART", 1000)
    content = os.urandom(10_500)
    place = cache.fetch(parse_address(bucket.put("train.rec", content)))
    assert place.read_bytes() == content
    assert parts_left() == []


def test_a_server_without_ranges_is_read_in_one_go(website: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache, "PART", 1000)
    website.ranges = False
    website.files["/train.rec"] = content = os.urandom(10_500)
    assert cache.fetch(parse_address(f"{website.url}/train.rec")).read_bytes() == content


def test_a_killed_download_is_not_taken_for_whole_and_goes_on(website: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    website.files["/train.rec"] = content = os.urandom(10_500)
    website.hang_from = 4000
    address = f"{website.url}/train.rec"
    process = subprocess.Popen([sys.executable, "-c", KILLED, address])
    assert website.hanging.wait(60)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not cache.place_of(parse_address(address)).exists()
    website.hang_from = None
    website.asked.clear()
    monkeypatch.setattr(cache, "PART", 1000)
    assert cache.fetch(parse_address(address)).read_bytes() == content
    assert website.asked[0] == "HEAD /train.rec"
    starts = sorted(int(each.partition("bytes=")[2].partition("-")[0]) for each in website.asked[1:])
    assert starts == [*range(4000, 10_500, 1000)]


def test_a_part_of_another_version_is_not_gone_on_with(website: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache, "PART", 1000)
    address = parse_address(f"{website.url}/train.rec")
    website.files["/train.rec"] = b"a" * 5000
    there = stores.head(address)
    website.files["/train.rec"] = b"b" * 5000
    with pytest.raises(UserError) as caught:
        cache.fetch(address, there)
    assert str(caught.value) == f"{address}: the object changed while it was fetched\nStart again."
    assert parts_left() == []
    assert cache.fetch(address).read_bytes() == b"b" * 5000


def test_several_readers_of_one_object_get_it_whole(bucket: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache, "PART", 1000)
    content = os.urandom(5500)
    address = parse_address(bucket.put("train.rec", content))
    small = hollow(bucket.put("1.jpg", b"picture"))
    with ThreadPoolExecutor(8) as pool:
        fetched = [pool.submit(lambda: cache.fetch(address).read_bytes()) for _ in range(4)]
        read = [pool.submit(cache.read_file, small) for _ in range(4)]
        assert {each.result() for each in fetched} == {content}
        assert {each.result() for each in read} == {b"picture"}


def test_objects_of_two_endpoints_and_two_queries_are_kept_apart(bucket: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    here = cache.place_of(parse_address("s3://photos/1.jpg"))
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", "https://other.example.org")
    assert cache.place_of(parse_address("s3://photos/1.jpg")) != here
    first, second = (cache.place_of(parse_address(f"https://h/a.zip?{sig}")) for sig in ("x=1", "x=2"))
    assert (first.name, first != second) == ("a.zip", True)


def test_places_are_told_as_addresses(cloudless: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for endpoint in ("", "http://127.0.0.1:9000"):
        monkeypatch.setenv("AWS_ENDPOINT_URL_S3", endpoint)
        address = parse_address("s3://photos/a b/1.jpg")
        place = cache.place_of(address)
        assert cache.address_at(place) == address
        assert cache.named(f"{place}, line 3 ({place})") == f"{address}, line 3 ({address})"
    assert cache.named("/data/1.jpg") == "/data/1.jpg"
    assert cache.address_at(Path("/data/1.jpg")) is None


@pytest.mark.parametrize("key", ["../../etc/passwd", "a/../b", "a//b", "./a", "a/\0"])
def test_no_key_leads_out_of_the_cache(key: str, cloudless: Path) -> None:
    with pytest.raises(UserError) as caught:
        cache.place_of(parse_address(f"memory://photos/{key}"))
    remedy = "No part of a key may be empty, . or .. here."
    assert str(caught.value) == f"memory://photos/{key}: this key can't be the name of a file\n{remedy}"


def test_reading_ahead_passes_names_on_in_order_and_reads_addresses(bucket: Any) -> None:
    names = [bucket.put(f"{number}.jpg", b"picture") for number in range(30)]
    names[3:3] = ["local.jpg", f"s3://{bucket.name}/missing.jpg"]
    assert list(cache.ahead(names, workers=2)) == names
    assert cache.is_whole(cache.place_of(parse_address(names[-1])))


def test_reading_ahead_stops_when_nobody_listens(bucket: Any) -> None:
    names = iter(cache.ahead((bucket.put(f"{number}.jpg", b"p") for number in range(1000)), workers=2))
    next(names)
    names.close()  # type: ignore[attr-defined]
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("foveal-ahead")]


@pytest.mark.parametrize("given", ["much", "0", "-1", "nan"])
def test_a_bound_that_is_no_size_is_told(given: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FOVEAL_CACHE_GB", given)
    with pytest.raises(UserError) as caught:
        cache.cache_bound()
    told = f"FOVEAL_CACHE_GB: {given!r} is no size of a cache\nGive gigabytes above 0, such as 50."
    assert str(caught.value) == told


def test_an_object_larger_than_the_cache_is_told(bucket: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache, "PART", 1000)
    monkeypatch.setenv("FOVEAL_CACHE_GB", "0.000002")
    with pytest.raises(UserError) as caught:
        cache.fetch(parse_address(bucket.put("train.rec", bytes(1801))))
    assert str(caught.value) == (
        f"s3://{bucket.name}/train.rec: it has 1,801 bytes, and they must be here whole: the cache has room for 1,800\n"
        "Set FOVEAL_CACHE_GB higher, or copy the data to a disk and name it there."
    )


def test_objects_that_together_are_larger_than_the_cache_are_told(bucket: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FOVEAL_CACHE_GB", "0.000002")
    cache.fetch(parse_address(bucket.put("train.rec", b"r" * 1000)))
    cache.fetch(parse_address(bucket.put("train.rec", b"s" * 1000)))  # it is the same file
    with pytest.raises(UserError) as caught:
        cache.fetch(parse_address(bucket.put("val.rec", b"r" * 1000)))
    assert caught.value.what == (
        "it has 1,000 bytes, and they must be here whole beside 1,000 of other files: the cache has room for 1,800"
    )


def test_an_object_may_be_called_like_an_unfinished_one(bucket: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FOVEAL_CACHE_GB", "0.0001")
    place = hollow(bucket.put("music/part", b"p" * 50_000))
    cache.read_file(place)
    for number in range(4):
        cache.read_address(bucket.put(f"{number}.jpg", b"p" * 40_000))
    assert cache.read_file(place) == b"p" * 50_000


def test_fetching_what_is_not_there_is_told(bucket: Any) -> None:
    with pytest.raises(UserError) as caught:
        cache.fetch(parse_address(f"s3://{bucket.name}/no.rec"))
    assert str(caught.value) == f"s3://{bucket.name}/no.rec: there is no such object in the store\nCheck the address."


def test_a_cache_that_cannot_be_written_is_told(bucket: Any, cloudless: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (cloudless / "taken").write_text("a file")
    monkeypatch.setenv("XDG_CACHE_HOME", str(cloudless / "taken"))
    with pytest.raises(UserError) as caught:
        cache.read_address(bucket.put("1.jpg", b"picture"))
    assert str(caught.value) == (
        f"{cloudless}/taken/foveal/objects: copies of objects can't be written: Not a directory\n"
        "Make room there, set FOVEAL_CACHE_GB lower, or let XDG_CACHE_HOME name another folder."
    )
