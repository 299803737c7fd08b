"""RecordIO: MXNet's files read and written again to the byte, and damage found, named and passed over."""

from __future__ import annotations

import json
import struct
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from foveal.formats.imagerecord import describe
from foveal.formats.recordio import (
    MAGIC_BYTES,
    Damage,
    Record,
    Run,
    content,
    fetching,
    frame,
    let_go,
    open_buffer,
    payload,
    read_record,
    records,
    scan,
    write_records,
)

FIXTURES = Path(__file__).parent.parent / "fixtures" / "recordio"
GOOD = sorted(path.stem for path in FIXTURES.glob("*.json") if path.with_suffix(".rec").exists())
BROKEN = json.loads((FIXTURES / "broken.json").read_text())
FAULTY = sorted(name for name, case in BROKEN.items() if "error" in case["mxnet_sequential_read"]["end"])


@pytest.mark.parametrize("name", GOOD)
def test_records_are_read_as_mxnet_reads_them(name):
    wanted = json.loads((FIXTURES / f"{name}.json").read_text())
    fields = ["offset", "total_bytes", "record_length", "record_sha256"]
    if wanted["packed"]:
        fields += ["flag", "id", "id2", "payload_length", "payload_sha256"]
    lines = list(describe(FIXTURES / f"{name}.rec"))
    for line, record in zip(lines, wanted["records"], strict=True):
        assert {field: line[field] for field in fields} == {field: record[field] for field in fields}
    assert [line["parts"] for line in lines] == [len(record["parts"]) for record in wanted["records"]]


@pytest.mark.parametrize("name", GOOD)
def test_label_bits_are_kept(name):
    wanted = json.loads((FIXTURES / f"{name}.json").read_text())
    if not wanted["packed"]:
        pytest.skip("raw records have no labels")
    for line, record in zip(describe(FIXTURES / f"{name}.rec"), wanted["records"], strict=True):
        assert line["label"] == record["label"]
        if "nan" not in line["label"]:
            assert struct.pack(f"<{len(line['label'])}f", *map(float, line["label"])).hex() == record["label_hex"]


@pytest.mark.parametrize("name", GOOD)
def test_what_was_read_is_written_again_to_the_byte(name, tmp_path):
    buffer = open_buffer(FIXTURES / f"{name}.rec")
    payloads = [content(buffer, record) for record in scan(buffer)]
    index = FIXTURES / f"{name}.idx"
    lines = index.read_text(encoding="utf-8").splitlines() if index.exists() else []
    keys = [line.split("\t")[0] for line in lines] or list(range(len(payloads)))
    assert write_records(tmp_path / "again.rec", zip(keys, payloads, strict=True)) == len(payloads)
    assert (tmp_path / "again.rec").read_bytes() == (FIXTURES / f"{name}.rec").read_bytes()
    if lines:
        assert (tmp_path / "again.idx").read_bytes() == index.read_bytes()


@pytest.mark.parametrize("name", sorted(BROKEN))
def test_every_intact_record_of_a_broken_file_is_found(name):
    offsets = {line["offset"] for line in describe(FIXTURES / f"{name}.rec") if "error" not in line}
    assert set(BROKEN[name]["intact_offsets"].values()) <= offsets


@pytest.mark.parametrize("name", FAULTY)
def test_damage_that_mxnet_finds_is_named(name):
    errors = [line for line in describe(FIXTURES / f"{name}.rec") if "error" in line]
    assert errors
    assert all(line["error"] and line["total_bytes"] > 0 for line in errors)


@pytest.mark.parametrize(
    ("name", "offset", "reason"),
    [
        ("magic_flipped_mid", 84, "no record starts here: found 0a23d74e instead of 0a23d7ce"),
        ("cflag_end_alone", 84, "a last part without a first part before it"),
        ("cflag_middle_alone", 84, "a middle part without a first part before it"),
        ("cflag_start_then_whole", 84, "a first part without a last part: another record starts at byte 116"),
        ("cflag_start_eof", 84, "cut short: the file ends before the last part of this record"),
        ("cflag_5", 84, "a part of unknown kind 5"),
        ("trunc_payload", 232, "cut short: 46 bytes are announced, the file ends after 20"),
        ("trailing_3", 288, "cut short: 3 bytes at the end of the file hold no record"),
        ("length_too_long_mid", 84, "its length is wrong: it runs over the record at byte 132"),
    ],
)
def test_damage_is_told_with_its_byte(name, offset, reason):
    damage = [found for found in scan(open_buffer(FIXTURES / f"{name}.rec")) if isinstance(found, Damage)]
    assert [(found.offset, found.reason) for found in damage] == [(offset, reason)]


def test_a_record_of_image_data_is_framed_as_the_reference_spells_it():
    payload = bytes.fromhex("00000000 00004040 0700000000000000 0000000000000000 4142434445")
    assert frame(payload).hex() == "0a23d7ce1d000000" + payload.hex() + "000000"


def test_magic_at_a_multiple_of_four_splits_a_record_and_elsewhere_not():
    assert frame(b"abcd" + MAGIC_BYTES + b"ef").hex() == "0a23d7ce04000020616263640a23d7ce0200006065660000"
    assert frame(b"abc" + MAGIC_BYTES) == MAGIC_BYTES + struct.pack("<I", 7) + b"abc" + MAGIC_BYTES + b"\0"
    assert frame(MAGIC_BYTES) == MAGIC_BYTES + struct.pack("<I", 1 << 29) + MAGIC_BYTES + struct.pack("<I", 3 << 29)


def test_a_record_as_long_as_another_and_itself_is_only_found_by_a_thorough_scan():
    small = frame(b"x" * 24)
    stretched = bytearray(small * 3)
    stretched[4:8] = struct.pack("<I", 24 + len(small))
    assert [type(found) for found in scan(bytes(stretched))] == [Record, Record]
    assert [found.offset for found in scan(bytes(stretched), thorough=True)] == [0, 32, 64]


pieces = st.one_of(st.just(MAGIC_BYTES), st.binary(max_size=9))
payload_lists = st.lists(st.lists(pieces, max_size=6).map(b"".join), min_size=1, max_size=6)


@settings(max_examples=150, deadline=None)
@given(payload_lists)
def test_any_payloads_come_back(payloads):
    buffer = b"".join(map(frame, payloads))
    records = list(scan(buffer, thorough=True))
    assert [content(buffer, record) for record in records] == payloads
    assert records[-1].end == len(buffer)


@settings(max_examples=150, deadline=None)
@given(payload_lists, st.data())
def test_a_file_cut_anywhere_gives_all_whole_records_and_names_the_rest(payloads, data):
    buffer = b"".join(map(frame, payloads))
    cut = data.draw(st.integers(0, len(buffer)))
    whole = [record for record in scan(buffer) if record.end <= cut]
    found = list(scan(buffer[:cut]))
    assert found[: len(whole)] == whole
    rest = found[len(whole) :]
    assert bool(rest) == (cut > (whole[-1].end if whole else 0))
    assert isinstance(rest[0], Damage) if rest else True


@settings(max_examples=300, deadline=None)
@given(payload_lists, st.data())
def test_scan_covers_every_byte_of_a_spoilt_file_once(payloads, data):
    buffer = bytearray(b"".join(map(frame, payloads)))
    for _ in range(data.draw(st.integers(0, 4))):
        at = data.draw(st.integers(0, len(buffer) - 1))
        buffer[at : at + data.draw(st.integers(0, 3))] = data.draw(pieces)
        if not buffer:
            return
    for thorough in (False, True):
        position = 0
        for found in scan(bytes(buffer), thorough=thorough):
            assert found.offset == position < found.end
            position = found.end
            if isinstance(found, Record):
                assert read_record(bytes(buffer), found.offset) == found
        assert position == len(buffer)


def spread(buffer: bytes) -> list[Record | Damage]:
    """What ``records`` finds, runs taken apart."""
    found: list[Record | Damage] = []
    for each in records(buffer, lambda count, at: buffer[at : at + count]):
        if not isinstance(each, Run):
            found.append(each)
            continue
        for number, (offset, length) in enumerate(zip(each.offsets.tolist(), each.lengths.tolist(), strict=True)):
            head = each.heads[8 * number : 8 * number + 8]
            assert head[:length] == buffer[offset + 8 : offset + 8 + min(8, length)]
            found.append(Record(offset, offset + 8 + (length + 3 & ~3), ((offset + 8, length),)))
    return found


@settings(max_examples=300, deadline=None)
@given(payload_lists, st.data())
def test_the_quick_reading_finds_what_a_scan_finds(payloads, data):
    buffer = bytearray(b"".join(map(frame, payloads)))
    for _ in range(data.draw(st.integers(0, 3))):
        at = data.draw(st.integers(0, len(buffer)))
        buffer[at : at + data.draw(st.integers(0, 5))] = data.draw(pieces)
    assert spread(bytes(buffer)) == list(scan(bytes(buffer)))


def test_long_runs_are_read_as_a_scan_reads_them():
    whole = b"".join(frame(b"x" * (row % 50)) for row in range(5000))
    assert spread(whole) == list(scan(whole))
    for spoilt in (whole[: len(whole) // 2] + b"junk" + whole[len(whole) // 2 :], whole[:-3], whole + b"junk"):
        assert spread(spoilt) == list(scan(spoilt))


@pytest.mark.parametrize("name", [*GOOD, *sorted(BROKEN)])
def test_fixtures_are_read_quickly_as_a_scan_reads_them(name):
    buffer = open_buffer(FIXTURES / f"{name}.rec")
    with fetching(FIXTURES / f"{name}.rec", buffer) as fetch:
        runs = list(records(buffer, fetch))
    assert [each for each in spread(bytes(buffer)) if isinstance(each, Damage)] == [
        each for each in runs if isinstance(each, Damage)
    ]
    view = memoryview(buffer)
    for found in scan(buffer):
        if isinstance(found, Record):
            assert payload(view, found.offset) == content(buffer, found)
        else:
            assert isinstance(payload(view, found.offset), str) == isinstance(read_record(buffer, found.offset), str)


def test_a_payload_is_a_view_into_the_file():
    view = memoryview(open_buffer(FIXTURES / "single_label.rec"))
    found = payload(view, 0)
    assert isinstance(found, memoryview)
    assert found.obj is view.obj
    assert payload(view, 4) == f"no record starts here: found {bytes(view[4:8]).hex()} instead of 0a23d7ce"
    assert payload(view, len(view)) == "cut short: 0 bytes at the end of the file hold no record"
    let_go(view.obj)
    assert payload(view, 0) == found


edits = st.lists(st.one_of(pieces, st.binary(max_size=6), st.integers(0, 40).map(lambda n: struct.pack("<I", n))),
                 max_size=4).map(b"".join)  # fmt: skip


@settings(max_examples=500, deadline=None)
@given(payload_lists, edits, st.booleans(), st.data())
def test_damage_costs_the_records_that_it_touches_and_no_others(payloads, put, thorough, data):
    """One stretch is cut out, overwritten or put in between. The exception is the one that the module's head names."""
    whole = b"".join(map(frame, payloads))
    start = data.draw(st.integers(0, len(whole)))
    stop = data.draw(st.integers(start, min(len(whole), start + 40)))
    spoilt = whole[:start] + put + whole[stop:]
    moved = len(spoilt) - len(whole)
    before = [each.offset for each in scan(whole) if each.end <= start]
    after = [each.offset + moved for each in scan(whole) if each.offset >= stop]
    found = [each for each in scan(spoilt, thorough=thorough) if isinstance(each, Record)]
    missed = set(before + after) - {each.offset for each in found}
    borders = {*before, *after, len(spoilt)}
    for offset in missed:
        swallower = next(each for each in found if each.offset < offset < each.end)
        assert swallower.offset < start + len(put)
        assert swallower.end in borders
        assert not thorough or (offset - swallower.offset) % 4
    assert not missed & set(before)


def test_a_byte_that_is_missing_costs_one_record():
    wanted = [frame(bytes([row]) * 50) for row in range(5)]
    spoilt = wanted[0] + wanted[1] + wanted[2][:30] + wanted[2][31:] + wanted[3] + wanted[4]
    size = len(wanted[0])
    assert [each.offset for each in scan(spoilt) if isinstance(each, Record)] == [0, size, 3 * size - 1, 4 * size - 1]
    damage = [each for each in scan(spoilt) if isinstance(each, Damage)]
    told = f"its length is wrong: it runs over the record at byte {3 * size - 1}"
    assert damage == [Damage(2 * size, 3 * size - 1, told)]


def header(kind: int, length: int) -> bytes:
    return MAGIC_BYTES + struct.pack("<I", kind << 29 | length)


def into_one_chain(count: int, last: bytes) -> bytes:
    """First parts that all lead into one long chain of middle parts."""
    firsts = b"".join(header(1, 8 * (count - number - 1)) for number in range(count))
    return firsts + header(2, 0) * count + last


HOSTILE = {  # name: (bytes that are made to cost time, seconds of a processor that they may take)
    "5 MB of magic words": (MAGIC_BYTES * 1_250_000, 2),
    "first parts": (header(1, 0) * 60_000, 4),
    "one first part, then middle parts": (header(1, 0) + header(2, 0) * 60_000, 4),
    "first parts that lead into one endless chain": (into_one_chain(30_000, b""), 4),
    "first parts that lead into one chain": (into_one_chain(30_000, header(3, 0)), 4),
    "first parts that lead into one chain before junk": (into_one_chain(30_000, header(3, 0) + b"junk"), 4),
    "records that all end in junk": (b"".join(header(0, 8 * row) for row in range(60_000, 0, -1)) + b"junkjunkj", 4),
    "records that all end with the file": (b"".join(header(0, 8 * row) for row in range(59_999, -1, -1)), 4),
}


@pytest.mark.parametrize("name", HOSTILE)
@pytest.mark.parametrize("way", ["quick", "scan", "thorough"])
def test_time_grows_with_the_size_of_a_file_and_no_faster(name, way):
    buffer, seconds = HOSTILE[name]
    started = time.process_time()
    found = spread(buffer) if way == "quick" else list(scan(buffer, thorough=way == "thorough"))
    assert time.process_time() - started < seconds
    assert found[-1].end == len(buffer)


@settings(max_examples=60, deadline=None)
@given(st.binary(max_size=200))
def test_garbage_between_two_records_costs_neither(garbage):
    first, last = frame(b"a" * 30), frame(b"b" * 31)
    found = list(scan(first + garbage + last))
    assert found[0].offset == 0
    assert isinstance(found[0], Record)
    assert found[-1].offset == len(first) + len(garbage)
    assert isinstance(found[-1], Record)


def test_files_are_written_whole_or_not_at_all(tmp_path):
    def records():
        yield 0, b"one"
        raise KeyboardInterrupt

    (tmp_path / "train.rec").write_bytes(b"before")
    with pytest.raises(KeyboardInterrupt):
        write_records(tmp_path / "train.rec", records())
    assert [path.name for path in tmp_path.iterdir()] == ["train.rec"]
    assert (tmp_path / "train.rec").read_bytes() == b"before"
