"""What is found at a path: form, splits, classes; and what is said and refused."""

from __future__ import annotations

import io
import json
import tarfile
import zipfile

import numpy as np
import pytest

from foveal.data.recognise import look, open_data
from foveal.errors import UserError
from foveal.formats.imagerecord import pack
from foveal.formats.recordio import write_records
from foveal.records import BoxSource


def make(root, *names):
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(name.encode())
    return root


def record(path, *labels):
    path.parent.mkdir(parents=True, exist_ok=True)
    write_records(path, ((row, pack(b"picture %d" % row, float(label), row)) for row, label in enumerate(labels)))
    return path


def tarred(path, members):
    with tarfile.open(path, "w") as file:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            file.addfile(info, io.BytesIO(content))


def test_a_folder_per_class(tmp_path):
    data = open_data(make(tmp_path, "dog/1.jpg", "cat/1.jpg", "cat/2.jpg"))
    assert (data.train.form, len(data.train), data.validation, data.test) == ("folder", 3, None, None)
    assert (data.class_names, data.named) == (("cat", "dog"), True)
    assert data.said == ("train: a folder per class, 3 pictures, 2 classes",)


@pytest.mark.parametrize("name", ["val", "valid", "validation", "Validation"])
def test_folders_of_splits_are_recognised_and_said(tmp_path, name):
    make(tmp_path, "train/cat/1.jpg", "train/dog/1.jpg", f"{name}/dog/2.jpg", "test/cat/3.jpg", "test/dog/4.jpg")
    data = open_data(tmp_path)
    assert [len(part) for part in (data.train, data.validation, data.test)] == [2, 1, 2]
    assert data.validation.labels().values.tolist() == [1]
    assert data.said == (
        f"folders of splits in {tmp_path}: train, {name}, test",
        "train: a folder per class, 2 pictures, 2 classes",
        "validation: a folder per class, 1 picture, 2 classes",
        "test: a folder per class, 2 pictures, 2 classes (never trained or chosen on)",
    )


def test_a_class_that_training_lacks_is_refused_by_name(tmp_path):
    make(tmp_path, "train/cat/1.jpg", "train/dog/1.jpg", "test/cow/3.jpg")
    with pytest.raises(UserError) as caught:
        open_data(tmp_path)
    assert str(caught.value) == (
        f"{tmp_path}/test: the test data: the class cow is not among the known classes (cat, dog)\n"
        "The classes are those of the training data, or of a classes.txt beside it: rename the folder, or add it."
    )


@pytest.mark.parametrize(
    ("names", "what"),
    [
        (["test/cat/1.jpg", "val/cat/1.jpg"], "it has test, val, but no folder train"),
        (["train/cat/1.jpg", "val/cat/1.jpg", "valid/cat/1.jpg"], "val and valid are both validation data"),
        (["train/1.jpg", "test/1.jpg"], "no labelled pictures found; it holds 1 pictures without a label"),
        (["train/train/cat/1.jpg"], "folders of splits (train) inside one of a split"),
        (["a/train/cat/1.jpg", "b/cat/1.jpg"], "its subfolder a is no class, for it holds folders of splits (train)"),
        (["1.jpg", "2.jpg"], "no labelled pictures found; it holds 2 pictures without a label"),
        (["a.doc", "b/c.txt"], "no labelled pictures found; it holds 1 files (.doc) and 1 folders (b)"),
        (["train_val.rec"], "its name speaks of train and validation"),
        (["a.lst", "b.lst"], "2 files of form lst for one split: a.lst, b.lst"),
        (["foveal.json"], "this is a trained model, not data"),
        (["model/foveal.json"], "this is a trained model, not data"),
    ],
)
def test_folders_that_can_not_be_read_are_told_what_was_found(tmp_path, names, what):
    with pytest.raises(UserError) as caught:
        open_data(make(tmp_path, *names))
    assert caught.value.what == what
    assert caught.value.remedy


@pytest.mark.parametrize(
    ("name", "what"),
    [
        ("cat.jpg", "this is one picture, not labelled data"),
        ("model.tar.gz", "this is no archive: it begins like none"),
        ("notes.doc", "no form of data is known by the suffix '.doc'"),
    ],
)
def test_files_that_are_no_data_are_told_apart(tmp_path, name, what):
    with pytest.raises(UserError) as caught:
        open_data(make(tmp_path, name) / name)
    assert (caught.value.what, caught.value.where) == (what, str(tmp_path / name))


def test_a_file_is_no_folder_per_class(tmp_path):
    with pytest.raises(UserError, match="this is a file, not a folder per class"):
        open_data(record(tmp_path / "a.rec", 0), form="folder")


def test_nothing_there_is_told(tmp_path):
    with pytest.raises(UserError, match="there is no such file or folder"):
        open_data(tmp_path / "nine")


def test_record_files_beside_each_other_are_splits(tmp_path):
    record(tmp_path / "flowers-train-002.rec", 1, 0)
    record(tmp_path / "flowers-train-001.rec", 0, 2, 1)
    record(tmp_path / "flowers_val.rec", 2)
    record(tmp_path / "more.rec", 2)
    data = open_data(tmp_path)
    assert data.train.labels().values.tolist() == [0, 2, 1, 1, 0]
    assert (len(data.validation), data.test) == (1, None)
    assert (data.class_names, data.named) == (("0", "1", "2"), False)
    assert data.said[0] == "not read, for want of a split's name: more.rec"


def test_record_files_in_folders_of_splits_with_names_above(tmp_path):
    record(tmp_path / "train/a.rec", 1, 0)
    record(tmp_path / "validation/a.rec", 1)
    (tmp_path / "classes.txt").write_text("cat\ndog\n")
    data = open_data(tmp_path)
    assert (data.class_names, data.named) == (("cat", "dog"), True)
    assert data.validation.class_names == ("cat", "dog")
    assert "classes in the order of classes.txt: cat, dog" in data.said


COCO = {
    "images": [{"id": 1, "file_name": "1.png"}],
    "annotations": [{"id": n, "image_id": 1, "category_id": n, "bbox": [1, 1, 5, 5]} for n in (2, 7)],
    "categories": [{"id": 7, "name": "ant"}, {"id": 2, "name": "cow"}],
}
OBJECT = "<object><name>{}</name><bndbox><xmin>1</xmin><ymin>1</ymin><xmax>5</xmax><ymax>5</ymax></bndbox></object>"
SHARD = {"a.jpg": b"x", "a.json": b'{"label": 1, "class_name": "ant"}', "b.jpg": b"x",
         "b.json": b'{"label": 0, "class_name": "cow"}'}  # fmt: skip


@pytest.mark.parametrize(
    ("files", "order"),
    [
        ({"cow/1.png": "", "ant/1.png": ""}, None),
        ({"10/1.png": "", "9/1.png": ""}, "in the order of their numbers: 9, 10"),
        ({f"{number}/1.png": "" for number in range(12)},
         "in the order of their numbers: 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, ... (12 in all)"),
        ({"cow/1.png": "", "ant/1.png": "", "classes.txt": "cow\nant\n"}, "in the order of classes.txt: cow, ant"),
        ({"1.png": "", "a.lst": "0\t1\t1.png\n"}, None),
        ({"1.png": "", "a.csv": "file,label\n1.png,cow\n1.png,ant\n"}, "in the order of their names: ant, cow"),
        ({"1.png": "", "a.csv": "file,label\n1.png,10\n1.png,9\n"}, "in the order of their numbers: 9, 10"),
        ({"1.png": "", "a.csv": "file,cow,ant\n1.png,1,1\n"}, "in the order of their columns: cow, ant"),
        ({"images/1.png": "", "train.json": json.dumps(COCO)}, "in the order of their ids: cow, ant"),
        ({"JPEGImages/1.png": "", "Annotations/1.xml": "<annotation>" + OBJECT.format("cow") + OBJECT.format("ant")
          + "</annotation>"}, "in the order of their names: ant, cow"),
        ({"images/1.png": "", "labels/1.txt": "0 .5 .5 .1 .1", "data.yaml": "names: [cow, ant]\ntrain: images\n"},
         "in the order of their numbers: cow, ant"),
        ({"1.png": "", "a.manifest": '{"source-ref": "1.png", "a": 0, "a-metadata": {"class-name": "cow"}}'},
         "in this order: cow"),
        ({"1.png": "", "metadata.jsonl": '{"file_name": "1.png", "label": "cow"}'}, "in this order: cow"),
        ({"train.tar": SHARD}, "in this order: cow, ant"),
    ],
)  # fmt: skip
def test_the_order_of_the_classes_is_told_in_one_line(tmp_path, files, order):
    for name, content in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        if isinstance(content, dict):
            tarred(tmp_path / name, content)
        else:
            (tmp_path / name).write_text(content)
    told = [line for line in open_data(tmp_path, task=None).said if line.startswith("classes ")]
    assert told == ([] if order is None else [f"classes {order}"])


def test_a_record_file_is_known_by_its_first_bytes(tmp_path):
    record(tmp_path / "a.rec", 1, 0).rename(tmp_path / "data.bin")
    assert open_data(tmp_path / "data.bin").said[0] == "data.bin begins like a RecordIO file, and is read as one"


def test_record_labels_that_are_no_class_numbers_make_no_names(tmp_path):
    assert open_data(record(tmp_path / "a.rec", 1.5, 0)).class_names == ()


def test_lists_beside_each_other_are_splits(tmp_path):
    make(tmp_path, "p/1.jpg", "p/2.jpg")
    (tmp_path / "train.lst").write_text("0\t0\tp/1.jpg\n1\t1\tp/2.jpg\n")
    (tmp_path / "validation.lst").write_text("0\t1\tp/2.jpg\n")
    data = open_data(tmp_path)
    assert (data.train.form, len(data.train), len(data.validation)) == ("lst", 2, 1)


def test_a_bad_validation_list_keeps_the_original_text_first(tmp_path):
    make(tmp_path, "p/1.jpg")
    (tmp_path / "train.lst").write_text("0\t0\tp/1.jpg\n")
    (tmp_path / "val.lst").write_text("0 0 p/1.jpg\n")
    with pytest.raises(UserError) as caught:
        open_data(tmp_path, channel="train")
    assert str(caught.value).splitlines()[0] == "Invalid lst file in the validation channel."
    with pytest.raises(UserError, match=r"val\.lst, line 1: the validation data: 1 column separated by tabs"):
        open_data(tmp_path)


def test_an_empty_record_file_speaks_of_training_only_in_training(tmp_path):
    record(tmp_path / "train.rec", 0, 1)
    (tmp_path / "val.rec").write_bytes(b"")
    with pytest.raises(UserError, match=r"^Unable to start training\. Empty \.rec file in validation channel\."):
        open_data(tmp_path, channel="train")
    with pytest.raises(UserError, match=r"^.*val\.rec \(0 bytes\): the validation data: it holds no record\n"):
        open_data(tmp_path)


def test_the_root_holds_the_pictures_of_every_list(tmp_path):
    make(tmp_path, "photos/1.jpg", "photos/2.jpg", "lists/x.txt")
    (tmp_path / "lists/a.lst").write_text("0\t0\t1.jpg\n")
    (tmp_path / "lists/b.lst").write_text("0\t0\t2.jpg\n")
    data = open_data(tmp_path / "lists/a.lst", validation=tmp_path / "lists/b.lst", root=tmp_path / "photos")
    assert (data.train.read(0).picture, data.validation.read(0).picture) == (b"photos/1.jpg", b"photos/2.jpg")
    with pytest.raises(UserError, match=r"or give the pictures' folder with --root\.$"):
        open_data(tmp_path / "lists/a.lst")


def test_tables_beside_each_other_are_splits(tmp_path):
    make(tmp_path, "p/1.jpg", "p/2.jpg")
    (tmp_path / "train.csv").write_text("file,label\np/1.jpg,b\np/2.jpg,a\n")
    (tmp_path / "test.csv").write_text("file,label\np/2.jpg,b\n")
    data = open_data(tmp_path)
    assert (data.class_names, data.test.labels().values.tolist()) == (("a", "b"), [1])
    assert data.said[0] == "train.csv: pictures by the column file, labels by label"


def test_a_column_of_splits_divides_a_table(tmp_path):
    make(tmp_path, *(f"{row}.jpg" for row in range(4)))
    (tmp_path / "all.csv").write_text("file,label,set\n0.jpg,b,train\n1.jpg,a,train\n2.jpg,b,val\n3.jpg,a,test\n")
    data = open_data(tmp_path)
    assert data.train.files == ("0.jpg", "1.jpg")
    assert (data.validation.files, data.test.files) == (("2.jpg",), ("3.jpg",))
    assert data.train.labels().values.tolist() == [1, 0]


def test_a_table_goes_before_folders_unless_the_form_is_given(tmp_path):
    make(tmp_path, "x/1.jpg", "y/2.jpg")
    (tmp_path / "labels.csv").write_text("file,label\nx/1.jpg,even\ny/2.jpg,odd\n")
    assert open_data(tmp_path).class_names == ("even", "odd")
    assert open_data(tmp_path, form="folder").class_names == ("x", "y")
    (tmp_path / "labels.csv").write_text("time,weather\n12,fair\n")
    assert open_data(tmp_path).class_names == ("x", "y")


def test_validation_and_test_can_lie_elsewhere(tmp_path):
    make(tmp_path / "a", "cat/1.jpg", "dog/1.jpg")
    make(tmp_path / "b", "train/dog/1.jpg", "val/dog/2.jpg", "test/dog/3.jpg")
    data = open_data(tmp_path / "a", validation=tmp_path / "b", test=tmp_path / "b" / "test")
    assert (data.validation.files, data.test.files) == (("dog/2.jpg",), ("dog/3.jpg",))
    assert data.validation.labels().values.tolist() == [1]
    make(tmp_path / "c", "train/dog/1.jpg", "val/dog/2.jpg")
    with pytest.raises(UserError, match="it has train, validation, but no test data"):
        open_data(tmp_path / "a", test=tmp_path / "c")


def test_names_in_validation_data_need_names_in_training_data(tmp_path):
    make(tmp_path / "b", "cat/1.jpg", "dog/1.jpg")
    with pytest.raises(UserError, match="it has names of classes, the training data only numbers"):
        open_data(record(tmp_path / "train.rec", 0, 1), validation=tmp_path / "b")


def test_an_unknown_form_is_refused(tmp_path):
    with pytest.raises(UserError) as caught:
        open_data(tmp_path, form="zip")
    assert str(caught.value) == (
        "form: 'zip' is no form of data\nKnown forms: recordio, lst, folder, csv, manifest, imagefolder, webdataset, "
        "coco, voc, yolo, sagemaker-json, boxes."
    )


def test_damage_is_said(tmp_path):
    path = record(tmp_path / "train.rec", 0, 1)
    path.write_bytes(path.read_bytes() + b"xyz")
    assert look(path) == (
        "train: RecordIO, 2 pictures\n"
        "train: 1 left out; the first: train.rec, byte 88: cut short: 3 bytes at the end of the file hold no record"
    )


def test_real_faces_by_folder_and_by_table_are_the_same(shared):
    folder = open_data(shared / "data" / "faces")
    table = open_data(shared / "data" / "faces", form="csv")
    for data in (folder, table):
        assert (len(data.train), len(data.test), len(data.class_names)) == (280, 120, 40)
    assert (folder.train.form, table.train.form) == ("folder", "csv")
    assert folder.class_names == table.class_names
    by_key = {f"train/{sample.key}": sample for sample in map(folder.train.read, range(280))}
    for sample in map(table.train.read, range(280)):
        assert (by_key[sample.key].picture, by_key[sample.key].label) == (sample.picture, sample.label)


XML = (
    "<annotation><size><width>9</width><height>9</height></size><object><name>{}</name><bndbox><xmin>1</xmin>"
    "<ymin>1</ymin><xmax>5</xmax><ymax>5</ymax></bndbox></object></annotation>"
)
JSON = {"image_size": [{"width": 9, "height": 9, "depth": 3}], "categories": [{"class_id": 0, "name": "cat"}],
        "annotations": [{"class_id": 0, "left": 1, "top": 1, "width": 4, "height": 4}]}  # fmt: skip


def write(root, **files):
    """Text files, by paths with / as two underscores and the dot as one more."""
    for name, content in files.items():
        path = root / name.replace("___", ".").replace("__", "/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content if isinstance(content, str) else json.dumps(content))
    return root


def coco_text(*files, kinds=("cat",)):
    images = [{"id": row, "file_name": file, "width": 9, "height": 9} for row, file in enumerate(files)]
    boxes = [{"image_id": row, "category_id": row % len(kinds), "bbox": [1, 1, 4, 4]} for row in range(len(files))]
    return {"images": images, "annotations": boxes, "categories": [{"id": r, "name": n} for r, n in enumerate(kinds)]}


def box_record(path, *labels):
    path.parent.mkdir(parents=True, exist_ok=True)
    write_records(path, ((row, pack(b"picture", np.float32(label), row)) for row, label in enumerate(labels)))
    return path


ONE = [2, 5, 0, 0.1, 0.1, 0.5, 0.5]


def every_form(root):
    """A small data set of each form with boxes, with one picture in train and one in val."""
    for split in ("train", "val"):
        make(root, f"voc/{split}/JPEGImages/1.jpg", f"voc2/images/{split}/1.jpg", f"coco/{split}/1.jpg",
             f"roboflow/{split}/1.jpg", f"yolo/images/{split}/1.jpg", f"yolo2/{split}/images/1.jpg")  # fmt: skip
        write(root, **{
            f"voc__{split}__Annotations__1___xml": XML.format("cat"),
            f"voc2__annotations__{split}__1___xml": XML.format("cat"),
            f"coco__annotations__instances_{split}___json": coco_text("1.jpg"),
            f"yolo__labels__{split}__1___txt": "0 .5 .5 .2 .2",
            f"yolo2__{split}__labels__1___txt": "0 .5 .5 .2 .2",
        })  # fmt: skip
        (root / f"roboflow/{split}/_annotations.coco.json").write_text(json.dumps(coco_text("1.jpg")))
        box_record(root / f"rec/{split}.rec", ONE)
    write(root, yolo__classes___txt="cat\n", yolo2__data___yaml="train: train/images\nval: val/images\nnames: [cat]\n")
    make(root, "lst/1.jpg", "sm/train/1.jpg", "sm/validation/1.jpg")
    write(root, sm__train_annotation__1___json=JSON, sm__validation_annotation__1___json=JSON)
    line = "0\t2\t5\t0\t0.1\t0.1\t0.5\t0.5\t1.jpg\n"
    write(root, lst__train___lst=line, lst__val___lst=line)
    return root


@pytest.mark.parametrize("name", ["voc", "voc2", "coco", "roboflow", "yolo", "yolo2", "sm", "rec", "lst"])
@pytest.mark.parametrize("task", ["boxes", None])
def test_every_form_with_boxes_is_recognised_with_its_splits(tmp_path, name, task):
    data = open_data(every_form(tmp_path) / name, task=task)
    assert data.task == "boxes"
    assert (len(data.train), len(data.validation), data.test) == (1, 1, None)
    assert data.class_names == (("0",) if name in ("rec", "lst") else ("cat",))
    for source in (data.train, data.validation):
        assert isinstance(source, BoxSource)
        assert (source.boxes(0).cls.tolist(), source.labels().values.tolist(), source.bad) == ([0], [0], ())
        assert source.read(0).picture


@pytest.mark.parametrize("name", ["voc", "coco", "yolo"])
def test_a_form_with_boxes_can_be_named(tmp_path, name):
    data = open_data(every_form(tmp_path) / name, task=None, form=name)
    assert data.train.form == name
    with pytest.raises(UserError) as caught:
        open_data(tmp_path / name, task=None, form="sagemaker-json")
    assert caught.value.what.startswith("no labelled pictures found")
    with pytest.raises(UserError) as caught:
        open_data(tmp_path / name, form=name)
    assert str(caught.value) == (
        f"form: data of the form {name} has boxes, and image classification takes one class a picture\n"
        "Train object detection on it, or give another form."
    )


def test_boxes_are_counted_in_what_is_said(tmp_path):
    box_record(tmp_path / "train.rec", ONE, [2, 5], [*ONE, *ONE[2:]])
    box_record(tmp_path / "test.rec", ONE)
    assert look(tmp_path) == (
        "the labels are laid out as boxes: data for object detection\n"
        "train: RecordIO, 3 pictures (1 without objects), 3 boxes\n"
        "test: RecordIO, 1 picture, 1 box (never trained or chosen on)"
    )


def test_the_task_of_the_training_data_is_that_of_all_splits(tmp_path):
    box_record(tmp_path / "train.rec", ONE)
    box_record(tmp_path / "val.rec", [3])
    with pytest.raises(UserError) as caught:
        open_data(tmp_path, task=None)
    assert str(caught.value).splitlines()[0] == (
        "val.rec, record 1 at byte 0: the validation data: the label [3] is one class number, and no boxes"
    )
    with pytest.raises(UserError, match=r"^Not enough annotation packed in the list file or the RecordIO file"):
        open_data(tmp_path, task="boxes", channel="train")


def test_what_is_not_asked_for_is_not_looked_for(tmp_path):
    every_form(tmp_path)
    assert open_data(tmp_path / "rec").task == "classes"
    make(tmp_path / "folder", "cat/1.jpg", "dog/1.jpg")
    assert open_data(tmp_path / "folder", task=None).task == "classes"
    with pytest.raises(UserError) as caught:
        open_data(tmp_path / "folder", task="boxes")
    assert caught.value.what == "no pictures with boxes found; it holds 2 folders (cat, dog)"
    assert caught.value.remedy.startswith("Data with boxes is Pascal VOC")
    with pytest.raises(UserError, match="data of the form folder has no boxes"):
        open_data(tmp_path / "folder", task="boxes", form="folder")


def test_classes_of_other_splits_are_matched_by_name(tmp_path):
    make(tmp_path, "train/1.jpg", "train/2.jpg", "val/1.jpg")
    write(
        tmp_path,
        train___json=coco_text("1.jpg", "2.jpg", kinds=("cat", "dog")),
        val___json=coco_text("1.jpg", kinds=("dog",)),
    )
    data = open_data(tmp_path, task="boxes")
    assert data.validation.boxes(0).cls.tolist() == [1]
    assert data.validation.class_names == data.class_names == ("cat", "dog")
    write(tmp_path, val___json=coco_text("1.jpg", kinds=("cow",)))
    with pytest.raises(UserError) as caught:
        open_data(tmp_path, task="boxes")
    assert str(caught.value) == (
        f"{tmp_path}/val/1.jpg (val.json, image id 0): the validation data: the class cow is not among the known "
        "classes (cat, dog)\n"
        "The classes are those of the training data, or of a classes.txt beside it: mend the name, or add it."
    )


def test_a_classes_file_gives_the_order(tmp_path):
    every_form(tmp_path)
    write(tmp_path, voc__classes___txt="dog\ncat\n", rec__classes___txt="cat\n")
    data = open_data(tmp_path / "voc", task=None)
    assert (data.class_names, data.train.boxes(0).cls.tolist()) == (("dog", "cat"), [1])
    assert open_data(tmp_path / "rec", task=None).named


def test_splits_of_boxes_can_lie_elsewhere_and_in_another_form(tmp_path):
    every_form(tmp_path)
    data = open_data(tmp_path / "voc" / "train", task=None, validation=tmp_path / "coco", test=tmp_path / "yolo2/val")
    assert (data.train.form, data.validation.form) == ("voc", "coco")
    with pytest.raises(UserError, match="it has train, validation, but no test data"):
        open_data(tmp_path / "voc" / "train", task=None, test=tmp_path / "sm")


def test_names_in_validation_boxes_need_names_in_training_boxes(tmp_path):
    every_form(tmp_path)
    with pytest.raises(UserError, match="it has names of classes, the training data only numbers"):
        open_data(tmp_path / "rec" / "train.rec", task=None, validation=tmp_path / "voc" / "val")


def test_single_files_of_boxes_are_opened(tmp_path):
    every_form(tmp_path)
    assert len(open_data(tmp_path / "coco/annotations/instances_val.json", task=None).train) == 1
    assert len(open_data(tmp_path / "yolo2/data.yaml", task=None).validation) == 1
    make(tmp_path, "elsewhere/1.jpg")
    moved = open_data(tmp_path / "roboflow/val/_annotations.coco.json", task="boxes", root=tmp_path / "elsewhere")
    assert moved.train.root == tmp_path / "elsewhere"
    with pytest.raises(UserError, match="this file isn't read as voc"):
        open_data(tmp_path / "yolo2/data.yaml", task=None, form="voc")


def test_data_without_a_training_part_is_told(tmp_path):
    make(tmp_path, "val/1.jpg")
    write(tmp_path, val___json=coco_text("1.jpg"))
    with pytest.raises(UserError) as caught:
        open_data(tmp_path, task="boxes")
    assert str(caught.value) == (
        f"{tmp_path}: it has validation data, but none for training\nAdd it, or name what is to be trained on."
    )


def test_two_files_for_one_split_are_told(tmp_path):
    write(tmp_path, a_train___json=coco_text("1.jpg"), b_train___json=coco_text("1.jpg"))
    with pytest.raises(UserError) as caught:
        open_data(tmp_path, task="boxes")
    assert str(caught.value) == (
        f"{tmp_path}: 2 files of form coco for one split: a_train.json, b_train.json\nName one of them itself."
    )


COUNTS = {  # as the READMEs of the sets count them; boxes without area included
    "bccd": ("voc", {"train": (205, [209, 2382, 214]), "validation": (87, [83, 968, 87]), "test": (72, [69, 805, 71])}),
    "xray": ("voc", {"train": (255, [85, 85, 85]), "test": (90, [30, 30, 30])}),
    "face-mask": ("coco", {"train": (209, [103, 881, 220]), "validation": (52, [18, 305, 62])}),
}


@pytest.mark.parametrize("name", sorted(COUNTS))
def test_real_sets_are_opened_whole(shared, tmp_path, name):
    folder = shared / "data" / name
    for archive in folder.glob("*.zip"):
        with zipfile.ZipFile(archive) as packed:
            packed.extractall(tmp_path)
    form, splits = COUNTS[name]
    data = open_data(tmp_path if list(tmp_path.iterdir()) else folder, task=None)
    assert (data.task, data.train.form) == ("boxes", form)
    for split, (pictures, counts) in splits.items():
        source = getattr(data, split)
        assert (len(source), source.bad) == (pictures, ())
        assert np.bincount(source.labels().values.astype(int)).tolist() == counts
    if name == "xray":
        assert data.train.boxes(0).values.tolist() == np.float32([[73.19, 83.43, 132.55, 271.61]]).tolist()


def test_real_coco_pictures_with_gaps_in_the_ids(shared, tmp_path):
    folder = shared / "data" / "multilabel-photos"
    for split in ("train", "test"):
        with zipfile.ZipFile(folder / f"{split}.zip") as packed:
            packed.extractall(tmp_path)
        (tmp_path / f"instances_{split}.json").write_bytes((folder / f"instances_{split}.json").read_bytes())
    data = open_data(tmp_path, task=None)
    assert (len(data.train), len(data.test), len(data.class_names)) == (234, 77, 80)
    objects = [data.train.objects, data.test.objects]
    assert sum(len(each.ids) for each in objects) == 2978
    assert sum(int(each.crowd.sum()) for each in objects) == 35


def test_real_blood_cells_by_official_lists_are_those_of_the_folders(shared, tmp_path):
    for split in ("train", "val", "test"):
        with zipfile.ZipFile(shared / "data" / "bccd" / f"{split}.zip") as packed:
            for member in packed.namelist():
                (tmp_path / member.split("/", 1)[1]).parent.mkdir(parents=True, exist_ok=True)
                if not member.endswith("/"):
                    (tmp_path / member.split("/", 1)[1]).write_bytes(packed.read(member))
    lists = tmp_path / "ImageSets" / "Main"
    lists.mkdir(parents=True)
    for path in (shared / "data" / "bccd" / "ImageSets" / "Main").glob("*.txt"):
        (lists / path.name).write_bytes(path.read_bytes())
    data = open_data(tmp_path, task=None)
    assert [len(part) for part in (data.train, data.validation, data.test)] == [205, 87, 72]


def several(path, *labels):
    path.parent.mkdir(parents=True, exist_ok=True)
    rows = (np.array(label, dtype=np.float32) for label in labels)
    write_records(path, ((row, pack(b"picture %d" % row, label, row)) for row, label in enumerate(rows)))
    return path


def test_rows_of_0_and_1_of_one_width_are_several_labels_a_picture(tmp_path):
    path = several(tmp_path / "train.rec", [1, 0, 1], [0, 0, 0])
    data = open_data(path, task=None)
    assert (data.task, data.class_names, data.named) == ("multi-label", ("0", "1", "2"), False)
    assert data.train.read(0).label.tolist() == [1, 0, 1]
    assert data.said == ("train: RecordIO, 2 pictures with several labels (1.0 on average)",)
    assert open_data(path).task == open_data(path, task="multi-label").task == "multi-label"
    make(tmp_path, "1.jpg", "2.jpg")
    (tmp_path / "classes.txt").write_text("cat\ndog\ncow\n")
    (tmp_path / "a.lst").write_text("0\t1\t0\t1\t1.jpg\n1\t0\t1\t0\t2.jpg\n")
    data = open_data(tmp_path / "a.lst", task="multi-label")
    assert (data.class_names, data.train.labels().values.tolist()) == (("cat", "dog", "cow"), [1, 0, 1, 0, 1, 0])


@pytest.mark.parametrize("labels", [[[1, 0], [1, 0, 0]], [[1, 2], [1, 0]], [[1], [0]], [[2, 5, 0, 0, 0, 1, 1]]])
def test_other_numbers_are_not_several_labels(tmp_path, labels):
    path = several(tmp_path / "train.rec", *labels)
    assert open_data(path, task=None).task != "multi-label"
    with pytest.raises(UserError, match="and data with several labels a picture is asked for"):
        open_data(path, task="multi-label")


@pytest.mark.parametrize(
    ("names", "labels", "what"),
    [
        ("cat\ndog\n", [1, 0, 0], "its labels have 3 numbers, one a class, but 2 classes are named"),
        ("", [1, 0], "the validation data has labels of 2 classes, the training data of 3"),
        ("", [1], "the validation data has one label a picture, the training data several"),
    ],
)
def test_rows_of_labels_have_a_number_for_each_class_in_all_splits(tmp_path, names, labels, what):
    several(tmp_path / "train.rec", [1, 0, 1])
    several(tmp_path / "val.rec", labels)
    if names:
        (tmp_path / "classes.txt").write_text(names)
    with pytest.raises(UserError) as caught:
        open_data(tmp_path)
    assert caught.value.what == what
    assert caught.value.remedy
