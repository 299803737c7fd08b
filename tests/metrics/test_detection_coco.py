"""COCO's twelve figures: equal to pycocotools', which counts the same rows in its own way."""

from __future__ import annotations

import contextlib
import io
import sys
import xml.etree.ElementTree as ET
import zipfile
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from foveal.errors import UserError
from foveal.metrics.coco import NAMES, available, coco_by_class, coco_figures
from foveal.metrics.detection import Found, Objects


def ours(objects: Objects, found: Found, num_classes: int) -> dict[str, float]:
    return coco_figures(coco_by_class(objects, found, num_classes))


def theirs(objects: Objects, found: Found, pictures: int, num_classes: int) -> list[float]:
    """The twelve as pycocotools counts them; NaN where it says -1."""
    boxes = np.column_stack([objects.boxes[:, :2], objects.boxes[:, 2:] - objects.boxes[:, :2]])
    rows = np.column_stack([found.boxes[:, :2], found.boxes[:, 2:] - found.boxes[:, :2]])
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO()
        truth.dataset = {
            "images": [{"id": number} for number in range(pictures)],
            "categories": [{"id": number} for number in range(num_classes)],
            "annotations": [
                {
                    "id": number + 1,
                    "image_id": int(objects.picture[number]),
                    "category_id": int(objects.cls[number]),
                    "bbox": box.tolist(),
                    "area": float(box[2] * box[3]),
                    "iscrowd": int(objects.ignored[number]),
                }
                for number, box in enumerate(boxes)
            ],
        }
        truth.createIndex()
        columns = np.column_stack([found.picture, rows, found.scores, found.cls])
        judge = COCOeval(truth, truth.loadRes(columns), "bbox")
        judge.evaluate()
        judge.accumulate()
        judge.summarize()
    return [float(value) if value >= 0 else float("nan") for value in judge.stats]


def seen_by_a_detector(objects: Objects, pictures: int, num_classes: int, rng: np.random.Generator) -> Found:
    """What a fair detector says: most objects found, some twice, boxes a little off, some classes mixed up, and many
    faint false alarms, in pictures without objects too."""
    picture, cls, boxes, scores = [], [], [], []
    for number in range(pictures):
        mine = np.flatnonzero(objects.picture == number)
        seen = np.repeat(mine, rng.choice([0, 1, 1, 1, 2], len(mine)))
        sides = np.tile(objects.boxes[seen, 2:] - objects.boxes[seen, :2], 2)
        mixed_up = rng.random(len(seen)) < 0.1
        noise = rng.integers(0, 30)
        corner = rng.uniform(0, 400, (noise, 2))
        away = np.concatenate([corner, corner + rng.uniform(4, 200, (noise, 2))], axis=1)
        score = np.concatenate([rng.beta(4, 2, len(seen)), rng.beta(1, 8, noise)])
        order = np.argsort(-score, kind="stable")
        picture.append(np.full(len(order), number))
        cls.append(
            np.concatenate([
                np.where(mixed_up, rng.integers(0, num_classes, len(seen)), objects.cls[seen]),
                rng.integers(0, num_classes, noise),
            ])[order]
        )  # fmt: skip
        boxes.append(np.concatenate([objects.boxes[seen] + sides * rng.normal(0, 0.06, sides.shape), away])[order])
        scores.append(score.astype(np.float32)[order])
    return Found(
        np.concatenate(picture), np.concatenate(cls), np.concatenate(boxes), np.concatenate(scores).astype(np.float64)
    )


def random_objects(rng: np.random.Generator, pictures: int, num_classes: int) -> Objects:
    """Boxes of a few to hundreds of pixels, some crowds; a third of the pictures have none."""
    counts = rng.integers(0, 9, pictures) * (rng.random(pictures) < 0.67)
    total = int(counts.sum())
    corner = rng.integers(0, 400, (total, 2))
    sides = np.exp(rng.uniform(1.5, 5.5, (total, 2))).round()
    return Objects(
        np.repeat(np.arange(pictures), counts),
        rng.integers(0, num_classes, total),
        np.concatenate([corner, corner + sides], axis=1).astype(np.float64),
        rng.random(total) < 0.1,
    )


@pytest.mark.parametrize("seed", range(6))
def test_the_twelve_equal_pycocotools_on_random_pictures(seed: int) -> None:
    rng = np.random.default_rng(seed)
    pictures, num_classes = int(rng.integers(1, 80)), int(rng.integers(1, 8))
    objects = random_objects(rng, pictures, num_classes)
    found = seen_by_a_detector(objects, pictures, num_classes, rng)
    figures = ours(objects, found, num_classes)
    assert tuple(figures) == NAMES
    assert list(figures.values()) == pytest.approx(theirs(objects, found, pictures, num_classes), abs=1e-6, nan_ok=True)


def test_the_twelve_equal_pycocotools_with_many_rows_of_equal_scores() -> None:
    """More than 100 rows of a class and picture, ten different scores."""
    rng = np.random.default_rng(9)
    objects = random_objects(rng, 6, 2)
    one = seen_by_a_detector(objects, 6, 2, rng)
    many = np.repeat(np.arange(len(one.cls)), 15)
    found = Found(
        one.picture[many],
        one.cls[many],
        one.boxes[many] + rng.normal(0, 4, (len(many), 4)),
        rng.integers(1, 11, len(many)) / 10,
    )
    assert max(np.bincount(found.picture * 2 + found.cls)) > 150
    figures = ours(objects, found, 2)
    assert list(figures.values()) == pytest.approx(theirs(objects, found, 6, 2), abs=1e-6, nan_ok=True)


@pytest.mark.parametrize(("before", "recall"), [(99, 1.0), (100, 0.0)])
def test_the_hundredth_detection_of_a_class_and_picture_is_the_last_that_counts(before: int, recall: float) -> None:
    away, hit = [300.0, 300.0, 350.0, 350.0], [10.0, 10.0, 60.0, 60.0]
    objects = Objects(ids(0), ids(0), boxes(hit), np.zeros(1, bool))
    many = np.zeros(before + 1, np.int64)
    found = Found(many, many, boxes(*[away] * before, hit), np.linspace(0.9, 0.1, before + 1))
    figures = ours(objects, found, 1)
    assert figures["mAR_100"] == pytest.approx(recall)
    assert list(figures.values()) == pytest.approx(theirs(objects, found, 1, 1), abs=1e-6, nan_ok=True)


def blood_cells(archive: Path) -> tuple[Objects, int]:
    """The boxes of a zipped folder of VOC XML, in pixels."""
    kinds = ["RBC", "WBC", "Platelets"]
    picture: list[int] = []
    cls: list[int] = []
    boxes: list[list[float]] = []
    with zipfile.ZipFile(archive) as folder:
        files = sorted(name for name in folder.namelist() if name.endswith(".xml"))
        for number, name in enumerate(files):
            for each in ET.fromstring(folder.read(name)).iter("object"):
                picture.append(number)
                cls.append(kinds.index(each.findtext("name", "")))
                boxes.append([float(each.findtext(f"bndbox/{side}", "")) for side in ("xmin", "ymin", "xmax", "ymax")])
    return Objects(np.array(picture), np.array(cls), np.array(boxes), np.zeros(len(cls), bool)), len(files)


def test_the_twelve_equal_pycocotools_on_blood_cells(shared: Path) -> None:
    objects, pictures = blood_cells(shared / "data" / "bccd" / "test.zip")
    assert pictures > 50 and len(objects.cls) > 500
    found = seen_by_a_detector(objects, pictures, 3, np.random.default_rng(3))
    figures = ours(objects, found, 3)
    assert list(figures.values()) == pytest.approx(theirs(objects, found, pictures, 3), abs=1e-6, nan_ok=True)
    assert figures["mAP_50"] > 0.5


def boxes(*rows: list[float]) -> NDArray[np.float64]:
    return np.array(rows, np.float64).reshape(-1, 4)


def ids(*values: int) -> NDArray[np.int64]:
    return np.array(values, np.int64)


def test_a_perfect_detector_by_hand() -> None:
    """A box of 32 x 32 pixels is both small and medium, as in COCO's own count; nothing is large."""
    square = boxes([10, 10, 42, 42])
    objects = Objects(ids(0), ids(0), square, np.zeros(1, bool))
    figures = ours(objects, Found(ids(0), ids(0), square, np.ones(1)), 1)
    large = {"mAP_large", "mAR_large"}
    assert {name for name, value in figures.items() if np.isnan(value)} == large
    assert {name: value for name, value in figures.items() if name not in large} == pytest.approx(
        dict.fromkeys([name for name in NAMES if name not in large], 1.0)
    )


def test_false_alarms_in_pictures_without_objects_count() -> None:
    square = boxes([10, 10, 60, 60])
    objects = Objects(ids(0), ids(0), square, np.zeros(1, bool))
    found = Found(ids(0, 1), ids(0, 0), np.concatenate([square, square]), np.array([0.5, 0.9]))
    assert ours(objects, found, 1)["mAP_50"] == pytest.approx(0.5)


def test_a_class_without_objects_is_undefined_and_left_out_of_the_mean() -> None:
    square = boxes([10, 10, 60, 60])
    objects = Objects(ids(0, 0), ids(0, 1), np.concatenate([square, square]), np.array([False, True]))
    found = Found(ids(0, 0, 1), ids(0, 1, 2), np.concatenate([square] * 3), np.ones(3))
    by_class = coco_by_class(objects, found, 3)
    assert by_class[0, 0] == pytest.approx(1.0)
    assert np.isnan(by_class[1:]).all()  # of class 1 there is but a crowd, class 2 is only detected
    assert coco_figures(by_class)["mAP_50_95"] == pytest.approx(1.0)


def test_nothing_found_is_0_and_nothing_there_undefined() -> None:
    nothing = Found(ids(), ids(), boxes(), np.zeros(0))
    objects = Objects(ids(0), ids(0), boxes([0, 0, 50, 50]), np.zeros(1, bool))
    assert ours(objects, nothing, 1)["mAP_50_95"] == 0.0
    empty = Objects(ids(), ids(), boxes(), np.zeros(0, bool))
    assert np.isnan(list(ours(empty, nothing, 1).values())).all()


def test_without_the_package_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    assert available()
    monkeypatch.setitem(sys.modules, "faster_coco_eval", None)
    assert not available()
    objects = Objects(ids(0), ids(0), boxes([0, 0, 50, 50]), np.zeros(1, bool))
    with pytest.raises(UserError) as error:
        coco_by_class(objects, Found(ids(), ids(), boxes(), np.zeros(0)), 1)
    assert str(error.value) == (
        "COCO's figures need the package faster-coco-eval, which is not installed\n"
        'Install it: pip install "foveal[coco]"'
    )
