"""Tables of boxes, a row for each object."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from foveal.errors import UserError
from foveal.formats.boxtable import box_columns, box_table_source, has_boxes, read_box_table


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "images").mkdir()
    for number in range(4):
        (tmp_path / "images" / f"{number}.png").write_bytes(b"picture %d" % number)
    return tmp_path


def write(folder, text, name="all.csv"):
    (folder / name).write_text(text)
    return folder / name


def opened(folder, text, **options):
    table = read_box_table(write(folder, text), **options)
    return box_table_source(table, table.rows(None), table.class_names(table.rows(None)))


def test_rows_are_gathered_by_picture_and_one_without_numbers_is_a_picture_without_objects(folder):
    source = opened(folder, "file,xmin,ymin,xmax,ymax,class\n1.png,1,2,30,40.5,dog\n0.png,,,,,\n1.png,5,6,7,8,cat\n")
    assert (source.files, source.class_names, source.objects.unit) == (("1.png", "0.png"), ("cat", "dog"), "pixel")
    assert source.boxes(0).values.tolist() == [[1, 2, 30, 40.5], [5, 6, 7, 8]]
    assert source.boxes(0).cls.tolist() == [1, 0]
    assert len(source.boxes(1).cls) == 0
    assert source.read(1).picture == b"picture 0"
    assert source.where(0) == f"{folder}/images/1.png (all.csv, line 2)"


@pytest.mark.parametrize(
    ("header", "row", "corners", "size"),
    [
        ("filename,width,height,class,xmin,ymin,xmax,ymax", "0.png,640,480,cat,10,20,30,40", [10, 20, 30, 40],
         (640, 480)),
        ("ImageID,LabelName,XMin,XMax,YMin,YMax", "0,cat,.25,.75,.125,.5", [0.25, 0.125, 0.75, 0.5], None),
        ("path,x1,y1,x2,y2,class_name", "0.png,10,20,30,40,cat", [10, 20, 30, 40], None),
        ("image,x0,y0,x1,y1,label", "0.png,10,20,30,40,cat", [10, 20, 30, 40], None),
        ("image,left,top,width,height,label", "0.png,10,20,30,40,cat", [10, 20, 40, 60], None),
        ("image,x,y,w,h,label", "0.png,10,20,30,40,cat", [10, 20, 40, 60], None),
    ],
)  # fmt: skip
def test_usual_names_of_columns_are_understood(folder, header, row, corners, size):
    boxes = opened(folder, f"{header}\n{row}\n").boxes(0)
    assert (boxes.values.tolist(), boxes.size) == ([corners], size)


def test_fractions_are_told_from_the_numbers_unless_the_unit_is_given(folder):
    text = "file,xmin,ymin,xmax,ymax,class\n0.png,0,0,1,1.02,cat\n"
    assert opened(folder, text).boxes(0).unit == "fraction"
    assert opened(folder, text, unit="pixel").boxes(0).unit == "pixel"
    assert opened(folder, text.replace("1.02", "1.6")).boxes(0).unit == "pixel"


def test_difficult_objects_and_groups_are_marked(folder):
    rows = "0.png,1,1,9,9,cat,1,0\n0.png,1,1,9,9,cat,0,1\n"
    boxes = opened(folder, f"file,x1,y1,x2,y2,class,Difficult,IsGroupOf\n{rows}").boxes(0)
    assert (boxes.difficult.tolist(), boxes.crowd.tolist()) == ([True, False], [False, True])


def test_splits_and_groups_are_those_of_the_picture(folder):
    rows = "0.png,1,1,9,9,cat,train,A\n1.png,1,1,9,9,dog,val,B\n0.png,1,1,9,9,cat,train,A\n"
    table = read_box_table(write(folder, f"file,x1,y1,x2,y2,class,split,patient\n{rows}"))
    assert table.splits == ("train", "validation")
    source = box_table_source(table, table.rows("train"), ("cat", "dog"))
    assert (source.groups, source.labels().values.tolist()) == (("A",), [0, 0])


def test_what_is_not_there_is_left_out_once(folder):
    source = read_box_table(
        write(folder, "file,x1,y1,x2,y2,class\n9.png,1,1,9,9,cat\n,1,1,9,9,cat\n0.png,1,1,9,9,cat\n9.png,1,1,9,9,cat\n")
    )
    assert source.files == ("0.png",)
    assert [(bad.where, bad.reason) for bad in source.bad] == [
        ("all.csv, line 3", "the column file is empty"),
        ("all.csv, line 2", f"the picture 9.png isn't in {folder}/images"),
    ]


@pytest.mark.parametrize(
    ("rows", "told"),
    [
        ("0.png,1,1,x,9,cat,train", ", line 2: 'x' in the column x2 is no number\n"
         "A box has four numbers, and a picture without objects has none."),
        ("0.png,1,nan,9,9,cat,train", ", line 2: 'nan' in the column y1 is no number\n"
         "A box has four numbers, and a picture without objects has none."),
        ("0.png,1,1,,9,cat,train", ", line 2: the column x2 is empty\n"
         "A box has four numbers, and a picture without objects has none."),
        ("0.png,1,1,9,9,,train", ", line 2: a box without class: the column class is empty\nName its class, or leave "
         "its coordinates empty as well: that means a picture without objects."),
        ("0.png,1,1,9,9,cat,train\n0.png,1,1,9,9,cat,test", ", line 3: this picture is test data here, and train data "
         "in line 2\nA picture belongs to one split."),
        ("9.png,1,1,9,9,cat,train", ": none of its 1 rows can be used; the first: the picture 9.png isn't in "
         "FOLDER\nPaths are relative to the table's folder. Put it there, or give the pictures' folder with --root."),
    ],
)  # fmt: skip
def test_what_is_wrong_is_told_with_line_and_column(folder, rows, told):
    path = write(folder, f"file,x1,y1,x2,y2,class,split\n{rows}\n")
    with pytest.raises(UserError) as caught:
        read_box_table(path)
    assert str(caught.value) == f"{path}{told}".replace("FOLDER", str(folder))


def test_a_class_that_training_does_not_know_is_told_with_its_line(folder):
    table = read_box_table(write(folder, "file,x1,y1,x2,y2,class\n0.png,1,1,9,9,cow\n"))
    with pytest.raises(UserError) as caught:
        box_table_source(table, table.rows(None), ("cat", "dog"))
    assert str(caught.value) == (
        f"{folder}/all.csv, line 2: the class cow is not among the known classes (cat, dog)\n"
        "The classes are those of the training rows, or of a classes.txt beside the table."
    )


def test_a_table_without_boxes_is_told_apart(folder):
    path = write(folder, "file,label,width,height\n0.png,cat,3,4\n")
    assert not has_boxes(path)
    with pytest.raises(UserError) as caught:
        read_box_table(path)
    assert str(caught.value) == (
        f"{path}: no columns of boxes found among: file, label, width, height\n"
        "Call them xmin, ymin, xmax and ymax, or x, y, w and h."
    )
    assert box_columns(["xmin", "ymin", "xmax"]) is None


@settings(max_examples=200, deadline=None)
@given(st.text(alphabet='0.png,19-ecat\n\r"\t;nan\0', max_size=60))
def test_any_rows_are_boxes_or_a_user_error(tmp_path_factory, text):
    path = tmp_path_factory.getbasetemp() / "any.csv"
    (path.parent / "0.png").write_bytes(b"")
    path.write_text(f"file,x1,y1,x2,y2,class\n{text}", encoding="utf-8", newline="")
    try:
        table = read_box_table(path)
    except UserError:
        return
    assert len(table.files) == len(table.annotations) == len(table.lines)
