"""RecordIO files as a source of pictures."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from foveal.errors import BadPicture, UserError
from foveal.formats import keptindex, recsource
from foveal.formats.imagerecord import pack
from foveal.formats.keptindex import Index
from foveal.formats.recordio import content, frame, open_buffer, scan, write_records
from foveal.formats.recsource import RecordSource

FIXTURES = Path(__file__).parent.parent / "fixtures"


def test_pictures_labels_and_places_of_a_file_that_mxnet_wrote():
    source = RecordSource([FIXTURES / "formats" / "cls.rec"])
    assert len(source) == 8
    assert [source.read(row).label for row in range(8)] == list(range(8))
    assert source.labels().values.tolist() == list(map(float, range(8)))
    assert source.labels().offsets.tolist() == list(range(9))
    assert source.where(0) == "cls.rec, record 1 at byte 0"
    assert source.read(1).key == f"cls.rec@{source.where(1).split()[-1]}"
    assert Image.open(io.BytesIO(source.read(3).picture)).format == "PNG"


def test_several_labels_stay_as_stored():
    source = RecordSource([FIXTURES / "formats" / "cls_multi.rec"])
    assert source.labels().offsets.tolist() == list(range(0, 25, 3))
    label = source.read(2).label
    assert isinstance(label, np.ndarray)
    assert label.tolist() == source.labels().values[6:9].tolist()


def test_records_of_many_parts_are_put_together_again():
    wanted = json.loads((FIXTURES / "recordio" / "magic_packed.json").read_text())["records"]
    source = RecordSource([FIXTURES / "recordio" / "magic_packed.rec"])
    lengths = [len(source.read(row).picture) for row in range(len(source))]
    assert lengths == [record["payload_length"] for record in wanted]
    flat = [value for record in wanted for value in record["label"]]
    assert source.labels().values.tolist() == flat


def test_several_files_are_one_source():
    names = ["single_label.rec", "im2rec_like.rec"]
    source = RecordSource([FIXTURES / "recordio" / name for name in names])
    assert len(source) == 12 + 4
    assert source.where(12) == "im2rec_like.rec, record 1 at byte 0"
    assert source.read(12).label == 2
    assert source.read(11).key.startswith("single_label.rec@")


def test_damage_is_named_and_the_rest_is_read():
    source = RecordSource([FIXTURES / "recordio" / "flag_too_big.rec"])
    assert len(source) == 2
    assert [(bad.where, bad.reason) for bad in source.bad] == [
        ("flag_too_big.rec, byte 40", "1,000 labels are announced, the record has room for 10")
    ]


def test_the_index_costs_twelve_bytes_a_record(tmp_path):
    write_records(tmp_path / "a.rec", ((row, pack(b"x", row % 3, row)) for row in range(1000)))
    source = RecordSource([tmp_path / "a.rec"])
    kept = sum(value.nbytes for value in vars(source).values() if isinstance(value, np.ndarray))
    assert kept == 12 * 1000


def test_threads_read_the_same_as_one():
    source = RecordSource([FIXTURES / "formats" / "cls.rec"])
    rows = np.random.default_rng(0).integers(0, 8, 400).tolist()
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(source.read, rows)) == [source.read(row) for row in rows]


def test_the_fingerprint_tells_labels_and_not_the_folder(tmp_path):
    for folder, label in (("a", 1.0), ("b", 1.0), ("c", 2.0)):
        (tmp_path / folder).mkdir()
        write_records(tmp_path / folder / "train.rec", [(0, pack(b"x", label, 0))])
    a, b, c = (RecordSource([tmp_path / folder / "train.rec"]).fingerprint() for folder in "abc")
    assert a == b != c


def test_an_empty_file_gives_the_original_text_then_file_and_size(tmp_path):
    (tmp_path / "train.rec").write_bytes(b"")
    with pytest.raises(UserError) as caught:
        RecordSource([tmp_path / "train.rec"], channel="train")
    assert str(caught.value) == (
        "Unable to start training. Empty .rec file in train channel.\n"
        f"{tmp_path}/train.rec (0 bytes)\n"
        "Look whether the step that packs the pictures wrote any: `foveal pack` names what it left out."
    )


def test_an_empty_file_that_is_not_opened_for_training_is_not_said_to_be(tmp_path):
    (tmp_path / "val.rec").write_bytes(b"")
    with pytest.raises(UserError) as caught:
        RecordSource([tmp_path / "val.rec"])
    assert (caught.value.what, caught.value.where) == ("it holds no record", f"{tmp_path}/val.rec (0 bytes)")


@pytest.mark.parametrize(
    ("start", "kind"),
    [
        (b"\xff\xd8\xff\xe0", "a JPEG picture"),
        (b"\x89PNG\r\n", "a PNG picture"),
        (b'{"a": 1}', "JSON"),
        (b"\x1f\x8b", "a gzip archive"),
    ],
)
def test_another_kind_of_file_gives_the_original_text_then_what_it_looks_like(tmp_path, start, kind):
    (tmp_path / "train.rec").write_bytes(start + b"abcdefgh")
    with pytest.raises(UserError) as caught:
        RecordSource([tmp_path / "train.rec"])
    first, second, third = str(caught.value).split("\n")
    assert first == "Unable to parse record. Please make sure input data is in correct recordio format."
    assert second.startswith(f"{tmp_path}/train.rec ({len(start) + 8} bytes): train.rec, byte 0: no record starts here")
    assert second.endswith(f"; the file looks like {kind}")
    assert third == "Make the file from labelled pictures with `foveal pack`."


@settings(max_examples=150, deadline=None)
@given(st.integers(0, 287), st.integers(0, 3), st.binary(max_size=5))
def test_a_spoilt_file_gives_readable_records_or_a_user_error(tmp_path_factory, at, dropped, put):
    spoilt = bytearray((FIXTURES / "recordio" / "broken_base.rec").read_bytes())
    spoilt[at : at + dropped] = put
    path = tmp_path_factory.mktemp("spoilt") / "a.rec"
    path.write_bytes(spoilt)
    source = RecordSource([path])
    assert len(source) >= 4  # of six: a fault spoils one record, or two where it lies on their border
    assert all(source.read(row).picture is not None for row in range(len(source)))
    assert len(source.labels().values) == source.labels().offsets[-1]


def test_every_cut_of_a_file_gives_the_whole_records_before_it(tmp_path):
    whole = (FIXTURES / "recordio" / "broken_base.rec").read_bytes()
    ends = [40, 84, 132, 180, 232, 288]
    for cut in range(40, len(whole) + 1):
        path = tmp_path / "cut.rec"
        path.write_bytes(whole[:cut])
        source = RecordSource([path])
        assert len(source) == sum(end <= cut for end in ends)
        assert len(source.bad) == (cut not in ends)


def test_raw_records_are_no_pictures(tmp_path):
    (tmp_path / "pipe.rec").write_bytes(frame(b"\xff\xd8\xff\xe0" + b"x" * 40) + frame(b"3"))
    with pytest.raises(UserError, match=r"pipe\.rec, byte 0: .* labels are announced"):
        RecordSource([tmp_path / "pipe.rec"])


def test_labels_of_any_number_are_read_from_one_file(tmp_path):
    labels = [1.0, np.array([2, 5, 0.5], np.float32), np.array([], np.float32), 7.0, np.arange(40, dtype=np.float32)]
    write_records(tmp_path / "a.rec", ((row, pack(b"x" * row, label, row)) for row, label in enumerate(labels)))
    source = RecordSource([tmp_path / "a.rec"])
    offsets = source.labels().offsets.tolist()
    read = [source.labels().values[start:end].tolist() for start, end in pairwise(offsets)]
    assert read == [[1], [2, 5, 0.5], [0], [7], list(range(40))]
    assert [np.atleast_1d(source.read(row).label).tolist() for row in range(5)] == read


def test_a_payload_is_the_record_without_a_copy():
    path = FIXTURES / "recordio" / "magic_packed.rec"
    source, buffer = RecordSource([path]), open_buffer(path)
    wanted = [content(buffer, record) for record in scan(buffer)]
    assert [bytes(source.payload(row)) for row in range(len(source))] == wanted
    with pytest.raises(IndexError):
        source.payload(len(source))


def test_a_record_that_is_overwritten_after_opening_is_a_bad_picture(tmp_path):
    write_records(tmp_path / "a.rec", ((row, pack(b"picture", row, row)) for row in range(3)))
    source = RecordSource([tmp_path / "a.rec"])
    with (tmp_path / "a.rec").open("r+b") as file:
        file.seek(40)
        file.write(b"junk")
    with pytest.raises(BadPicture) as caught:
        source.read(1)
    assert str(caught.value) == (
        "a.rec, record 2 at byte 40: no record starts here: found 6a756e6b instead of 0a23d7ce"
    )


def test_a_file_of_raw_records_is_refused_before_all_are_named(tmp_path, monkeypatch):
    monkeypatch.setattr(recsource, "_MOST_BAD", 100)
    (tmp_path / "pipe.rec").write_bytes(frame(pack(b"x", 1, 0)) + frame(b"raw") * 5000)
    with pytest.raises(UserError) as caught:
        RecordSource([tmp_path / "pipe.rec"])
    assert str(caught.value) == (
        "Unable to parse record. Please make sure input data is in correct recordio format.\n"
        f"{tmp_path}/pipe.rec: over 100 records can't be read, more than can be; the first: "
        "pipe.rec, byte 36: 3 bytes are too few for the image header, which has 24\n"
        "Make the file from labelled pictures with `foveal pack`."
    )


MEMORY = """
import random, sys
from pathlib import Path
from foveal.formats import recsource
from foveal.formats.recsource import RecordSource
def private():
    lines = Path("/proc/self/smaps_rollup").read_text().splitlines()
    return sum(int(line.split()[1]) for line in lines if line.startswith("Private")) / 1024
recsource.MAPPED = 16 << 20
source = RecordSource([Path(sys.argv[1])])
before = most = private()
for row in random.Random(0).choices(range(len(source)), k=3000):
    source.read(row)
    if row % 10 == 0:
        most = max(most, private())
print(most - before)
"""


@pytest.mark.skipif(not Path("/proc/self/smaps_rollup").exists(), reason="needs Linux's /proc")
def test_reading_a_large_file_does_not_fill_the_memory(tmp_path):
    picture = os.urandom(60_000)
    write_records(tmp_path / "a.rec", ((row, pack(picture, row % 3, row)) for row in range(2000)), index=False)
    done = subprocess.run(
        [sys.executable, "-c", MEMORY, str(tmp_path / "a.rec")], capture_output=True, text=True, check=True
    )
    assert float(done.stdout) < 24  # MiB, of a file of 114


@pytest.fixture
def large(tmp_path, monkeypatch):
    """A file whose index is worth keeping, and the folder where it is kept."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(keptindex, "WORTH", 1000)
    labels = [1.0, 2.0, np.array([1, 0], np.float32)] * 20
    write_records(tmp_path / "a.rec", ((row, pack(b"picture", label, row)) for row, label in enumerate(labels)))
    with (tmp_path / "a.rec").open("ab") as file:
        file.write(b"end")
    return tmp_path / "a.rec", tmp_path / "cache" / "foveal" / "indices"


def unread(*_):
    raise AssertionError("the file is read again")


def test_the_index_of_a_large_file_is_kept(large, monkeypatch):
    path, folder = large
    first = RecordSource([path])
    assert [entry.name[:6] for entry in folder.iterdir()] == ["a.rec-"]
    monkeypatch.setattr(recsource, "records", unread)
    second = RecordSource([path])
    assert second.fingerprint() == first.fingerprint()
    assert second.bad == first.bad != ()
    assert [second.read(row).key for row in range(60)] == [first.read(row).key for row in range(60)]


def test_the_index_of_a_small_file_is_not_kept(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    RecordSource([FIXTURES / "formats" / "cls.rec"])
    assert not (tmp_path / "cache").exists()


def test_a_kept_index_does_not_outlive_a_change_of_its_file(large):
    path, _ = large
    RecordSource([path])
    stat = path.stat()
    content = path.read_bytes()
    path.write_bytes(content[:12] + np.float32(5).tobytes() + content[16:])
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))  # as rsync and cp -p do
    assert RecordSource([path]).labels().values[0] == 5


def test_a_kept_index_does_not_serve_another_file_of_that_name(large):
    path, _ = large
    RecordSource([path])
    write_records(path.with_name("b.rec"), ((row, pack(b"picture", 3, row)) for row in range(61)))
    os.replace(path.with_name("b.rec"), path)
    assert set(RecordSource([path]).labels().values.tolist()) == {3}


def test_a_kept_index_that_tells_other_records_is_passed_over(large):
    path, folder = large
    wanted = RecordSource([path]).fingerprint()
    kept = next(folder.iterdir())
    line, rest = kept.read_bytes().split(b"\n", 1)
    for spoilt in (
        b"",
        b"\n" + rest,
        line + b"\n" + rest[:-1],
        b"[]\n" + rest,
        line.replace(b'"records": 60', b'"records": -1') + b"\n" + rest,
        line.replace(b'"records": 60', b'"records": 1e99') + b"\n" + rest,
        line + b"\n" + rest[8:] + rest[:8],
        line + b"\n" + b"\xff" * 8 + rest[8:],
        line + b"\n" + rest[:-4] + b"\0\0\0\0",
        line + b"\n" + rest[: 8 * 60] + b"\2" + rest[8 * 60 + 1 :],
        line + b"\n" + rest[: 12 * 60] + b"\0\0\x40\x40" + rest[12 * 60 + 4 :],
    ):
        kept.write_bytes(spoilt)
        assert RecordSource([path]).fingerprint() == wanted


@pytest.mark.parametrize("place", ["file", "unwritable"])
def test_a_cache_that_cannot_be_written_costs_only_time(large, place, tmp_path, monkeypatch):
    path, _ = large
    if place == "file":
        (tmp_path / "cache").write_text("")
    else:
        monkeypatch.setenv("XDG_CACHE_HOME", "/proc")
    assert len(RecordSource([path])) == 60


def test_indices_that_were_not_used_for_long_make_room(large, monkeypatch):
    path, folder = large
    RecordSource([path])
    size = next(folder.iterdir()).stat().st_size
    os.utime(next(folder.iterdir()), (1e9, 1e9))
    monkeypatch.setattr(keptindex, "KEPT", int(2.5 * size))
    for number, name in enumerate(("b.rec", "c.rec", "d.rec")):
        path.with_name(name).write_bytes(path.read_bytes())
        RecordSource([path.with_name(name)])
        for entry in folder.glob(f"{name}-*"):
            os.utime(entry, (1e9 + number, 1e9 + number))
    assert sorted(entry.name[:5] for entry in folder.iterdir()) == ["c.rec", "d.rec"]


def test_an_index_of_a_file_that_changed_while_it_was_read_is_not_kept(large):
    path, folder = large
    before = keptindex.identity(path)
    with path.open("ab") as file:
        file.write(b"more")
    keptindex.keep(path, Index(), before)
    assert not folder.exists()
