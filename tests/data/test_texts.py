"""Forms of text on their way from a path to a data set: what is recognised, said and refused."""

from __future__ import annotations

import json
import zipfile

import numpy as np
import pytest

from foveal.cli.shared import read_texts
from foveal.data.recognise import open_data
from foveal.errors import UserError
from foveal.formats.boxlabels import compose
from foveal.formats.imagerecord import pack
from foveal.formats.recordio import write_records
from foveal.records import Boxes, BoxSource, Reading

BOX = {
    "image_size": [{"width": 50, "height": 40, "depth": 3}],
    "annotations": [{"class_id": 0, "left": 1, "top": 2, "width": 3, "height": 4}],
}


def make(root, *names):
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(name.encode())
    return root


def manifest(path, *labels):
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = ({"source-ref": f"{row}.jpg", "class": label} for row, label in enumerate(labels))
    path.write_text("\n".join(map(json.dumps, lines)))
    make(path.parent, *(f"{row}.jpg" for row in range(len(labels))))
    return path


@pytest.mark.parametrize("name", ["train.manifest", "train.jsonl", "train.json"])
def test_a_manifest_is_recognised(tmp_path, name):
    data = open_data(manifest(tmp_path / name, 1, 0), task=None)
    assert (data.task, data.class_names, data.named) == ("classes", ("0", "1"), False)
    assert data.said == (f"{name}: labels by the attribute class", "train: an augmented manifest, 2 pictures")


def test_manifests_of_splits_are_matched_by_the_names_of_their_classes(tmp_path):
    manifest(tmp_path / "train.manifest", "dog", "cat")
    manifest(tmp_path / "validation.jsonl", "cat")
    data = open_data(tmp_path, task=None)
    assert (data.class_names, data.validation.labels().values.tolist()) == (("cat", "dog"), [0])
    manifest(tmp_path / "validation.jsonl", "cow")
    with pytest.raises(UserError) as caught:
        open_data(tmp_path)
    assert str(caught.value) == (
        f"{tmp_path}/validation.jsonl, line 1: the validation data: the class cow is not among the known classes (cat,"
        " dog)\nThe classes are those of the training data, or of a classes.txt beside it: mend the name, or add it."
    )


def test_a_manifest_carries_classes_several_of_them_or_boxes(tmp_path):
    assert open_data(manifest(tmp_path / "a.manifest", [1, 0], [1, 1])).task == "multi-label"
    data = open_data(manifest(tmp_path / "a.manifest", BOX), task=None)
    assert (data.task, data.train.boxes(0).values.tolist()) == ("boxes", [[1, 2, 4, 6]])
    with pytest.raises(UserError) as caught:
        open_data(tmp_path / "a.manifest", task="classes")
    assert str(caught.value) == (
        f"{tmp_path}/a.manifest: it has boxes, and classes are asked for\n"
        "Train on it what it has, or name another attribute with --label-attribute."
    )
    with pytest.raises(UserError, match="it has classes, and boxes are asked for"):
        open_data(manifest(tmp_path / "a.manifest", 1), task="boxes")


def test_several_attributes_are_chosen_from_by_name(tmp_path):
    make(tmp_path, "1.jpg")
    (tmp_path / "a.manifest").write_text('{"source-ref": "1.jpg", "kind": "cat", "tags": ["a", "b"]}\n')
    reading = Reading(label_attribute="tags")
    assert open_data(tmp_path / "a.manifest", task=None, reading=reading).class_names == ("a", "b")


def test_a_table_of_0_and_1_beside_folders_of_bare_pictures_describes_them(tmp_path):
    make(tmp_path, "train/1.jpg", "train/2.jpg", "test/3.jpg")
    (tmp_path / "train.csv").write_text("file,person,dog\n1.jpg,1,1\n2.jpg,0,0\n")
    (tmp_path / "test.csv").write_text("file,dog,person,grey\n3.jpg,1,0,1\n")
    data = open_data(tmp_path, task=None)
    assert (data.task, data.class_names) == ("multi-label", ("person", "dog"))
    assert data.test.read(0).label.tolist() == [0, 1]
    assert data.said[0] == (
        f"train.csv: pictures by the column file, labels by 2 columns of 0 and 1; pictures in {tmp_path}/train"
    )


def test_a_table_of_marks_beside_folders_of_classes_is_no_label(tmp_path):
    make(tmp_path, "cat/1.jpg", "dog/2.jpg")
    (tmp_path / "notes.csv").write_text("file,flash,blurred\ncat/1.jpg,1,0\ndog/2.jpg,1,1\n")
    assert open_data(tmp_path, task=None).train.form == "folder"
    assert open_data(tmp_path, task=None, reading=Reading(labels=("flash", "blurred"))).task == "multi-label"


def test_multilabel_photos_open_with_the_counts_of_their_readme(tmp_path, shared):
    folder = shared / "data" / "multilabel-photos"
    for split in ("train", "test"):
        (tmp_path / f"{split}.csv").write_bytes((folder / f"{split}.csv").read_bytes())
        with zipfile.ZipFile(folder / f"{split}.zip") as archive:
            archive.extractall(tmp_path)
    data = open_data(tmp_path, task=None)
    counts = [source.labels().values.reshape(-1, 12).sum(axis=0).tolist() for source in (data.train, data.test)]
    assert (len(data.train), len(data.test), data.class_names[:2]) == (234, 77, ("person", "vehicle"))
    assert counts == [
        [109, 44, 50, 51, 78, 79, 34, 36, 48, 46, 22, 20], [51, 23, 14, 10, 18, 22, 11, 4, 13, 15, 15, 15],
    ]  # fmt: skip


def test_a_table_of_boxes_is_told_by_its_columns(tmp_path):
    make(tmp_path, "1.jpg", "2.jpg")
    rows = "1.jpg,1,2,3,4,dog,train\n2.jpg,1,2,3,4,cat,val\n1.jpg,1,2,3,4,cat,train\n"
    (tmp_path / "all.csv").write_text(f"file,xmin,ymin,xmax,ymax,class,split\n{rows}")
    for path in (tmp_path, tmp_path / "all.csv"):
        data = open_data(path, task=None)
        assert (data.task, data.class_names, len(data.train), len(data.validation)) == ("boxes", ("cat", "dog"), 1, 1)
    assert data.said[:2] == (
        "all.csv: pictures by the column file, boxes by xmin, ymin, xmax, ymax in pixels, classes by class, "
        "splits by split",
        "train: a table, 1 picture, 2 boxes, 2 classes",
    )
    assert open_data(tmp_path, task="boxes").task == "boxes"
    assert open_data(tmp_path, task="classes").task == "classes"


def test_boxes_are_asked_of_a_table_that_has_none(tmp_path):
    make(tmp_path, "1.jpg")
    (tmp_path / "all.csv").write_text("file,label\n1.jpg,cat\n")
    with pytest.raises(UserError) as caught:
        open_data(tmp_path / "all.csv", task="boxes")
    assert (caught.value.what, caught.value.where) == ("it has no columns of boxes", str(tmp_path / "all.csv"))


def test_a_text_of_boxes_is_read_by_its_columns_and_named(tmp_path):
    make(tmp_path, "train/1.jpg", "test/2.jpg")
    (tmp_path / "train/1.txt").write_text("1 2 30 40 2\n5 6 7 8 4\n")
    (tmp_path / "test/2.txt").write_text("1 2 30 40 4\n")
    reading = Reading(columns=("x1", "y1", "x2", "y2", "class"), names={4: "short", 2: "open"})
    for form in (None, "boxes"):
        data = open_data(tmp_path, task=None, form=form, reading=reading)
        assert (data.task, data.class_names, data.named) == ("boxes", ("open", "short"), True)
        assert data.train.boxes(0).cls.tolist() == [0, 1]
        assert data.test.boxes(0).cls.tolist() == [1]
    assert "classes in the order of their numbers in --names: open, short" in data.said
    unnamed = open_data(tmp_path, task="boxes", form="boxes", reading=Reading(columns=reading.columns))
    assert (unnamed.class_names, unnamed.named) == (("0", "1", "2", "3", "4"), False)


def test_a_text_of_all_pictures_may_be_named_itself_with_the_folder_of_the_pictures(tmp_path):
    make(tmp_path, "photos/1.jpg", "lists/x")
    (tmp_path / "lists/all.txt").write_text("1.jpg 1 2 30 40 cat\n")
    reading = Reading(columns=("file", "x1", "y1", "x2", "y2", "class"))
    data = open_data(tmp_path / "lists/all.txt", task=None, root=tmp_path / "photos", reading=reading)
    assert (data.train.where(0), data.class_names) == (f"{tmp_path}/photos/1.jpg (all.txt, line 1)", ("cat",))
    with pytest.raises(UserError, match="this text doesn't say to which pictures its boxes belong"):
        open_data(tmp_path / "lists/all.txt", task=None, reading=Reading(columns=reading.columns[1:]))


def test_names_for_classes_that_have_some_are_refused(tmp_path):
    make(tmp_path, "1.jpg")
    (tmp_path / "1.txt").write_text("1 2 30 40 cat\n")
    reading = Reading(columns=("x1", "y1", "x2", "y2", "class"), names={1: "dog"})
    with pytest.raises(UserError) as caught:
        open_data(tmp_path, task=None, reading=reading)
    assert str(caught.value) == (
        f"{tmp_path}: its classes have names (cat), and --names is for numbers\nLeave --names out."
    )


def test_records_and_lists_with_gaps_are_numbered_anew_by_names(tmp_path):
    write_records(tmp_path / "a.rec", ((row, pack(b"x", label, row)) for row, label in enumerate((2.0, 34.0))))
    data = open_data(tmp_path / "a.rec", reading=Reading(names={2: "2", 34: "34"}))
    assert (data.class_names, data.named, data.train.labels().values.tolist()) == (("2", "34"), True, [0, 1])
    make(tmp_path, "1.jpg")
    (tmp_path / "a.lst").write_text("0\t7\t1.jpg\n")
    assert open_data(tmp_path / "a.lst", reading=Reading(names={7: "cat"})).train.read(0).label == 0
    none = np.zeros(1, dtype=bool)
    corners = np.float32([[0, 0, 1, 1]])
    boxes = Boxes(corners, np.array([3]), "fraction", "upright", none, none, np.zeros((1, 0), dtype=np.float32))
    write_records(tmp_path / "a.rec", [(0, pack(b"x", compose(boxes), 0))])
    data = open_data(tmp_path / "a.rec", task=None, reading=Reading(names={3: "cat"}))
    assert isinstance(data.train, BoxSource)
    assert (data.class_names, data.train.boxes(0).cls.tolist()) == (("cat",), [0])


@pytest.mark.parametrize(
    ("reading", "told"),
    [
        (Reading(labels=("a", "b")), "labels: labels is given, and has no meaning for data of the form folder\n"
         "It is for csv: leave it out, or give --format."),
        (Reading(names={0: "cat"}), "names: names is given, and has no meaning for data of the form folder\n"
         "It is for recordio, lst, manifest, boxes: leave it out, or give --format."),
        (Reading(label_format="class-id"), "label_format: label_format is given, and has no meaning for data of the"
         " form folder\nIt is for manifest: leave it out, or give --format."),
    ],
)  # fmt: skip
def test_what_a_form_has_no_use_for_is_refused(tmp_path, reading, told):
    with pytest.raises(UserError) as caught:
        open_data(make(tmp_path, "cat/1.jpg"), reading=reading)
    assert str(caught.value) == told
    with pytest.raises(UserError, match="file_column is given, and has no meaning for data of the form folder"):
        open_data(tmp_path, file_column="file")


@pytest.mark.parametrize(
    ("header", "name", "reading"),
    [
        ("file,label\n1.jpg,cat\n", "unit", Reading(unit="pixel")),
        ("file,cat,dog\n1.jpg,1,1\n", "separator", Reading(separator=";")),
        ("file,x1,y1,x2,y2,class\n1.jpg,1,1,9,9,cat\n", "separator", Reading(separator=";")),
    ],
)
def test_what_a_table_has_no_use_for_is_refused(tmp_path, header, name, reading):
    make(tmp_path, "1.jpg")
    (tmp_path / "all.csv").write_text(header)
    with pytest.raises(UserError) as caught:
        open_data(tmp_path / "all.csv", task=None, reading=reading)
    assert str(caught.value) == (
        f"{tmp_path}/all.csv: {name} is given, and has no meaning for what this table carries\nLeave it out."
    )


def given(**options):
    empty = dict.fromkeys(("labels", "label_attribute", "label_format", "columns", "separator", "unit", "names"))
    return read_texts(**{**empty, **options})


def test_options_of_the_command_line_are_taken_apart():
    assert given() == Reading()
    read = given(labels="a, b c", columns="x1 y1 x2 y2 class", separator="\\t", names="1=open,2=a short")
    assert (read.labels, read.columns) == (("a", "b c"), ("x1", "y1", "x2", "y2", "class"))
    assert (read.separator, read.names) == ("\t", {1: "open", 2: "a short"})


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"labels": "a,,b"}, "labels: 'a,,b' names nothing between two commas\nWrite a,b,c."),
        ({"names": "open,short"}, "names: 'open' is not of the form 1=open\nWrite 1=open,2=short."),
        ({"names": "1="}, "names: '1=' is not of the form 1=open\nWrite 1=open,2=short."),
        ({"names": "1=a,1=b"}, "names: class 1 has two names\nGive each class one name."),
    ],
)
def test_options_that_can_not_be_meant_are_told(options, told):
    with pytest.raises(UserError) as caught:
        given(**options)
    assert str(caught.value) == told
