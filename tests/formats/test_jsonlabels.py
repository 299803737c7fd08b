"""Labels and objects in JSON."""

from __future__ import annotations

import pytest

from foveal.errors import BadPicture, UserError
from foveal.formats.boxfiles import Annotation, Object
from foveal.formats.jsonlabels import ToldNames, annotation_of, kind_numbers, label_key, label_of, number_labels


def numbered(*labels, known=None):
    numbers, names = number_labels([label_of(each, "x") for each in labels], "row {}".format, known)
    widths = {int(end - start) for start, end in zip(numbers.offsets, numbers.offsets[1:], strict=False)}
    return numbers.values.tolist(), widths, names


def refusal(*labels, known=None):
    with pytest.raises(UserError) as caught:
        numbered(*labels, known=known)
    return str(caught.value)


@pytest.mark.parametrize(
    ("labels", "known", "expected"),
    [
        ([2, 0, 1.0], None, ([2, 0, 1], {1}, None)),
        ([2, 0], ("a", "b", "c"), ([2, 0], {1}, ("a", "b", "c"))),
        (["dog", "cat", "dog"], None, ([1, 0, 1], {1}, ("cat", "dog"))),
        (["10", "9"], None, ([1, 0], {1}, ("9", "10"))),
        (["1", "0"], ("cat", "dog"), ([1, 0], {1}, ("cat", "dog"))),
        (["cat"], ("dog", "cat"), ([1], {1}, ("dog", "cat"))),
        ([[0, 1, 1], [1, 0, 0]], None, ([0, 1, 1, 1, 0, 0], {3}, None)),
        ([[2], [0, 1], []], None, ([0, 0, 1, 1, 1, 0, 0, 0, 0], {3}, None)),
        ([["b", "a"], ["c"]], None, ([1, 1, 0, 0, 0, 1], {3}, ("a", "b", "c"))),
        ([[0, 2], [1]], ("a", "b", "c", "d"), ([1, 0, 1, 0, 0, 1, 0, 0], {4}, ("a", "b", "c", "d"))),
        ([[], ["b"], []], ("a", "b"), ([0, 0, 0, 1, 0, 0], {2}, ("a", "b"))),
    ],
)
def test_labels_become_numbers(labels, known, expected):
    assert numbered(*labels, known=known) == expected


@pytest.mark.parametrize(
    ("labels", "known", "told"),
    [
        ([1, "cat"], None, "row 1: the label cat is a name, and 1 before it a number\nGive all labels the same form."),
        (["cat", 1], None, "row 1: the label 1 is a number, and cat before it a name\nGive all labels the same form."),
        ([1, [1]], None, "row 1: the label is a list, and those before are none\nGive all labels the same form."),
        ([[1], 1], None, "row 1: the label is no list, and those before are\nGive all labels the same form."),
        (
            ["cow"],
            ("cat", "dog"),
            "row 0: the class cow is not among the known classes (cat, dog)\nThe classes are those of the training "
            "data, or of a classes.txt beside it: mend the name, or add it.",
        ),
        ([[0, 3], [1]], ("a", "b"), "row 0: class id 3 is outside 0..1 (the data names 2 classes)\n"
         "Ids count from 0: renumber them, or add the missing names."),
        ([[0, -3], [1]], None, "row 0: the label -3 is no class number\nClass numbers count from 0."),
        ([[0.5], [1]], None, "row 0: the label 0.5 is no class number\nClass numbers count from 0."),
        ([[10**9], [1]], None, "row 0: the label 1000000000 is no class number\nClass numbers count from 0."),
        ([[], []], None, "row 0: all lists of labels are empty\n"
         "Several labels a picture are of two classes at least."),
        ([["a"], []], None, "row 0: the lists of labels name one class only\n"
         "Several labels a picture are of two classes at least."),
        ([True], None, "x: the label True is neither a number nor a name\n"
         "A label is a class number from 0, a class name, or a list of these."),
        ([[[1]]], None, "x: the label [1] is neither a number nor a name\n"
         "A label is a class number from 0, a class name, or a list of these."),
    ],
)  # fmt: skip
def test_labels_that_can_not_be_meant_are_refused(labels, known, told):
    assert refusal(*labels, known=known) == told


def test_a_number_goes_before_a_name():
    assert label_key({"class_name": "cat", "label": 0}) == "label"
    assert label_key({"class_name": "cat", "label": None}) == "class_name"
    assert label_key({"caption": "a cat"}) is None


@pytest.mark.parametrize(
    ("pairs", "names"),
    [
        ([(1, "dog"), (0, "cat"), (1, "dog")], ("cat", "dog")),
        ([(1, "a dog"), (0, "a cat"), (1, "another dog")], None),
        ([(0, "cat"), (1, None)], None),
        ([(0, "cat"), (2, "dog")], None),
        ([(0, "cat"), (1, "cat")], None),
        ([], None),
    ],
)
def test_names_count_where_each_number_has_one(pairs, names):
    told = ToldNames()
    for number, text in pairs:
        told.add(number, text)
    assert told.names() == names


EXPECTED = Annotation((Object("cat", 1, 2, 4, 6), Object("dog", 0.5, 0, 1, 2)))
BOXES = [[1, 2, 3, 4], [0.5, 0, 0.5, 2]]


@pytest.mark.parametrize(
    "objects",
    [
        {"bbox": BOXES, "categories": ["cat", "dog"]},
        {"bboxes": BOXES, "label": ["cat", "dog"], "id": [1, 2]},
        [{"bbox": BOXES[0], "category": "cat"}, {"bbox": BOXES[1], "label": "dog"}],
    ],
)
def test_objects_of_both_layouts(objects):
    assert annotation_of({"objects": objects}, "x") == EXPECTED
    assert annotation_of({"annotations": objects}, "x") == EXPECTED


def test_sizes_crowds_and_pictures_without_objects():
    crowd = {"objects": [{"bbox": [1, 2, 3, 4], "category_id": 7, "iscrowd": 1}], "width": 64, "height": 48}
    assert annotation_of(crowd, "x") == Annotation((Object(7, 1, 2, 4, 6, crowd=True),), (64, 48))
    assert annotation_of({"objects": {"bbox": [], "categories": []}}, "x") == Annotation(())
    assert annotation_of({"label": 1}, "x") is None


@pytest.mark.parametrize(
    ("objects", "told"),
    [
        ({"bbox": BOXES, "categories": [1]}, "its objects have 2 boxes (bbox) and 1 classes (categories)"),
        ({"bbox": BOXES}, "its objects have 2 boxes (bbox) and no classes (categories)"),
        ("none", "its objects are 'none', no list"),
        ([{"bbox": [1, 2, 3], "category": 1}], "object 1: its bbox is [1, 2, 3], not x, y, width, height"),
        ([{"bbox": [1, 2, 3, "4"], "category": 1}], "object 1: its bbox is [1, 2, 3, '4'], not x, y, width, height"),
        ([{"bbox": [1, 2, 3, 1e999], "category": 1}], "object 1: its bbox is [1, 2, 3, inf], not x, y, width, height"),
        ([{"bbox": BOXES[0], "category": 0}, 3], "object 2: its bbox is None, not x, y, width, height"),
        ([{"bbox": BOXES[0], "category": 0.5}], "object 1: its class is 0.5, neither a number nor a name"),
        ([{"bbox": BOXES[0], "category": " "}], "object 1: its class is ' ', neither a number nor a name"),
    ],
)
def test_broken_objects_are_told(objects, told):
    with pytest.raises(BadPicture) as caught:
        annotation_of({"objects": objects}, "1.json")
    assert str(caught.value) == f"1.json: {told}"


def test_kinds_of_objects():
    assert kind_numbers([7, 2], "x") == ({7: 7, 2: 2}, None)
    assert kind_numbers(["dog", "cat"], "x") == ({"cat": 0, "dog": 1}, ("cat", "dog"))
    assert kind_numbers([], "x") == ({}, None)
    with pytest.raises(UserError) as caught:
        kind_numbers([1, "cat"], "x.tar")
    assert str(caught.value) == (
        "x.tar: some objects have names of classes (cat), others numbers (1)\nUse either everywhere."
    )
