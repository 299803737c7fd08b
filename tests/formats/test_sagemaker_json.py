"""SageMaker's JSON for each picture."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from foveal.errors import BadPicture, UserError
from foveal.formats.boxfiles import Object
from foveal.formats.sagemaker_json import find_sagemaker_json, parse_sagemaker_json, read_sagemaker_json
from foveal.records import BoxSource, Remark

GUIDE = {  # as the developer guide shows it
    "file": "your_image_directory/sample_image1.jpg",
    "image_size": [{"width": 500, "height": 400, "depth": 3}],
    "annotations": [
        {"class_id": 0, "left": 111, "top": 134, "width": 61, "height": 128},
        {"class_id": 5, "left": 161, "top": 250.5, "width": 79, "height": 143},
    ],
    "categories": [{"class_id": 0, "name": "dog"}, {"class_id": 5, "name": "cat"}],
}


def channel(root, name, split="train", **more):
    picture, annotation = root / split / f"{name}.jpg", root / f"{split}_annotation" / f"{name}.json"
    for path in (picture, annotation):
        path.parent.mkdir(parents=True, exist_ok=True)
    picture.write_bytes(name.encode())
    annotation.write_text(json.dumps(GUIDE | {"file": f"{name}.jpg"} | more))
    return root


def refusal(data):
    with pytest.raises(BadPicture) as caught:
        parse_sagemaker_json(data, "1.json")
    return str(caught.value)


def test_the_guide_s_example():
    annotation = parse_sagemaker_json(GUIDE, "")
    assert annotation.objects == (Object(0, 111, 134, 172, 262), Object(5, 161, 250.5, 240, 393.5))
    assert (annotation.size, annotation.file) == ((500, 400), "your_image_directory/sample_image1.jpg")


def test_channels_are_splits(tmp_path):
    channel(channel(tmp_path, "a/1"), "2", annotations=[])
    channel(tmp_path, "3", "validation", categories=[])
    places = find_sagemaker_json(tmp_path)
    assert list(places) == ["train", "validation"]
    source, said = read_sagemaker_json(places["train"])
    assert isinstance(source, BoxSource)
    assert (source.files, said) == (("2.jpg", "a/1.jpg"), ())
    assert source.class_names == ("dog", "1", "2", "3", "4", "cat")
    assert [len(source.boxes(row).cls) for row in range(2)] == [0, 2]
    boxes = source.boxes(1)
    assert (boxes.cls.tolist(), boxes.unit, boxes.of, boxes.size) == ([0, 5], "pixel", "upright", (500, 400))
    assert source.where(1) == f"{tmp_path}/train/a/1.jpg (a/1.json)"
    held, _ = read_sagemaker_json(places["validation"], class_names=source.class_names)
    assert (held.class_names, held.labels().values.tolist()) == (source.class_names, [0, 5])


def test_a_channel_s_folder_knows_the_annotations_beside_it(tmp_path):
    channel(tmp_path, "1")
    assert read_sagemaker_json(find_sagemaker_json(tmp_path / "train")["all"])[0].files == ("1.jpg",)


def test_pictures_and_json_side_by_side(tmp_path):
    (tmp_path / "1.jpg").write_bytes(b"1")
    (tmp_path / "1.json").write_text(json.dumps({"image_size": GUIDE["image_size"], "annotations": []}))
    source, _ = read_sagemaker_json(find_sagemaker_json(tmp_path)["all"])
    assert (source.files, source.class_names) == (("1.jpg",), None)


def without(key):
    return {name: value for name, value in GUIDE.items() if name != key}


@pytest.mark.parametrize(
    ("data", "what"),
    [
        ([], "isn't a JSON object"),
        (GUIDE | {"file": 3}, "file is 3, no path"),
        (without("image_size"), "image_size is None, not a list of one object"),
        (GUIDE | {"image_size": [{"width": 500}]},
         "image_size is [{'width': 500}], without a width and height in pixels"),
        (without("annotations"), "annotations is None, no list"),
        (GUIDE | {"annotations": [3]}, "annotation 1 is 3, no object"),
        (GUIDE | {"annotations": [{"class_id": "0"}]}, "annotation 1: class_id is '0', no whole number from 0"),
        (GUIDE | {"annotations": [{"class_id": -1}]}, "annotation 1: class_id is -1, no whole number from 0"),
        (GUIDE | {"annotations": [GUIDE["annotations"][0], {"class_id": 0, "left": 1, "top": None}]},
         "annotation 2: top is None, no number"),
    ],
)  # fmt: skip
def test_the_key_at_fault_is_told(data, what):
    assert refusal(data) == f"1.json: {what}"


def test_what_can_not_be_used_is_named_and_the_rest_is_read(tmp_path):
    channel(channel(tmp_path, "1"), "2", annotations=None)
    (tmp_path / "train_annotation" / "3.json").write_text('{"file": "3.jpg"')
    (tmp_path / "train_annotation" / "4.json").write_text(json.dumps(GUIDE))
    (tmp_path / "train" / "5.png").write_bytes(b"x")
    source, said = read_sagemaker_json(find_sagemaker_json(tmp_path)["train"])
    assert source.files == ("1.jpg",)
    folder = f"{tmp_path}/train_annotation"
    assert [(bad.where, bad.reason) for bad in source.bad] == [
        (f"{folder}/2.json", "annotations is None, no list"),
        (f"{folder}/3.json", "is no JSON: Expecting ',' delimiter (line 1, column 17)"),
        (f"{folder}/4.json", f"its picture your_image_directory/sample_image1.jpg isn't in {tmp_path}/train"),
    ]
    assert said == (
        Remark("passed-over", f"left out: 2 pictures in {tmp_path}/train without an annotation, e.g. 2.jpg"),
    )


def test_two_classes_of_one_name_are_refused(tmp_path):
    channel(tmp_path, "1", categories=[{"class_id": 0, "name": "dog"}, {"class_id": 2, "name": "dog"}])
    with pytest.raises(UserError) as caught:
        read_sagemaker_json(find_sagemaker_json(tmp_path)["train"])
    assert str(caught.value) == (
        f"{tmp_path}/train_annotation: the classes 0 and 2 have one name: dog\n"
        "Give each its own name in categories, or one class_id."
    )


def test_files_that_name_a_class_differently_are_refused(tmp_path):
    channel(channel(tmp_path, "1"), "2", categories=[{"class_id": 0, "name": "horse"}])
    with pytest.raises(UserError) as caught:
        read_sagemaker_json(find_sagemaker_json(tmp_path)["train"])
    assert str(caught.value) == (
        f"{tmp_path}/train_annotation/2.json: categories names class 0 'horse', and an earlier file 'dog'\n"
        "Give each class one name in all files."
    )


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=6,
)


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_any_value_anywhere_is_read_or_told(data):
    content = json.loads(json.dumps(GUIDE))
    place = data.draw(st.sampled_from([content, content["image_size"][0], content["annotations"][0]]))
    place[data.draw(st.sampled_from(sorted(place)))] = data.draw(json_values)
    try:
        annotation = parse_sagemaker_json(content, "x")
    except BadPicture as error:
        assert str(error).startswith("x: ")
        return
    assert len(annotation.objects) in (0, 2)
