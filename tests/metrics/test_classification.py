"""Classification figures: against MXNet's metric classes, and by hand."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from foveal.metrics import classification as metrics
from foveal.metrics.classification import (
    accuracy,
    class_scores,
    confusion_cells,
    confusion_matrix,
    log_loss,
    macro_f1,
    predictions,
    top_k_accuracy,
)

FOLDER = Path(os.environ.get("FOVEAL_OPTIM_FIXTURES", Path(__file__).parents[1] / "fixtures" / "optim"))
CASES: dict[str, dict[str, Any]] = json.loads((FOLDER / "metrics.json").read_text())["cases"]
ARRAYS = dict(np.load(FOLDER / "metrics.npz"))
Batches = list[tuple[NDArray[np.int64], NDArray[np.float32]]]


def labels_of(*values: int) -> NDArray[np.int64]:
    return np.array(values, np.int64)


def joined(batches: Batches) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    return np.concatenate([label for label, _ in batches]), np.concatenate([scores for _, scores in batches])


def accuracy_of(metric: str, batches: Batches) -> float:
    labels, scores = joined(batches)
    if "axis=1" in metric:  # (batch, class, position): every position is judged
        labels, scores = labels.ravel(), np.moveaxis(scores, 1, -1).reshape(-1, scores.shape[1])
    return accuracy(predictions(scores) if scores.ndim == 2 else scores.astype(np.int64), labels)


def f1_of(metric: str, batches: Batches) -> float:
    """MXNet's F1 is that of class 1 of 2; macro is the mean of the batches, micro counts all pictures together."""
    micro = "micro" in metric
    parts = [joined(batches)] if micro else batches
    return float(np.mean([class_scores(predictions(scores), labels, 2).f1[1] for labels, scores in parts]))


def figure(metric: str, batches: Batches) -> float:
    if metric.startswith("Accuracy"):
        return accuracy_of(metric, batches)
    if metric.startswith("F1"):
        return f1_of(metric, batches)
    labels, scores = joined(batches)
    if places := re.fullmatch(r"TopKAccuracy\((?:top_k=)?(\d+)\)", metric):
        return top_k_accuracy(scores, labels, int(places[1]))
    if not metric.startswith(("CrossEntropy", "NegativeLogLikelihood")):
        pytest.skip(f"{metric} is no figure of single-label classification")
    return log_loss(scores, labels)


@pytest.mark.parametrize("name", CASES)
def test_running_value_equals_mxnets_metric(name: str) -> None:
    batches: Batches = []
    for i, after in enumerate(CASES[name]["after_batch"]):
        batches.append((ARRAYS[f"{name}__label{i}"].astype(np.int64), ARRAYS[f"{name}__pred{i}"]))
        if "error" in after:  # MXNet can't rank more places than there are classes; every picture hits
            assert figure(CASES[name]["metric"], batches) == 1.0
        else:
            assert figure(CASES[name]["metric"], batches) == pytest.approx(float(after["value"]), abs=1e-6, rel=1e-6)


def test_the_lowest_index_wins_among_equal_scores() -> None:
    scores = np.array([[0.2, 0.4, 0.4], [0.3, 0.3, 0.3]], np.float32)
    assert predictions(scores).tolist() == [1, 0]
    assert top_k_accuracy(scores, labels_of(2, 1), 1) == 0.0
    assert top_k_accuracy(scores, labels_of(2, 1), 2) == 1.0
    assert top_k_accuracy(scores, labels_of(0, 2), 2) == 0.0


@settings(max_examples=30, deadline=None)
@given(
    st.lists(st.lists(st.integers(0, 3), min_size=4, max_size=4), min_size=1, max_size=12),
    st.lists(st.integers(0, 3), min_size=12, max_size=12),
    st.integers(1, 5),
)
def test_top_k_equals_a_stable_sort(rows: list[list[int]], true: list[int], k: int) -> None:
    scores, labels = np.array(rows, np.float32), np.array(true[: len(rows)], np.int64)
    best = np.argsort(-scores, axis=1, kind="stable")[:, :k]
    assert top_k_accuracy(scores, labels, k) == np.mean((best == labels[:, None]).any(axis=1))
    assert top_k_accuracy(scores, labels, 1) == accuracy(predictions(scores), labels)


def test_top_k_does_not_depend_on_the_block_it_is_counted_in(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    scores, labels = rng.random((101, 7), np.float32), rng.integers(0, 7, 101)
    whole = top_k_accuracy(scores, labels, 3)
    monkeypatch.setattr(metrics, "_BLOCK", 20)
    assert top_k_accuracy(scores, labels, 3) == whole


def test_class_scores_by_hand() -> None:
    """Class 0: 2 of its 3 found, 1 false; class 1: 1 of 2; class 2: never there, never given; class 3: only given."""
    scores = class_scores(labels_of(0, 0, 1, 0, 3), labels_of(0, 0, 0, 1, 1), 4)
    assert scores.support.tolist() == [3, 2, 0, 0]
    assert scores.predicted.tolist() == [3, 1, 0, 1]
    assert scores.precision == pytest.approx([2 / 3, 0, 0, 0])
    assert scores.recall == pytest.approx([2 / 3, 0, 0, 0])
    assert scores.f1 == pytest.approx([2 / 3, 0, 0, 0])
    assert macro_f1(scores) == pytest.approx(2 / 9)  # class 2 does not occur


def test_confusion_rows_are_labels() -> None:
    cells = confusion_cells(labels_of(1, 1, 0, 2), labels_of(0, 0, 0, 2), 3)
    assert cells.tolist() == [[0, 0, 1], [0, 1, 2], [2, 2, 1]]
    assert confusion_matrix(cells, 3).tolist() == [[1, 2, 0], [0, 0, 0], [0, 0, 1]]


def test_log_loss_by_hand_and_bounded_for_a_sure_mistake() -> None:
    probabilities = np.array([[0.25, 0.75], [1.0, 0.0]], np.float32)
    assert log_loss(probabilities[:1], labels_of(0)) == pytest.approx(np.log(4))
    assert log_loss(probabilities[1:], labels_of(1)) == pytest.approx(-np.log(1e-12))
    assert str(log_loss(probabilities[1:], labels_of(0))) == "0.0"


def test_no_pictures_have_no_mean() -> None:
    nothing = labels_of()
    assert np.isnan(accuracy(nothing, nothing))
    assert np.isnan(top_k_accuracy(np.zeros((0, 3), np.float32), nothing, 2))
    assert np.isnan(log_loss(np.zeros((0, 3), np.float32), nothing))
    assert np.isnan(macro_f1(class_scores(nothing, nothing, 3)))
    assert confusion_cells(nothing, nothing, 3).shape == (0, 3)
