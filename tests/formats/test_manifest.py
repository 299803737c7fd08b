"""Augmented manifests: JSON lines of pictures and labels."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from foveal.errors import UserError
from foveal.formats.manifest import looks_like_manifest, read_manifest
from foveal.records import BoxSource

BOX = {
    "image_size": [{"width": 500, "height": 400, "depth": 3}],
    "annotations": [{"class_id": 0, "left": 111, "top": 134, "width": 61, "height": 128}],
}


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "photos").mkdir()
    for number in range(4):
        (tmp_path / "photos" / f"{number}.jpg").write_bytes(b"picture %d" % number)
    return tmp_path


def write(folder, *lines):
    """A manifest whose lines name the photos one after another, unless they name one themselves."""
    path = folder / "train.manifest"
    texts = []
    for number, line in enumerate(lines):
        texts.append(line if isinstance(line, str) else json.dumps({"source-ref": f"photos/{number}.jpg", **line}))
    path.write_text("\n".join(texts) + "\n")
    return path


def opened(folder, *lines, **options):
    return read_manifest(write(folder, *lines), **options)[0]


def refusal(folder, *lines, **options):
    path = write(folder, *lines)
    with pytest.raises(UserError) as caught:
        read_manifest(path, **options)
    return str(caught.value).removeprefix(str(path))


def rows(source):
    labels = source.labels()
    return labels.values.reshape(len(source), -1).tolist()


@pytest.mark.parametrize("labels", [(1, 0), ("1", "0"), (1.0, 0.0)])
def test_single_labels_are_numbers_also_as_text(folder, labels):
    source = opened(folder, *({"class": label} for label in labels))
    assert (source.form, source.class_names, source.labels().values.tolist()) == ("manifest", None, [1, 0])
    assert (source.read(1).picture, source.read(1).label, source.read(1).key) == (b"picture 1", 0, "photos/1.jpg")
    assert source.where(1) == "train.manifest, line 2 (photos/1.jpg)"


def test_labels_that_are_names_are_sorted_and_matched_with_those_that_are_known(folder):
    lines = [{"class": "dog"}, {"class": "cat"}]
    assert opened(folder, *lines).class_names == ("cat", "dog")
    assert opened(folder, *lines, class_names=("dog", "cow", "cat")).labels().values.tolist() == [0, 2]


def test_classes_are_named_by_the_metadata_of_any_line(folder):
    lines = [
        {"species": "0", "species-metadata": {"class-name": "dog", "confidence": 0.9}},
        {"species": "2", "species-metadata": {"confidence": 0.9}},
        {"species": "2", "species-metadata": {"class-name": "ant"}},
    ]
    source, said = read_manifest(write(folder, *lines))
    assert (source.class_names, source.labels().values.tolist()) == (("dog", "1", "ant"), [0, 2, 2])
    assert said == (
        "train.manifest: labels by the attribute species; classes named by the metadata, in the order of their ids"
    )
    assert opened(folder, *lines, class_names=("ant", "dog")).labels().values.tolist() == [1, 0, 0]


def test_given_names_go_before_the_metadata_and_count_in_the_order_of_their_numbers(folder):
    lines = [{"a": 5, "a-metadata": {"class-name": "x"}}, {"a": 2}]
    source, said = read_manifest(write(folder, *lines), names={5: "dog", 2: "cat"})
    assert (source.class_names, source.labels().values.tolist()) == (("cat", "dog"), [1, 0])
    assert said == "train.manifest: labels by the attribute a"


@pytest.mark.parametrize("as_text", [False, True])
def test_lists_of_0_and_1_of_one_length_are_multi_hot(folder, as_text):
    labels = [[1, 0, 1], [0, 0, 0]]
    source = opened(folder, *({"class": str(label) if as_text else label} for label in labels))
    assert (rows(source), source.class_names) == (labels, None)
    assert source.read(0).label.tolist() == [1, 0, 1]
    source = opened(folder, {"class": [1, 0], "class-metadata": {"class-map": {"0": "cat"}}}, {"class": [0, 1]})
    assert (rows(source), source.class_names) == ([[1, 0], [0, 1]], ("cat", "1"))


def test_other_lists_are_class_ids_as_ground_truth_writes_them(folder):
    lines = [
        {"tags": [1, 0, 3], "tags-metadata": {"class-map": {"0": "cat", "1": "dog", "3": "cow"}}},
        {"tags": [], "tags-metadata": {"class-map": {}}},
    ]
    source, said = read_manifest(write(folder, *lines))
    assert (rows(source), source.class_names) == ([[1, 1, 0, 1], [0, 0, 0, 0]], ("cat", "dog", "2", "cow"))
    assert said.startswith("train.manifest: lists of class ids by the attribute tags; classes named by the metadata")
    source = opened(folder, *lines, class_names=("cow", "dog", "cat", "ant"))
    assert rows(source) == [[1, 1, 1, 0], [0, 0, 0, 0]]


def test_class_maps_tell_lists_of_ids_from_multi_hot_where_both_would_do(folder):
    ids = [{"a": [0, 1], "a-metadata": {"class-map": {"0": "cat", "1": "dog"}}}]
    hot = [{"a": [0, 1], "a-metadata": {"class-map": {"1": "dog"}}}]
    assert rows(opened(folder, *ids)) == [[1, 1]]
    assert rows(opened(folder, *hot)) == [[0, 1]]
    assert rows(opened(folder, {"a": [0, 1]})) == [[0, 1]]
    assert rows(opened(folder, {"a": [0, 1]}, label_format="class-id")) == [[1, 1]]


@pytest.mark.parametrize("labels", [[0, 2], 2])
def test_two_classes_of_one_name_are_told(folder, labels):
    line = {"c": labels, "c-metadata": {"class-map": {"0": "cat", "1": "dog", "2": "cat"}}}
    assert refusal(folder, line, {"c": labels}) == (
        ": the classes 0 and 2 have one name: cat\nGive each its own, or make them one class with --names."
    )


def test_lists_may_hold_names(folder):
    source = opened(folder, {"tags": ["dog", "cat"]}, {"tags": []}, {"tags": ["cow"]})
    assert (source.class_names, rows(source)) == (("cat", "cow", "dog"), [[1, 0, 1], [0, 0, 0], [0, 1, 0]])


def test_boxes_have_pixels_stated_sizes_and_names(folder):
    metadata = {"class-map": {"0": "dog"}, "type": "groundtruth/object-detection"}
    empty = {**BOX, "annotations": []}
    source = opened(folder, {"box": BOX, "box-metadata": metadata}, {"box": json.dumps(empty)})
    assert isinstance(source, BoxSource)
    boxes = source.boxes(0)
    assert (boxes.values.tolist(), boxes.cls.tolist()) == ([[111, 134, 172, 262]], [0])
    assert (boxes.unit, boxes.size, source.class_names) == ("pixel", (500, 400), ("dog",))
    assert len(source.boxes(1).cls) == 0
    assert source.where(1) == f"{folder}/photos/1.jpg (train.manifest, line 2)"
    given = opened(folder, {"box": BOX}, names={0: "a", 4: "b"}, class_names=("b", "a"))
    assert (given.labels().values.tolist(), given.class_names) == ([1], ("b", "a"))


def test_pictures_are_found_by_path_by_file_url_and_below_a_root(folder):
    spaced = folder / "photos" / "a b.jpg"
    spaced.write_bytes(b"x")
    lines = [
        {"source-ref": str(folder / "photos" / "1.jpg"), "class": 0},
        {"source-ref": spaced.as_uri(), "class": 1},
        {"image-ref": "photos/2.jpg", "class": 1},
    ]
    source = opened(folder, *map(json.dumps, lines))
    assert [source.read(row).picture for row in range(3)] == [b"picture 1", b"x", b"picture 2"]
    source = opened(folder, {"source-ref": "s3://bucket/some/photos/3.jpg", "class": 0}, root=folder)
    assert source.read(0).picture == b"picture 3"


def test_an_address_is_kept_until_it_is_read(folder, monkeypatch):
    asked = []
    monkeypatch.setattr("foveal.formats.pictures.read_address", lambda *told: asked.append(told) or b"from the store")
    source = opened(folder, {"source-ref": "s3://bucket/photos/9.jpg", "class": 0})
    assert asked == []
    assert source.read(0).picture == b"from the store"
    assert asked == [("s3://bucket/photos/9.jpg", "train.manifest, line 1 (s3://bucket/photos/9.jpg)")]
    source = opened(folder, {"source-ref": "s3://bucket/photos/9.jpg", "box": BOX})
    assert (source.read(0).key, source.read(0).picture) == ("s3://bucket/photos/9.jpg", b"from the store")


def test_lines_that_can_not_be_used_are_left_out_and_named(folder):
    source = opened(
        folder,
        {"class": 0},
        '{"source-ref": "photos/1.jpg", "class" 1}',
        "[1]",
        '{"class": 1}',
        {"source-ref": "photos/9.jpg", "class": 1},
        '{"source-ref": "photos/1.jpg", "other": 3}',
        "",
        {"source-ref": "photos/3.jpg", "class": 1},
        attribute="class",
    )
    assert source.labels().values.tolist() == [0, 1]
    assert [(bad.where, bad.reason) for bad in source.bad] == [
        ("train.manifest, line 2", "is no JSON: Expecting ':' delimiter (column 40)"),
        ("train.manifest, line 3", "isn't a JSON object"),
        ("train.manifest, line 4", "names no picture: it has no source-ref"),
        ("train.manifest, line 5", f"the picture photos/9.jpg isn't in {folder}"),
        ("train.manifest, line 6", "it has no attribute class"),
    ]


def test_broken_boxes_leave_their_picture_out(folder):
    broken = {**BOX, "annotations": [{"class_id": 0, "left": "x", "top": 1, "width": 1, "height": 1}]}
    source = opened(folder, {"box": BOX}, {"box": broken})
    assert [(bad.where, bad.reason) for bad in source.bad] == [
        ("train.manifest, line 2", "annotation 1: left is 'x', no number")
    ]


@pytest.mark.parametrize(
    ("lines", "options", "told"),
    [
        (["{"], {}, ": none of its 1 lines can be used; the first: train.manifest, line 1: is no JSON: Expecting"
         " property name enclosed in double quotes (column 2)\nLook whether pictures and annotations belong together,"
         " and whether the form was recognised rightly."),
        ([""], {}, ": it holds no lines\nLook whether pictures and annotations belong together, and whether the form"
         " was recognised rightly."),
        ([{"a": 1, "b": 2}], {}, ", line 1: several attributes may be the label: a, b\n"
         "Name it with --label-attribute."),
        ([{}], {}, ", line 1: no attribute of it is a label: source-ref\nA line is {\"source-ref\": \"photos/1.jpg\", "
         "\"class\": 0}: a picture, and its label as number, name, list, or with boxes."),
        ([{"walk-ref": "s3://b/SeqLabel.json", "walk-metadata": {}}], {}, ", line 1: its label is a file, walk-ref: "
         "s3://b/SeqLabel.json, as Ground Truth writes for videos and segmentation\nLabels have to be in the manifest "
         "itself: classes, or boxes of single pictures."),
        ([{"a": 1}, {"a": {"x": 1}}], {}, ", line 2: a has boxes here, and a class in the lines before\nGive all lines"
         " the same kind of label."),
        ([{"a": BOX}, {"a": 1}], {}, ", line 2: a is 1 here, and has boxes in the lines before\nGive all lines the"
         " same kind of label."),
        ([{"a": True}], {}, ", line 1: the label True is neither a number nor a name\nA label is a class number from 0,"
         " a class name, or a list of these."),
        ([{"a": 1}, {"a": [1]}], {}, ", line 2: the label is a list, and those before are none\nGive all labels the"
         " same form."),
        ([{"a": [1, 0, 1]}, {"a": [1, 0]}], {"label_format": "multi-hot"}, ", line 2: the label is a list of 2 numbers,"
         " and that of line 1 has 3\nA multi-hot list has a number for each class. For lists of class ids,"
         " --label-format class-id."),
        ([{"a": [1, 0]}, {"a": [1, 7]}], {"label_format": "multi-hot"}, ", line 2: 7 in a multi-hot list is neither 0"
         " nor 1\nMend the label. For lists of class ids, --label-format class-id."),
        ([{"a": [1, -3, 4]}], {}, ", line 1: class -3 has no name (0=0,1=1,2=2,3=3,4=4)\nName it, or mend the label."),
        ([{"a": [1, 0, 1]}], {"class_names": ("cat", "dog")}, ", line 1: the label has 3 numbers, one a class, and 2"
         " classes are named\nGive a number for each class, in the order of the names."),
        ([{"a": [5, 1, 2]}], {"class_names": ("cat", "dog")}, ", line 1: class 5 has no name (0=cat,1=dog)\nName it, or"
         " mend the label."),
        ([{"a": [2], "a-metadata": {"class-map": {"2": "cow"}}}], {"class_names": ("cat",)}, ", line 1: the class cow"
         " is not among the known classes (cat)\nThe classes are those of the training data, or of a classes.txt beside"
         " it: mend the name, or add it."),
        ([{"a": 1, "a-metadata": {"class-name": "x"}}, {"a": 1, "a-metadata": {"class-name": "y"}}], {}, ", line 2:"
         " class 1 is called 'y' here, and 'x' in an earlier line\nGive each class one name in all lines, or name them"
         " with --names."),
        ([{"a": 3}], {"names": {1: "cat"}}, ", line 1: class 3 has no name (1=cat)\nName it, or mend the label."),
        ([{"a": "cow"}], {"class_names": ("cat",)}, ", line 1: the class cow is not among the known classes (cat)\nThe "
         "classes are those of the training data, or of a classes.txt beside it: mend the name, or add it."),
    ],
)  # fmt: skip
def test_the_whole_text_of_what_is_wrong(folder, lines, options, told):
    assert refusal(folder, *lines, **options) == told


def test_a_manifest_is_known_by_its_first_line(folder):
    assert looks_like_manifest(write(folder, {"class": 1}))
    for text in ('{"file_name": "1.jpg"}', "[]", "", "{"):
        assert not looks_like_manifest(write(folder, text))


label = st.recursive(
    st.none() | st.booleans() | st.integers(-2, 4) | st.floats() | st.text("01[]{}a", max_size=4),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["annotations", "image_size"]), inner),
    max_leaves=6,
)


@settings(max_examples=300, deadline=None)
@given(st.lists(label, min_size=1, max_size=4), st.booleans())
def test_any_labels_are_a_source_or_a_user_error(tmp_path_factory, labels, named):
    folder = tmp_path_factory.getbasetemp()
    (folder / "1.jpg").write_bytes(b"")
    lines = ({"source-ref": "1.jpg", "a": each} for each in labels)
    path = folder / "any.manifest"
    path.write_text("\n".join(map(json.dumps, lines)))
    try:
        source, _ = read_manifest(path, class_names=("a", "b") if named else None)
    except UserError:
        return
    assert len(source) + len(source.bad) == len(labels)


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=80))
def test_any_bytes_are_a_manifest_or_a_user_error(tmp_path_factory, content):
    path = tmp_path_factory.getbasetemp() / "bytes.manifest"
    path.write_bytes(b'{"source-ref": "s3://b/1.jpg", "a": 1}\n' + content)
    try:
        source, _ = read_manifest(path)
    except UserError:
        return
    assert len(source) >= 1
