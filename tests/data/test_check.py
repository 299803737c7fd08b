"""Labels checked at the border."""

from __future__ import annotations

import numpy as np
import pytest

from foveal.data.check import class_indices, count_warnings
from foveal.errors import UserError
from foveal.formats.imagerecord import pack
from foveal.formats.recordio import write_records
from foveal.formats.recsource import RecordSource


@pytest.fixture
def source(tmp_path):
    def make(*labels):
        payloads = [pack(b"x", np.float32(label) if isinstance(label, list) else label, 0) for label in labels]
        write_records(tmp_path / "train.rec", enumerate(payloads))
        return RecordSource([tmp_path / "train.rec"])

    return make


def refusal(*arguments, **options):
    with pytest.raises(UserError) as caught:
        class_indices(*arguments, **options)
    return str(caught.value)


def test_labels_become_indices(source):
    indices, bad = class_indices(source(1.0, 0.0, 2.0), None, None)
    assert (indices.tolist(), indices.dtype, bad) == ([1, 0, 2], np.int64, [])


def test_records_left_out_on_opening_are_handed_on(source):
    made = source(1.0, 0.0)
    made.bad = ("something",)
    assert class_indices(made, 2, None)[1] == ["something"]


def test_a_class_out_of_range_names_record_and_remedy(source):
    assert refusal(source(0.0, 20.0), 20, None) == (
        "train.rec, record 2 at byte 36: class id 20 is outside 0..19 (num_classes=20)\n"
        "Ids count from 0: renumber them, or set num_classes to 21."
    )
    assert refusal(source(0.0, 2.0), None, ("cat", "dog")) == (
        "train.rec, record 2 at byte 36: class id 2 is outside 0..1 (the data names 2 classes)\n"
        "Ids count from 0: renumber them, or add the missing names."
    )
    assert refusal(source(-1.0), None, None) == (
        "train.rec, record 1 at byte 0: class id -1 is below 0\nIds count from 0: renumber the data."
    )


@pytest.mark.parametrize(
    ("label", "shown"), [(float("nan"), "nan"), (float("inf"), "inf"), (1.5, "1.5"), (2.0**30, "1.07374182e+09")]
)
def test_a_label_that_is_no_class_number_is_shown(source, label, shown):
    assert refusal(source(0.0, label), 2, None) == (
        f"train.rec, record 2 at byte 36: the label {shown} is no class number\n"
        "Class numbers are whole numbers that count from 0."
    )


def test_gaps_are_refused_unless_the_number_of_classes_says_so(source, tmp_path):
    made = source(*map(float, [2, 3, 5, 5]))
    assert refusal(made, None, None) == (
        f"{tmp_path}/train.rec: class ids 2..5 are used, but no picture has class 0, 1, 4\n"
        "Number the 3 classes 0..2, or set num_classes=6 to keep the gaps."
    )
    assert class_indices(made, 6, None)[0].tolist() == [2, 3, 5, 5]
    assert class_indices(made, None, tuple("abcdef"))[0].tolist() == [2, 3, 5, 5]
    assert class_indices(made, None, None, gaps_allowed=True)[0].tolist() == [2, 3, 5, 5]


def test_a_wide_gap_is_told_shortly(source):
    assert "but no picture has class 1, 2, 3, 4, 5, ...\n" in refusal(source(0.0, 16_000_000.0), None, None)


def test_fewer_classes_than_the_data_names_are_refused(source, tmp_path):
    assert refusal(source(0.0, 1.0), 2, tuple("abcdefg")) == (
        f"{tmp_path}/train.rec: num_classes is 2, but the data has 7 classes: a, b, c, d, e, ...\n"
        "Set num_classes to 7 or leave it out, or take classes out of the data."
    )


def test_several_labels_are_refused_in_clear_words(source):
    assert refusal(source(0.0, [1, 0, 1]), 3, None) == (
        "train.rec, record 2 at byte 36: 3 labels in one record (1 of 2 records are so)\n"
        "Single-label classification takes one class number a picture."
    )
    assert refusal(source([2, 5, 0, 0.1, 0.1, 0.2, 0.2]), 3, None) == (
        "train.rec, record 1 at byte 0: 7 label numbers, which look like boxes (2, 5, ...)\n"
        "Image classification takes one class number a picture; this is data for object detection."
    )


def test_an_array_of_one_label_is_one_label(source):
    assert class_indices(source([1], 0.0), None, None)[0].tolist() == [1, 0]


def test_odd_counts_are_warned_about():
    indices = np.array([0, 0, 1, 1, 1])
    assert count_warnings(indices, ("a", "b"), 2, 5) == ()
    assert count_warnings(indices, ("a", "b", "c"), 4, 15240) == (
        "num_training_samples is 15,240, but the training data holds 5 pictures; 5 is used",
        "2 of 4 classes have no training picture: c, 3",
    )
    assert count_warnings(np.array([0, 0]), ("a",), None, None) == (
        "all training pictures are of one class, so there is nothing to tell apart",
    )
