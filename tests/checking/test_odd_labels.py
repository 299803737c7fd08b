"""What is odd in labels and boxes as they are stored."""

from __future__ import annotations

import numpy as np
from PIL import Image

from foveal.checking.examine import sources_of
from foveal.checking.finding import Suspect
from foveal.checking.odd_labels import check_labels, odd_boxes, odd_counts
from foveal.data.recognise import open_data


def lst(path, *labels):
    lines = [f"{number}\t{label}\t{number}.png" for number, label in enumerate(labels)]
    path.write_text("\n".join(lines) + "\n")
    for number in range(len(labels)):
        Image.new("L", (8, 8), number).save(path.parent / f"{number}.png")


def labels_of(root, **splits):
    for name, labels in splits.items():
        (root / name).mkdir()
        lst(root / name / f"{name}.lst", *labels)
    given = {"validation": root / "val" / "val.lst"} if "val" in splits else {}
    dataset = open_data(root / "train" / "train.lst", task=None, **given)
    return check_labels(dataset, sources_of(dataset))


def test_classes_of_every_split_are_counted(tmp_path):
    found = labels_of(tmp_path, train=[0, 1, 1, 2], val=[1])
    assert ({name: each.tolist() for name, each in found.counts.items()}, found.findings) == (
        {"train": [1, 2, 1], "validation": [0, 1, 0]}, ()
    )  # fmt: skip


def test_labels_that_training_refuses_are_errors_with_their_place(tmp_path):
    found = labels_of(tmp_path, train=[0, 1, "1.5", 2], val=[0])
    assert list(found.counts) == ["validation"]
    assert [(each.code, each.severity, each.what, each.remedy, each.suspects) for each in found.findings] == [
        (
            "label", "error", "train: the label 1.5 is no class number",
            "Class numbers are whole numbers that count from 0.",
            (Suspect(("train.lst, line 3 (2.png)",)),),
        )
    ]  # fmt: skip


def test_ids_that_count_from_one_and_ids_with_gaps_are_errors(tmp_path):
    found = labels_of(tmp_path, train=[1, 2, 4])
    assert [each.what for each in found.findings] == ["train: class ids 1..4 are used, but no picture has class 0, 3"]


def test_validation_classes_that_are_not_trained_are_errors(tmp_path):
    found = labels_of(tmp_path, train=[0, 1], val=[1, 7])
    assert [(each.what, each.remedy) for each in found.findings] == [
        (
            "validation: class 7 is used, the training data has only 0..1",
            "Mend the label, or add training pictures of that class.",
        )
    ]


def test_rare_and_uneven_classes_are_noted():
    found = odd_counts(np.array([100, 9, 0]), ("cat", "dog", "owl"), "picture")
    assert [(each.code, each.what) for each in found] == [
        ("class-rare", "train: 1 class has fewer than 10 pictures"),
        ("class-uneven", "train: classes are uneven: 100 pictures of cat, 9 of dog"),
    ]
    assert found[0].suspects == (Suspect((), "dog: 9 pictures"),)
    assert odd_counts(np.array([100, 20]), ("cat", "dog"), "box") == ()


def test_boxes_that_can_not_be_meant_are_sorted_by_their_fault(tmp_path):
    (tmp_path / "images").mkdir()
    Image.new("RGB", (100, 50)).save(tmp_path / "images/1.png")
    boxes = [
        [10, 10, 10, 30],  # right
        [5, 5, 0, 7],  # no area
        [50, 20, -20, 10],  # corners swapped
        [90, 40, 20, 20],  # beyond
        [10, 10, 10, 30],  # the first once more
        [1, 1, 9, 9],  # a crowd
    ]
    annotations = [
        {"id": number, "image_id": 1, "category_id": 1, "bbox": box, "iscrowd": int(number == 5)}
        for number, box in enumerate(boxes)
    ]
    import json

    data = {"images": [{"id": 1, "file_name": "1.png", "width": 100, "height": 50}], "annotations": annotations}
    (tmp_path / "a.json").write_text(json.dumps(data | {"categories": [{"id": 1, "name": "cat"}]}))
    source = open_data(tmp_path / "a.json", task=None).train
    found = odd_boxes({"train": source}, {"train": np.array([[100, 50]], np.int32)})
    place = f"{tmp_path}/images/1.png (a.json, image id 1), object"
    assert [(each.code, each.severity, each.what, each.suspects) for each in found] == [
        (
            "box-without-area", "warning", "1 box has no area and is left out",
            (Suspect((f"{place} 2",), "5, 5, 5, 12", (("train", 0),)),),
        ),
        (
            "box-corners-swapped", "warning", "1 box has xmax < xmin or ymax < ymin and is left out",
            (Suspect((f"{place} 3",), "50, 20, 30, 30", (("train", 0),)),),
        ),
        (
            "box-beyond", "note", "1 box reaches beyond the picture and is cut to it",
            (Suspect((f"{place} 4",), "90, 40, 110, 60", (("train", 0),)),),
        ),
        (
            "box-twice", "note", "1 box is given twice in a picture",
            (Suspect((f"{place} 5",), "10, 10, 20, 40", (("train", 0),)),),
        ),
        (
            "crowd", "note", "1 box covers a crowd of objects",
            (Suspect((f"{place} 6",), "1, 1, 10, 10", (("train", 0),)),),
        ),
    ]  # fmt: skip
