"""When two engines agree: rounding is forgiven, everything else is not."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from foveal.exporting.agreement import compare_probabilities, compare_rows
from foveal.models.suppression import Rule

RULE = Rule(nms_threshold=0.5, nms_topk=5)
GONE = [-1, -1, -1, -1, -1, -1]


def rows(*given: list[float]) -> NDArray[np.float32]:
    """One picture's rows, filled up to five."""
    return np.array([[*given, *[GONE] * (5 - len(given))]], np.float32)


def box(kind: int, score: float, left: float, width: float = 0.4) -> list[float]:
    return [kind, score, left, 0.1, left + width, 0.5]


def test_probabilities_agree_within_a_ten_thousandth() -> None:
    expected = np.array([[0.7, 0.2, 0.1]], np.float32)
    assert compare_probabilities(expected, expected + np.float32(5e-5)).wrong == ()
    assert compare_probabilities(expected, expected + np.float32(2e-4)).wrong == (
        (0, "the probabilities differ by 0.0002"),
    )
    assert compare_probabilities(expected, np.full((1, 3), np.nan, np.float32)).wrong == (
        (0, "the answers are not finite"),
    )


def test_labels_are_equal_but_where_the_best_two_are() -> None:
    tie = np.array([[0.5, 0.5 - 3e-8]], np.float32)
    assert compare_probabilities(tie, tie[:, ::-1]).wrong == ()
    close = np.array([[0.50002, 0.49998]], np.float32)
    assert compare_probabilities(close, close[:, ::-1]).wrong == ((0, "the labels differ"),)


def test_of_several_labels_those_over_their_thresholds_count() -> None:
    expected, found = np.array([[0.30002, 0.9]], np.float32), np.array([[0.29998, 0.9]], np.float32)
    assert compare_probabilities(expected, found, np.array([0.3, 0.5])).wrong == ((0, "the labels differ"),)
    assert compare_probabilities(expected, found, np.array([0.4, 0.5])).wrong == ()


def test_boxes_agree_in_any_order() -> None:
    ours, theirs = rows(box(0, 0.9, 0), box(1, 0.8, 0.5)), rows(box(1, 0.80001, 0.5), box(0, 0.9, 1e-5))
    found = compare_rows(ours, theirs, RULE)
    assert (found.wrong, found.boxes, found.tied) == ((), 2, 0)
    assert 9e-6 < found.difference < 2e-5


def test_a_box_elsewhere_of_another_class_missing_or_too_much_is_wrong() -> None:
    ours = rows(box(0, 0.9, 0), box(1, 0.8, 0.5))
    for theirs in (
        rows(box(0, 0.9, 0.01), box(1, 0.8, 0.5)),
        rows(box(0, 0.7, 0), box(1, 0.8, 0.5)),
        rows(box(0, 0.9, 0)),
        rows(box(0, 0.9, 0), box(1, 0.8, 0.5), box(0, 0.3, 0.55)),
    ):
        assert len(compare_rows(ours, theirs, RULE).wrong) == 1
        assert len(compare_rows(theirs, ours, RULE).wrong) == 1
    other = np.repeat(rows(box(1, 0.9, 0)), 200, axis=0)
    swapped = compare_rows(np.repeat(rows(box(0, 0.9, 0)), 200, axis=0), other, RULE)
    assert swapped.wrong == ((0, "400 of 200 boxes hang on last digits"),)


def test_of_two_overlapping_boxes_with_one_score_either_may_stay() -> None:
    """And with it what hangs on it: the third overlaps the second only."""
    first, second, third = box(0, 0.9, 0.0), box(0, 0.9, 0.1), box(0, 0.5, 0.2)
    out = [[-1, *each[1:]] for each in (first, second, third)]
    found = compare_rows(rows(first, out[1], third), rows(second, out[0], out[2]), RULE)
    assert (found.wrong, found.tied) == ((), 3)
    surer = box(0, 0.95, 0.1)
    kept_away = [-1, *surer[1:]]
    assert len(compare_rows(rows(surer, out[0]), rows(kept_away, out[0]), RULE).wrong) == 1


def test_a_score_at_the_least_one_and_the_last_row_may_stay_or_go() -> None:
    assert compare_rows(rows(box(0, 0.01004, 0)), rows(), RULE).wrong == ()
    full = [box(each, 0.9 - each / 10, 0.1 * each) for each in range(5)]
    other = [*full[:4], box(4, 0.5, 0.55)]
    assert compare_rows(rows(*full), rows(*other), RULE).wrong == ()
