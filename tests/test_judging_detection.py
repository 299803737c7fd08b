"""Judging a detector: figures of one set of detections together, plain and complete."""

from __future__ import annotations

import json
import sys
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from foveal.errors import UserError
from foveal.judging import COCO_LEFT_OUT, coco_available, figures, judge_detection
from foveal.metrics.coco import NAMES as COCO
from foveal.records import Boxes, Detections

NAMES = ("cat", "dog", "owl")
SIZE = (200, 100)  # width, height of every picture here

LEFT, RIGHT, MIDDLE = (0, 0, 100, 100), (100, 0, 200, 100), (80, 40, 120, 60)  # pixels


def truth(*rows: tuple[Any, ...], difficult: tuple[int, ...] = (), crowd: tuple[int, ...] = ()) -> Boxes:
    """A picture's objects: (class, box in pixels); ``difficult`` and ``crowd`` name rows."""
    numbers = np.arange(len(rows))
    return Boxes(
        values=np.array([row[1] for row in rows], np.float32).reshape(-1, 4),
        cls=np.array([row[0] for row in rows], np.int64),
        unit="pixel",
        of="upright",
        difficult=np.isin(numbers, difficult),
        crowd=np.isin(numbers, crowd),
        extra=np.zeros((len(rows), 0), np.float32),
        size=SIZE,
    )


def seen(*rows: tuple[Any, ...]) -> Detections:
    """What was found in a picture: (class, score, box in pixels), by falling score."""
    pixels = np.array([row[2] for row in rows], np.float32).reshape(-1, 4)
    return Detections(
        values=pixels / np.array([*SIZE, *SIZE], np.float32),
        cls=np.array([row[0] for row in rows], np.int64),
        scores=np.array([row[1] for row in rows], np.float32),
        size=SIZE,
    )


# a cat found; a cat found, one missed, a dog where none is; a dog found, another seen twice; nothing there, two alarms
TRUTHS = [truth((0, LEFT)), truth((0, LEFT), (0, MIDDLE)), truth((1, LEFT), (1, RIGHT)), truth()]
FOUND = [
    seen((0, 0.875, LEFT)),
    seen((0, 0.75, LEFT), (1, 0.5, MIDDLE)),
    seen((1, 0.75, LEFT), (1, 0.625, RIGHT), (1, 0.25, RIGHT)),
    seen((0, 0.8125, LEFT), (1, 0.125, RIGHT)),
]


def test_figures_by_hand() -> None:
    """Cats: best F1 is 2 of 3 with the alarm, at or above 0.375; dogs: both found and none wrong above 0.5."""
    judgement = judge_detection(TRUTHS, FOUND, NAMES, coco=False)
    assert (judgement.count, judgement.empty) == (4, 1)
    assert figures(judgement) == pytest.approx(
        {
            "mAP": (2 / 3 + 1) / 2,
            "mAP_11_point": (7 / 11 + 1) / 2,
            "mAP_all_pictures": ((1 + 2 / 3) / 3 + 1) / 2,
            "recall": 4 / 5,
            "precision": 4 / 5,
            "false_alarms_per_empty_picture": 1.0,
        }
    )
    assert judgement.objective == pytest.approx((2 / 3 + 1) / 2)
    assert judgement.thresholds == {"cat": 0.375, "dog": (0.625 + 0.5) / 2, "owl": 0.5}


def test_rows_of_classes_by_hand() -> None:
    cat, dog, owl = judge_detection(TRUTHS, FOUND, NAMES, coco=False).to_dict()["per_class"]
    assert cat == {
        "class": "cat",
        "objects": 3,
        "found": 2,
        "missed": 1,
        "false": 1,
        "average_precision": pytest.approx(2 / 3),
        "recall": pytest.approx(2 / 3),
        "precision": pytest.approx(2 / 3),
        "f1": pytest.approx(2 / 3),
        "confidence": 0.375,
        "best_confidence": 0.375,
    }
    assert (dog["objects"], dog["found"], dog["missed"], dog["false"], dog["f1"]) == (2, 2, 0, 0, 1.0)
    assert {key: owl[key] for key in ("objects", "false", "average_precision", "recall", "best_confidence")} == {
        "objects": 0,
        "false": 0,
        "average_precision": None,
        "recall": None,
        "best_confidence": None,
    }
    assert owl["confidence"] == 0.5


def test_confidence_can_be_chosen_for_all_or_by_name() -> None:
    chosen = judge_detection(TRUTHS, FOUND, NAMES, coco=False, confidence=0.8125)
    assert figures(chosen)["recall"] == 1 / 5
    assert figures(chosen)["precision"] == 1 / 2
    assert figures(chosen)["false_alarms_per_empty_picture"] == 1.0
    assert chosen.thresholds == judge_detection(TRUTHS, FOUND, NAMES, coco=False).thresholds
    by_name = judge_detection(TRUTHS, FOUND, NAMES, coco=False, confidence={"cat": 0.85})  # dogs: 0.5
    assert by_name.confidence.tolist() == [0.85, 0.5, 0.5]
    assert figures(by_name)["false_alarms_per_empty_picture"] == 0.0
    assert by_name.classes.found.tolist() == [1, 2, 0]


def test_the_form_of_the_mean_average_precision_can_be_chosen() -> None:
    eleven = judge_detection(TRUTHS, FOUND, NAMES, ap_form="11-point", coco=False)
    assert eleven.objective == figures(eleven)["mAP"] == pytest.approx((7 / 11 + 1) / 2)
    assert figures(eleven)["mAP_area"] == pytest.approx((2 / 3 + 1) / 2)
    assert eleven.to_dict()["ap_form"] == "11-point"
    assert eleven.to_dict()["per_class"][0]["average_precision"] == pytest.approx(7 / 11)


def test_overlap_must_exceed_the_threshold() -> None:
    objects, half = [truth((0, (0, 0, 100, 100)))], [seen((0, 0.9, (0, 0, 50, 100)))]
    assert judge_detection(objects, half, NAMES, coco=False).objective == 0.0
    assert judge_detection(objects, half, NAMES, overlap_threshold=0.4375, coco=False).objective == 1.0


@pytest.mark.parametrize("flag", ["difficult", "crowd"])
def test_difficult_objects_and_crowds_are_neither_asked_for_nor_forbidden(flag: str) -> None:
    objects = [truth((0, LEFT), (0, RIGHT), **{flag: (1,)})]
    for found in ([(0, 0.9, LEFT)], [(0, 0.9, LEFT), (0, 0.8, RIGHT), (0, 0.7, RIGHT)]):
        judgement = judge_detection(objects, [seen(*found)], NAMES)
        assert judgement.objective == 1.0
        assert judgement.classes.objects.tolist() == [1, 0, 0]
        assert judgement.classes.false.tolist() == [0, 0, 0]
        assert figures(judgement)["mAP_50"] == pytest.approx(1.0)


def test_coco_figures_stand_beside_the_others() -> None:
    """The cat's box of 100 x 100 pixels is large by COCO's measure, above 96 x 96."""
    judgement = judge_detection(TRUTHS[:1], FOUND[:1], NAMES, coco=True)
    assert set(COCO) - set(figures(judgement)) == {"mAP_small", "mAP_medium", "mAR_small", "mAR_medium"}
    assert figures(judgement)["mAP_50_95"] == pytest.approx(1.0)
    assert figures(judgement)["mAP_large"] == pytest.approx(1.0)
    assert judgement.to_dict()["mAP_small"] is None  # no such object: undefined
    assert [row["average_precision_50_95"] for row in judgement.to_dict()["per_class"]] == [
        pytest.approx(1.0),
        None,
        None,
    ]


def test_boxes_of_a_picture_keep_their_pixels_for_coco() -> None:
    """32 x 32 pixels are small; fractions of an odd size, turned back into pixels, could be a little more."""
    box = (1, 1, 33, 33)
    objects = truth((0, box))
    odd = Boxes(
        objects.values, objects.cls, "pixel", "upright", objects.difficult, objects.crowd, objects.extra, (97, 61)
    )
    fractions = objects.values / np.array([97, 61, 97, 61], np.float32)
    found = Detections(fractions, objects.cls, np.array([0.9], np.float32), (97, 61))
    assert figures(judge_detection([odd], [found], NAMES, coco=True))["mAP_small"] == pytest.approx(1.0)


def test_without_the_coco_package_its_figures_are_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "faster_coco_eval", None)
    judgement = judge_detection(TRUTHS, FOUND, NAMES)
    assert judgement.coco is None
    assert set(figures(judgement)).isdisjoint(COCO)
    assert not coco_available()
    assert COCO_LEFT_OUT == (
        'the COCO figures are left out, as faster-coco-eval is not installed: pip install "foveal[coco]"'
    )
    with pytest.raises(UserError, match="COCO's figures need the package faster-coco-eval"):
        judge_detection(TRUTHS, FOUND, NAMES, coco=True)


def test_prefix_gives_the_names_that_users_know() -> None:
    assert figures(judge_detection(TRUTHS[:1], FOUND[:1], NAMES), "validation")["validation:mAP"] == 1.0


@pytest.mark.parametrize("coco", [True, False])
def test_dict_is_json_and_says_all(coco: bool) -> None:
    judgement = judge_detection(TRUTHS, FOUND, NAMES, coco=coco)
    stored = json.loads(json.dumps(judgement.to_dict(), allow_nan=False))
    assert stored == judgement.to_dict()
    assert {name: stored[name] for name in figures(judgement)} == figures(judgement)
    assert (stored["count"], stored["empty_pictures"], stored["overlap_threshold"]) == (4, 1, 0.5)
    assert stored["thresholds"] == judgement.thresholds
    assert stored["precision_recall"][1] == {"class": "dog", "points": [[0.75, 1.0, 0.5], [0.625, 1.0, 1.0]]}


def test_many_classes_come_without_curves() -> None:
    names = [str(number) for number in range(201)]
    assert judge_detection(TRUTHS, FOUND, names, coco=False).to_dict()["precision_recall"] is None


def test_detections_read_back_from_json_are_worth_the_same() -> None:
    """Rows of fractions, [class, score, xmin, ymin, xmax, ymax], as ``predict --json`` writes them."""
    rng = np.random.default_rng(4)
    truths, found = random_pictures(rng, 60)
    rows = [np.column_stack([each.cls, each.scores, each.values.astype(np.float64)]).tolist() for each in found]
    again = [
        Detections(
            values=np.array([row[2:] for row in each], np.float32).reshape(-1, 4),
            cls=np.array([row[0] for row in each], np.int64),
            scores=np.array([row[1] for row in each], np.float32),
            size=SIZE,
        )
        for each in json.loads(json.dumps(rows))
    ]
    assert judge_detection(truths, again, NAMES).to_dict() == judge_detection(truths, found, NAMES).to_dict()


def test_order_of_pictures_does_not_matter() -> None:
    truths, found = random_pictures(np.random.default_rng(2), 80)
    mixed = np.random.default_rng(3).permutation(len(truths))
    first = judge_detection(truths, found, NAMES)
    second = judge_detection([truths[i] for i in mixed], [found[i] for i in mixed], NAMES)
    assert figures(first) == pytest.approx(figures(second), abs=1e-12)
    assert first.thresholds == second.thresholds


def test_best_confidences_give_the_same_counts_in_other_rounding() -> None:
    """Scores that differ by a millionth, as between batch sizes, are kept or dropped alike."""
    truths, found = random_pictures(np.random.default_rng(6), 80)
    judgement = judge_detection(truths, found, NAMES, coco=False)
    for change in (-1e-6, 1e-6):
        other = [Detections(each.values, each.cls, each.scores + np.float32(change), SIZE) for each in found]
        again = judge_detection(truths, other, NAMES, coco=False, confidence=judgement.thresholds)
        assert again.classes.found.tolist() == judgement.classes.found.tolist()
        assert again.classes.false.tolist() == judgement.classes.false.tolist()


def random_pictures(rng: np.random.Generator, count: int) -> tuple[list[Boxes], list[Detections]]:
    """Objects and a fair detector's answers, scores all different; a third of the pictures are empty."""
    truths, found = [], []
    for _ in range(count):
        n = int(rng.integers(0, 5)) if rng.random() < 0.67 else 0
        boxes = random_boxes(rng, n)
        cls = rng.integers(0, 3, n)
        truths.append(truth(*zip(cls.tolist(), boxes.tolist(), strict=True), difficult=(0,) if n > 3 else ()))
        noise = int(rng.integers(0, 6))
        guesses = np.concatenate([boxes + rng.normal(0, 4, boxes.shape), random_boxes(rng, noise)])
        classes = np.concatenate([cls, rng.integers(0, 3, noise)])
        scores = np.sort(np.concatenate([rng.beta(4, 2, n), rng.beta(1, 6, noise)]))[::-1]
        found.append(seen(*zip(classes.tolist(), scores.tolist(), guesses.tolist(), strict=True)))
    return truths, found


def random_boxes(rng: np.random.Generator, count: int) -> NDArray[np.float64]:
    corner = rng.uniform(0, [120, 60], (count, 2))
    return np.concatenate([corner, corner + rng.uniform(10, 40, (count, 2))], axis=1)


def test_pictures_without_any_object_have_no_mean_but_alarms() -> None:
    judgement = judge_detection([truth(), truth()], [seen((0, 0.75, LEFT)), seen((0, 0.25, LEFT))], NAMES)
    assert figures(judgement) == {"mAP_all_pictures": 0.0, "precision": 0.0, "false_alarms_per_empty_picture": 0.5}
    assert judgement.objective == 0.0
    assert judgement.to_dict()["mAP"] is None
    assert judgement.thresholds == {"cat": 0.5, "dog": 0.5, "owl": 0.5}


def test_nothing_found_is_0() -> None:
    judgement = judge_detection(TRUTHS, [seen()] * 4, NAMES)
    assert judgement.objective == 0.0
    assert figures(judgement)["recall"] == 0.0
    assert figures(judgement)["mAP_50_95"] == 0.0
    assert figures(judgement)["false_alarms_per_empty_picture"] == 0.0
    assert "precision" not in figures(judgement)


def test_without_empty_pictures_there_is_no_figure_of_alarms_in_them() -> None:
    assert "false_alarms_per_empty_picture" not in figures(judge_detection(TRUTHS[:3], FOUND[:3], NAMES))


def refusal(truths: list[Boxes], found: list[Detections]) -> str:
    with pytest.raises(UserError) as error:
        judge_detection(truths, found, NAMES)
    return str(error.value)


def test_no_picture_is_refused() -> None:
    assert refusal([], []) == ("there is no picture to judge\nGive data with at least one readable, labelled picture.")


@pytest.mark.parametrize("cls", [-1, 3])
def test_a_class_outside_those_of_the_model_is_shown(cls: int) -> None:
    assert refusal([TRUTHS[0], truth((0, LEFT), (cls, RIGHT))], FOUND[:2]) == (
        f"class id {cls} is outside 0..2 (picture 1 of 2)\n"
        "Judge with data of the classes that the model was trained on; ids count from 0."
    )


@pytest.mark.parametrize("value", ["nan", "inf"])
def test_answers_that_are_no_numbers_are_refused(value: str) -> None:
    assert refusal(TRUTHS[:2], [FOUND[0], seen((0, float(value), LEFT))]) == (
        f"the network answers score {value} and box [0.0, 0.0, 0.5, 1.0] (picture 1 of 2)\n"
        "Its weights are broken, as after training with too high a learning_rate: train anew with a lower one."
    )
    broken = seen((0, 0.5, LEFT))
    broken.values[0, 2] = float(value)
    assert refusal(TRUTHS[:1], [broken]).startswith(
        f"the network answers score 0.5 and box [0.0, 0.0, {value}, 1.0] (picture 0 of 1)"
    )
