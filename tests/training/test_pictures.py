"""The pictures of a run: boxes checked, classes named, validation set aside."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pytest

from foveal.data.recognise import open_data
from foveal.data.split import split_rows
from foveal.errors import UserError
from foveal.formats.imagerecord import pack
from foveal.formats.recordio import write_records
from foveal.records import BadRecord, BoxSource
from foveal.training.pictures import check_boxes


@dataclass(frozen=True)
class Choices:
    recipe: str = "modern"
    num_classes: int | None = None
    num_training_samples: int | None = None
    validation_fraction: float = 0.2
    seed: int = 0
    bad_records_limit: float = 0.01
    label_width: int = 350
    tile_size: int | None = None
    tile_overlap: float = 0.2
    loader_workers: int | None = None


BOX = (0.1, 0.1, 0.5, 0.5)
FLAT = (0.5, 0.5, 0.5, 0.9)


def write(path, *pictures):
    labels = ([2, 5, *(number for each in objects for number in each)] for objects in pictures)
    write_records(path, ((row, pack(b"x", np.float32(label), row)) for row, label in enumerate(labels)))
    return path


@pytest.fixture
def data(tmp_path):
    write(tmp_path / "train.rec", *[[(row % 2, *BOX), (0, *FLAT)] for row in range(18)], [], [])
    write(tmp_path / "val.rec", [(1, *BOX)], [])
    return open_data(tmp_path, task="boxes")


def check(data, **choices):
    said = []
    pictures = check_boxes(data, Choices(**choices), lambda event: said.append((event.text, event.warning)))
    return pictures, said


def refusal(data, **choices):
    with pytest.raises(UserError) as caught:
        check(data, **choices)
    return str(caught.value)


def test_given_validation_data_is_taken_and_boxes_without_area_are_gone(data):
    pictures, said = check(data)
    assert isinstance(pictures.train, BoxSource) and isinstance(pictures.validation, BoxSource)
    assert (len(pictures.train), len(pictures.validation), pictures.split_off) == (20, 2, False)
    assert (pictures.class_names, pictures.named) == (("0", "1"), False)
    assert pictures.labels.tolist() == [0, 1] * 9
    assert pictures.train.labels().values.tolist() == [0, 1] * 9
    assert pictures.train.read(1).label.cls.tolist() == [1]
    assert pictures.train.boxes(19).cls.tolist() == []
    assert pictures.fingerprint == data.train.fingerprint()
    told = "18 boxes without area are left out; the first: train.rec, record 1 at byte 0, object 2: 0.5, 0.5, 0.5, 0.9"
    same = "2 pictures are both in the training and the validation data; the first: train.rec, record 1 at byte 0 and "
    assert said[-3:] == [
        (told, True),
        (same + "val.rec, record 1 at byte 0", True),
        ("validation: 1 of 2 classes has no box: 0", True),
    ]


def test_the_part_set_aside_is_found_again_from_the_data_alone(data):
    alone = replace(data, validation=None)
    pictures, said = check(alone, seed=3)
    kept, aside = split_rows(data.train, 0.2, 3)
    assert pictures.train.rows.tolist() == kept.tolist()
    assert pictures.validation.rows.tolist() == aside.tolist()
    assert (len(aside), pictures.split_off) == (4, True)
    assert len(pictures.labels) == len(pictures.train.labels().values)
    assert said[-1] == ("4 of 20 pictures are set aside for validation (by the rarest class in each)", False)


def test_without_validation_data(data):
    alone = replace(data, validation=None)
    pictures, said = check(alone, validation_fraction=0.0)
    assert pictures.validation is None
    assert said[-1] == ("no validation data: the last epoch is kept, not the best", True)
    assert refusal(alone, validation_fraction=0.0, recipe="original").splitlines()[0] == (
        f"{data.train.origin}: recipe=original needs validation data, as the original does, and there is none"
    )


def test_classes_beyond_the_data_get_numbers(data):
    assert check(data, num_classes=4)[0].class_names == ("0", "1", "2", "3")


def test_a_class_that_is_not_trained_is_refused_in_validation(data, tmp_path):
    write(tmp_path / "val.rec", [], [(0, *BOX), (5, *BOX)])
    assert refusal(open_data(tmp_path, task="boxes")) == (
        "val.rec, record 2 at byte 44: the validation data has class 5, the training data only 0..1\n"
        "Validate on classes that are trained: mend the label, or add training pictures of that class."
    )


def test_validation_data_without_boxes_is_refused(data, tmp_path):
    write(tmp_path / "val.rec", [], [(0, *FLAT)])
    assert refusal(open_data(tmp_path, task="boxes")) == (
        f"{tmp_path}: none of its 1 boxes has an area (2 pictures)\nGive validation data with at least one object."
    )


def test_too_many_broken_annotations_end_the_run(data):
    data.train.source.bad = (BadRecord("1.xml", "is no XML"),)
    _, said = check(data)
    assert ("left out: 1.xml: is no XML", True) in said
    assert refusal(data, bad_records_limit=0.0) == (
        f"{data.train.origin}: 1 of 21 records can't be used, more than the 0 that are allowed\n"
        "Mend or remove the records named above, or raise bad_records_limit."
    )


def test_a_label_wider_than_the_original_allows_is_used_and_told_once(data):
    _, said = check(data, label_width=6)
    assert [text for text, _ in said if text.startswith("label_width")] == [
        "label_width is 6, but train.rec, record 1 at byte 0 has 1 object, for which 7 numbers are needed; "
        "all objects of all pictures are used"
    ]


def test_classes_are_no_boxes(tmp_path):
    (tmp_path / "cat").mkdir()
    (tmp_path / "cat" / "1.jpg").write_bytes(b"x")
    assert refusal(open_data(tmp_path)) == (
        f"{tmp_path}: it has one class a picture, and object detection needs boxes\n"
        "Give data with boxes, or train image classification on it (--algorithm image-classification)."
    )
