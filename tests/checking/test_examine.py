"""The examination as a whole: summary, advice, crop, JSON."""

from __future__ import annotations

import json

import numpy as np
import pytest
from PIL import Image

from foveal.checking.examine import Spread, as_json, examine, kept_by_crop, refused
from foveal.data.recognise import open_data
from foveal.errors import UserError
from foveal.records import Reading


def noise(path, size, mode="RGB", seed=0):
    path.parent.mkdir(parents=True, exist_ok=True)
    small = np.random.default_rng(seed).integers(0, 256, (6, 8, 3)).astype(np.uint8)
    Image.fromarray(small).resize(size).convert(mode).save(path)


def folder(root, sizes, mode="RGB"):
    for number, size in enumerate(sizes):
        noise(root / ("cat", "dog")[number % 2] / f"{number}.png", size, mode, number)
    return open_data(root)


def codes(examination):
    return [each.code for each in examination.findings]


def test_summary_of_a_folder(tmp_path):
    found = examine(folder(tmp_path, [(40, 30), (60, 50), (80, 70), (50, 60)]), quiet=True)
    train = found.splits["train"]
    assert (train.pictures, train.left_out, train.unreadable, train.grey) == (4, 0, 0, 0)
    assert (train.width, train.height) == (Spread(40, 55, 80), Spread(30, 55, 70))
    assert (train.kinds, train.counts, train.boxes) == ({"PNG": 4}, [2, 2], None)


@pytest.mark.parametrize(
    ("size", "mode", "shape", "resize"),
    [
        ((28, 28), "L", "1,28,28", None),
        ((92, 112), "L", "1,96,96", 110),
        ((500, 480), "RGB", "3,224,224", 256),
        ((500, 375), "RGB", "3,224,224", 224),
        ((224, 224), "RGB", "3,224,224", None),
    ],
)
def test_image_shape_and_resize_follow_the_pictures(tmp_path, size, mode, shape, resize):
    advice = examine(folder(tmp_path, [size] * 4, mode), quiet=True).advice
    assert advice == {"num_classes": 2, "num_training_samples": 4, "image_shape": shape} | (
        {} if resize is None else {"resize": resize}
    )


def test_what_a_crop_shows():
    assert kept_by_crop(448, 448, (3, 224, 224), None) == 0.25
    assert kept_by_crop(500, 375, (3, 224, 224), 256) == pytest.approx(0.875**2 * 0.75)
    assert kept_by_crop(500, 375, (3, 224, 224), 224) == pytest.approx(0.75)
    assert kept_by_crop(100, 200, (3, 224, 224), None) == pytest.approx(0.5)  # enlarged until it fits
    assert kept_by_crop(40, 40, (1, 20, 30), 20) == pytest.approx(2 / 3)


def test_a_crop_that_cuts_too_much_is_a_warning(tmp_path):
    dataset = folder(tmp_path, [(640, 480)] * 4)
    bare = examine(dataset, image_shape=(3, 224, 224), quiet=True)
    crop = next(each for each in bare.findings if each.code == "crop")
    assert (crop.severity, crop.what, crop.remedy) == (
        "warning",
        "without resize, the crop of 224 x 224 pixels cuts away 84% of the median picture (640 x 480)",
        "Set resize=224, which cuts away 25%.",
    )
    usual = examine(dataset, image_shape=(3, 224, 224), resize=256, quiet=True)
    assert next(each for each in usual.findings if each.code == "crop").what == (
        "after resize=256, the crop of 224 x 224 pixels cuts away 43% of the median picture (640 x 480)"
    )
    fitting = examine(dataset, image_shape=(3, 224, 224), resize=224, quiet=True)
    assert "crop" not in codes(fitting)
    advised = next(each for each in examine(dataset, quiet=True).findings if each.code.startswith("crop"))
    assert (advised.code, advised.severity, advised.what, advised.remedy) == (
        "crop-without-resize", "note",
        "without resize, the original's default, the crop of 224 x 224 pixels would cut away 84% of the median picture "
        "(640 x 480)", "Set resize=224.",
    )  # fmt: skip


def test_long_pictures_are_told_to_be_squeezed(tmp_path):
    found = examine(folder(tmp_path, [(900, 300)] * 4), quiet=True)
    crop = next(each for each in found.findings if each.code == "crop")
    assert (crop.what, crop.remedy) == (
        "after resize=224, the crop of 224 x 224 pixels cuts away 67% of the median picture (900 x 300)",
        "Make the pictures squarer first; recipe modern squeezes such pictures whole, when resize is left out.",
    )


def yolo(root, size, box):
    for number in range(4):
        noise(root / "images" / f"{number}.png", size, seed=number)
        (root / "labels").mkdir(exist_ok=True)
        (root / "labels" / f"{number}.txt").write_text(f"0 .5 .5 {box[0]} {box[1]}\n" * (number + 1))
    (root / "classes.txt").write_text("cat\n")
    return open_data(root, task=None)


@pytest.mark.parametrize(("box", "side"), [((0.1, 0.1), 300), ((0.02, 0.02), 512), ((0.009, 0.009), 300)])
def test_a_detector_gets_larger_pictures_where_that_helps(tmp_path, box, side):
    advice = examine(yolo(tmp_path, (800, 800), box), quiet=True).advice
    assert advice == {"num_classes": 1, "num_training_samples": 4, "label_width": 22, "image_shape": side}


def test_label_width_counts_what_records_hold(tmp_path):
    (tmp_path / "1.lst").write_text("0\t4\t6\t40\t30\t0\t.1\t.1\t.5\t.5\t0\t1.png\n")
    noise(tmp_path / "1.png", (40, 30))
    found = examine(open_data(tmp_path / "1.lst", task=None), quiet=True)
    assert (found.task, found.advice["label_width"]) == ("boxes", 10)


def test_a_summary_of_boxes(tmp_path):
    boxes = examine(yolo(tmp_path, (100, 50), (0.2, 0.1)), quiet=True).splits["train"].boxes
    assert (boxes.boxes, boxes.without, boxes.per_picture, boxes.tiny) == (10, 0, Spread(1, 2.5, 4), 10)
    assert (boxes.width.median, boxes.height.median, boxes.aspect.median) == pytest.approx((20, 5, 4), rel=1e-3)


def test_several_labels_a_picture(tmp_path):
    rows = "".join(f"{number}.png,{number % 2},{int(number > 1)},0\n" for number in range(4))
    (tmp_path / "a.csv").write_text("file,red,round,rare\n" + rows)
    for number in range(4):
        noise(tmp_path / f"{number}.png", (50, 50), seed=number)
    found = examine(
        open_data(tmp_path / "a.csv", task=None, reading=Reading(labels=("red", "round", "rare"))), quiet=True
    )
    assert (found.task, found.splits["train"].counts, found.advice["multi_label"]) == ("multi-label", [2, 2, 0], 1)
    assert next(each for each in found.findings if each.code == "class-missing").what == (
        "train: 1 of 3 classes has no picture: rare"
    )


def test_records_that_were_left_out_and_lines_that_name_faults_are_findings(tmp_path):
    dataset = folder(tmp_path, [(50, 50)] * 4)
    (tmp_path / "cat" / "notes.txt").write_text("x")
    (tmp_path / "a.lst").write_text("0\t0\tcat/0.png\n1\t1\tdog/1.png\n2\t1\tdog/9.png\n")
    listed = examine(open_data(tmp_path / "a.lst"), bad_records_limit=0.5, quiet=True)
    found = next(each for each in listed.findings if each.code == "left-out")
    assert (found.severity, found.what) == ("warning", "1 record can't be used and is left out")
    assert found.suspects[0].where == ("a.lst, line 3",)
    assert "dog/9.png" in found.suspects[0].why
    dataset = open_data(tmp_path, form="folder")
    assert [each.what for each in examine(dataset, quiet=True).findings if each.code == "passed-over"] == [
        f"left out: 1 files in {tmp_path} that are no pictures by name, e.g. cat/notes.txt"
    ]


def test_findings_come_in_the_order_of_their_weight(tmp_path):
    dataset = folder(tmp_path, [(640, 480)] * 4)
    (tmp_path / "cat" / "0.png").write_bytes(b"")
    (tmp_path / "cat" / "2.png").write_bytes(b"")
    found = examine(dataset, quiet=True)
    assert [each.severity for each in found.findings] == sorted(
        (each.severity for each in found.findings), key=["error", "warning", "note"].index
    )
    assert (found.severity, codes(found)[0]) == ("error", "too-many-bad")


def test_json_has_stable_names_and_bounded_lists(tmp_path):
    dataset = folder(tmp_path, [(50, 50)] * 6)
    for number in range(6):
        (tmp_path / ("cat", "dog")[number % 2] / f"{number}.png").write_bytes(b"")
    told = json.loads(json.dumps(as_json(examine(dataset, quiet=True), examples=2), allow_nan=False))
    assert list(told) == [
        "kind", "data", "form", "task", "classes", "said", "severity", "splits", "advice", "findings"
    ]  # fmt: skip
    assert list(told["splits"]["train"]) == [
        "pictures", "left_out", "unreadable", "width", "height", "grey", "kinds", "counts", "boxes"
    ]  # fmt: skip
    unreadable = next(each for each in told["findings"] if each["code"] == "unreadable")
    assert (unreadable["count"], len(unreadable["suspects"])) == (6, 2)
    assert unreadable["suspects"][0] == {
        "where": [f"{tmp_path}/cat/0.png"], "why": "the picture file is empty",
        "pictures": [{"split": "train", "row": 0}],
    }  # fmt: skip


def test_data_that_can_not_be_opened_is_one_error():
    found = refused("here", UserError("it holds no picture", "there", "Give some."))
    assert (found.severity, codes(found), found.findings[0].suspects[0].where) == ("error", ["not-opened"], ("there",))
