"""Records in a bucket, read through ranges: what a file on disk would give, each part asked for about once."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
import tarfile
import time
import zlib
from collections import Counter
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import pytest

from foveal.data.order import Order
from foveal.data.recognise import open_data
from foveal.errors import UserError
from foveal.formats import keptindex
from foveal.formats.imagerecord import pack
from foveal.formats.recordio import fetching, open_buffer, records, scan, write_records
from foveal.formats.recsource import RecordSource
from foveal.records import Sharded
from foveal.storage import cache, ranges, stores
from foveal.storage.address import parse_address

FIXTURES = Path(__file__).parent.parent / "fixtures" / "recordio"
BROKEN = sorted(path for path in FIXTURES.glob("*.rec") if path.stat().st_size)
PART = 4096
KILLED = """
import sys
import tarfile
from foveal.data.recognise import open_data
from foveal.storage import ranges
ranges.PART, ranges.AHEAD = 4096, 1
open_data(sys.argv[1])
"""


@pytest.fixture(autouse=True)
def ranged_in_small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ranges, "PART", PART)
    monkeypatch.setenv("FOVEAL_WHOLE_GB", "0")


@pytest.fixture
def shard(tmp_path: Path) -> Path:
    """400 records of some 500 bytes, some with several labels, one with the magic inside."""
    path = tmp_path / "train.rec"
    payloads = [pack(os.urandom(400 + 7 * (row % 31)), float(row % 3), row) for row in range(400)]
    payloads[77] += b"\x0a\x23\xd7\xce" * 3
    write_records(path, enumerate(payloads), index=False)
    return path


def ranged_place(address: str) -> Path:
    told = parse_address(address)
    return ranges.open_ranged(told, stores.head(told))


def parts_of(path: Path) -> int:
    return -(-path.stat().st_size // PART)


def test_files_of_every_damage_are_read_as_on_disk(bucket: Any) -> None:
    for path in BROKEN:
        place = ranged_place(bucket.put(path.name, path.read_bytes()))
        near, far = open_buffer(path), open_buffer(place)
        assert isinstance(far, ranges.RangedFile)
        for thorough in (False, True):
            assert list(scan(far, thorough=thorough)) == list(scan(near, thorough=thorough)), path.name
        with fetching(path, near) as fetch, fetching(place, far) as fetch_far:
            assert list(map(str, records(far, fetch_far))) == list(map(str, records(near, fetch))), path.name


def test_every_row_is_that_of_the_file(shard: Path, bucket: Any) -> None:
    address = bucket.put("recs/train.rec", shard.read_bytes())
    far, near = open_data(address).train, open_data(shard).train
    assert isinstance(far, RecordSource)
    assert (far.ranged, far.shards) == (shard.stat().st_size, (400,))
    assert far.fingerprint() == near.fingerprint()
    for row in [*range(0, 400, 13), 77, 399]:
        assert (far.read(row), far.where(row)) == (near.read(row), near.where(row))


def test_what_is_read_through_ranges_is_said(shard: Path, bucket: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    for split in ("train_0", "train_1", "val"):
        bucket.put(f"recs/{split}.rec", shard.read_bytes())
    size = shard.stat().st_size
    said = open_data(f"s3://{bucket.name}/recs").said
    told = f"3 shards of {3 * size / 1000:.1f} kB read through ranges of 4.1 kB, not fetched whole"
    assert said[0] == f"s3://{bucket.name}/recs: {told}"
    monkeypatch.delenv("FOVEAL_WHOLE_GB")
    monkeypatch.setenv("FOVEAL_CACHE_GB", f"{6.1 * size / 1e9:.9f}")
    said = open_data(f"s3://{bucket.name}/recs").said
    assert said[0].endswith(f"3 fetched ({3 * size / 1000:.1f} kB)")


def test_the_index_is_read_once_and_kept(shard: Path, bucket: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = count_ranges(monkeypatch)
    address = bucket.put("recs/train.rec", shard.read_bytes())
    labels = open_data(address).train.labels()
    assert sorted(asked.values()) == [1] * parts_of(shard)
    asked.clear()
    forget()
    again = open_data(address).train
    assert again.labels().values.tolist() == labels.values.tolist()
    assert not asked
    bucket.put("recs/train.rec", shard.read_bytes()[: shard.stat().st_size // 2])
    forget()
    assert len(open_data(address).train) < 210
    assert asked


def count_ranges(monkeypatch: pytest.MonkeyPatch) -> Counter[tuple[str, int]]:
    """How often each range of each object was asked for from now on."""
    asked: Counter[tuple[str, int]] = Counter()
    read = stores.read_range

    def counted(address: Any, start: int, stop: int) -> Any:
        asked[str(address), start] += 1
        return read(address, start, stop)

    monkeypatch.setattr(stores, "read_range", counted)
    return asked


def ranges_asked_for(endpoint: str) -> dict[str, int]:
    """How often each range was asked for at the server, since this was called before."""
    with urlopen(f"{endpoint}/ranges-asked-for") as answer:
        asked: dict[str, int] = json.load(answer)
        return asked


def forget() -> None:
    """As a new process with nothing but the index in its cache."""
    ranges._known.clear()
    for part in (cache.objects_folder() / cache.RANGES).rglob("0*"):
        part.unlink()


def test_a_pass_asks_for_each_part_about_once_and_keeps_the_bound(
    shard: Path, bucket: Any, s3_endpoint: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cache, "RECENT", -1)
    monkeypatch.setenv("FOVEAL_CACHE_GB", "0.0001")  # 22 parts; the shards have 4 x 55
    content = shard.read_bytes()
    for number in range(4):
        bucket.put(f"recs/train_{number}.rec", content)
    source = open_data(f"s3://{bucket.name}/recs").train
    assert isinstance(source, RecordSource)
    order = Order(1600, 0, "shards+window", 10, source.shards)
    ranges_asked_for(s3_endpoint)
    most = 0
    for number in range(2):
        for place, row in enumerate(order.rows(range(number * 1600, (number + 1) * 1600))[0].tolist()):
            source.read(row)
            if place % 50 == 0:
                most = max(most, sum(taken for _, taken, _ in cache._copies(cache.objects_folder())))
        asked = ranges_asked_for(s3_endpoint)
        assert len(asked) == 4 * parts_of(shard)
        assert sum(asked.values()) <= 1.05 * 4 * parts_of(shard)
    assert most <= 100_000 + 4 * PART


def test_a_permutation_asks_for_far_more(shard: Path, bucket: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FOVEAL_CACHE_GB", "0.00005")
    source = open_data(bucket.put("recs/train.rec", shard.read_bytes())).train
    asked = count_ranges(monkeypatch)
    for row in Order(400, 0).rows(range(100))[0].tolist():  # a quarter of a pass
        source.read(row)
    assert sum(asked.values()) > parts_of(shard)


def test_an_indexing_that_was_killed_does_no_harm(shard: Path, bucket: Any) -> None:
    address = bucket.put("recs/train.rec", shard.read_bytes())
    process = subprocess.Popen([sys.executable, "-c", KILLED, address], stderr=subprocess.DEVNULL)
    folder = cache.objects_folder() / cache.RANGES
    while process.poll() is None and len(list(folder.rglob("0*"))) < 5:
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert open_data(address).train.fingerprint() == open_data(shard).train.fingerprint()


def test_an_object_that_changes_while_it_is_read_ends_that(shard: Path, bucket: Any) -> None:
    source = open_data(bucket.put("recs/train.rec", shard.read_bytes())).train
    bucket.put("recs/train.rec", shard.read_bytes()[::-1])
    for part in (cache.objects_folder() / cache.RANGES).rglob("0*"):
        part.unlink()
    with pytest.raises(UserError) as caught:
        source.read(300)
    address = f"s3://{bucket.name}/recs/train.rec"
    assert str(caught.value) == f"{address}: the object has changed since the data was opened\nStart again."


def put_tars(bucket: Any, folder: Path) -> str:
    """Two shards of 20 pictures with a class each; returns their address."""
    for shard in range(2):
        with tarfile.open(folder / f"train-{shard:03d}.tar", "w") as tar:
            for number in range(20):
                for name, content in (
                    (f"{number:05d}.jpg", os.urandom(600 + number)),
                    (f"{number:05d}.cls", b"%d" % (number % 3)),
                ):
                    member = tarfile.TarInfo(name)
                    member.size = len(content)
                    tar.addfile(member, io.BytesIO(content))
    return str(bucket.put_folder(folder, "shards"))


def test_tar_shards_are_those_on_disk_and_their_headers_are_kept(
    bucket: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "shards"
    folder.mkdir()
    address = put_tars(bucket, folder)
    near, far = open_data(folder), open_data(address)
    assert isinstance(far.train, Sharded)
    assert (far.train.shards, far.train.ranged) == ((20, 20), sum(each.stat().st_size for each in folder.iterdir()))
    assert far.said[-1] == near.said[-1]
    assert far.train.fingerprint() == near.train.fingerprint()
    for row in range(40):
        assert (far.train.read(row), far.train.where(row)) == (near.train.read(row), near.train.where(row))
    forget()
    asked = count_ranges(monkeypatch)
    again = open_data(address)
    assert (again.said, again.train.fingerprint()) == (far.said, far.train.fingerprint())
    first = f"{address}/train-000.tar"  # its first part, to see whether these are shards, and the parts ahead
    assert set(asked) <= {(first, number * PART) for number in range(1 + ranges.AHEAD)}
    torn = next((cache.objects_folder().parent / "indices").glob("train-000.tar-*"))
    content, place = torn.read_bytes(), cache.place_of(parse_address(first))
    assert keptindex.kept_members(place, keptindex.identity(place)) is not None
    wrong = zlib.decompress(content).replace(b'["Member", "00001.jpg"', b'["Member", 5')
    for damaged in (content[:-5], b"", zlib.compress(wrong), zlib.compress(b"[]\n")):
        torn.write_bytes(damaged)
        assert keptindex.kept_members(place, keptindex.identity(place)) is None
    assert open_data(address).train.fingerprint() == far.train.fingerprint()


def test_a_tar_file_that_is_no_shard_is_fetched_whole(bucket: Any, tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "photos.tar", "w") as tar:
        for kind in ("cat", "dog"):
            member = tarfile.TarInfo(f"{kind}/1.png")
            member.size = 600
            tar.addfile(member, io.BytesIO(bytes(600)))
    address = bucket.put("photos.tar", (tmp_path / "photos.tar").read_bytes())
    assert open_data(address).class_names == ("cat", "dog")
    assert ranges.ranged_file(cache.place_of(parse_address(address))) is None
