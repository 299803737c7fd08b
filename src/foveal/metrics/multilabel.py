"""Figures of classification with any number of labels a picture: arrays in, numbers out.

Throughout, n is the number of pictures and C that of classes; ``scores`` is float [n, C], more is better; ``labels`` is
bool [n, C]; ``told`` is bool [n, C], the classes that are answered. A class without a positive picture has no average
precision (NaN), and a mean over nothing is NaN.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from foveal.metrics.classification import SMALLEST_PROBABILITY, ClassScores, share

HALF = 0.5  # the threshold of a class that has none of its own, and of the original's accuracy


def decision_accuracy(told: NDArray[np.bool_], labels: NDArray[np.bool_]) -> float:
    """Share of decisions, one a picture and class, that are right: the original's accuracy (reference 2.9)."""
    return float((told == labels).mean()) if labels.size else float("nan")


def all_right(told: NDArray[np.bool_], labels: NDArray[np.bool_]) -> float:
    """Share of pictures of which every decision is right."""
    return float((told == labels).all(axis=1).mean()) if len(labels) else float("nan")


def average_precisions(scores: NDArray[np.floating], labels: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Average precision of each class, float64 [C]: the mean, over its positive pictures, of the precision among all
    pictures that score at least as high. Equal scores count together, so their order does not matter.
    """
    found = np.full(scores.shape[1], np.nan)
    for column in np.flatnonzero(labels.any(axis=0)).tolist():
        hits, given, _ = _steps(scores[:, column], labels[:, column])
        gained = np.diff(hits, prepend=0)
        found[column] = float((gained * hits / given).sum() / hits[-1])
    return found


def best_thresholds(scores: NDArray[np.floating], labels: NDArray[np.bool_]) -> NDArray[np.float64]:
    """The score from which on each class is best told, by F1: float64 [C]; ``HALF`` for a class without a positive.

    It lies halfway between the lowest score that is told and the next one (or 0); of equally good ones, the highest is
    taken.
    """
    found = np.full(scores.shape[1], HALF)
    for column in np.flatnonzero(labels.any(axis=0)).tolist():
        hits, given, steps = _steps(scores[:, column], labels[:, column])
        best = int(np.argmax(2 * hits / (given + hits[-1])))
        below = steps[best + 1] if best + 1 < len(steps) else 0.0
        found[column] = (steps[best] + below) / 2
    return found


def told_scores(told: NDArray[np.bool_], labels: NDArray[np.bool_]) -> ClassScores:
    """Precision, recall, F1 and support of each class."""
    hits, support, given = (each.sum(axis=0, dtype=np.int64) for each in (told & labels, labels, told))
    return ClassScores(share(hits, given), share(hits, support), share(2 * hits, support + given), support, given)


def micro_f1(told: NDArray[np.bool_], labels: NDArray[np.bool_]) -> float:
    """F1 over all decisions; NaN where no class is there and none is told."""
    total = int(told.sum()) + int(labels.sum())
    return 2 * int((told & labels).sum()) / total if total else float("nan")


def decision_log_loss(probabilities: NDArray[np.floating], labels: NDArray[np.bool_]) -> float:
    """Mean of -ln(probability of what is true) over all decisions; a probability below 1e-12 counts as 1e-12."""
    if not labels.size:
        return float("nan")
    true = np.where(labels, probabilities, 1 - probabilities.astype(np.float64))
    return float(-np.log(np.clip(true, SMALLEST_PROBABILITY, 1.0)).mean()) + 0.0  # + 0.0: no -0.0


def _steps(
    scores: NDArray[np.floating], labels: NDArray[np.bool_]
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]:
    """For each score that occurs, falling: positives and pictures that score at least so, and the score itself."""
    order = np.argsort(-scores, kind="stable")
    falling = scores[order].astype(np.float64)
    last = np.append(np.flatnonzero(np.diff(falling)), len(falling) - 1)
    return np.cumsum(labels[order])[last].astype(np.int64), last + 1, falling[last]
