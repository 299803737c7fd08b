"""``.idx`` files: what they list is read, and what is wrong with them is told with file and line."""

from __future__ import annotations

import json
import struct
from pathlib import Path

import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st

from foveal.cli.inspect import command
from foveal.data.recognise import open_data
from foveal.errors import UserError
from foveal.formats.idx import read_idx, read_listed
from foveal.formats.imagerecord import pack
from foveal.formats.recordio import Damage, fetching, frame, open_buffer, write_records
from foveal.formats.recsource import RecordSource
from foveal.records import Reading

FIXTURES = Path(__file__).parent.parent / "fixtures" / "recordio"
CASES = json.loads((FIXTURES / "broken_idx.json").read_text())
OFFSETS = [0, 40, 84, 132, 180, 232]  # of the records of broken_base.rec, which has 288 bytes
MEND = "Write it anew from the .rec file (MXNet's rec2idx.py does), or leave --idx away: no .idx file is needed."
REFUSED = {
    "idx_at_end": "line 7: byte 288 is not in the .rec file, which has 288 bytes",
    "idx_beyond": "line 6: byte 999999 is not in the .rec file, which has 288 bytes",
    "idx_blank_line": "line 4: '' is no key, tab and byte offset",
    "idx_duplicate": "line 7: the key 2 stands in line 3 already",
    "idx_float_offset": "line 1: '0\\t0.0' is no key, tab and byte offset",
    "idx_negative": "line 2: '1\\t-4' is no key, tab and byte offset",
    "idx_spaces": "line 1: '0 0' is no key, tab and byte offset",
    "idx_stale": "line 4: no record starts at byte 136: found 28000000 instead of 0a23d7ce",
}


def listing(folder: Path, index: str | bytes, record_file: Path = FIXTURES / "broken_base.rec") -> Path:
    """A ``.rec`` file with this index beside it."""
    (folder / "a.rec").write_bytes(record_file.read_bytes())
    (folder / "a.idx").write_bytes(index.encode() if isinstance(index, str) else index)
    return folder / "a.rec"


def offsets(source: RecordSource) -> list[int]:
    return [int(source.where(row).split()[-1]) for row in range(len(source))]


def test_every_case_is_answered_here():
    read = ["idx_crlf", "idx_extra_column", "idx_no_newline", "idx_ok", "idx_text_keys", "idx_unsorted"]
    assert sorted(CASES) == sorted([*REFUSED, *read, "idx_missing", "idx_empty"])


@pytest.mark.parametrize("name", sorted(REFUSED))
def test_an_index_that_is_wrong_is_refused_with_its_line(name, tmp_path):
    path = listing(tmp_path, (FIXTURES / f"{name}.idx").read_bytes())
    with pytest.raises(UserError) as caught:
        RecordSource([path], idx=True)
    assert str(caught.value) == f"{tmp_path}/a.idx, {REFUSED[name]}\n{MEND}"
    assert caught.value.setting == "idx"


@pytest.mark.parametrize(
    "name", ["idx_crlf", "idx_extra_column", "idx_no_newline", "idx_ok", "idx_text_keys", "idx_unsorted"]
)
def test_records_of_an_index_come_in_the_order_of_the_file(name, tmp_path):
    source = RecordSource([listing(tmp_path, (FIXTURES / f"{name}.idx").read_bytes())], idx=True)
    assert offsets(source) == OFFSETS
    assert source.labels().values.tolist() == [0, 1, 2, 3, 4, 5]
    assert source.bad == ()


def test_records_that_an_index_leaves_out_are_named(tmp_path):
    source = RecordSource([listing(tmp_path, (FIXTURES / "idx_missing.idx").read_bytes())], idx=True)
    assert offsets(source) == [0, 84, 232]
    assert [(bad.where, bad.reason) for bad in source.bad] == [
        ("a.rec, byte 40", "a.idx lists no record in the 44 bytes from here"),
        ("a.rec, byte 132", "a.idx lists no record in the 100 bytes from here"),
    ]


@pytest.mark.parametrize(
    ("index", "told"),
    [
        ("", "{}: it lists no record\n" + MEND),
        ("a\t40\nb\t40\n", "{}, line 2: byte 40 stands in line 1 already\n" + MEND),
        ("a\t40\nb\t040\n", "{}, line 2: byte 040 stands in line 1 already\n" + MEND),
        ("0\t0\n\t40\n", "{}, line 2: '\\t40' is no key, tab and byte offset\n" + MEND),
        ("x" * 5000, "{}, line 1: a line of 4,096 bytes or more\n" + MEND),
        ("0\t" + "9" * 3000, "{}, line 1: byte " + "9" * 40 + " is not in the .rec file, which has 288 bytes\n" + MEND),
        (b"\xff\xfe0\x00", "{}, line 1: '\ufffd\ufffd0\\x00' is no key, tab and byte offset\n" + MEND),
    ],
)
def test_other_faults_of_an_index(index, told, tmp_path):
    with pytest.raises(UserError) as caught:
        RecordSource([listing(tmp_path, index)], idx=True)
    assert str(caught.value) == told.format(tmp_path / "a.idx")


def test_a_missing_index_is_told_where_it_is_asked_for(tmp_path):
    path = listing(tmp_path, "")
    (tmp_path / "a.idx").unlink()
    assert len(RecordSource([path])) == 6
    with pytest.raises(UserError) as caught:
        RecordSource([path], idx=True)
    assert str(caught.value) == (
        f"{tmp_path}/a.idx: this index is asked for, and isn't there\n"
        "Put it there, or leave --idx away: no .idx file is needed."
    )


def test_an_index_that_is_a_folder_is_told(tmp_path):
    path = listing(tmp_path, "")
    (tmp_path / "a.idx").unlink()
    (tmp_path / "a.idx").mkdir()
    with pytest.raises(UserError) as caught:
        RecordSource([path], idx=True)
    assert str(caught.value) == (
        f"{tmp_path}/a.idx: can't be opened: Is a directory\nCheck the path and who may read it."
    )


def test_a_wrong_index_does_no_harm_where_it_is_not_asked_for(tmp_path):
    source = RecordSource([listing(tmp_path, (FIXTURES / "idx_stale.idx").read_bytes())])
    assert offsets(source) == OFFSETS


def test_damaged_records_of_an_index_are_left_out(tmp_path):
    path = listing(tmp_path, "0\t0\n1\t40\n2\t84\n3\t132\n", FIXTURES / "length_too_long_mid.rec")
    with path.open("ab") as file:
        file.write(b"\x0a\x23\xd7\xce" + struct.pack("<I", 1000) + b"cut")
    with (tmp_path / "a.idx").open("a") as index:
        index.write("4\t180\n5\t232\n6\t288\n")
    source = RecordSource([path], idx=True)
    assert offsets(source) == [0, 40, 132, 180, 232]
    assert [(bad.where, bad.reason) for bad in source.bad] == [
        ("a.rec, byte 84", "its length is wrong: it runs over the record at byte 132"),
        ("a.rec, byte 288", "cut short: 1,000 bytes are announced, the file ends after 3"),
    ]


def test_records_of_many_parts_and_of_several_labels_are_read_by_their_index(tmp_path):
    for name in ("multi_label", "detection", "single_label", "im2rec_like"):
        path = listing(tmp_path, (FIXTURES / f"{name}.idx").read_bytes(), FIXTURES / f"{name}.rec")
        plain, listed = RecordSource([path]), RecordSource([path], idx=True)
        assert listed.fingerprint() == plain.fingerprint()
        assert listed.bad == plain.bad
    buffer = open_buffer(FIXTURES / "magic_raw.rec")
    with fetching(FIXTURES / "magic_raw.rec", buffer) as fetch:
        found = list(read_listed(FIXTURES / "magic_raw.idx", buffer, fetch))
        wanted = read_idx(FIXTURES / "magic_raw.idx", buffer, fetch).tolist()
    assert [at for each in found for at in getattr(each, "offsets", [each[0]])] == wanted
    assert not any(isinstance(each, Damage) for each in found)


def test_more_records_than_are_read_at_once(tmp_path):
    write_records(tmp_path / "a.rec", ((row, pack(b"x" * (row % 7), row % 3, row)) for row in range(3000)))
    assert (
        RecordSource([tmp_path / "a.rec"], idx=True).fingerprint() == RecordSource([tmp_path / "a.rec"]).fingerprint()
    )


lines = st.one_of(
    st.binary(max_size=12), st.tuples(st.integers(-1, 9), st.integers(-4, 300)).map(lambda t: b"%d\t%d" % t)
)


@settings(max_examples=150, deadline=None)
@given(st.lists(lines, max_size=8), st.sampled_from([b"\n", b"\r\n"]))
def test_any_index_gives_records_or_a_user_error(tmp_path_factory, rows, end):
    path = listing(tmp_path_factory.mktemp("idx"), end.join(rows))
    try:
        source = RecordSource([path], idx=True)
    except UserError as error:
        assert "a.idx" in str(error)
    else:
        assert set(offsets(source)) <= set(OFFSETS)


def test_an_empty_record_file_has_no_place_for_an_index(tmp_path):
    (tmp_path / "a.rec").write_bytes(b"")
    (tmp_path / "a.idx").write_text("0\t0\n")
    with pytest.raises(UserError) as caught:
        RecordSource([tmp_path / "a.rec"], idx=True)
    assert str(caught.value) == (f"{tmp_path}/a.idx, line 1: byte 0 is not in the .rec file, which has 0 bytes\n{MEND}")


def test_a_raw_record_that_an_index_lists_is_left_out(tmp_path):
    (tmp_path / "a.rec").write_bytes(frame(pack(b"x", 1, 0)) + frame(b"raw"))
    (tmp_path / "a.idx").write_text("0\t0\n1\t36\n")
    source = RecordSource([tmp_path / "a.rec"], idx=True)
    assert [(bad.where, bad.reason) for bad in source.bad] == [
        ("a.rec, byte 36", "3 bytes are too few for the image header, which has 24")
    ]


def test_open_data_reads_an_index_where_it_is_asked_to(tmp_path):
    path = listing(tmp_path, (FIXTURES / "idx_missing.idx").read_bytes())
    assert len(open_data(path).train) == 6
    data = open_data(path, reading=Reading(idx=True))
    assert len(data.train) == 3
    assert data.said[-1] == (
        "train: 2 left out; the first: a.rec, byte 40: a.idx lists no record in the 44 bytes from here"
    )


def test_the_option_idx_reads_the_index_beside_every_file(tmp_path):
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        listing(tmp_path / name, (FIXTURES / "idx_ok.idx").read_bytes())
        for suffix in ("rec", "idx"):
            (tmp_path / name / f"a.{suffix}").rename(tmp_path / f"train-{name}.{suffix}")
    assert len(open_data(tmp_path, reading=Reading(idx=True)).train) == 12
    (tmp_path / "train-two.idx").write_text("0\t4\n")
    done = CliRunner().invoke(command, [str(tmp_path), "--idx"])
    assert isinstance(done.exception, UserError)
    assert str(done.exception) == (
        f"{tmp_path}/train-two.idx, line 1: no record starts at byte 4: found 1f000000 instead of 0a23d7ce\n{MEND}"
    )


def test_an_index_has_no_meaning_for_other_data(tmp_path):
    (tmp_path / "cat").mkdir()
    (tmp_path / "cat" / "1.jpg").write_bytes(b"\xff\xd8\xff")
    with pytest.raises(UserError) as caught:
        open_data(tmp_path, reading=Reading(idx=True))
    assert str(caught.value) == (
        "idx: idx is given, and has no meaning for data of the form folder\n"
        "It is for recordio: leave it out, or give --format."
    )
