"""Two answerers on the same pictures: intervals from resamples, and the exact test."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from foveal.metrics.classification import class_scores, macro_f1
from foveal.metrics.detection import Found, Matches, Objects, average_precisions, match
from foveal.metrics.paired import WeightedPrecisions, differences, mcnemar, weighted_macro_f1


def drawn(seed: int, pictures: int = 12, classes: int = 3) -> tuple[Objects, Found]:
    """Objects, some to ignore, and boxes near them or elsewhere; no two scores are equal."""
    rng = np.random.default_rng(seed)

    def boxes(count: int) -> np.ndarray:
        corner = rng.uniform(0, 0.6, (count, 2))
        return np.concatenate([corner, corner + 0.4], axis=1)

    there = np.sort(rng.integers(0, pictures, 25))
    objects = Objects(there, rng.integers(0, classes, 25), boxes(25), rng.random(25) < 0.15)
    near = rng.integers(0, 25, 30)
    picture = np.concatenate([there[near], rng.integers(0, pictures, 20)])
    cls = np.concatenate([objects.cls[near], rng.integers(0, classes, 20)])
    place = np.concatenate([objects.boxes[near] + rng.normal(0, 0.03, (30, 4)), boxes(20)])
    scores = rng.permutation(50) / 50
    order = np.lexsort((-scores, picture))
    return objects, Found(picture[order], cls[order], place[order], scores[order])


def repeated(objects: Objects, found: Found, weights: np.ndarray) -> Matches:
    """The same pictures, each as often as ``weights`` says."""
    copies = np.repeat(np.arange(len(weights)), weights)
    rows = [np.flatnonzero(objects.picture == each) for each in copies]
    seen = [np.flatnonzero(found.picture == each) for each in copies]
    row, box = (np.concatenate([np.zeros(0, np.int64), *each]) for each in (rows, seen))
    numbers = [np.repeat(np.arange(len(copies)), [len(each) for each in parts]) for parts in (rows, seen)]
    return match(
        Objects(numbers[0], objects.cls[row], objects.boxes[row], objects.ignored[row]),
        Found(numbers[1], found.cls[box], found.boxes[box], found.scores[box]),
        0.5,
        3,
    )


@pytest.mark.parametrize("form", ["area", "11-point"])
@settings(max_examples=40)
@given(seed=st.integers(0, 1000), weights=st.lists(st.integers(0, 3), min_size=12, max_size=12))
def test_pictures_that_count_several_times_count_as_if_they_were_there_several_times(form, seed, weights):
    objects, found = drawn(seed)
    counted = np.array(weights)

    of = WeightedPrecisions(match(objects, found, 0.5, 3), 12, form)

    expected = average_precisions(repeated(objects, found, counted), form)
    np.testing.assert_allclose(of(counted), expected, atol=1e-12)


def test_a_macro_f1_of_pictures_that_count_several_times():
    labels, predicted = np.array([0, 0, 1, 1, 2]), np.array([0, 1, 1, 1, 0])
    weights = np.array([2, 0, 1, 3, 1])

    found = weighted_macro_f1(predicted, labels, 4, weights)

    copies = np.repeat(np.arange(5), weights)
    assert found == pytest.approx(macro_f1(class_scores(predicted[copies], labels[copies], 4)))


def test_an_interval_is_as_wide_as_the_differences_spread():
    rng = np.random.default_rng(3)
    apart = rng.choice([-1.0, 0.0, 1.0], 400, p=[0.05, 0.8, 0.15])

    (found,) = differences(400, lambda w: (np.array([0.0]), np.array([w @ apart / 400])))

    error = apart.std() / 20
    assert found.difference == pytest.approx(apart.mean())
    assert (found.low, found.high) == pytest.approx(
        (apart.mean() - 1.96 * error, apart.mean() + 1.96 * error), abs=0.005
    )


def test_the_same_seed_gives_the_same_interval_and_equal_answers_none():
    def figures(weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return np.array([0.0, 0.5]), np.array([weights @ np.linspace(0, 1, 10) ** 3 / 10, 0.5])

    first, second = (differences(10, figures, seed=5, resamples=200) for _ in range(2))

    assert first == second
    assert first[0] != differences(10, figures, seed=6, resamples=200)[0]
    assert (first[1].difference, first[1].low, first[1].high) == (0, 0, 0)


def test_a_figure_that_some_resamples_do_not_have_is_taken_from_the_others():
    def figures(weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        there = 1.0 if weights[0] else np.nan
        return np.array([0.0, 0.0]), np.array([there, np.nan])

    sometimes, never = differences(3, figures, resamples=100)

    assert (sometimes.low, sometimes.high) == (1, 1)
    assert np.isnan([never.difference, never.low, never.high]).all()


@pytest.mark.parametrize(
    ("only_first", "only_second", "p"),
    [(0, 0, 1.0), (1, 0, 1.0), (5, 5, 1.0), (1, 9, 22 / 1024), (0, 10, 2 / 1024), (8, 2, 112 / 1024)],
)
def test_mcnemars_test_by_hand(only_first, only_second, p):
    assert mcnemar(only_first, only_second) == pytest.approx(p)


def test_mcnemars_test_of_many_pictures():
    assert mcnemar(5000, 5200) == pytest.approx(0.0487, abs=2e-4)  # a normal distribution with continuity gives 0.0488
