"""Faults that are known of real sets are found, and no others are made up: the table in docs/check.md.

Each set's README tells what is wrong with it. Slow: 2,000 pictures are decoded.
"""

from __future__ import annotations

import zipfile
from pathlib import Path

import pytest

from foveal.checking.examine import Examination, examine
from foveal.checking.finding import Finding
from foveal.data.recognise import open_data
from foveal.records import Reading

pytestmark = pytest.mark.slow

DEFECTS = {1: "open", 2: "short", 3: "mousebite", 4: "spur", 5: "copper", 6: "pin-hole"}


def unpack(shared: Path, name: str, folder: Path, *parts: str) -> Path:
    for part in parts:
        with zipfile.ZipFile(shared / "data" / name / f"{part}.zip") as archive:
            archive.extractall(folder)
    return folder


def look(path: Path, **options: object) -> Examination:
    return examine(open_data(path, task=None, **options), quiet=True)  # type: ignore[arg-type]


def codes(examination: Examination) -> list[str]:
    return [each.code for each in examination.findings]


def found(examination: Examination, code: str) -> Finding:
    (only,) = (each for each in examination.findings if each.code == code)
    return only


def names(finding: Finding) -> list[str]:
    """The pictures of each suspect, without folders and suffixes."""
    return [" ~ ".join(sorted(Path(where.split(" (")[0]).stem for where in each.where)) for each in finding.suspects]


def test_bccd_boxes_without_area_and_uneven_classes(shared, tmp_path):
    told = look(unpack(shared, "bccd", tmp_path, "train", "val", "test"))
    flat = found(told, "box-without-area")
    assert flat.what == "2 boxes have no area and are left out"
    assert [(Path(each.where[0].split(" (")[0]).name, each.why) for each in flat.suspects] == [
        ("BloodImage_00343.jpg", "181, 329, 181, 329"),
        ("BloodImage_00338.jpg", "504, 337, 504, 337"),
    ]
    assert found(told, "class-uneven").what == "train: classes are uneven: 2,381 boxes of RBC, 209 of Platelets"
    assert codes(told) == ["box-without-area", "class-uneven"]


def test_face_mask_ids_from_0_tiny_boxes_and_two_pairs(shared):
    told = look(shared / "data" / "face-mask")
    assert found(told, "category-ids").what == ("category ids: 0 to 2; the classes are numbered 0 to 2 in their order")
    assert {name: each.boxes.tiny for name, each in told.splits.items() if each.boxes} == {
        "train": 88,
        "validation": 40,
    }
    pairs = [[name.removeprefix("maksssksksss").split("_")[0] for name in pair.split(" ~ ")]
             for pair in names(found(told, "near-duplicate"))]  # fmt: skip
    assert sorted(map(sorted, pairs)) == [["156", "545"], ["514", "680"]]
    assert codes(told) == ["tiny-box-after-resize", "category-ids", "near-duplicate", "tiny-box"]


def test_faces_pairs_within_and_across_splits_and_no_more(shared):
    told = look(shared / "data" / "faces")
    where = {code: [tuple(Path(place).relative_to(shared / "data" / "faces").as_posix() for place in each.where)
                    for each in found(told, code).suspects]
             for code in ("near-duplicate-across-splits", "near-duplicate")}  # fmt: skip
    assert where == {
        "near-duplicate-across-splits": [
            ("train/s14/03.pgm", "test/s14/02.pgm"),
            ("train/s34/02.pgm", "test/s34/03.pgm"),
        ],
        "near-duplicate": [("train/s17/03.pgm", "train/s17/04.pgm"), ("train/s13/07.pgm", "train/s13/08.pgm")],
    }
    assert told.splits["train"].grey == 280


def test_deeppcb_lists_that_name_no_file_and_mixed_channels(shared, tmp_path):
    unpack(shared, "deeppcb", tmp_path, "train", "test")
    for name in ("trainval.txt", "test.txt"):
        (tmp_path / name).write_bytes((shared / "data" / "deeppcb" / name).read_bytes())
    reading = Reading(columns=("x1", "y1", "x2", "y2", "class"), names=DEFECTS)
    told = look(tmp_path / "trainval.txt", validation=tmp_path / "test.txt", form="boxes", reading=reading)
    lists = [each.what for each in told.findings if each.code == "other-names"]
    assert ["111 of the 111 pairs of trainval.txt aren't where it says" in line for line in lists[:1]] == [True]
    assert len(lists) == 2
    mixed = found(told, "mixed-channels")
    assert mixed.what == "6 pictures are in colour, the others grey"
    assert names(mixed) == [
        f"{board}_test" for board in ("00041003", "00041094", "13000014", "20085118", "44000112", "90100017")
    ]
    assert set(codes(told)) == {"other-names", "mixed-channels"}
    assert told.splits["train"].counts == [145, 111, 148, 128, 104, 104]


def test_xray_decimals_names_in_the_xml_and_the_ten_pairs(shared, tmp_path):
    told = look(unpack(shared, "xray", tmp_path / "xray", "train", "test"))
    lines = [each.what for each in told.findings if each.code == "other-names"]
    assert [line.split(" annotations")[0] for line in lines] == ["other names: 255", "other names: 90"]
    assert "the first: 0001.xml names P00005.jpg" in lines[0]
    assert told.splits["train"].boxes is not None and told.splits["train"].boxes.boxes == 255
    assert "box-without-area" not in codes(told)
    twice = look(unpack(shared, "xray", tmp_path / "twice", "faults") / "faults")
    differ = found(twice, "duplicate-labels-differ")
    assert (differ.severity, differ.count) == ("warning", 10)
    assert names(differ)[0] == "0004 ~ 0547"


def test_magnetic_tile_pairs_all_within_a_split(shared, tmp_path):
    told = look(unpack(shared, "magnetic-tile", tmp_path, "train", "test"))
    assert codes(told) == ["near-duplicate"]
    assert found(told, "near-duplicate").count >= 94
    assert [told.splits[name].grey for name in ("train", "test")] == [301, 101]


def test_multilabel_photos_crowds_gaps_and_the_grey_one(shared, tmp_path):
    unpack(shared, "multilabel-photos", tmp_path, "train", "test")
    for name in ("instances_train.json", "instances_test.json"):
        (tmp_path / name).write_bytes((shared / "data" / "multilabel-photos" / name).read_bytes())
    told = look(tmp_path / "instances_train.json", validation=tmp_path / "instances_test.json")
    assert found(told, "crowd").what == "35 boxes cover a crowd of objects"
    assert found(told, "category-ids").what == (
        "category ids: 1 to 90 with gaps; the classes are numbered 0 to 79 in their order"
    )
    assert found(told, "mixed-channels").what == "1 picture is grey, the others in colour"
    least = min(each.boxes.width.least for each in told.splits.values() if each.boxes and each.boxes.width)
    assert least < 1
    assert "near-duplicate" not in codes(told)


def test_vehicle_damage_has_nothing_that_a_program_finds(shared, tmp_path):
    assert codes(look(unpack(shared, "vehicle-damage", tmp_path, "train", "test"))) == []
