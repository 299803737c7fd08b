"""Tables with a column of files and a column of labels."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from foveal.errors import UserError
from foveal.formats.pictures import sort_class_names
from foveal.formats.table import Columns, find_columns, read_table, table_source


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "images").mkdir()
    for number in range(6):
        (tmp_path / "images" / f"{number}.png").write_bytes(b"picture %d" % number)
    return tmp_path


def write(folder, text, name="all.csv"):
    (folder / name).write_bytes(text.encode())
    return folder / name


def test_files_labels_splits_and_groups_are_found_by_usual_names(folder):
    rows = "A,images/0.png,cat,train\nA,images/1.png,dog,val\nB,images/2.png,cat,TEST\n"
    table = read_table(write(folder, f"patient,Image Path,Label,Split\n{rows}"))
    assert table.columns == Columns("Image Path", "Label", "Split", "patient")
    assert table.splits == ("train", "validation", "test")
    source = table_source(table, table.rows("validation"), ("cat", "dog"))
    assert (source.files, source.labels().values.tolist(), source.groups) == (("images/1.png",), [1], ("A",))
    assert source.where(0) == "all.csv, line 3 (images/1.png)"
    assert source.read(0).picture == b"picture 1"


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
def test_delimiters_are_told_from_the_header(folder, delimiter):
    text = f"file{delimiter}label\r\n0.png{delimiter} a cat \r\n\r\n1.png{delimiter}dog{delimiter}\r\n"
    table = read_table(write(folder, text))
    assert table.files == ("0.png", "1.png")
    assert table.labels == ("a cat", "dog")
    assert table.lines.tolist() == [2, 4]
    assert table.root == folder / "images"


def test_a_number_is_a_class_name_and_a_position_where_names_are_known(folder):
    table = read_table(write(folder, "file,label\n0.png,7.0\n1.png,10.0\n2.png,2.0\n"))
    assert table.labels == ("7", "10", "2")
    assert sort_class_names(table.labels) == ("2", "7", "10")
    table = read_table(write(folder, "file,label\n0.png,1\n1.png,0\n"))
    assert table_source(table, table.rows(None), ("cat", "dog")).labels().values.tolist() == [1, 0]


def test_ids_without_a_suffix_find_their_picture(folder):
    assert read_table(write(folder, "id_code,diagnosis\n0,benign\n3,malign\n")).files == ("0.png", "3.png")


def test_rows_that_lack_something_are_left_out_and_named(folder):
    table = read_table(write(folder, "file,label\n0.png,cat\n,cat\n1.png,\n9.png,dog\n"))
    assert table.files == ("0.png",)
    assert [(bad.where, bad.reason) for bad in table.bad] == [
        ("all.csv, line 3", "the column file is empty"),
        ("all.csv, line 4", "1.png has no label (column label)"),
        ("all.csv, line 5", f"the picture 9.png isn't in {folder}/images"),
    ]


def test_a_message_shows_the_beginning_of_many_and_of_long_columns(folder):
    header = [f"column {number}" for number in range(30)] + ["x" * 500]
    with pytest.raises(UserError) as caught:
        read_table(write(folder, f"{','.join(header)}\na{',' * 30}\n"))
    assert caught.value.what == f"no column of pictures' files found among: {', '.join(header[:20])}, ..."
    with pytest.raises(UserError) as caught:
        read_table(write(folder, f"file,{header[-1]}\n0.png,cat\n"))
    assert caught.value.what == f"no column of labels found among: file, {'x' * 80}..."


@pytest.mark.parametrize(("header", "labels"), [("file,cat,cow,cow", ()), ("file,cow,cat,dog", ("cow", "cat", "cow"))])
def test_a_class_with_two_columns_is_told(folder, header, labels):
    with pytest.raises(UserError) as caught:
        read_table(write(folder, f"{header}\n0.png,1,0,1\n"), labels=labels)
    told = "the column cow, one class, is there twice\nName each class and its column once."
    assert str(caught.value) == f"{folder}/all.csv: {told}"


def test_labels_of_endless_digits_are_sorted_as_text():
    assert sort_class_names(["9", "1" * 5000, "10"]) == ("10", "1" * 5000, "9")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("file,kind of animal\n0.png,cat\n", "no column of labels found among: file, kind of animal"),
        ("where,label\n0.png,cat\n", "no column of pictures' files found among: where, label"),
        ("file,label\n0.png\n", r"line 2: 1 fields, the header has 2: '0\.png'"),
        ("file,label\n0.png,cat,black\n", r"line 2: 3 fields, the header has 2: '0\.png,cat,black'"),
        ("file,label,split\n0.png,cat,hold-out\n", "line 2: 'hold-out' in the column split is no split"),
        ("file,label\n", "holds no rows"),
        ("file,label\n9.png,cat\n", "none of its 1 rows can be used; the first: the picture 9.png isn't in"),
        ('file,label\n"0.png,cat\n', "can't be read as a table: unexpected end of data"),
    ],
)
def test_what_is_wrong_with_a_table_is_told(folder, text, message):
    with pytest.raises(UserError, match=message):
        read_table(write(folder, text))


def refusal(path, **options):
    with pytest.raises(UserError) as caught:
        read_table(path, **options)
    return str(caught.value)


def test_columns_of_0_and_1_are_classes_in_their_order(folder):
    path = write(folder, "file,dog,cat,split,place\n0.png,1,1,train,x\n1.png,0,0.0,train,y\n2.png,0,1.0,val,z\n")
    table = read_table(path)
    assert table.columns == Columns("file", "", "split", None, classes=("dog", "cat"))
    assert table.sets == (("dog", "cat"), (), ("cat",))
    assert (table.labels, table.class_names(table.rows(None))) == ((), ("dog", "cat"))
    source = table_source(table, table.rows("train"), ("cat", "dog"))
    assert source.labels().values.tolist() == [1, 1, 0, 0]
    assert source.labels().offsets.tolist() == [0, 2, 4]
    assert table_source(table, table.rows("validation"), ("cat", "dog")).read(0).label.tolist() == [1, 0]


def test_named_columns_of_0_and_1_go_before_what_would_be_found(folder):
    path = write(folder, "file,label,dog,cat,sharp\n0.png,x,1,0,1\n1.png,y,1,1,1\n")
    assert read_table(path).labels == ("x", "y")
    assert read_table(path, labels=("cat", "dog")).sets == (("dog",), ("cat", "dog"))


def test_a_table_whose_pictures_have_one_class_each_is_one_of_single_labels_unless_several_are_asked_for(folder):
    path = write(folder, "file,dog,cat\n0.png,1,0\n1.png,0,1\n")
    assert (read_table(path).labels, read_table(path).sets) == (("dog", "cat"), None)
    assert read_table(path, several=True).sets == (("dog",), ("cat",))


@pytest.mark.parametrize("mark", [";", "|", "/"])
def test_a_column_may_list_the_classes_of_each_picture(folder, mark):
    path = write(folder, f"file,tags\n0.png,dog{mark} cat\n1.png,\n2.png,cat{mark}cat\n3.png,cow\n", "all.tsv.csv")
    table = read_table(path, labels=("tags",), separator=None if mark != "/" else mark)
    assert table.sets == (("dog", "cat"), (), ("cat",), ("cow",))
    assert table.class_names(table.rows(None)) == ("cat", "cow", "dog")
    assert table_source(table, table.rows(None), ("cat", "cow", "dog")).labels().values.reshape(4, 3).tolist() == [
        [1, 0, 1], [0, 0, 0], [1, 0, 0], [0, 1, 0],
    ]  # fmt: skip


def test_lists_of_classes_are_told_where_a_class_occurs_in_other_cells_too(folder):
    path = write(folder, "file,label\n0.png,dog;cat\n1.png,cat\n")
    assert read_table(path).sets == (("dog", "cat"), ("cat",))
    assert read_table(path, several=False).labels == ("dog;cat", "cat")
    path = write(folder, "file,label\n0.png,rock;roll\n1.png,cat\n")
    assert read_table(path).labels == ("rock;roll", "cat")


@pytest.mark.parametrize(
    ("text", "options", "told"),
    [
        ("file,dog,cat\n0.png,1,0\n1.png,2,1\n", {"labels": ("dog", "cat")},
         ", line 3: '2' in the column dog is neither 0 nor 1\nColumns of classes hold 1 for the classes that a picture "
         "has, else 0: mend it, or leave it out of --labels."),
        ("file,dog,cat\n0.png,1,0\n", {"labels": ("dog", "cow")},
         ": it has no column 'cow'\nIts columns: file, dog, cat."),
        ("file,kind of animal\n0.png,cat\n", {},
         ": no column of labels found among: file, kind of animal\nName it with label_column (--label-column)."),
        ("file,label\n0.png,c\xe4t\n", {},
         ", line 2, column 8: isn't UTF-8 text: byte 0xe4\nStore it in UTF-8."),
        ('file,label\n"0.png,cat\n', {},
         ", line 2: can't be read as a table: unexpected end of data\nMend the line."),
        ("file,label\n0.png,cat,black\n", {},
         ", line 2: 3 fields, the header has 2: '0.png,cat,black'\nSeparate the fields by ',', and put those that "
         "contain it into double quotes."),
    ],
)  # fmt: skip
def test_the_whole_text_of_what_is_wrong_names_line_and_column(folder, text, options, told):
    path = folder / "all.csv"
    path.write_bytes(text.encode("latin-1"))
    assert refusal(path, **options) == f"{path}{told}"


def test_an_empty_cell_of_a_class_leaves_the_row_out(folder):
    table = read_table(write(folder, "file,dog,cat\n0.png,1,1\n1.png,,1\n"), labels=("dog", "cat"))
    assert table.files == ("0.png",)
    assert [(bad.where, bad.reason) for bad in table.bad] == [("all.csv, line 3", "1.png has no label (column dog)")]


def test_a_column_that_is_named_but_not_there_is_told(folder):
    with pytest.raises(UserError, match=r"it has no column 'species'\nIts columns: file, label\."):
        read_table(write(folder, "file,label\n0.png,cat\n"), label_column="species")


def test_a_label_that_training_does_not_know_is_told_with_its_line(folder):
    table = read_table(write(folder, "file,label\n0.png,cat\n1.png,cow\n"))
    with pytest.raises(UserError, match=r"all\.csv, line 3: the class cow is not among the known classes \(cat, dog\)"):
        table_source(table, table.rows(None), ("cat", "dog"))


def test_the_more_telling_column_is_chosen(folder):
    columns = find_columns(folder, ["id", "class", "class_name", "person", "filename"], None, None)
    assert columns == Columns("filename", "class_name", None, None)


@settings(max_examples=200, deadline=None)
@given(st.text(alphabet='file,label0.png\n\r"\t;|é\0', max_size=60))
def test_any_text_is_a_table_or_a_user_error(tmp_path_factory, text):
    path = tmp_path_factory.getbasetemp() / "any.csv"
    path.write_text(text, encoding="utf-8", newline="")
    try:
        table = read_table(path)
    except UserError:
        return
    assert len(table.files) == len(table.sets or table.labels) == len(table.lines)
