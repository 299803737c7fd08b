"""Labels checked at the border."""

from __future__ import annotations

from itertools import chain

import numpy as np
import pytest

from foveal.data.check import box_warnings, check_objects, class_indices, class_sets, count_warnings
from foveal.errors import UserError
from foveal.formats.boxfiles import Annotation, BoxFileSource, Gathered, Object
from foveal.formats.boxlabels import BoxLabelSource
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
        "Number the 3 classes 0..2 with --names 2=2,3=3,5=5, or set num_classes=6 to keep the gaps."
    )
    assert class_indices(made, 6, None)[0].tolist() == [2, 3, 5, 5]
    assert class_indices(made, None, tuple("abcdef"))[0].tolist() == [2, 3, 5, 5]
    assert class_indices(made, None, None, gaps_allowed=True)[0].tolist() == [2, 3, 5, 5]


def test_a_wide_gap_is_told_shortly(source):
    assert "but no picture has class 1, 2, 3, 4, 5, ...\n" in refusal(source(0.0, 16_000_000.0), None, None)


def test_up_to_40_classes_with_gaps_the_whole_option_is_told(source):
    pairs = ",".join(f"{number}={number}" for number in range(2, 35))
    assert refusal(source(*map(float, range(2, 35))), None, None).endswith(
        f"Number the 33 classes 0..32 with --names {pairs}, or set num_classes=35 to keep the gaps."
    )
    assert "--names 1=1," in (told := refusal(source(*map(float, range(1, 50))), None, None))
    assert ",40=40,..., or set" in told


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


def test_multi_hot_labels_are_no_single_labels(source, tmp_path):
    assert refusal(source([1, 0], [0, 0]), 2, None) == (
        f"{tmp_path}/train.rec: its pictures have several labels each, and one is expected\n"
        "Train with multi_label=1, or give each picture one label."
    )


def test_rows_of_0_and_1_are_the_classes_of_each_picture(source):
    rows, bad = class_sets(source([1, 0, 1], [0, 0, 0]), None, ("a", "b", "c"))
    assert (rows.tolist(), rows.dtype, bad) == ([[1, 0, 1], [0, 0, 0]], np.float32, [])


@pytest.mark.parametrize(
    ("labels", "classes", "text"),
    [
        ([[1, 0], [1, 0, 1]], None,
         "train.rec, record 2 at byte 44: 3 label numbers, and 2 are expected (2 classes)\n"),
        ([[1, 0], [1, 1]], 3, "train.rec, record 1 at byte 0: 2 label numbers, and 3 are expected (num_classes=3)\n"),
        ([[1, 0], [1, 5]], 2, "train.rec, record 2 at byte 44: label 2 is 5, and can only be 0 or 1\n"),
        ([[1, float("nan")]], 2, "train.rec, record 1 at byte 0: label 2 is nan, and can only be 0 or 1\n"),
    ],
)  # fmt: skip
def test_other_rows_are_refused_with_their_record(source, labels, classes, text):
    with pytest.raises(UserError) as caught:
        class_sets(source(*labels), classes, None)
    assert str(caught.value) == (
        text + "A picture with several labels has a 0 or 1 for each class, in the same order everywhere."
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


@pytest.fixture
def boxes(source):
    """Records with boxes: of each picture a list of (class, xmin, ymin, xmax, ymax)."""

    def make(*pictures):
        return BoxLabelSource(source(*([2, 5, *chain(*objects)] for objects in pictures)))

    return make


def box_refusal(*arguments, **options):
    with pytest.raises(UserError) as caught:
        check_objects(*arguments, **options)
    return str(caught.value)


HALF = (0.25, 0.25, 0.75, 0.75)


def test_classes_of_objects_are_counted_by_picture(boxes):
    checked = check_objects(boxes([(1, *HALF), (0, *HALF)], [], [(1, *HALF)]), None, None)
    assert (checked.classes.tolist(), checked.offsets.tolist()) == ([1, 0, 1], [0, 2, 2, 3])
    assert [each.cls.tolist() for each in checked.boxes] == [[1, 0], [], [1]]
    assert (checked.left_out, checked.said) == ([], ())


def test_boxes_without_area_are_left_out_and_the_first_is_told(boxes):
    padding = (-1, -1, -1, -1, -1)
    made = boxes([(0, *HALF), padding, padding], [(0, 0.5, 0.5, 0.5, 0.9)], [(7, 0.5, 0.5, 0.4, 0.9), (1, *HALF)])
    checked = check_objects(made, 2, None)
    assert (checked.classes.tolist(), checked.offsets.tolist()) == ([0, 1], [0, 1, 1, 2])
    assert [each.cls.tolist() for each in checked.boxes] == [[0], [], [1]]
    assert checked.said == (
        "4 boxes without area are left out; the first: train.rec, record 1 at byte 0, object 2: -1, -1, -1, -1",
    )
    checked = check_objects(boxes([(0, *HALF), (0, 0.5, 0.25, 0.5, 0.75)]), None, None)
    assert checked.said == (
        "a box without area is left out; train.rec, record 1 at byte 0, object 2: 0.5, 0.25, 0.5, 0.75",
    )


def test_a_box_outside_its_picture_is_told(boxes):
    checked = check_objects(boxes([(0, *HALF), (0, 1.1, 0, 1.25, 0.75), (0, 0.5, -0.25, 1.5, 1.25)]), None, None)
    assert checked.said == (
        "a box lies outside its picture and is left out; train.rec, record 1 at byte 0, object 2: 1.1, 0, 1.25, 0.75",
    )


def test_a_class_of_a_box_out_of_range_names_record_object_and_remedy(boxes):
    made = boxes([(0, *HALF)], [(0, *HALF), (20, *HALF)])
    assert box_refusal(made, 20, None) == (
        "train.rec, record 2 at byte 64, object 2: class id 20 is outside 0..19 (num_classes=20)\n"
        "Ids count from 0: renumber them, or set num_classes to 21."
    )
    assert box_refusal(made, None, ("cat",)) == (
        "train.rec, record 2 at byte 64, object 2: class id 20 is outside 0..0 (the data names 1 classes)\n"
        "Ids count from 0: renumber them, or add the missing names."
    )
    assert box_refusal(boxes([(0, *HALF)], [(1.5, *HALF)]), None, None) == (
        "train.rec, record 2 at byte 64, object 1: the label 1.5 is no class number\n"
        "Class numbers are whole numbers that count from 0."
    )


def test_gaps_between_classes_of_boxes_are_refused_unless_the_number_of_classes_says_so(boxes, tmp_path):
    made = boxes([(1, *HALF)], [(3, *HALF)])
    assert box_refusal(made, None, None) == (
        f"{tmp_path}/train.rec: class ids 1..3 are used, but no box has class 0, 2\n"
        "Number the 2 classes 0..1 with --names 1=1,3=3, or set num_classes=4 to keep the gaps."
    )
    assert check_objects(made, 4, None).classes.tolist() == [1, 3]
    assert check_objects(made, None, None, gaps_allowed=True).classes.tolist() == [1, 3]


@pytest.mark.parametrize(
    ("corners", "what"),
    [
        ((10, 20, 55.5, 70), "xmin is 10, and coordinates are fractions of the picture, 0 to 1 (1 more boxes are so)\n"
                             "These look like per cent: divide them by 100."),
        ((0.5, 20, 355, 170), "ymin is 20, and coordinates are fractions of the picture, 0 to 1 (1 more boxes are so)\n"
                              "These look like pixels: divide them by width and height."),
        ((-0.75, 0, 1, 1), "xmin is -0.75, and coordinates are fractions of the picture, 0 to 1 (1 more boxes are so)\n"
                           "Mend the label."),
        ((0, 0, float("nan"), 1), "xmax is nan\nCoordinates are finite numbers: mend the label."),
    ],
)  # fmt: skip
def test_coordinates_that_can_not_be_meant_are_shown(boxes, corners, what):
    made = boxes([(0, *HALF)], [(0, *HALF), (0, *corners)], [(0, *corners)])
    assert box_refusal(made, None, None) == f"train.rec, record 2 at byte 64, object 2: {what}"


def test_data_without_a_single_box_is_refused(boxes, tmp_path):
    assert box_refusal(boxes([], []), None, None, channel="validation") == (
        f"{tmp_path}/train.rec: it holds no box (2 pictures)\nGive validation data with at least one object."
    )
    assert box_refusal(boxes([(0, 1, 1, 1, 1)]), None, None) == (
        f"{tmp_path}/train.rec: none of its 1 boxes has an area (1 picture)\nGive data with at least one object."
    )


def test_pixels_may_be_large_and_sizes_tell_what_lies_outside(tmp_path):
    gathered = Gathered()
    gathered.add(Annotation((Object(0, 1, 2, 300, 400), Object(0, 700, 2, 900, 400)), (640, 480)))
    gathered.add(Annotation((Object(0, 700, 2, 900, 400),)))
    source = BoxFileSource(
        "voc", "x", tmp_path, ["1.jpg", "2.jpg"], ["1.xml", "2.xml"], gathered.table({0: 0}, "pixel")
    )
    checked = check_objects(source, None, None)
    assert checked.classes.tolist() == [0, 0, 0]
    assert checked.said == (
        f"a box lies outside its picture and is left out; {tmp_path}/1.jpg (1.xml), object 2: 700, 2, 900, 400",
    )


def test_classes_can_be_given_other_numbers(boxes):
    checked = check_objects(boxes([(1, *HALF), (0, *HALF)]), None, ("a", "b"), numbers=np.array([5, 3]))
    assert (checked.classes.tolist(), checked.boxes[0].cls.tolist()) == ([3, 5], [3, 5])


def test_odd_counts_of_boxes_are_warned_about(boxes):
    made = boxes([(1, *HALF), (0, *HALF)], [])
    checked = check_objects(made, None, ("a", "b"))
    assert box_warnings(checked, made, ("a", "b"), 2, 2, 12) == ()
    assert box_warnings(checked, made, ("a", "b", "c"), 4, 300, 7) == (
        "num_training_samples is 300, but the training data holds 2 pictures; 2 is used",
        "2 of 4 classes have no training box: c, 3",
        "label_width is 7, but train.rec, record 1 at byte 0 has 2 objects, for which 12 numbers are needed; "
        "all objects of all pictures are used",
    )
