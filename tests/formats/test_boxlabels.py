"""Boxes in the labels of records and lists."""

from __future__ import annotations

from itertools import chain
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from foveal.errors import BadPicture, UserError
from foveal.formats.boxfiles import object_table
from foveal.formats.boxlabels import BoxLabelSource, boxes_of, compose, fitting, look_like_boxes
from foveal.formats.imagerecord import pack
from foveal.formats.lst import read_lst
from foveal.formats.recordio import write_records
from foveal.formats.recsource import RecordSource
from foveal.records import BoxSource, Labels

FIXTURE = Path(__file__).parent.parent / "fixtures" / "recordio" / "detection.rec"
LAYOUT = (
    "A label is [A, B, ..., then class, xmin, ymin, xmax, ymax of each object]: A=2 numbers in the header, B=5 in an "
    "object, coordinates as fractions of width and height. `foveal pack` writes it."
)


def records(folder, *labels):
    payloads = ((row, pack(b"p%d" % row, np.asarray(label, np.float32), row)) for row, label in enumerate(labels))
    write_records(folder / "train.rec", payloads)
    return RecordSource([folder / "train.rec"])


def test_labels_of_every_width_are_read():
    source = BoxLabelSource(RecordSource([FIXTURE]))
    assert isinstance(source, BoxSource)
    assert [len(source.boxes(row).cls) for row in range(7)] == [3, 2, 1, 4, 0, 0, 9]
    assert [source.header(row).tolist() for row in (0, 2, 3, 5)] == [
        [2, 5], [4, 5, 24, 32], [5, 7, -1.5, 0, 8], [7, 6, 1, 2, 3, 4, 5],
    ]  # fmt: skip
    boxes = source.boxes(3)
    assert boxes.cls.tolist() == [8, 7, 4, 7]
    assert boxes.difficult.tolist() == [True, True, True, False]
    assert boxes.extra.tolist() == np.float32([[1, 2.459], [1, -3.171], [1, -0.097], [0, -4.916]]).tolist()
    assert boxes.values[0].tolist() == np.float32([0.26080024, 0.046064142, 0.5236190, 0.15858874]).tolist()
    assert (boxes.unit, boxes.of, boxes.size, boxes.crowd.any()) == ("fraction", "upright", None, False)
    assert source.read(3).label.cls.tolist() == [8, 7, 4, 7]
    assert source.labels().offsets.tolist() == [0, 3, 5, 6, 10, 10, 10, 19]
    assert source.labels().values[6:10].tolist() == [8, 7, 4, 7]
    assert source.where(3) == source.source.where(3)
    assert source.fingerprint() == source.source.fingerprint()


def test_the_table_of_all_objects_is_what_the_pictures_say_one_by_one():
    source = BoxLabelSource(RecordSource([FIXTURE]))
    table = object_table(source)
    pictures = [source.boxes(row) for row in range(len(source))]
    for name in ("values", "difficult", "crowd"):
        assert getattr(table, name).tolist() == np.concatenate([getattr(each, name) for each in pictures]).tolist()
    assert table.rows().tolist() == [0, 0, 0, 1, 1, 2, 3, 3, 3, 3, *[6] * 9]


def test_what_mxnet_drops_is_kept_as_stored_and_known_to_have_no_area(shared):
    source = BoxLabelSource(RecordSource([shared / "fixtures" / "mxnet" / "io" / "det_wide.rec"]))
    assert source.boxes(2).values[0].tolist() == np.float32([0.5, 0.5, 0.5, 0.9]).tolist()
    assert object_table(source).sound().tolist() == [True, True, True, False, True, True]


def test_every_label_is_written_again_to_the_byte():
    source = BoxLabelSource(RecordSource([FIXTURE]))
    for row in range(len(source)):
        assert compose(source.boxes(row), source.header(row)).tobytes() == source.stored(row).tobytes()


def test_lists_hold_the_same_labels(tmp_path):
    (tmp_path / "1.jpg").write_bytes(b"x")
    (tmp_path / "train.lst").write_text(
        "0\t2\t5\t4.0000\t0.4080\t0.1527\t0.9880\t0.8728\t1.jpg\n1\t2\t5\t1.jpg\n2\t4\t6\t9\t9\t1\t0\t0\t1\t1\t1\t1.jpg\n"
    )
    source = BoxLabelSource(read_lst(tmp_path / "train.lst"))
    assert (source.form, len(source), source.boxes(0).cls.tolist()) == ("lst", 3, [4])
    assert source.boxes(0).values.tolist() == np.float32([[0.408, 0.1527, 0.988, 0.8728]]).tolist()
    assert source.boxes(1).values.shape == (0, 4)
    assert source.boxes(2).difficult.tolist() == [True]


@pytest.mark.parametrize(
    ("label", "what"),
    [
        ([3], "the label [3] is one class number, and no boxes"),
        ([1, 5, 0, 0, 0, 1, 1],
         "the label begins with A=1, and the length of its header is a whole number from 2: [1, 5, 0, 0, 0, 1, 1]"),
        ([2.5, 5], "the label begins with A=2.5, and the length of its header is a whole number from 2: [2.5, 5]"),
        ([float("nan"), 5],
         "the label begins with A=nan, and the length of its header is a whole number from 2: [nan, 5]"),
        ([2, 4, 0, 0.1, 0.1, 0.2], "the label goes on with B=4, and the length of an object is a whole number from 5: "
                                   "[2, 4, 0, 0.1, 0.1, 0.2]"),
        ([7, 5, 0, 0], "the label announces a header of A=7 numbers, and has 4: [7, 5, 0, 0]"),
        ([2, 5, 0, 0.1, 0.1, 0.2], "4 numbers follow the header, which is no multiple of B=5 numbers an object: "
                                   "[2, 5, 0, 0.1, 0.1, 0.2]"),
        ([2, float("inf"), 0], "the label goes on with B=inf, and the length of an object is a whole number from 5: "
                               "[2, inf, 0]"),
        ([0, 10, 20, 55, 70, 1, 5, 5, 9, 9],
         "the label begins with A=0, and the length of its header is a whole number from 2: [0, 10, 20, 55, 70, 1, 5, "
         "...]; these are 2 objects of 5 numbers, with no header 2, 5 before them"),
    ],
)  # fmt: skip
def test_the_rule_that_a_label_breaks_is_told_with_record_and_numbers(tmp_path, label, what):
    source = records(tmp_path, [2, 5], label)
    with pytest.raises(UserError) as caught:
        BoxLabelSource(source)
    assert str(caught.value) == f"{source.where(1)}: {what}\n{LAYOUT}"


def test_in_training_the_original_text_comes_first(tmp_path):
    source = records(tmp_path, [0, 0.1, 0.1, 0.2, 0.2], [1, 2])
    with pytest.raises(UserError) as caught:
        BoxLabelSource(source, "train")
    assert str(caught.value) == (
        "Not enough annotation packed in the list file or the RecordIO file. Each object requires at least five "
        "numbers [label_id, xmin, ymin, ymax] for annotation.\n"
        "train.rec, record 1 at byte 0: the label begins with A=0, and the length of its header is a whole number from "
        "2: [0, 0.1, 0.1, 0.2, 0.2]; these are 1 object of 5 numbers, with no header 2, 5 before them "
        f"(1 more labels are broken)\n{LAYOUT}"
    )


def test_a_class_that_is_no_whole_number_breaks_one_picture(tmp_path):
    source = BoxLabelSource(records(tmp_path, [2, 5, 0, 0, 0, 1, 1], [2, 5, 0, 0, 0, 1, 1, 1.5, 0, 0, 1, 1]))
    assert source.boxes(0).cls.tolist() == [0]
    with pytest.raises(BadPicture) as caught:
        source.boxes(1)
    assert str(caught.value) == f"{source.where(1)}: the class 1.5 of object 2 is no class number"


@pytest.mark.parametrize(
    ("labels", "boxes"),
    [([[2, 5]], True), ([[1], [0]], False), ([[0, 1, 1], [1, 0, 1]], False), ([[2, 5], [3]], True), ([], False),
     ([[2, 5], [3], [4]], False)],
)  # fmt: skip
def test_the_layout_tells_boxes_from_classes(labels, boxes):
    offsets = np.cumsum([0, *map(len, labels)])
    assert look_like_boxes(Labels(np.float32([*chain(*labels)]), offsets)) is boxes


numbers = st.floats(width=32, allow_nan=False)


@settings(max_examples=100, deadline=None)
@given(st.data())
def test_any_label_made_by_the_rules_comes_back(data):
    header, width, count = (data.draw(st.integers(*span)) for span in ((2, 6), (5, 8), (0, 4)))
    head = [header, width, *data.draw(st.lists(numbers, min_size=header - 2, max_size=header - 2))]
    row = st.tuples(st.integers(0, 99), *[numbers] * (width - 1))
    rows = np.float32(data.draw(st.lists(row, min_size=count, max_size=count))).reshape(count, width)
    label = np.concatenate([np.float32(head), rows.reshape(-1)])
    assert fitting(Labels(label, np.array([0, len(label)]))).tolist() == [True]
    boxes = boxes_of(rows, "")
    assert boxes.cls.tolist() == rows[:, 0].tolist()
    assert boxes.values.tolist() == rows[:, 1:5].tolist()
    assert compose(boxes, np.float32(head)).tobytes() == label.tobytes()


@settings(max_examples=200, deadline=None)
@given(st.lists(st.lists(st.floats(width=32) | st.sampled_from([2.0, 4.0, 5.0, 6.0]), max_size=14), max_size=5))
def test_no_numbers_confuse_the_layout(labels):
    offsets = np.cumsum([0, *map(len, labels)])
    fits = fitting(Labels(np.float32([*chain(*labels)]), offsets))
    for label, fit in zip(labels, fits.tolist(), strict=True):
        rows = label[int(label[0]) :] if fit else []
        assert not fit or (len(label) >= 2 and len(rows) % int(label[1]) == 0)


def test_a_signalling_nan_is_no_layout_and_no_warning():
    values = np.array([0x40000000, 0x7F800001, 0, 0, 0, 0, 0], dtype=np.uint32).view(np.float32)  # A = 2, B = NaN
    assert fitting(Labels(values, np.array([0, 7]))).tolist() == [False]
