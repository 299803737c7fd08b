"""What splits share and lack, told before every training."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from PIL import Image

from foveal.checking import odd_splits
from foveal.checking.odd_splits import missing_classes, shared_files, shared_groups, warn_of_splits
from foveal.data.recognise import open_data


def save(path, value):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((8, 8, 3), value, dtype=np.uint8)).save(path)


def photos(root):
    for value, file in enumerate(("train/cat/1.png", "train/cat/2.png", "train/dog/1.png", "val/cat/a.png")):
        save(root / file, value)
    save(root / "val/cat/b.png", 1)  # train/cat/2.png again
    return open_data(root)


def test_classes_pictures_and_groups_that_two_splits_share_or_lack(tmp_path):
    dataset = photos(tmp_path)
    parts = {"train": dataset.train, "validation": dataset.validation}
    shared = shared_files(parts)[0]
    assert (shared.code, shared.severity, shared.count) == ("duplicate-across-splits", "warning", 1)
    assert shared.what == "1 picture is both in the training and the validation data"
    assert shared.suspects[0].where == (f"{tmp_path}/train/cat/2.png", f"{tmp_path}/val/cat/b.png")
    assert shared.suspects[0].spots == (("train", 1), ("validation", 1))
    counts = {"train": np.array([2, 1]), "validation": np.array([2, 0])}
    assert [each.what for each in missing_classes(counts, dataset.class_names, "picture")] == [
        "validation: 1 of 2 classes has no picture: dog"
    ]
    assert warn_of_splits(dataset, counts) == (
        f"1 picture is both in the training and the validation data; the first: {tmp_path}/train/cat/2.png and "
        f"{tmp_path}/val/cat/b.png",
        "validation: 1 of 2 classes has no picture: dog",
    )


def test_a_training_set_without_a_class_is_told_what_to_do(tmp_path):
    found = missing_classes({"train": np.array([0, 3, 0])}, ("a", "b", "c"), "box")[0]
    assert (found.what, found.remedy, found.count) == (
        "train: 2 of 3 classes have no box: a, c", "Add boxes of them, or take the classes out.", 2
    )  # fmt: skip


def test_groups_in_two_splits_leak(tmp_path):
    for number in range(6):
        save(tmp_path / f"{number}.png", number)
    rows = ["0,cat,train,p1", "1,dog,train,p2", "2,cat,train,p2", "3,cat,val,p2", "4,dog,val,p3", "5,dog,test,p1"]
    (tmp_path / "all.csv").write_text(
        "file,label,split,patient\n" + "".join(r.replace(",", ".png,", 1) + "\n" for r in rows)
    )
    dataset = open_data(tmp_path / "all.csv")
    parts = {"train": dataset.train, "validation": dataset.validation, "test": dataset.test}
    found = shared_groups(parts)[0]
    assert (found.code, found.what) == ("group-across-splits", "2 groups have pictures in more than one split")
    assert [each.why for each in found.suspects] == [
        "group p1: 1 in train, 1 in test", "group p2: 2 in train, 1 in validation"
    ]  # fmt: skip
    assert found.suspects[1].spots == (("train", 1), ("validation", 0))


def test_no_more_pictures_are_read_than_is_cheap(tmp_path, monkeypatch):
    dataset = photos(tmp_path)
    monkeypatch.setattr(odd_splits, "READ_AT_MOST", 1)
    assert shared_files({"train": dataset.train, "validation": dataset.validation}) == ()


def test_nothing_is_told_without_validation_data(tmp_path):
    dataset = replace(photos(tmp_path), validation=None)
    assert warn_of_splits(dataset, {}) == ()


def test_a_picture_that_can_not_be_read_is_like_no_other(tmp_path):
    dataset = photos(tmp_path)
    (tmp_path / "train/cat/2.png").unlink()
    assert shared_files({"train": dataset.train, "validation": dataset.validation}) == ()
