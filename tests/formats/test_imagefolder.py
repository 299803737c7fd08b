"""Hugging Face's image folders."""

from __future__ import annotations

import json

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from foveal.errors import UserError
from foveal.formats.boxfiles import Place
from foveal.formats.imagefolder import find_imagefolder, read_imagefolder
from foveal.records import BadRecord

BOXES = {"bbox": [[1, 2, 3, 4], [0, 0, 5, 6]], "categories": [1, 0]}


def folder(path, *rows, pictures=("1.jpg", "2.jpg"), name="metadata.jsonl"):
    for picture in pictures:
        (path / picture).parent.mkdir(parents=True, exist_ok=True)
        (path / picture).write_bytes(picture.encode())
    lines = [row if isinstance(row, str) else json.dumps(row) for row in rows]
    (path / name).write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def read(path, split="all", **options):
    return read_imagefolder(find_imagefolder(path)[split], **options)


def refusal(path, **options):
    with pytest.raises(UserError) as caught:
        read(path, **options)
    return str(caught.value)


def test_labels_of_jsonl(tmp_path):
    source = read(
        folder(tmp_path, {"file_name": "2.jpg", "label": "dog"}, "", {"file_name": "./1.jpg", "label": "cat"})
    )
    assert (source.form, source.class_names, source.labels().values.tolist()) == ("imagefolder", ("cat", "dog"), [1, 0])
    assert (source.read(0).key, source.read(0).picture, source.read(0).label) == ("2.jpg", b"2.jpg", 1)
    assert source.where(1) == "metadata.jsonl, line 3 (1.jpg)"


def test_labels_of_csv(tmp_path):
    rows = ["file_name,text,label", '1.jpg,"two\nlines",cat', "2.jpg,,dog"]
    source = read(folder(tmp_path, *rows, name="metadata.csv"))
    assert (source.class_names, source.labels().values.tolist()) == (("cat", "dog"), [0, 1])
    assert source.where(1) == "metadata.csv, line 4 (2.jpg)"


def test_numbers_with_names_beside_them(tmp_path):
    rows = [
        {"file_name": "1.jpg", "label": 1, "class_name": "dog"},
        {"file_name": "2.jpg", "label": 0, "class_name": "x"},
    ]
    source = read(folder(tmp_path, *rows))
    assert (source.class_names, source.labels().values.tolist()) == (("x", "dog"), [1, 0])


def test_several_labels(tmp_path):
    source = read(folder(tmp_path, {"file_name": "1.jpg", "labels": ["a", "b"]}, {"file_name": "2.jpg", "labels": []}))
    assert source.read(0).label.tolist() == [1, 1]
    assert source.read(1).label.tolist() == [0, 0]


def test_another_column_of_labels(tmp_path):
    rows = [{"file_name": "1.jpg", "label": 0, "vet": "sick"}, {"file_name": "2.jpg", "label": 0, "vet": "well"}]
    assert read(folder(tmp_path, *rows), label_column="vet").class_names == ("sick", "well")


def test_objects(tmp_path):
    rows = [{"file_name": "1.jpg", "objects": BOXES}, {"file_name": "2.jpg"}]
    source = read(folder(tmp_path, *rows))
    assert source.boxes(0).values.tolist() == [[1, 2, 4, 6], [0, 0, 5, 6]]
    assert (source.boxes(0).cls.tolist(), source.boxes(0).unit, source.class_names) == ([1, 0], "pixel", None)
    assert len(source.boxes(1).cls) == 0
    assert source.where(0) == f"{tmp_path}/1.jpg (metadata.jsonl, line 1)"
    known = read(tmp_path, class_names=("cat", "dog"))
    assert known.class_names == ("cat", "dog")


def test_names_of_objects_are_matched(tmp_path):
    named = {"bbox": [[1, 2, 3, 4]], "categories": ["dog"]}
    folder(tmp_path, {"file_name": "1.jpg", "objects": named})
    assert read(tmp_path, class_names=("cat", "dog")).boxes(0).cls.tolist() == [1]
    assert "the class dog is not among the known classes (cat)" in refusal(tmp_path, class_names=("cat",))


def test_one_file_for_all_splits(tmp_path):
    pictures = ["train/1.jpg", "validation/2.jpg", "test/3.jpg"]
    rows = [{"file_name": each, "label": number} for number, each in enumerate(pictures)]
    folder(tmp_path, *rows, {"file_name": "extra/4.jpg", "label": 0}, pictures=pictures)
    assert read_imagefolder(Place("imagefolder", tmp_path / "metadata.jsonl", (tmp_path / "train",))).bad == (
        BadRecord("metadata.jsonl, line 4", "extra/4.jpg lies in no folder of a split"),
    )
    folder(tmp_path, *rows, pictures=pictures)
    assert list(find_imagefolder(tmp_path)) == ["test", "train", "validation"]
    source = read(tmp_path, "validation")
    assert (source.files, source.labels().values.tolist(), source.bad) == (("validation/2.jpg",), [1], ())


def test_rows_that_can_not_be_used_are_left_out_and_named(tmp_path):
    source = read(
        folder(
            tmp_path,
            {"file_name": "1.jpg", "label": 0},
            '{"file_name": "2.jpg", "label" 0}',
            "[1]",
            {"label": 0},
            {"file_name": "2.jpg", "label": None},
            {"file_name": "3.jpg", "label": 0},
        )
    )
    assert source.bad == (
        BadRecord("metadata.jsonl, line 2", "is no JSON: Expecting ':' delimiter (line 1, column 32)"),
        BadRecord("metadata.jsonl, line 3", "the row is no JSON object"),
        BadRecord("metadata.jsonl, line 4", "it has no file_name"),
        BadRecord("metadata.jsonl, line 6", f"the picture 3.jpg isn't in {tmp_path}"),
        BadRecord("metadata.jsonl, line 5", "2.jpg has no label (label)"),
    )


def test_rows_of_csv_with_another_number_of_fields_and_broken_objects_are_left_out(tmp_path):
    rows = ["file_name,label", "1.jpg,cat", "2.jpg", "2.jpg,dog,3"]
    told = "it has another number of fields than the header"
    assert read(folder(tmp_path, *rows, name="metadata.csv")).bad == (
        BadRecord("metadata.csv, line 3", told),
        BadRecord("metadata.csv, line 4", told),
    )
    rows = [{"file_name": "1.jpg", "objects": BOXES}, {"file_name": "2.jpg", "objects": {"bbox": [[1, 2, 3, 4]]}}]
    assert read(folder(tmp_path, *rows)).bad == (
        BadRecord("metadata.jsonl, line 2", "its objects have 1 boxes (bbox) and no classes (categories)"),
    )


@pytest.mark.parametrize(
    ("rows", "options", "told"),
    [
        (
            [{"file_name": "1.jpg", "label": 0}],
            {"task": "boxes"},
            'no row of it has objects, and boxes are asked for\nA row has "objects": '
            '{"bbox": [[x, y, width, height], ...], "categories": [0, ...]}.',
        ),
        (
            [{"file_name": "1.jpg", "objects": BOXES}],
            {"task": "classes"},
            "its rows have objects, and classes are asked for\nA row has a label, a number or a name; another column "
            "is named with label_column (--label-column).",
        ),
        (
            [{"file_name": "1.jpg", "text": "a cat"}],
            {},
            "its rows have no label\nA row has a label, a number or a name; another column is named with label_column "
            "(--label-column).",
        ),
        (
            [{"file_name": "9.jpg", "label": 0}],
            {},
            "none of its 1 rows can be used; the first: metadata.jsonl, line 1: the picture 9.jpg isn't in FOLDER\n"
            "Look whether pictures and annotations belong together, and whether the form was recognised rightly.",
        ),
    ],
)
def test_metadata_that_can_not_be_used_is_told(tmp_path, rows, options, told):
    told = told.replace("FOLDER", str(tmp_path))
    assert refusal(folder(tmp_path, *rows), **options) == f"{tmp_path}/metadata.jsonl: {told}"


def test_labels_that_can_not_be_meant_name_the_line(tmp_path):
    folder(tmp_path, {"file_name": "1.jpg", "label": 0}, {"file_name": "2.jpg", "label": {"a": 1}})
    assert refusal(tmp_path) == (
        f"{tmp_path}/metadata.jsonl, line 2: the label {{'a': 1}} is neither a number nor a name\n"
        "A label is a class number from 0, a class name, or a list of these."
    )


def test_tables_of_something_else_are_no_metadata(tmp_path):
    (tmp_path / "metadata.csv").write_bytes("image,größe\n1.jpg,3\n".encode("latin-1"))
    assert find_imagefolder(tmp_path) == {}
    (tmp_path / "metadata.csv").write_text("isic_id,sex\n1,f\n")
    assert find_imagefolder(tmp_path) == {}


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b'file_name,label\n1.jpg,"cat\n', "line 2: can't be read as a table: unexpected end of data\nMend the line."),
        (b"file_name,label\n1.jpg,\xff\n", "isn't UTF-8 text: 'utf-8' codec can't decode byte 0xff in position 22"),
    ],
)
def test_a_table_that_can_not_be_read_is_told(tmp_path, content, told):
    (tmp_path / "metadata.csv").write_bytes(content)
    with pytest.raises(UserError) as caught:
        read_imagefolder(Place("imagefolder", tmp_path / "metadata.csv", (tmp_path,)))
    assert told in str(caught.value)


VALUES = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=5)),
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.dictionaries(st.sampled_from(["bbox", "categories", "label", "x"]), inner, max_size=3),
    ),
    max_leaves=8,
)
ROWS = st.dictionaries(st.sampled_from(["file_name", "label", "labels", "objects", "class_name"]), VALUES, max_size=4)


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(st.one_of(ROWS.map(lambda row: {"file_name": "1.jpg"} | row), ROWS), max_size=4), st.binary(max_size=20)
)
def test_whatever_the_rows_are_only_our_errors_come_out(tmp_path, rows, tail):
    (tmp_path / "1.jpg").write_bytes(b"1")
    (tmp_path / "metadata.jsonl").write_bytes("".join(json.dumps(row) + "\n" for row in rows).encode() + tail)
    try:
        find_imagefolder(tmp_path)
        source = read_imagefolder(Place("imagefolder", tmp_path / "metadata.jsonl", (tmp_path,)))
    except UserError as error:
        assert "metadata.jsonl" in str(error)
    else:
        assert len(source) + len(source.bad) > 0
