"""Two answerers on the same pictures: how much their figures differ, and whether that may be chance.

The bootstrap draws the pictures anew with replacement, both answerers' answers with them, so what makes a picture hard
for both falls out of the difference (Efron and Tibshirani, 1993). An interval is that of the middle 95 % of resamples.
Everything is drawn from a seed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from math import exp, lgamma, log

import numpy as np
from numpy.typing import NDArray

from foveal.metrics.detection import HIT, IGNORED, ApForm, Matches, average_precision

RESAMPLES = 2000
MIDDLE = (2.5, 97.5)  # percent


@dataclass(frozen=True)
class Difference:
    """A figure of two answerers, and the second's minus the first's with its interval. NaN where undefined."""

    first: float
    second: float
    difference: float
    low: float
    high: float


def resampled(pictures: int, seed: int = 0, resamples: int = RESAMPLES) -> Iterator[NDArray[np.int64]]:
    """How often each picture is drawn: int64 [pictures], ``resamples`` times, the same for the same seed."""
    rng = np.random.default_rng(seed)
    for _ in range(resamples):
        yield np.bincount(rng.integers(0, pictures, pictures), minlength=pictures)


def differences(
    pictures: int,
    figures: Callable[[NDArray[np.int64]], tuple[NDArray[np.float64], NDArray[np.float64]]],
    seed: int = 0,
    resamples: int = RESAMPLES,
) -> tuple[Difference, ...]:
    """Several figures of two answerers, with intervals.

    Args:
        pictures: how many there are.
        figures: (how often each picture counts, int64 [pictures]) -> the k figures of either, float64 [k] each.
    """
    first, second = figures(np.ones(pictures, np.int64))
    drawn = np.array([np.subtract(*figures(weights)[::-1]) for weights in resampled(pictures, seed, resamples)])
    found = []
    for number, (a, b) in enumerate(zip(first.tolist(), second.tolist(), strict=True)):
        column = drawn[:, number]
        column = column[~np.isnan(column)]  # resamples without any example of a class
        low, high = np.percentile(column, MIDDLE).tolist() if len(column) else (np.nan, np.nan)
        found.append(Difference(a, b, b - a, low, high))
    return tuple(found)


def mcnemar(only_first: int, only_second: int) -> float:
    """The exact two-sided McNemar test: how probable so uneven a split, or a more uneven one, is by chance.

    Args:
        only_first, only_second: pictures that only this answerer has right.

    Returns:
        p in 0..1; 1 where they differ nowhere.
    """
    total, fewer = only_first + only_second, min(only_first, only_second)
    if not total:
        return 1.0
    whole = lgamma(total + 1) - total * log(2)
    tail = sum(exp(whole - lgamma(k + 1) - lgamma(total - k + 1)) for k in range(fewer + 1))
    return min(1.0, 2 * tail)


def weighted_macro_f1(
    predicted: NDArray[np.int64], labels: NDArray[np.int64], num_classes: int, weights: NDArray[np.int64]
) -> float:
    """``macro_f1`` with pictures that count several times (int64 [n]) or not at all."""
    hits = np.bincount(labels, weights * (predicted == labels), num_classes)
    both = np.bincount(labels, weights, num_classes) + np.bincount(predicted, weights, num_classes)
    return float((2 * hits[both > 0] / both[both > 0]).mean()) if both.any() else float("nan")


class WeightedPrecisions:
    """Average precisions of ``metrics.detection.average_precisions`` where pictures count several times or not at all,
    from matches that are made once.

    A picture that counts twice has its boxes twice in the ranking, one right after the other.
    """

    def __init__(self, matches: Matches, pictures: int, form: ApForm) -> None:
        objects, found, classes = matches.objects, matches.found, matches.num_classes
        self.form = form
        judged = np.isin(found.picture, objects.picture)
        counted = judged & (matches.outcome != IGNORED)
        places, detected = objects.picture * classes + objects.cls, found.picture * classes + found.cls
        unanswered = ~np.isin(places, detected)
        asked = unanswered | (~objects.ignored & np.isin(places, detected[counted]))
        self._expected = _tallied(objects.picture[asked], objects.cls[asked], pictures, classes)
        self._seen = _tallied(objects.picture[unanswered], objects.cls[unanswered], pictures, classes)
        self._seen += _tallied(found.picture[counted], found.cls[counted], pictures, classes)
        self._ranked = [
            (found.picture[rows], matches.outcome[rows] == HIT)
            for rows in (ranked[counted[ranked]] for ranked in matches.ranked)
        ]

    def __call__(self, weights: NDArray[np.int64]) -> NDArray[np.float64]:
        """Average precision of each class, float64 [C], NaN for a class never seen; ``weights`` int64 [pictures]."""
        expected, seen = weights @ self._expected, weights @ self._seen
        found = np.full(len(self._ranked), np.nan)
        for number in np.flatnonzero(seen):
            pictures, hits = self._ranked[number]
            found[number] = average_precision(hits, int(expected[number]), self.form, weights[pictures])
        return found


def _tallied(picture: NDArray[np.int64], cls: NDArray[np.int64], pictures: int, classes: int) -> NDArray[np.int64]:
    """How many rows each picture has of each class: int64 [pictures, classes]."""
    return np.bincount(picture * classes + cls, minlength=pictures * classes).reshape(pictures, classes)
