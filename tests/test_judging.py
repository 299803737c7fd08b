"""Judging: the figures of one set of predictions together, plain and complete."""

from __future__ import annotations

import json

import numpy as np
import pytest
from numpy.typing import NDArray

from foveal.errors import UserError
from foveal.judging import figures, judge_classification

NAMES = ("cat", "dog", "owl")
PROBABILITIES = np.array([[0.75, 0.25, 0.0], [0.5, 0.25, 0.25], [0.25, 0.5, 0.25], [0.75, 0.25, 0.0]], np.float32)
LABELS = np.array([0, 0, 1, 1], np.int64)


def test_figures_by_hand() -> None:
    judgement = judge_classification(PROBABILITIES, LABELS, NAMES, top_k=2)
    assert judgement.count == 4
    assert figures(judgement) == pytest.approx(
        {
            "accuracy": 0.75,
            "top_k_accuracy_2": 1.0,
            "macro_f1": (4 / 5 + 2 / 3) / 2,
            "log_loss": -(np.log(0.75) + np.log(0.5) + np.log(0.5) + np.log(0.25)) / 4,
            "calibration_error": (2 * abs(0.5 - 1.0) + 2 * abs(0.75 - 0.5)) / 4,
        }
    )
    assert judgement.matrix().tolist() == [[2, 0, 0], [1, 1, 0], [0, 0, 0]]


def test_without_top_k_there_is_no_such_figure() -> None:
    judgement = judge_classification(PROBABILITIES, LABELS, NAMES)
    assert judgement.top_k_accuracy is None
    assert set(figures(judgement)) == {"accuracy", "macro_f1", "log_loss", "calibration_error"}


def test_prefix_gives_the_names_that_users_know() -> None:
    assert figures(judge_classification(PROBABILITIES, LABELS, NAMES), "validation")["validation:accuracy"] == 0.75


def test_dict_is_json_and_says_all() -> None:
    judgement = judge_classification(PROBABILITIES, LABELS, NAMES)
    stored = json.loads(json.dumps(judgement.to_dict(), allow_nan=False))
    assert stored == judgement.to_dict()
    assert stored["count"] == 4
    assert stored["accuracy"] == 0.75
    assert stored["per_class"][0] == {
        "class": "cat",
        "precision": pytest.approx(2 / 3),
        "recall": 1.0,
        "f1": 0.8,
        "support": 2,
    }
    assert stored["per_class"][2] == {"class": "owl", "precision": 0.0, "recall": 0.0, "f1": 0.0, "support": 0}
    assert stored["confusion_matrix"] == [[2, 0, 0], [1, 1, 0], [0, 0, 0]]
    assert stored["mixed_up"] == [{"label": "dog", "predicted": "cat", "count": 1}]
    assert [(each["up_to"], each["accuracy"], each["count"]) for each in stored["reliability"]] == [
        (8 / 15, 1.0, 2),
        (12 / 15, 0.5, 2),
    ]


def test_order_of_pictures_does_not_matter() -> None:
    rng = np.random.default_rng(2)
    labels = rng.integers(0, 3, 400)
    probabilities = rng.dirichlet(np.ones(3), 400).astype(np.float32)
    mixed = rng.permutation(400)
    first = judge_classification(probabilities, labels, NAMES, 2)
    second = judge_classification(probabilities[mixed], labels[mixed], NAMES, 2)
    assert figures(first) == pytest.approx(figures(second), abs=1e-12)
    assert first.matrix().tolist() == second.matrix().tolist()


def test_ten_thousand_classes_need_no_matrix_of_their_square() -> None:
    rng = np.random.default_rng(3)
    labels = rng.integers(0, 10_000, 500)
    probabilities = rng.random((500, 10_000), np.float32)
    judgement = judge_classification(probabilities, labels, [str(i) for i in range(10_000)], 5)
    assert judgement.to_dict()["confusion_matrix"] is None
    assert judgement.confusion[:, 2].sum() == 500
    assert len(judgement.to_dict()["mixed_up"]) == 20


def refusal(probabilities: NDArray[np.float32], labels: NDArray[np.int64]) -> str:
    with pytest.raises(UserError) as error:
        judge_classification(probabilities, labels, NAMES)
    return str(error.value)


def test_no_picture_is_refused() -> None:
    assert refusal(PROBABILITIES[:0], LABELS[:0]) == (
        "there is no picture to judge\nGive data with at least one readable, labelled picture."
    )


@pytest.mark.parametrize("label", [-1, 3])
def test_a_label_outside_the_classes_is_shown(label: int) -> None:
    assert refusal(PROBABILITIES, np.array([0, 1, label, label])) == (
        f"class id {label} is outside 0..2 (picture 2 of 4, 2 such in all)\n"
        "Judge with data of the classes that the model was trained on; ids count from 0."
    )


@pytest.mark.parametrize("value", ["nan", "inf"])
def test_answers_that_are_no_probabilities_are_refused(value: str) -> None:
    probabilities = PROBABILITIES.copy()
    probabilities[1, 2] = float(value)
    assert refusal(probabilities, LABELS) == (
        f"the network answers {value} instead of a probability (picture 1 of 4, 1 such in all)\n"
        "Its weights are broken, as after training with too high a learning_rate: train anew with a lower one."
    )
