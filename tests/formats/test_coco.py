"""COCO."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from foveal.errors import UserError
from foveal.formats.boxfiles import Place
from foveal.formats.coco import coco_place, find_coco, looks_like_coco, read_coco
from foveal.records import BoxSource, Remark

CATEGORIES = [{"id": 7, "name": "dog"}, {"id": 0, "name": "cat"}]


def coco(path, images=(("1.jpg", 64, 48),), boxes=((0, 7, [1.5, 2, 30, 40]),), categories=CATEGORIES, **more):
    path.parent.mkdir(parents=True, exist_ok=True)
    data = {
        "images": [{"id": row, "file_name": n, "width": w, "height": h} for row, (n, w, h) in enumerate(images)],
        "annotations": [
            {"id": row, "image_id": image, "category_id": kind, "bbox": box}
            for row, (image, kind, box) in enumerate(boxes)
        ],
        "categories": list(categories),
    }  # fmt: skip
    path.write_text(json.dumps(data | more))
    return path


def pictures(folder, *names):
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(name.encode())
    return folder


def refusal(path):
    with pytest.raises(UserError) as caught:
        read_coco(coco_place(path))
    return str(caught.value)


def test_corners_sizes_classes_and_crowds(tmp_path):
    pictures(tmp_path, "1.jpg", "2.jpg")
    path = coco(
        tmp_path / "a.json", [("1.jpg", 64, 48), ("2.jpg", 0, 0)], [(0, 7, [1.5, 2, 30, 40]), (0, 0, [0, 0, 64, 48])]
    )
    data = json.loads(path.read_text())
    data["annotations"][1]["iscrowd"] = 1
    path.write_text(json.dumps(data))
    source, said = read_coco(coco_place(path))
    assert isinstance(source, BoxSource)
    assert (source.class_names, source.bad) == (("cat", "dog"), ())
    assert said == (
        Remark("category-ids", "category ids: 0 to 7 with gaps; the classes are numbered 0 to 1 in their order"),
    )
    boxes = source.boxes(0)
    assert boxes.values.tolist() == [[1.5, 2, 31.5, 42], [0, 0, 64, 48]]
    assert (boxes.cls.tolist(), boxes.crowd.tolist(), boxes.difficult.any()) == ([1, 0], [False, True], False)
    assert (boxes.unit, boxes.of, boxes.size, source.boxes(1).size) == ("pixel", "upright", (64, 48), None)
    assert source.boxes(1).values.shape == (0, 4)
    assert source.where(0) == f"{tmp_path}/1.jpg (a.json, image id 0)"


@pytest.mark.parametrize(
    ("file", "places"),
    [
        ("annotations/instances_train.json", ("train", "train2017", "images/train", "images", ".", "images/train2017")),
        ("instances_train2017.json", ("train", "train2017", "images")),
        ("train.json", ("train", "JPEGImages", ".")),
        ("annotations/train.json", ("annotations",)),
    ],
)
def test_pictures_are_found_where_people_put_them(tmp_path, file, places):
    for number, place in enumerate(places):
        folder = tmp_path / str(number)
        coco(folder / file)
        pictures(folder / place, "1.jpg")
        source, _ = read_coco(find_coco(folder)["train"][0])
        assert (source.root.resolve(), source.files) == ((folder / place).resolve(), ("1.jpg",))


def test_folders_in_file_names_count_where_they_are_there_and_not_where_they_are_foreign(tmp_path):
    coco(tmp_path / "a.json", [("images/deep/1.jpg", 1, 1)])
    pictures(tmp_path, "images/deep/1.jpg")
    assert read_coco(coco_place(tmp_path / "a.json"))[0].files == ("images/deep/1.jpg",)
    coco(tmp_path / "b.json", [("C:\\data\\2.jpg", 1, 1)])
    pictures(tmp_path, "2.jpg")
    assert read_coco(coco_place(tmp_path / "b.json"))[0].files == ("2.jpg",)


def test_several_files_are_told_apart_by_split_and_by_what_they_hold(tmp_path):
    for name in ("instances_train", "person_keypoints_train", "instances_val", "other"):
        coco(tmp_path / "annotations" / f"{name}.json")
    (tmp_path / "annotations" / "notes.json").write_text("[1, 2]")
    found = find_coco(tmp_path)
    assert {split: [place.annotations.name for place in places] for split, places in found.items()} == {
        "train": ["instances_train.json"], "validation": ["instances_val.json"]
    }  # fmt: skip
    assert isinstance(found["train"][0], Place)


def test_the_heading_of_an_export_is_no_class(tmp_path):
    pictures(tmp_path, "1.jpg")
    categories = [{"id": 0, "name": "pets", "supercategory": "none"}, {"id": 1, "name": "cat", "supercategory": "pets"},
                  {"id": 2, "name": "dog", "supercategory": "pets"}]  # fmt: skip
    source, said = read_coco(coco_place(coco(tmp_path / "a.json", boxes=[(0, 2, [0, 0, 1, 1])], categories=categories)))
    assert (source.class_names, source.boxes(0).cls.tolist()) == (("cat", "dog"), [1])
    assert said == (Remark("passed-over", "left out: the category pets, which has no box and stands above the others"),)


def test_what_can_not_be_used_is_named_and_the_rest_is_read(tmp_path):
    pictures(tmp_path, "0.jpg", "1.jpg", "2.jpg")
    boxes = [
        (0, 7, [1, 2, 3, 4]),
        (1, 7, [1, 2, 3]),
        (2, 9, [1, 2, 3, 4]),
        (77, 7, [1, 2, 3, 4]),
        (99, 7, [1, 2, 3, 4]),
    ]
    path = coco(tmp_path / "a.json", [(f"{row}.jpg", 9, 9) for row in range(4)], boxes)
    source, _ = read_coco(coco_place(path))
    assert source.files == ("0.jpg",)
    assert [(bad.where, bad.reason) for bad in source.bad] == [
        ("annotations without a picture", "2; the first: annotation 3 names the picture 77, which isn't listed"),
        ("a.json, image id 1", "annotation 1: its bbox [1, 2, 3] is not four numbers"),
        ("a.json, image id 2", "annotation 2 has the category 9, which is not listed"),
        ("a.json, image id 3", f"the picture 3.jpg isn't in {tmp_path}"),
    ]


TEACH = "COCO is a JSON object with the lists images, annotations and categories."


@pytest.mark.parametrize(
    ("text", "what", "remedy"),
    [
        ("{", "is no JSON: Expecting property name enclosed in double quotes (line 1, column 2)", TEACH),
        ("[]", "isn't a JSON object", TEACH),
        ('{"images": [], "annotations": []}', "has no list 'categories'", TEACH),
        ('{"images": [3], "annotations": [], "categories": []}', "entry 0 of 'images' is no object", TEACH),
        ('{"images": [{"id": 1}], "annotations": [], "categories": []}',
         "entry 0 of 'images' has the id 1 and the file_name None", "Give each picture an id and a file name."),
        ('{"images": [{"id": 1, "file_name": "a"}, {"id": 1, "file_name": "b"}], "annotations": [], "categories": []}',
         "the image id 1 occurs twice", "Give each picture an id of its own."),
        ('{"images": [], "annotations": [], "categories": [{"id": 1, "name": ""}]}',
         "a category has the id 1 and the name ''", "Give each category a whole number and a name."),
        ('{"images": [], "annotations": [], "categories": [{"id": 1, "name": "a"}, {"id": 1, "name": "b"}]}',
         "the category id 1 occurs twice", "Give each category an id of its own."),
        ('{"images": [], "annotations": [], "categories": [{"id": 1, "name": "a"}, {"id": 2, "name": "a"}]}',
         "the category 'a' occurs twice", "Name each category once, or join the two."),
        ('{"images": [], "annotations": [], "categories": []}', "it holds no pictures",
         "Look whether pictures and annotations belong together, and whether the form was recognised rightly."),
        ("[" * 100_000, "is no JSON: RecursionError", TEACH),
    ],
)  # fmt: skip
def test_a_file_that_can_not_be_used_is_told(tmp_path, text, what, remedy):
    (tmp_path / "a.json").write_text(text)
    assert refusal(tmp_path / "a.json") == f"{tmp_path}/a.json: {what}\n{remedy}"


def test_a_large_file_is_known_by_its_beginning(tmp_path):
    path = coco(tmp_path / "a.json", info={"description": "x" * 1_100_000})
    assert looks_like_coco(path)
    path.write_text(json.dumps({"names": ["x" * 1_100_000]}))
    assert not looks_like_coco(path)


def test_real_faces_from_zero(shared):
    places = find_coco(shared / "data" / "face-mask")
    train, _ = read_coco(places["train"][0])
    val, _ = read_coco(places["validation"][0], class_names=train.class_names)
    assert train.class_names == ("mask_weared_incorrect", "with_mask", "without_mask")
    assert np.bincount(train.labels().values.astype(int)).tolist() == [103, 881, 220]
    assert np.bincount(val.labels().values.astype(int)).tolist() == [18, 305, 62]
    assert (len(train), len(val), train.bad, val.bad) == (209, 52, (), ())
    assert np.diff(train.labels().offsets).max() == 115


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=6,
)


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_any_value_anywhere_is_read_or_told(tmp_path_factory, data):
    folder = tmp_path_factory.mktemp("coco")
    pictures(folder, "1.jpg")
    path = coco(folder / "a.json")
    content = json.loads(path.read_text())
    part = data.draw(st.sampled_from(["images", "annotations", "categories"]))
    key = data.draw(st.sampled_from([*content[part][0], "iscrowd"]))
    content[part][0][key] = data.draw(json_values)
    path.write_text(json.dumps(content))
    try:
        source, _ = read_coco(coco_place(path))
    except UserError as error:
        assert "a.json" in error.where
        return
    assert len(source) == 1
    assert source.boxes(0).values.shape in ((1, 4), (0, 4))
