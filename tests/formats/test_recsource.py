"""RecordIO files as a source of pictures."""

from __future__ import annotations

import io
import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from foveal.errors import UserError
from foveal.formats.imagerecord import pack
from foveal.formats.recordio import frame, write_records
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
