"""Figures of single-label classification: arrays in, numbers out.

Throughout, n is the number of pictures and C that of classes; ``scores`` is float [n, C], more is better; ``labels``
and ``predicted`` are int64 [n], 0..C-1. A mean over no pictures is NaN.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

SMALLEST_PROBABILITY = 1e-12  # log loss counts less as this, so that one sure mistake costs 27.6 and not infinity
_BLOCK = 1 << 22  # elements of scores compared at once, to bound memory


@dataclass(frozen=True)
class ClassScores:
    """One row a class.

    Attributes:
        precision, recall, f1: float64 [C], 0..1; 0 where undefined (never predicted, or never there).
        support: int64 [C], pictures with that label. predicted: int64 [C], pictures given that class.
    """

    precision: NDArray[np.float64]
    recall: NDArray[np.float64]
    f1: NDArray[np.float64]
    support: NDArray[np.int64]
    predicted: NDArray[np.int64]


def predictions(scores: NDArray[np.floating]) -> NDArray[np.int64]:
    """The class of the highest score, int64 [n]; among equals the lowest index."""
    best: NDArray[np.int64] = np.argmax(scores, axis=1).astype(np.int64, copy=False)
    return best


def accuracy(predicted: NDArray[np.int64], labels: NDArray[np.int64]) -> float:
    """Share of pictures whose class was hit."""
    return float(np.count_nonzero(predicted == labels) / len(labels)) if len(labels) else float("nan")


def top_k_accuracy(scores: NDArray[np.floating], labels: NDArray[np.int64], k: int) -> float:
    """Share of pictures whose label is among the k highest scores; equal scores rank by lowest index.

    With k = 1 this is ``accuracy``; with k >= C it is 1.
    """
    hits = 0
    for rows in _blocks(*scores.shape):
        part, label = scores[rows], labels[rows, None]
        own = np.take_along_axis(part, label, axis=1)
        before = (part > own) | ((part == own) & (np.arange(part.shape[1]) < label))
        hits += int(np.count_nonzero(before.sum(axis=1) < k))
    return hits / len(labels) if len(labels) else float("nan")


def confusion_cells(predicted: NDArray[np.int64], labels: NDArray[np.int64], num_classes: int) -> NDArray[np.int64]:
    """The cells of the confusion matrix that are not 0: int64 [m, 3] of (label, predicted, count), in order.

    Takes memory for n, not for C squared.
    """
    cells, counts = np.unique(labels * num_classes + predicted, return_counts=True)
    return np.stack([cells // num_classes, cells % num_classes, counts], axis=1).astype(np.int64)


def confusion_matrix(cells: NDArray[np.int64], num_classes: int) -> NDArray[np.int64]:
    """The whole matrix int64 [C, C] from its cells: row = label, column = predicted."""
    matrix = np.zeros((num_classes, num_classes), np.int64)
    matrix[cells[:, 0], cells[:, 1]] = cells[:, 2]
    return matrix


def class_scores(predicted: NDArray[np.int64], labels: NDArray[np.int64], num_classes: int) -> ClassScores:
    """Precision, recall, F1 and support of each class."""
    hits = np.bincount(labels[predicted == labels], minlength=num_classes)
    support = np.bincount(labels, minlength=num_classes)
    given = np.bincount(predicted, minlength=num_classes)
    return ClassScores(
        precision=share(hits, given),
        recall=share(hits, support),
        f1=share(2 * hits, support + given),
        support=support.astype(np.int64),
        predicted=given.astype(np.int64),
    )


def macro_f1(classes: ClassScores) -> float:
    """The mean F1 of the classes that occur among labels or predictions."""
    occurs = (classes.support + classes.predicted) > 0
    return float(classes.f1[occurs].mean()) if occurs.any() else float("nan")


def log_loss(probabilities: NDArray[np.floating], labels: NDArray[np.int64]) -> float:
    """Mean of -ln(probability of the label), in float64; a probability below 1e-12 counts as 1e-12."""
    if not len(labels):
        return float("nan")
    own = np.take_along_axis(probabilities, labels[:, None], axis=1)[:, 0].astype(np.float64)
    return float(-np.log(np.clip(own, SMALLEST_PROBABILITY, 1.0)).mean()) + 0.0  # + 0.0: no -0.0


def share(part: NDArray[np.int64], whole: NDArray[np.int64]) -> NDArray[np.float64]:
    """``part / whole`` element by element, float64; 0 where ``whole`` is 0."""
    return np.divide(part, whole, out=np.zeros(len(whole), np.float64), where=whole > 0)


def _blocks(rows: int, columns: int) -> Iterator[slice]:
    size = max(1, _BLOCK // max(1, columns))
    for start in range(0, rows, size):
        yield slice(start, start + size)
