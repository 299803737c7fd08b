"""Figures of several labels a picture, beside their definitions written out slowly."""

from __future__ import annotations

import math

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given

from foveal.metrics.multilabel import (
    all_right,
    average_precisions,
    best_thresholds,
    decision_accuracy,
    decision_log_loss,
    micro_f1,
    told_scores,
)

LABELS = np.array([[1, 0, 0], [1, 1, 0], [0, 1, 0], [0, 0, 0]], dtype=np.bool_)
SCORES = np.array([[0.9, 0.2, 0.1], [0.6, 0.8, 0.1], [0.7, 0.4, 0.1], [0.1, 0.5, 0.1]], dtype=np.float32)

TABLES = st.lists(
    st.tuples(st.integers(0, 5), st.booleans()), min_size=1, max_size=12
).map(lambda rows: (np.array([[a / 5] for a, _ in rows], np.float32), np.array([[b] for _, b in rows])))  # fmt: skip


def slow_average_precision(scores: list[float], labels: list[bool]) -> float:
    """Mean over the positives of the precision among all that score at least as high."""
    precisions = []
    for score, label in zip(scores, labels, strict=True):
        if label:
            above = [other for value, other in zip(scores, labels, strict=True) if value >= score]
            precisions.append(sum(above) / len(above))
    return sum(precisions) / len(precisions) if precisions else math.nan


def f1_at(threshold: float, scores: list[float], labels: list[bool]) -> float:
    told = [score >= threshold for score in scores]
    hits = sum(a and b for a, b in zip(told, labels, strict=True))
    return 2 * hits / max(1, sum(told) + sum(labels))


def test_average_precision_of_each_class() -> None:
    found = average_precisions(SCORES, LABELS)
    assert found[:2].tolist() == [(1 + 2 / 3) / 2, (1 + 2 / 3) / 2]
    assert math.isnan(found[2])


@given(TABLES)
def test_average_precision_is_its_definition(table: tuple[np.ndarray, np.ndarray]) -> None:
    scores, labels = table
    slow = slow_average_precision(scores[:, 0].tolist(), labels[:, 0].tolist())
    assert average_precisions(scores, labels)[0] == pytest.approx(slow, nan_ok=True)


@given(TABLES)
def test_no_threshold_has_a_better_f1(table: tuple[np.ndarray, np.ndarray]) -> None:
    scores, labels = table
    chosen = float(best_thresholds(scores, labels)[0])
    if not labels.any():
        assert chosen == 0.5
        return
    given = (scores[:, 0].tolist(), labels[:, 0].tolist())
    assert f1_at(chosen, *given) == max(f1_at(each, *given) for each in [*scores[:, 0].tolist(), 0.0])


def test_a_threshold_lies_halfway_to_the_next_score() -> None:
    found = best_thresholds(SCORES, LABELS)
    assert found.tolist() == pytest.approx([(0.6 + 0.1) / 2, (0.4 + 0.2) / 2, 0.5])


def test_figures_of_decisions() -> None:
    told = SCORES >= 0.5
    assert decision_accuracy(told, LABELS) == 9 / 12
    assert all_right(told, LABELS) == 2 / 4
    assert micro_f1(told, LABELS) == 2 * 3 / (5 + 4)
    classes = told_scores(told, LABELS)
    assert classes.precision.tolist() == [2 / 3, 1 / 2, 0]
    assert classes.recall.tolist() == [1, 1 / 2, 0]
    assert classes.f1.tolist() == [4 / 5, 1 / 2, 0]
    assert (classes.support.tolist(), classes.predicted.tolist()) == ([2, 2, 0], [3, 2, 0])


def test_log_loss_is_of_what_is_true() -> None:
    found = decision_log_loss(np.array([[0.8, 0.4]], np.float32), np.array([[True, False]]))
    assert found == pytest.approx(-(math.log(0.8) + math.log(0.6)) / 2)
    assert decision_log_loss(np.array([[0.0]], np.float32), np.array([[True]])) == pytest.approx(-math.log(1e-12))


def test_nothing_to_judge_is_nan() -> None:
    nothing = np.zeros((0, 3), np.bool_)
    empty = np.zeros((0, 3), np.float32)
    assert math.isnan(decision_accuracy(nothing, nothing)) and math.isnan(micro_f1(nothing, nothing))
    assert math.isnan(all_right(nothing, nothing)) and math.isnan(decision_log_loss(empty, nothing))
    assert np.isnan(average_precisions(empty, nothing)).all()
    assert best_thresholds(empty, nothing).tolist() == [0.5, 0.5, 0.5]
