"""What is found at a path: form, splits, classes; and what is said and refused."""

from __future__ import annotations

import pytest

from foveal.data.recognise import look, open_data
from foveal.errors import UserError
from foveal.formats.imagerecord import pack
from foveal.formats.recordio import write_records


def make(root, *names):
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(name.encode())
    return root


def record(path, *labels):
    path.parent.mkdir(parents=True, exist_ok=True)
    write_records(path, ((row, pack(b"picture %d" % row, float(label), row)) for row, label in enumerate(labels)))
    return path


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
        ("model.tar.gz", "this is an archive"),
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
    assert "classes.txt names 2 classes" in data.said


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
    with pytest.raises(UserError, match=r"'zip' is no form of data\nKnown forms: recordio, lst, folder, csv\."):
        open_data(tmp_path, form="zip")


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
