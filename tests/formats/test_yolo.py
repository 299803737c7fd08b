"""YOLO."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from foveal.errors import BadPicture, UserError
from foveal.formats.yolo import find_yolo, parse_yolo, read_yolo, yaml_places
from foveal.records import BoxSource

LINE = "1 0.5 0.5 0.25 0.5\n"


def make(root, **files):
    """Files by path (``__`` for /, ``_`` for the dot of a suffix is not needed: suffixes follow by kind of content)."""
    for name, content in files.items():
        path = root / name.replace("__", "/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path = path.with_suffix(".jpg" if isinstance(content, bytes) else ".txt")
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return root


def read_all(root, **options):
    return {split: read_yolo(place, **options)[0] for split, place in find_yolo(root).items()}


def refusal(content):
    with pytest.raises(BadPicture) as caught:
        parse_yolo(content, "1.txt")
    return str(caught.value)


def test_corners_are_fractions():
    first, second = parse_yolo(b"\xef\xbb\xbf1 0.5 0.5 0.25 0.5\r\n\n3.0\t0.1 0.2 .1 0.2", "").objects
    assert first[:5] == (1, 0.375, 0.25, 0.625, 0.75)
    assert second[0] == 3
    assert np.allclose(second[1:5], [0.05, 0.1, 0.15, 0.3])
    assert parse_yolo(b"\n", "").objects == ()


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (b"1 0.5 0.5 0.25", "line 1: '1 0.5 0.5 0.25' has 4 numbers; a box has 5: class, x, y, width, height"),
        (b"0 .1 .1 .2 .1 .2 .2",
         "line 1: '0 .1 .1 .2 .1 .2 .2' has 7 numbers, as polygons have; a box has 5: class, x, y, width, height"),
        (b"\n0 .1 .1 .2 .1 .9", "line 2: '0 .1 .1 .2 .1 .9' has 6 numbers; a box has 5: class, x, y, width, height"),
        (b"cat .1 .1 .2 .1", "line 1: 'cat .1 .1 .2 .1': the class 'cat' is no number"),
        (b"0 .1 .1 x .1", "line 1: '0 .1 .1 x .1': the width 'x' is no number"),
        (b"0 .1 nan .1 .1", "line 1: '0 .1 nan .1 .1': the y is nan"),
        (b"-1 .1 .1 .1 .1", "line 1: '-1 .1 .1 .1 .1': the class -1 is no whole number from 0"),
        (b"1.5 .1 .1 .1 .1", "line 1: '1.5 .1 .1 .1 .1': the class 1.5 is no whole number from 0"),
        (b"\xff\xfe\x00", "isn't UTF-8 text"),
    ],
)  # fmt: skip
def test_a_line_that_is_no_box_is_shown(content, what):
    assert refusal(content) == f"1.txt: {what}"


def test_folders_of_images_and_labels(tmp_path):
    make(tmp_path, images__1=b"one", images__2=b"two", images__10=b"ten", labels__1=LINE, labels__2="")
    (source,) = read_all(tmp_path).values()
    assert isinstance(source, BoxSource)
    assert (source.files, source.class_names) == (("1.jpg", "2.jpg", "10.jpg"), None)
    assert [len(source.boxes(row).cls) for row in range(3)] == [1, 0, 0]
    boxes = source.boxes(0)
    assert (boxes.unit, boxes.of, boxes.size) == ("fraction", "upright", None)
    assert source.where(0) == f"{tmp_path}/images/1.jpg (1.txt)"
    assert source.where(2) == f"{tmp_path}/images/10.jpg (no label file)"
    assert source.read(1).picture == b"two"
    said = read_yolo(find_yolo(tmp_path)["all"])[1]
    assert said == ("1 pictures have no label file, and count as pictures without objects",)


def test_folders_of_splits_inside(tmp_path):
    make(
        tmp_path, images__train__1=b"1", images__val__2=b"2", labels__train__1=LINE, labels__val__2=LINE, classes="a\nb"
    )
    sources = read_all(tmp_path)
    assert {split: (source.files, source.class_names) for split, source in sources.items()} == {
        "train": (("1.jpg",), ("a", "b")), "validation": (("2.jpg",), ("a", "b"))
    }  # fmt: skip


def test_pictures_and_labels_side_by_side(tmp_path):
    make(tmp_path, **{"1": b"1", "2": b"2"})
    make(tmp_path, **{"1": LINE, "2": ""})
    (tmp_path / "obj.names").write_text("cat\ndog\n")
    (source,) = read_all(tmp_path).values()
    assert (source.files, source.class_names, source.bad) == (("1.jpg", "2.jpg"), ("cat", "dog"), ())


@pytest.mark.parametrize("names", ["[no, 1e3]", "{1: 1e3, 0: no}", "\n  0: no\n  1: 1e3", "\n- no\n- 1e3"])
def test_a_yaml_file_names_splits_and_classes_as_they_are_written(tmp_path, names):
    make(tmp_path, train__images__1=b"1", valid__images__2=b"2", train__labels__1=LINE, valid__labels__2=LINE)
    (tmp_path / "data.yaml").write_text(f"train: ../train/images\nval: ../valid/images\nnc: 2\nnames: {names}\n")
    sources = read_all(tmp_path)
    assert list(sources) == ["train", "validation"]
    assert sources["train"].class_names == ("no", "1e3")
    assert (sources["train"].files, sources["validation"].files) == (("1.jpg",), ("2.jpg",))


def test_a_yaml_file_may_name_lists_of_pictures_and_several_folders(tmp_path):
    make(tmp_path, a__images__1=b"1", b__images__1=b"2", a__labels__1=LINE, b__labels__1=LINE)
    (tmp_path / "val.txt").write_text("./b/images/1.jpg\nb/images/9.jpg\n")
    (tmp_path / "data.yaml").write_text(
        f"path: {tmp_path}\ntrain: [a/images, b/images]\nval: val.txt\ntest:\nnames: [x, y]\n"
    )
    sources = read_all(tmp_path)
    assert sources["train"].files == ("a/images/1.jpg", "b/images/1.jpg")
    assert sources["validation"].files == ("1.jpg",)
    assert [(bad.where, bad.reason) for bad in sources["validation"].bad] == [
        (f"{tmp_path}/val.txt, line 2", "the picture b/images/9.jpg isn't there")
    ]


TEACH = (
    "A YOLO data file has `names: [cat, dog]` and `train:` (`val:`, `test:`) with folders of pictures, relative to "
    "`path:` or to the file's own folder."
)


@pytest.mark.parametrize(
    ("text", "what", "remedy"),
    [
        ("a: [", "is no YAML: while parsing a flow node expected the node content, but found '<stream end>'   in "
                 '"<byte string>", line 1, column 5:     a: [         ^', TEACH),
        ("- a", "isn't a mapping of keys and values", TEACH),
        ("train: " + "[" * 201, "is no YAML: it has more than 200 opening brackets", TEACH),
        ("names: [a]", "names no training pictures (train)", TEACH),
        ("train: {a: b}", "train is {'a': 'b'}, no path or list of paths", TEACH),
        ("train: images\nnames: [a, a]", "names has 'a' twice", "Name each class once."),
        ("train: images\nnames: {0: a, 2: b}", "names has 2 entries, but none for class 1",
         "Name the classes from 0 on, each once."),
        ("train: images\nnames: [a, [b]]", "names is ['a', ['b']], no list of names", TEACH),
    ],
)  # fmt: skip
def test_a_yaml_file_that_can_not_be_used_is_told(tmp_path, text, what, remedy):
    make(tmp_path, images__1=b"1", labels__1=LINE)
    (tmp_path / "d.yaml").write_text(text)
    with pytest.raises(UserError) as caught:
        read_yolo(yaml_places(tmp_path / "d.yaml")["train"])
    assert str(caught.value) == f"{tmp_path}/d.yaml: {what}\n{remedy}"


def test_a_folder_that_a_yaml_file_names_and_that_is_not_there_is_told(tmp_path):
    (tmp_path / "d.yaml").write_text("train: ../x/images\nnames: [a]\n")
    with pytest.raises(UserError) as caught:
        yaml_places(tmp_path / "d.yaml")
    assert caught.value.what == (
        f"train names '../x/images', which isn't there (looked for {tmp_path}/../x/images, {tmp_path}/x/images)"
    )


@pytest.mark.parametrize("name", ["x" * 5000, "a\\0b"])
def test_a_name_that_no_folder_can_have_in_a_yaml_file_is_not_there(tmp_path, name):
    (tmp_path / "d.yaml").write_text(f'train: "{name}"\nnames: [a]\n')
    with pytest.raises(UserError, match="which isn't there") as caught:
        yaml_places(tmp_path / "d.yaml")
    assert len(str(caught.value)) < 1000


def test_a_yaml_file_of_something_else_is_left_alone(tmp_path):
    make(tmp_path, images__1=b"1", labels__1=LINE)
    (tmp_path / "docker.yaml").write_text("services: {train: {}}\n")
    assert list(find_yolo(tmp_path)) == ["all"]


def test_what_can_not_be_used_is_named_and_the_rest_is_read(tmp_path):
    make(tmp_path, images__1=b"1", images__2=b"2", labels__1=LINE, labels__2="1 2", labels__3=LINE)
    (source,) = read_all(tmp_path).values()
    assert source.files == ("1.jpg",)
    assert [(bad.where, bad.reason) for bad in source.bad] == [
        (f"{tmp_path}/labels/2.txt", "line 1: '1 2' has 2 numbers; a box has 5: class, x, y, width, height"),
        (f"{tmp_path}/labels/3.txt", "there is no picture of that name"),
    ]


def test_a_label_file_that_is_a_link_to_nothing_is_named(tmp_path):
    make(tmp_path, images__1=b"1", images__2=b"2", labels__1=LINE)
    (tmp_path / "labels" / "2.txt").symlink_to("gone.txt")
    (source,) = read_all(tmp_path).values()
    assert source.files == ("1.jpg",)
    assert [bad.reason for bad in source.bad] == ["can't be read: No such file or directory"]


def test_pictures_without_one_label_file_are_refused(tmp_path):
    make(tmp_path, images__1=b"1")
    (tmp_path / "d.yaml").write_text("train: images\nnames: [a]\n")
    with pytest.raises(UserError) as caught:
        read_yolo(find_yolo(tmp_path)["train"])
    assert str(caught.value) == (
        f"{tmp_path}/d.yaml: none of its 1 pictures has a label file; the first: {tmp_path}/images/1.txt\n"
        "Labels lie in a folder called labels beside images, or beside the pictures."
    )


def test_other_text_files_are_not_taken_for_labels(tmp_path):
    make(tmp_path, images__1=b"1", labels__1="10 20 30 40")
    assert find_yolo(tmp_path) == {}
    make(tmp_path, **{"readme": LINE, "2": b"2"})
    assert find_yolo(tmp_path) == {}


def test_classes_are_matched_by_name(tmp_path):
    make(tmp_path, images__1=b"1", labels__1=LINE, classes="a\nb\n")
    assert read_all(tmp_path, class_names=("b", "a"))["all"].boxes(0).cls.tolist() == [0]
    with pytest.raises(UserError) as caught:
        read_all(tmp_path, class_names=("a", "c"))
    assert caught.value.what == "the class b is not among the known classes (a, c)"
    (tmp_path / "classes.txt").write_text("a\n")
    with pytest.raises(UserError) as caught:
        read_all(tmp_path, class_names=("a", "c"))
    assert caught.value.what == "the class id 1 is not among the known classes (a, c)"


fraction = st.floats(0, 1)


@settings(max_examples=80, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 999), fraction, fraction, fraction, fraction), max_size=5))
def test_any_boxes_come_back(boxes):
    text = "\n".join(" ".join(map(repr, box)) for box in boxes)
    for (kind, x, y, w, h), found in zip(boxes, parse_yolo(text.encode(), "").objects, strict=True):
        assert found.kind == kind
        corners = (found.xmin + found.xmax, found.ymin + found.ymax, found.xmax - found.xmin, found.ymax - found.ymin)
        assert np.allclose(corners, (2 * x, 2 * y, w, h), atol=1e-12)


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=80))
def test_broken_bytes_are_bad_pictures_and_nothing_worse(junk):
    try:
        parse_yolo(LINE.encode() + junk, "x")
    except BadPicture as error:
        assert str(error).startswith("x: ")


@settings(max_examples=100, deadline=None)
@given(st.text(max_size=60))
def test_any_text_in_a_yaml_file_is_read_or_told(tmp_path_factory, text):
    folder = make(tmp_path_factory.mktemp("yolo"), images__1=b"1", labels__1=LINE)
    (folder / "d.yaml").write_bytes(b"train: images\nnames: " + text.encode("utf-8", "surrogatepass"))
    try:
        read_yolo(yaml_places(folder / "d.yaml")["train"])
    except UserError as error:
        assert "d.yaml" in error.where
