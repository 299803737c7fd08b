"""Turning one form into another."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
import time
from itertools import product
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from foveal.converting.convert import convert
from foveal.converting.reencode import Encoding
from foveal.converting.selection import Choice
from foveal.converting.targets import TARGETS
from foveal.data.boxes import to_pixels
from foveal.data.decode import decode_upright
from foveal.data.recognise import open_data
from foveal.errors import UserError
from foveal.files import lock
from foveal.formats.recordio import content, open_buffer, scan

sys.path.insert(0, str(Path(__file__).parent))
import little_sets as little

PAIRS = [
    (task, first, second)
    for task in ("classes", "multi-label", "boxes")
    for first, second in product(TARGETS, TARGETS)
    if task in TARGETS[first].tasks and task in TARGETS[second].tasks
]


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """Gives the little set of a task, written once in a form."""
    root = tmp_path_factory.mktemp("written")

    def write(task, form):
        place = root / f"{task}-{form}"
        if not place.exists():
            convert(little.dataset(root / task, task), place, form, quiet=True)
        return place

    return write


@pytest.mark.parametrize(("task", "first", "second"), PAIRS, ids=["-".join(each) for each in PAIRS])
def test_there_and_on_keeps_pictures_to_the_byte_labels_and_boxes(written, tmp_path, task, first, second):
    data = open_data(written(task, first), task=None)
    convert(data, tmp_path / "out", second, quiet=True)
    again = open_data(tmp_path / "out", task=None)
    wanted = little.contents(little.dataset(tmp_path / "in", task))
    assert (again.task, again.class_names) == (task, little.NAMES)
    assert little.same(little.contents(again), wanted, pixels=0.01)


@pytest.mark.parametrize("form", [form for form in TARGETS if form != "folder"])
def test_the_same_conversion_twice_is_equal_to_the_byte(tmp_path, form):
    data = little.dataset(tmp_path / "in", "boxes")
    for name in ("a", "b"):
        convert(data, tmp_path / name, form, quiet=True, threads=1 + (name == "b"))
    assert tree(tmp_path / "a") == tree(tmp_path / "b")


def tree(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


LAYOUTS = {
    "recordio": ("classes.txt", "test.idx", "test.rec", "train.idx", "train.rec", "val.idx", "val.rec"),
    "lst": ("classes.txt", "images/test/part1_3 x.tif", "images/val/part0_3 x.jpg", "test.lst", "train.lst", "val.lst"),
    "csv": ("classes.txt", "images/test/part1_3 x.tif", "images/val/part0_3 x.jpg", "test.csv", "train.csv", "val.csv"),
    "coco": ("annotations/instances_test.json", "annotations/instances_train.json", "annotations/instances_val.json",
             "classes.txt", "test/part1_3 x.tif", "val/part0_3 x.jpg"),
    "voc": ("Annotations/part1_3 x.xml", "ImageSets/Main/test.txt", "ImageSets/Main/train.txt",
            "ImageSets/Main/val.txt", "JPEGImages/part1_3 x.tif", "classes.txt"),
    "yolo": ("classes.txt", "data.yaml", "images/test/part1_3 x.tif", "images/val/part0_3 x.jpg",
             "labels/test/part1_3 x.txt", "labels/val/part0_3 x.txt"),
    "sagemaker-json": ("classes.txt", "test/part1_3 x.tif", "test_annotation/part1_3 x.json",
                       "validation/part0_3 x.jpg", "validation_annotation/part0_3 x.json"),
    "manifest": ("classes.txt", "images/test/part1_3 x.tif", "test.manifest", "train.manifest", "val.manifest"),
    "webdataset": ("classes.txt", "test-000000.tar", "train-000000.tar", "val-000000.tar"),
}  # fmt: skip


@pytest.mark.parametrize("form", LAYOUTS)
def test_files_lie_where_users_of_the_form_look_for_them(tmp_path, form):
    convert(little.dataset(tmp_path / "in", "boxes"), tmp_path / "out", form, quiet=True)
    assert sorted(tree(tmp_path / "out").keys() & set(LAYOUTS[form])) == sorted(LAYOUTS[form])


def test_the_texts_of_the_forms(tmp_path):
    data = little.dataset(tmp_path / "in", "boxes")
    for form in ("voc", "yolo", "sagemaker-json", "manifest", "csv", "coco", "lst"):
        convert(data, tmp_path / form, form, quiet=True)
    assert (
        (tmp_path / "voc/Annotations/part0_0 x.xml").read_text()
        == """\
<annotation>
 <folder>JPEGImages</folder>
 <filename>part0_0 x.jpg</filename>
 <size><width>40</width><height>30</height><depth>3</depth></size>
 <segmented>0</segmented>
 <object>
  <name>cat</name>
  <truncated>0</truncated><difficult>0</difficult>
  <bndbox><xmin>2.5</xmin><ymin>3</ymin><xmax>20.25</xmax><ymax>29</ymax></bndbox>
 </object>
 <object>
  <name>bird &amp; co</name>
  <truncated>0</truncated><difficult>0</difficult>
  <bndbox><xmin>10</xmin><ymin>10</ymin><xmax>12</xmax><ymax>12</ymax></bndbox>
 </object>
</annotation>
"""
    )
    assert (tmp_path / "yolo/labels/train/part0_0 x.txt").read_text() == (
        "0 0.284375 0.533333 0.44375 0.866667\n2 0.275 0.366667 0.05 0.066667\n"
    )
    assert (tmp_path / "yolo/labels/train/part1_0 x.txt").read_text() == ""
    assert (tmp_path / "yolo/data.yaml").read_text() == (
        "train: images/train\nval: images/val\ntest: images/test\nnames:\n  0: cat\n  1: a dog\n  2: bird & co\n"
    )
    assert json.loads((tmp_path / "sagemaker-json/train_annotation/part0_2 x.json").read_text()) == {
        "file": "part0_2 x.bmp",
        "image_size": [{"width": 40, "height": 30, "depth": 3}],
        "annotations": [{"class_id": 2, "left": 12.1, "top": 7.3, "width": 21.6, "height": 13.6}],
        "categories": [{"class_id": 0, "name": "cat"}, {"class_id": 1, "name": "a dog"},
                       {"class_id": 2, "name": "bird & co"}],
    }  # fmt: skip
    assert json.loads((tmp_path / "manifest/train.manifest").read_text().splitlines()[1]) == {
        "source-ref": "images/train/part1_0 x.png",
        "bounding-box": {"image_size": [{"width": 30, "height": 40, "depth": 3}], "annotations": []},
        "bounding-box-metadata": {"class-map": {}, "type": "groundtruth/object-detection"},
    }
    assert (tmp_path / "csv/train.csv").read_text().splitlines()[:4] == [
        "file,xmin,ymin,xmax,ymax,class,difficult,crowd",
        "images/train/part0_0 x.jpg,2.5,3,20.25,29,cat,0,0",
        "images/train/part0_0 x.jpg,10,10,12,12,bird & co,0,0",
        "images/train/part1_0 x.png,,,,,,,",
    ]
    assert json.loads((tmp_path / "coco/annotations/instances_val.json").read_text()) == {
        "images": [{"id": 0, "file_name": "part0_3 x.jpg", "width": 40, "height": 31}],
        "annotations": [
            {"id": 1, "image_id": 0, "category_id": 2, "bbox": [39, 30, 1, 1], "area": 1, "iscrowd": 0}
        ],
        "categories": [
            {"id": row, "name": name, "supercategory": ""} for row, name in enumerate(little.NAMES, start=1)
        ],
    }  # fmt: skip
    assert (tmp_path / "lst/test.lst").read_text() == (
        "0\t2\t5\t2\t0.01\t0.00625\t0.99\t0.99375\timages/test/part1_3 x.tif\n"
    )


def test_labels_of_classes_as_text(tmp_path):
    for task in ("classes", "multi-label"):
        data = little.dataset(tmp_path / task, task)
        for form in ("manifest", "csv", "lst"):
            convert(data, tmp_path / f"{task}-{form}", form, quiet=True)
    assert json.loads((tmp_path / "classes-manifest/val.manifest").read_text()) == {
        "source-ref": "images/val/part0_3 x.jpg",
        "class": 0,
        "class-metadata": {"class-name": "cat", "type": "groundtruth/image-classification"},
    }
    assert json.loads((tmp_path / "multi-label-manifest/val.manifest").read_text()) == {
        "source-ref": "images/val/part0_3 x.jpg",
        "class": [0, 1, 0],
        "class-metadata": {"class-map": {"1": "a dog"}, "type": "groundtruth/image-classification-multilabel"},
    }
    assert (tmp_path / "classes-csv/val.csv").read_text() == "file,label\nimages/val/part0_3 x.jpg,cat\n"
    assert (tmp_path / "multi-label-csv/val.csv").read_text() == (
        "file,cat,a dog,bird & co\nimages/val/part0_3 x.jpg,0,1,0\n"
    )
    assert (tmp_path / "multi-label-lst/val.lst").read_text() == "0\t0\t1\t0\timages/val/part0_3 x.jpg\n"


@pytest.mark.parametrize(
    ("name", "task", "there"),
    [
        ("a.rec", "boxes", ["a_test.rec", "a_train.rec", "a_val.idx"]),
        ("a.csv", "classes", ["a_test.csv", "a_train.csv", "a_train_images"]),
        ("a.json", "boxes", ["a_train.json", "a_train_images"]),
        ("a.tar", "classes", ["a_train.tar"]),
        ("a.manifest", "multi-label", ["a_val.manifest"]),
    ],
)
def test_a_name_with_a_suffix_tells_the_form_and_lies_beside_what_is_there(tmp_path, name, task, there):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine.txt").write_text("stays")
    convert(little.dataset(tmp_path / "in", task), tmp_path / "out" / name, quiet=True)
    found = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert set(there) | {"mine.txt", "classes.txt"} <= set(found)
    assert not [each for each in found if "partial" in each]


def test_one_split_becomes_the_very_file_that_is_named(tmp_path):
    data = little.dataset(tmp_path / "in", "classes")
    single = type(data)(data.train, None, None, data.class_names, True)
    convert(single, tmp_path / "cats.rec", quiet=True)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["cats.idx", "cats.rec", "classes.txt", "in"]
    again = open_data(tmp_path / "cats.rec")
    assert little.contents(again)["train"] == little.contents(single)["train"]
    convert(single, tmp_path / "folder", "folder", quiet=True)
    assert sorted(path.name for path in (tmp_path / "folder").iterdir()) == [*sorted(little.NAMES), "classes.txt"]


# Selections


def test_classes_are_renamed_joined_chosen_and_ordered(tmp_path):
    data = little.dataset(tmp_path / "in", "classes")
    choice = Choice(classes=("bird & co", "pet"), renamed={"cat": "pet", "a dog": "pet"})
    convert(data, tmp_path / "out", "folder", choice=choice, quiet=True)
    again = open_data(tmp_path / "out")
    assert again.class_names == ("bird & co", "pet")
    assert sorted(again.train.labels().values.tolist()) == [0, 0, 1, 1, 1, 1]
    report = convert(data, tmp_path / "cats", "folder", choice=Choice(classes=("cat", "a dog")), quiet=True)
    assert report.counts == {"train": 4, "validation": 1, "test": 1}
    assert "train: 2 pictures of other classes left out" in report.said


def test_boxes_of_other_classes_go_and_pictures_that_had_only_such(tmp_path):
    data = little.dataset(tmp_path / "in", "boxes")
    single = type(data)(data.train, None, None, data.class_names, True, task="boxes")
    report = convert(single, tmp_path / "out", "voc", choice=Choice(classes=("cat",)), quiet=True)
    assert report.said[:2] == (
        "train: 5 boxes of other classes left out",
        "train: 2 pictures that have objects of other classes only left out",
    )
    assert report.counts == {"train": 4}
    again = open_data(tmp_path / "out", task="boxes")
    assert (again.class_names, np.diff(again.train.labels().offsets).tolist()) == (("cat",), [1, 0, 1, 1])


def test_records_keep_their_layout_where_classes_are_renumbered(tmp_path):
    data = open_data(converted(tmp_path, "boxes", "recordio") / "train.rec", task="boxes")
    convert(data, tmp_path / "out", "recordio", choice=Choice(classes=("bird & co", "cat")), quiet=True)
    again = open_data(tmp_path / "out", task="boxes")
    first = again.train.stored(0)
    assert first[:2].tolist() == [2, 5]
    assert first[2::5].tolist() == [1, 0]
    assert first[3:7].tolist() == data.train.stored(0)[3:7].tolist()


def converted(tmp_path, task, form):
    convert(little.dataset(tmp_path / "in", task), tmp_path / f"first-{form}", form, quiet=True)
    return tmp_path / f"first-{form}"


def folder_of(tmp_path, counts, groups=None):
    """A folder per class with tiny PNG pictures, all different."""
    number = 0
    for name, count in counts.items():
        (tmp_path / "photos" / name).mkdir(parents=True)
        for row in range(count):
            kept = io.BytesIO()
            Image.fromarray(np.full((4, 4), number % 256, np.uint8)).save(kept, "PNG")
            prefix = f"p{row // groups}_" if groups else ""
            (tmp_path / "photos" / name / f"{prefix}{row}.png").write_bytes(kept.getvalue())
            number += 1
    return open_data(tmp_path / "photos")


def counts_of(out):
    data = open_data(out)
    splits = {"train": data.train, "validation": data.validation, "test": data.test}
    return {split: np.bincount(each.labels().values.astype(int)).tolist() for split, each in splits.items() if each}


def test_splits_are_stratified_and_seeded(tmp_path):
    data = folder_of(tmp_path, {"a": 50, "b": 20, "c": 30})
    for name, seed in (("x", 3), ("y", 3), ("z", 4)):
        choice = Choice(shares=(0.8, 0.1, 0.1), seed=seed)
        convert(data, tmp_path / name, "folder", choice=choice, quiet=True)
        assert counts_of(tmp_path / name) == {"train": [40, 16, 24], "validation": [5, 2, 3], "test": [5, 2, 3]}
    assert tree(tmp_path / "x") == tree(tmp_path / "y")
    assert tree(tmp_path / "x").keys() != tree(tmp_path / "z").keys()


def test_groups_by_a_pattern_of_the_path_stay_together(tmp_path):
    data = folder_of(tmp_path, {"a": 40, "b": 40}, groups=4)
    choice = Choice(shares=(0.8, 0.2), group_by=r"[ab]/p\d+_")
    convert(data, tmp_path / "out", "folder", choice=choice, quiet=True)
    assert counts_of(tmp_path / "out") == {"train": [32, 32], "validation": [8, 8]}
    names = {split: {path.name.split("_")[0] + path.parent.name for path in (tmp_path / "out" / split).rglob("*.png")}
             for split in ("train", "val")}  # fmt: skip
    assert not names["train"] & names["val"]


def test_a_sample_keeps_the_proportions(tmp_path):
    data = folder_of(tmp_path, {"a": 50, "b": 20, "c": 30})
    report = convert(data, tmp_path / "out", "folder", choice=Choice(sample=10), quiet=True)
    assert counts_of(tmp_path / "out") == {"train": [5, 2, 3]}
    assert report.said[0] == "train: a sample of 10 of 100 pictures, seed 0"


def test_pictures_are_dropped_by_path_by_name_and_as_bad_records_names_them(tmp_path):
    data = folder_of(tmp_path, {"a": 4, "b": 4})
    names = ("a/1.png", str(tmp_path / "photos/b/2.png"), data.train.where(0))
    report = convert(data, tmp_path / "out", "folder", choice=Choice(drop=names), quiet=True)
    assert report.said[0] == "dropped by name: 3 pictures"
    assert sorted(path.name for path in (tmp_path / "out").rglob("*.png")) == [
        "0.png",
        "1.png",
        "2.png",
        "3.png",
        "3.png",
    ]


# Encoding anew


def test_boxes_follow_a_resize_and_bytes_change(tmp_path):
    data = little.dataset(tmp_path / "in", "boxes")
    convert(data, tmp_path / "out", "coco", encoding=Encoding(15), quiet=True)
    again = open_data(tmp_path / "out", task="boxes")
    first = again.train.read(0)
    decoded = decode_upright(first.picture, 3)
    assert decoded.size == (20, 15)
    assert to_pixels(first.label, decoded).values.tolist() == [[1.25, 1.5, 10.125, 14.5], [5, 5, 6, 6]]
    kinds = [Image.open(io.BytesIO(again.train.read(row).picture)).format for row in range(6)]
    assert kinds == ["JPEG", "PNG", "JPEG", "JPEG", "JPEG", "PNG"]
    assert Image.open(io.BytesIO(again.train.read(5).picture)).mode == "L"


def test_pictures_that_lie_on_their_side_are_turned_with_their_boxes(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    (tmp_path / "in").mkdir()
    Image.new("RGB", (40, 30)).save(tmp_path / "in" / "1.jpg", exif=exif)
    image = {"id": 0, "file_name": "1.jpg", "width": 40, "height": 30}
    box = {"image_id": 0, "category_id": 1, "bbox": [10, 3, 20, 15]}
    data = {"images": [image], "annotations": [box], "categories": [{"id": 1, "name": "cat"}]}
    (tmp_path / "in" / "a.json").write_text(json.dumps(data))
    opened = open_data(tmp_path / "in", task="boxes")
    for name, encoding in (("a", None), ("b", Encoding())):
        convert(opened, tmp_path / name, "voc", encoding=encoding, quiet=True)
        sample = open_data(tmp_path / name, task="boxes").train.read(0)
        boxes = to_pixels(sample.label, decode_upright(sample.picture, 3))
        assert (boxes.size, boxes.values.tolist()) == ((30, 40), [[12, 10, 27, 30]])


# What is told


def test_what_a_form_does_not_express_is_told_with_counts(tmp_path):
    (tmp_path / "in").mkdir()
    for row in range(3):
        Image.new("RGB", (40, 30), (row, 0, 0)).save(tmp_path / "in" / f"{row}.png")
    images = [{"id": row, "file_name": f"{row}.png", "width": 40, "height": 30} for row in range(3)]
    boxes = [(0, [0, 0, 9, 9], 1), (0, [5, 5, 9, 9], 0), (1, [30, 20, 20, 20], 0), (1, [50, 5, 9, 9], 0),
             (1, [3, 3, 0, 4], 0)]  # fmt: skip
    annotations = [{"image_id": image, "category_id": 1, "bbox": box, "iscrowd": crowd} for image, box, crowd in boxes]
    data = {"images": images, "annotations": annotations, "categories": [{"id": 1, "name": "cat"}]}
    (tmp_path / "in" / "a.json").write_text(json.dumps(data))
    opened = open_data(tmp_path / "in", task="boxes")
    said = {
        form: convert(opened, tmp_path / form, form, quiet=True).said for form in ("yolo", "voc", "coco", "recordio")
    }
    where = f"{tmp_path}/in/1.png (a.json, image id 1)"
    assert said["yolo"] == (
        f"a box without area is left out; {where}, object 3: 3, 3, 3, 7",
        f"a box lies outside its picture and is left out; {where}, object 2: 50, 5, 59, 14",
        f"{tmp_path}/yolo: yolo, 3 train",
        "2 boxes that reach beyond their pictures are cut to them",
        "1 boxes that nothing is left of in their pictures are left out",
        "yolo has no crowds: 1 are written as objects like all others",
    )
    assert said["voc"][-1] == "voc has no crowds: 1 are written as difficult objects"
    assert said["coco"][-1] == "1 boxes that nothing is left of in their pictures are left out"
    assert said["recordio"][-3:] == (
        "recordio has no crowds: 1 are written as difficult objects",
        "1 pictures have no objects: Foveal reads such records, MXNet and the original stop",
        "recordio holds numbers of classes; their names are in classes.txt",
    )
    back = convert(open_data(tmp_path / "voc", task="boxes"), tmp_path / "c2", "coco", quiet=True)
    assert back.said[-1] == "coco has no mark for difficult objects: 1 are written without it"
    assert open_data(tmp_path / "coco", task="boxes").train.boxes(0).crowd.tolist() == [True, False]


def test_unreadable_pictures_are_named_skipped_and_bounded(tmp_path):
    data = folder_of(tmp_path, {"a": 30, "b": 10})
    (tmp_path / "photos/a/3.png").write_bytes(b"no picture")
    (tmp_path / "photos/b/4.png").write_bytes(b"")
    out = tmp_path / "out"
    report = convert(data, out, "lst", quiet=True)
    assert report.counts == {"train": 38}
    assert report.said[1].startswith(f"left out: 2 pictures; the first: {tmp_path}/photos/a/3.png: is not a picture")
    lines = [json.loads(line) for line in (tmp_path / "out.bad_records.jsonl").read_text().splitlines()]
    assert lines[1] == {"where": f"{tmp_path}/photos/b/4.png", "reason": "the picture file is empty"}
    with pytest.raises(UserError) as caught:
        convert(data, tmp_path / "strict", "lst", bad_records_limit=0.03, quiet=True)
    assert str(caught.value) == (
        f"bad_records_limit: 2 of 40 pictures can't be read, more than 3%; the first: {tmp_path}/photos/a/3.png: "
        "is not a picture of a known kind\n"
        f"Mend or drop those that {tmp_path}/strict.bad_records.jsonl names, or raise bad_records_limit."
    )
    with pytest.raises(UserError, match="2 of 40 pictures can't be read"):
        convert(data, tmp_path / "strict", "lst", bad_records_limit=0.03, quiet=True)
    convert(data, tmp_path / "strict", "lst", bad_records_limit=0.5, quiet=True)  # goes on where it stopped
    assert tree(tmp_path / "strict") == tree(out)


# Kills


COMMAND = [sys.executable, "-m", "foveal.cli.main", "convert"]


@pytest.mark.parametrize("form", ["recordio", "webdataset", "yolo", "lst"])
def test_killed_and_started_again_it_is_as_if_nothing_had_been(tmp_path, form):
    source = tmp_path / "in"
    for row in range(300):
        (source / f"{row}.png").parent.mkdir(exist_ok=True)
        Image.fromarray(np.full((8, 8), row % 256, np.uint8)).save(source / f"{row}.png")
    images = [{"id": row, "file_name": f"{row}.png", "width": 8, "height": 8} for row in range(300)]
    boxes = [{"image_id": row, "category_id": 1, "bbox": [1, 1, row % 6 + 1, 2]} for row in range(300)]
    coco = {"images": images, "annotations": boxes, "categories": [{"id": 1, "name": "cat"}]}
    (source / "a.json").write_text(json.dumps(coco))
    convert(open_data(source, task="boxes"), tmp_path / "whole", form, quiet=True)
    journal = tmp_path / "out.partial" / "journal.jsonl"
    process = subprocess.Popen([*COMMAND, str(source), str(tmp_path / "out"), "--to", form, "--num-thread", "1"])
    while process.poll() is None and not (journal.exists() and journal.read_bytes().count(b"\n") > 20):
        time.sleep(0.001)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not (tmp_path / "out").exists()
    done = journal.read_bytes().count(b"\n")
    with journal.open("ab") as file:
        file.write(b'{"split":"train","numb')  # a line that was being written
    for container in (tmp_path / "out.partial" / "data").glob("train*"):
        if container.is_file():
            with container.open("ab") as file:
                file.write(b"half a record")
    again = subprocess.run([*COMMAND, str(source), str(tmp_path / "out"), "--to", form], capture_output=True, text=True)
    assert again.returncode == 0, again.stderr
    assert 20 < done < 302
    assert tree(tmp_path / "out") == tree(tmp_path / "whole")
    assert not journal.parent.exists()


def test_killed_while_files_are_put_in_their_place_it_puts_the_others_there(tmp_path, monkeypatch):
    data = little.dataset(tmp_path / "in", "classes")
    (tmp_path / "out").mkdir()
    renamed = []

    def once(a, b, rename=os.rename):
        if renamed:
            raise KeyboardInterrupt
        renamed.append(b)
        rename(a, b)

    monkeypatch.setattr(os, "rename", once)
    with pytest.raises(KeyboardInterrupt):
        convert(data, tmp_path / "out" / "a.rec", quiet=True)
    monkeypatch.undo()
    convert(data, tmp_path / "out" / "a.rec", quiet=True)
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "a_test.idx", "a_test.rec", "a_train.idx", "a_train.rec", "a_val.idx", "a_val.rec", "classes.txt",
    ]  # fmt: skip


def test_records_are_framed_and_numbered(tmp_path):
    convert(little.dataset(tmp_path / "in", "classes"), tmp_path / "out", "recordio", quiet=True)
    buffer = open_buffer(tmp_path / "out/train.rec")
    offsets = [found.offset for found in scan(buffer, thorough=True)]
    lines = (tmp_path / "out/train.idx").read_text().splitlines()
    assert lines == [f"{number}\t{offset}" for number, offset in enumerate(offsets)]
    payloads = [content(buffer, found) for found in scan(buffer)]
    assert [int.from_bytes(payload[8:16], "little") for payload in payloads] == list(range(6))


# Wrong inputs


def fails(tmp_path, data, out="out", form=None, **options):
    with pytest.raises(UserError) as caught:
        convert(data, tmp_path / out, form, quiet=True, **options)
    assert not (tmp_path / f"{out}.partial" / "data").exists()
    return str(caught.value).replace(str(tmp_path), "T")


FORMS = ", ".join(TARGETS)


def test_forms_that_can_not_be_told_or_can_not_express_the_labels(tmp_path):
    data = little.dataset(tmp_path / "in", "boxes")
    assert fails(tmp_path, data) == f"T/out: its name doesn't tell the form to write\nGive one with --to: {FORMS}."
    assert fails(tmp_path, data, form="parquet") == f"to: 'parquet' is no form that is written\nKnown forms: {FORMS}."
    assert fails(tmp_path, data, "out.rec", "voc") == (
        "T/out.rec: its name is one of a file of recordio, and voc is asked for\nName a folder, or leave --to voc out."
    )
    assert fails(tmp_path, data, form="folder") == (
        "T/out: the data has boxes, which the form folder can't express\nThese can: recordio, lst, csv, coco, voc, "
        "yolo, sagemaker-json, manifest, webdataset."
    )
    several = little.dataset(tmp_path / "in", "multi-label")
    assert fails(tmp_path, several, form="folder").startswith("T/out: the data has several labels a picture, which")
    single = little.dataset(tmp_path / "in", "classes")
    assert fails(tmp_path, single, form="coco").startswith("T/out: the data has one class a picture, which the form")


def test_nothing_is_overwritten(tmp_path):
    data = little.dataset(tmp_path / "in", "classes")
    remedy = "\nChoose another place, or move it away: nothing is overwritten."
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine").write_text("mine")
    assert fails(tmp_path, data, form="lst") == "T/out: is there already" + remedy
    (tmp_path / "a_train.rec").write_text("mine")
    assert fails(tmp_path, data, "a.rec") == "T/a_train.rec: is there already" + remedy
    (tmp_path / "classes.txt").write_text("mine")
    assert fails(tmp_path, data, "b.csv") == "T/classes.txt: is there already" + remedy
    assert (tmp_path / "classes.txt").read_text() == "mine"


def test_another_job_in_the_same_place_is_refused(tmp_path, monkeypatch):
    data = little.dataset(tmp_path / "in", "classes")

    def stop(*args):
        raise KeyboardInterrupt

    monkeypatch.setattr("foveal.converting.convert._write_annotations", stop)
    with pytest.raises(KeyboardInterrupt):
        convert(data, tmp_path / "out", "lst", quiet=True)
    monkeypatch.undo()
    with pytest.raises(UserError) as caught:
        convert(data, tmp_path / "out", "csv", quiet=True)
    assert str(caught.value) == (
        f"{tmp_path}/out.partial: it holds an unfinished job of other data or options\n"
        "Finish that with the command that began it, or remove the folder."
    )
    convert(data, tmp_path / "out", "lst", quiet=True)
    (tmp_path / "b.partial" / "data").mkdir(parents=True)
    with pytest.raises(UserError, match="it holds something that this didn't write"):
        convert(data, tmp_path / "b", "lst", quiet=True)


@pytest.mark.parametrize(
    ("choice", "told"),
    [
        (Choice(classes=("cow",)), "T/in: it has no class 'cow'\nIts classes: cat, a dog, bird & co."),
        (Choice(renamed={"cow": "cat"}), "T/in: it has no class 'cow'\nIts classes: cat, a dog, bird & co."),
        (Choice(classes=("cat", "cat")), "classes: the class 'cat' is given twice\nName each once."),
        (
            Choice(drop=("no.jpg",)),
            "T/in: no picture is 'no.jpg'\nGive its path as the data names it, or as bad_records.jsonl does.",
        ),
        (Choice(group_by="("), "group_by: '(' is no regular expression: missing ), unterminated subpattern at "
                               "position 0\nExample: '(patient[0-9]+)'."),
        (Choice(group_by="zz"), "T/in: 'zz' matches none of its paths, such as part0/0 x.jpg\n"
                              "Give what matches a part of each, or a column of a table."),
        (Choice(shares=(0.5, 0.2)), "0.5,0.2 are no shares\nGive two or three above 0 that make 1: 0.8,0.1,0.1 "
                                    "(train, val, test)."),
        (
            Choice(shares=(0.5, 0.5)),
            "T/in: it has validation data already, and 0.5,0.5 would make more\n"
            "Name the training data alone, or leave the split out.",
        ),
        (Choice(classes=("bird & co",)), "T/in: no picture of the validation data is left\nChoose more of it."),
    ],
)  # fmt: skip
def test_choices_that_can_not_be_meant(tmp_path, choice, told):
    assert fails(tmp_path, little.dataset(tmp_path / "in", "classes"), form="lst", choice=choice) == told


@pytest.mark.parametrize("task", ["classes", "boxes"])
def test_a_manifest_names_its_pictures_where_they_will_be_copied_to(tmp_path, bucket, task):
    data = little.dataset(tmp_path / "in", task)
    prefix = f"s3://{bucket.name}/sets/a b"
    report = convert(data, tmp_path / "out", "manifest", prefix=prefix, quiet=True)
    assert f"pictures are named below {prefix}/: copy images/train, images/val, images/test there" in report.said
    first = json.loads((tmp_path / "out/train.manifest").read_text().splitlines()[0])
    assert first["source-ref"] == f"{prefix}/images/train/part0_0 x.jpg"
    beside = open_data(tmp_path / "out", root=tmp_path / "out", task=None)
    assert little.same(little.contents(data), little.contents(beside))
    bucket.put_folder(tmp_path / "out", "sets/a b")
    for split in ("train", "val", "test"):
        (tmp_path / "out/images" / split).rename(tmp_path / f"moved-{split}")
    assert little.same(little.contents(data), little.contents(open_data(tmp_path / "out", task=None)))
    assert little.same(little.contents(data), little.contents(open_data(prefix, task=None)))


def test_a_manifest_that_is_named_itself_names_them_there_too(tmp_path):
    convert(little.dataset(tmp_path / "in", "classes"), tmp_path / "a.manifest", prefix="gs://b/", quiet=True)
    line = (tmp_path / "a_train.manifest").read_text().splitlines()[0]
    assert json.loads(line)["source-ref"] == "gs://b/a_train_images/part0_0 x.jpg"


def test_a_name_that_several_pictures_have_drops_none(tmp_path):
    data = folder_of(tmp_path, {"a": 2, "b": 2})
    assert fails(tmp_path, data, form="lst", choice=Choice(drop=("1.png",))) == (
        "T/photos: 2 pictures are called '1.png'\nGive its path as the data names it, or as bad_records.jsonl does."
    )


def test_records_have_no_names_to_group_by(tmp_path):
    data = open_data(converted(tmp_path, "classes", "recordio"))
    assert fails(tmp_path, data, form="lst", choice=Choice(group_by="a")) == (
        "T/first-recordio: its pictures have no names to group them by\nLeave it out."
    )


@pytest.mark.parametrize("name", ["a/b", "train", ".x", "a\\b"])
def test_classes_that_can_not_be_folders(tmp_path, name):
    data = little.dataset(tmp_path / "in", "classes")
    choice = Choice(renamed={"cat": name})
    assert fails(tmp_path, data, form="folder", choice=choice) == (
        f"T/in: the class {name!r} can't be the name of a folder of pictures\n"
        "Rename it: --map OLD=NEW. (Slashes, hidden names and names of splits.)"
    )


def test_a_class_name_with_a_control_character_is_refused(tmp_path):
    data = little.dataset(tmp_path / "in", "classes")
    assert fails(tmp_path, data, form="lst", choice=Choice(renamed={"cat": "c\x07at"})) == (
        "T/in: the name of the class 'c\\x07at' has a control character\nRename the class: --map OLD=NEW."
    )


def test_a_split_without_a_readable_picture(tmp_path):
    data = little.dataset(tmp_path / "in", "classes")
    (tmp_path / "in" / "part1/3 x.tif").write_bytes(b"no picture")
    assert fails(tmp_path, data, form="lst", bad_records_limit=1) == (
        "none of its test pictures can be read; the first: T/in/part1/3 x.tif: is not a picture of a known kind\n"
        "Look at the files: they must be pictures that Pillow opens."
    )


@pytest.mark.parametrize("name", ["Type", "file name", "split"])
def test_classes_that_can_not_be_columns_beside_others(tmp_path, name):
    data = little.dataset(tmp_path / "in", "multi-label")
    assert fails(tmp_path, data, form="csv", choice=Choice(renamed={"cat": name})) == (
        f"T/in: the class {name!r} can't be a column of 0 and 1: tables have other things in one called so\n"
        "Rename it: --map OLD=NEW."
    )


def test_two_at_once_in_one_place_are_refused(tmp_path):
    data = little.dataset(tmp_path / "in", "classes")
    with lock(tmp_path / "out.partial", ""), pytest.raises(UserError) as caught:
        convert(data, tmp_path / "out", "lst", quiet=True)
    assert str(caught.value) == (
        f"{tmp_path}/out.partial: it is being written by another process\nWait for it, or name another output folder."
    )
    convert(data, tmp_path / "out", "lst", quiet=True)
