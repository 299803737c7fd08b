"""Classes that the user names by their numbers."""

from __future__ import annotations

import numpy as np
import pytest

from foveal.data.naming import innermost, with_names
from foveal.errors import UserError
from foveal.formats.boxlabels import BoxLabelSource
from foveal.formats.imagerecord import pack
from foveal.formats.recordio import write_records
from foveal.formats.recsource import RecordSource
from foveal.records import BoxSource


@pytest.fixture
def source(tmp_path):
    def make(*labels):
        payloads = [pack(b"x", np.atleast_1d(np.float32(label)), row) for row, label in enumerate(labels)]
        write_records(tmp_path / "train.rec", enumerate(payloads))
        return RecordSource([tmp_path / "train.rec"])

    return make


def test_numbers_with_gaps_count_in_their_order(source):
    named = with_names(source(34, 2, 5, 2), {34: "cow", 2: "cat", 5: "dog"}, None)
    assert (named.class_names, named.labels().values.tolist()) == (("cat", "dog", "cow"), [2, 0, 1, 0])
    assert (named.read(0).label, named.read(0).picture, len(named)) == (2, b"x", 4)
    assert named.where(1) == "train.rec, record 2 at byte 40"


def test_two_numbers_of_one_name_are_one_class_and_known_names_tell_the_order(source):
    named = with_names(source(0, 1, 2), {0: "cat", 1: "dog", 2: "cat"}, ("dog", "cow", "cat"))
    assert (named.class_names, named.labels().values.tolist()) == (("dog", "cow", "cat"), [2, 0, 2])


def test_columns_of_multi_hot_labels_are_named_and_put_in_order(source):
    made = source([1, 0, 0], [0, 1, 1])
    named = with_names(made, {0: "cat", 1: "dog", 2: "cow"}, None)
    assert (named.class_names, named.read(0).label.tolist()) == (("cat", "dog", "cow"), [1, 0, 0])
    named = with_names(made, {0: "cat", 1: "dog", 2: "cow"}, ("cow", "cat", "dog"))
    assert [named.read(row).label.tolist() for row in range(2)] == [[0, 1, 0], [1, 0, 1]]


def test_boxes_are_named_as_well(source):
    boxes = BoxLabelSource(source([2, 5, 4, 0, 0, 0.5, 0.5, 2, 0, 0, 1, 1], [2, 5]))
    named = with_names(boxes, {2: "short", 4: "open"}, None)
    assert isinstance(named, BoxSource)
    assert (named.labels().values.tolist(), named.boxes(0).cls.tolist()) == ([1, 0], [1, 0])
    assert named.read(0).label.cls.tolist() == [1, 0]
    assert named.objects.ids.tolist() == [1, 0]


@pytest.mark.parametrize(
    ("labels", "names", "known", "told"),
    [
        ((1, 3), {1: "cat", 2: "dog"}, None, "train.rec, record 2 at byte 40: class 3 has no name (1=cat,2=dog)\n"
         "Name it with --names, or mend the label."),
        ((1.5,), {1: "cat"}, None, "train.rec, record 1 at byte 0: class 1.5 has no name (1=cat)\n"
         "Name it with --names, or mend the label."),
        ((1,), {1: "cow"}, ("cat", "dog"), "names: the class cow is not among the known classes (cat, dog)\n"
         "Mend the name, or add it to classes.txt."),
        (([1, 0],), {1: "cat", 2: "dog"}, None, "FOLDER/train.rec: its labels have 2 numbers, one a class, and --names"
         " has 1, 2\nName the classes 0 to 1."),
    ],
)  # fmt: skip
def test_what_can_not_be_named_is_told(source, tmp_path, labels, names, known, told):
    with pytest.raises(UserError) as caught:
        with_names(source(*labels), names, known)
    assert str(caught.value) == told.replace("FOLDER", str(tmp_path))


def test_what_was_laid_around_a_source_is_taken_off(source):
    made = source([2, 5, 4, 0, 0, 1, 1])
    assert innermost(with_names(BoxLabelSource(made), {4: "cat"}, None)) is made
