"""Boxes in any text whose fields the user names."""

from __future__ import annotations

import zipfile

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from foveal.errors import UserError
from foveal.formats.boxtext import boxtext_file, find_boxtext, parse_columns, read_boxtext
from foveal.records import Reading, Remark

CORNERS = ("x1", "y1", "x2", "y2", "class")


def make(root, **texts):
    """Files by name: ``_`` stands for a dot before the suffix, ``__`` for a slash."""
    for name, text in texts.items():
        path = root / ".".join(name.replace("__", "/").rsplit("_", 1))
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


def opened(folder, *, columns=CORNERS, names=None, **options):
    reading = Reading(columns=columns, **options)
    place = find_boxtext(folder, reading.columns)["all"]
    return read_boxtext(place, reading, class_names=names)


def test_a_text_lies_beside_each_picture(tmp_path):
    make(tmp_path, a_jpg="", a_txt="10 20 30 40 1\n\n 5 6  7 8\t3.0\n", b_png="", b_txt="", c_jpg="")
    source, said = opened(tmp_path)
    assert (source.form, source.files, source.class_names) == ("boxes", ("a.jpg", "b.png"), None)
    assert source.boxes(0).values.tolist() == [[10, 20, 30, 40], [5, 6, 7, 8]]
    assert (source.boxes(0).cls.tolist(), source.boxes(0).unit) == ([1, 3], "pixel")
    assert len(source.boxes(1).cls) == 0
    assert source.where(0) == f"{tmp_path}/a.jpg (a.txt)"
    assert said == (
        Remark("passed-over", f"left out: 1 pictures in {tmp_path} without a text, e.g. c.jpg"),
        "x1 y1 x2 y2 class: corners, in pixels (told from the numbers)",
    )


@pytest.mark.parametrize(
    ("columns", "line", "values"),
    [
        (("x1", "y1", "x2", "y2", "class"), "1 2 3 4 7", [1, 2, 3, 4]),
        (("class", "left", "top", "right", "bottom"), "7 1 2 3 4", [1, 2, 3, 4]),
        (("x", "y", "width", "height", "label"), "1 2 3 4 7", [1, 2, 4, 6]),
        (("class", "cx", "cy", "w", "h"), "7 10 20 4 6", [8, 17, 12, 23]),
        (("-", "ymin", "xmin", "ymax", "xmax", "-", "class"), "x 2 1 4 3 0.9 7", [1, 2, 3, 4]),
    ],
)
def test_fields_have_any_order(tmp_path, columns, line, values):
    boxes = opened(make(tmp_path, a_jpg="", a_txt=line), columns=columns)[0].boxes(0)
    assert (boxes.values.tolist(), boxes.cls.tolist()) == ([values], [7])


def test_separators_units_names_and_difficult_objects(tmp_path):
    make(tmp_path, a_jpg="", a_txt=".1; .2; .3;.4; a dog;0\n0;0;1;1;cat;1\n")
    columns = ("x1", "y1", "x2", "y2", "class", "difficult")
    source, said = opened(tmp_path, columns=columns, separator=";")
    assert (source.class_names, source.boxes(0).cls.tolist()) == (("a dog", "cat"), [0, 1])
    assert (source.boxes(0).unit, source.boxes(0).difficult.tolist()) == ("fraction", [False, True])
    assert said == ("x1 y1 x2 y2 class difficult: corners, in fractions of the picture (told from the numbers)",)
    source, said = opened(tmp_path, columns=columns, separator=";", unit="pixel", names=("cat", "x", "a dog"))
    assert (source.boxes(0).unit, source.boxes(0).cls.tolist()) == ("pixel", [2, 0])
    assert said[0].endswith("in pixels (told)")


def test_without_a_class_all_objects_are_of_one(tmp_path):
    source, _ = opened(make(tmp_path, a_jpg="", a_txt="1 2 3 4\n"), columns=CORNERS[:4])
    assert source.class_names == ("object",)


def test_pictures_may_have_an_ending_behind_the_texts_name(tmp_path):
    make(tmp_path, a_test_jpg="", a_temp_jpg="", a_txt="1 2 3 4 1", b_test_jpg="", b_txt="1 2 3 4 1", c_txt="")
    source, said = opened(tmp_path)
    assert source.files == ("a_test.jpg", "b_test.jpg")
    assert said[0] == (
        "pictures called as their text with '_test' behind it are taken; 1 others are left out, e.g. a_temp.jpg"
    )
    assert [(bad.where, bad.reason) for bad in source.bad] == [(f"{tmp_path}/c.txt", "there is no picture of its name")]


def test_lists_of_pairs_are_splits_and_names_that_lead_nowhere_are_looked_for_and_named(tmp_path):
    make(tmp_path, train__a_test_jpg="", train__a_txt="1 2 3 4 1", train__b_jpg="", train__b_txt="", test__c_jpg="")
    make(tmp_path, test__c_txt="1 2 3 4 2", d_jpg="")
    make(tmp_path, trainval_txt="old/a.jpg old/a.txt\ntrain/b.jpg, train/b.txt\n\nd.jpg d.txt\ne.jpg train/b.txt\nx\n")
    make(tmp_path, test_txt="test/c.jpg test/c.txt\n")
    places = find_boxtext(tmp_path, CORNERS)
    assert sorted(places) == ["test", "train"]
    source, said = read_boxtext(places["train"], Reading(columns=CORNERS))
    assert source.files == ("train/a_test.jpg", "train/b.jpg", "train/b.jpg")
    assert said[0] == Remark(
        "other-names",
        "2 of the 3 pairs of trainval.txt aren't where it says, and were found by name; the first: trainval.txt, line"
        " 1: old/a.jpg old/a.txt, found as train/a_test.jpg train/a.txt",
    )
    assert [(bad.where, bad.reason) for bad in source.bad] == [
        ("trainval.txt, line 4", f"the label file d.txt isn't in {tmp_path}"),
        ("trainval.txt, line 6", "isn't a picture and a label file: 'x'"),
    ]
    place = boxtext_file(tmp_path / "test.txt", CORNERS)
    assert read_boxtext(place, Reading(columns=CORNERS))[0].files == ("test/c.jpg",)


def test_one_text_may_hold_the_boxes_of_all_pictures(tmp_path):
    make(tmp_path, images__a_jpg="", images__b_jpg="", images__c_jpg="")
    make(
        tmp_path, boxes_csv="a.jpg,1,2,3,4,cat\nb.jpg,,,,,\na.jpg,5,6,7,8,dog\nz.jpg,1,2,3,4,cat\n,1,2,3,4,cat\nc.jpg\n"
    )
    with (tmp_path / "boxes.csv").open("a") as file:
        file.write("d.jpg,1,2,3,4,cat\nd.jpg,1,x,3,4,cat\n")
    make(tmp_path, images__d_jpg="")
    source, _ = opened(tmp_path, columns=("file", *CORNERS), separator=",")
    assert source.files == ("a.jpg", "b.jpg", "c.jpg")
    assert [len(source.boxes(row).cls) for row in range(3)] == [2, 0, 0]
    assert source.where(0) == f"{tmp_path}/images/a.jpg (boxes.csv, line 1)"
    assert [(bad.where, bad.reason) for bad in source.bad] == [
        ("boxes.csv, line 5", "it names no file: ',1,2,3,4,cat'"),
        ("boxes.csv, line 4", f"the picture z.jpg isn't in {tmp_path}/images"),
        (f"{tmp_path}/boxes.csv, line 8", "field 3 is 'x', no number"),
    ]


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("1 2 3 4", "4 fields between blanks, and 5 columns are named: '1 2 3 4'"),
        ("1,2,3,4,5", "1 field between blanks, and 5 columns are named: '1,2,3,4,5'"),
        ("1 x 3 4 5", "field 2 is 'x', no number"),
        ("1 2 inf 4 5", "field 3 is 'inf', no number"),
        ("1 2 3 4 5.5", "field 5 is '5.5', no class number"),
        ("1 2 3 4 -1", "field 5 is '-1', no class number"),
    ],
)
def test_a_text_with_a_wrong_line_is_left_out_and_the_line_named(tmp_path, line, reason):
    source, _ = opened(make(tmp_path, a_jpg="", a_txt=f"1 2 3 4 5\n{line}\n", b_jpg="", b_txt=""))
    assert source.files == ("b.jpg",)
    assert [(bad.where, bad.reason) for bad in source.bad] == [(f"{tmp_path}/a.txt, line 2", reason)]


TEACH = (
    "Name the fields of a line, in their order, as --columns 'x1 y1 x2 y2 class': corners x1 y1 x2 y2, or x y w h, or"
    " cx cy w h; class, file, difficult; - for a field to skip."
)


@pytest.mark.parametrize(
    ("columns", "told"),
    [
        ("", "the fields of a line aren't named"),
        ("x1 y1 x2 y3 class", "'y3' is no field of a box"),
        ("x1 y1 x1 y2 class", "x1 is named twice"),
        ("x1 y1 w h class", "x1 y1 w h class names no box"),
        ("class", "class names no box"),
    ],
)
def test_columns_that_are_no_box_are_told(columns, told):
    with pytest.raises(UserError) as caught:
        parse_columns(columns.split())
    assert str(caught.value) == f"columns: {told}\n{TEACH}"


def test_a_text_that_belongs_to_no_picture_is_told(tmp_path):
    make(tmp_path, a_txt="1 2 3 4 5\n")
    with pytest.raises(UserError) as caught:
        boxtext_file(tmp_path / "a.txt", CORNERS)
    assert str(caught.value) == (
        f"{tmp_path}/a.txt: this text doesn't say to which pictures its boxes belong\n"
        "Name the folder of texts and pictures; a list of pairs, picture and label file; or a column `file`."
    )


def test_classes_are_all_names_or_all_numbers(tmp_path):
    with pytest.raises(UserError) as caught:
        opened(make(tmp_path, a_jpg="", a_txt="1 2 3 4 5\n1 2 3 4 cat\n"))
    assert str(caught.value) == (
        f"{tmp_path}: some classes are names (cat), others numbers (5)\nUse either everywhere."
    )


def test_where_nothing_fits_the_first_reason_is_told(tmp_path):
    with pytest.raises(UserError) as caught:
        opened(make(tmp_path, a_jpg="", a_txt="1 2 3 4 5\n"), separator=",")
    assert str(caught.value) == (
        f"{tmp_path}: none of its 1 texts of boxes can be used; the first: {tmp_path}/a.txt, line 1: 1 field between"
        " ',', and 5 columns are named: '1 2 3 4 5'\n"
        "Look whether pictures and annotations belong together, and whether the form was recognised rightly."
    )


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=60), st.sampled_from([None, ",", " "]), st.sampled_from([CORNERS, ("file", *CORNERS)]))
def test_any_bytes_are_boxes_or_a_user_error(tmp_path_factory, content, separator, columns):
    folder = tmp_path_factory.getbasetemp() / "any"
    make(folder, a_jpg="")
    (folder / "a.txt").write_bytes(content)
    reading = Reading(columns=columns, separator=separator)
    try:
        source, _ = read_boxtext(find_boxtext(folder, columns)["all"], reading)
    except UserError:
        return
    assert source.objects.values.shape[1] == 4


def test_deeppcb_opens_with_the_counts_of_its_readme(tmp_path, shared):
    for name in ("train", "test"):
        with zipfile.ZipFile(shared / "data" / "deeppcb" / f"{name}.zip") as archive:
            archive.extractall(tmp_path)
    for name in ("trainval.txt", "test.txt"):
        (tmp_path / name).write_bytes((shared / "data" / "deeppcb" / name).read_bytes())
    counts = {}
    for split, place in find_boxtext(tmp_path, CORNERS).items():
        source, said = read_boxtext(place, Reading(columns=CORNERS))
        counts[split] = [int((source.objects.ids == kind).sum()) for kind in range(1, 7)]
        assert isinstance(said[0], Remark)
        assert (source.bad, said[0].kind) == ((), "other-names")
    assert counts == {"train": [145, 111, 148, 128, 104, 104], "test": [64, 55, 48, 49, 38, 46]}
