"""Whether a classifier is as often right as it says: reliability curve, expected calibration error, temperature.

Pictures are put into bins of equal width by their confidence, the probability of the predicted class. Bin i of b
holds confidences above i / b up to and including (i + 1) / b; 0 goes into the first. (Guo et al., "On calibration of
modern neural networks", 2017; 15 bins as there.)

A temperature T divides the logits before softmax or sigmoid (the same paper). It is the one that makes the labels most
likely, held near 1 where there are few: as if ``PRIOR`` pictures said that the logits are right as they are. So a few
pictures, all answered rightly, do not make the model boundlessly sure.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

BINS = 15
PRIOR = 4.0  # about: ln T keeps within 0.5 of 0 unless the pictures say otherwise
HOTTEST = 100.0  # bounds of the temperature: from 1 / HOTTEST
_STEPS = 60  # halvings at most; a dozen of Newton's mostly do
_BLOCK = 1 << 22  # logits looked at once, to bound memory


@dataclass(frozen=True)
class ReliabilityCurve:
    """One entry a bin.

    Attributes:
        upper: float64 [b], upper edges, the last one 1.
        confidence: float64 [b], mean confidence of the bin's pictures. accuracy: float64 [b], their share that was
            right. Both NaN where the bin is empty.
        count: int64 [b], pictures in the bin.
    """

    upper: NDArray[np.float64]
    confidence: NDArray[np.float64]
    accuracy: NDArray[np.float64]
    count: NDArray[np.int64]


def reliability_curve(
    confidence: NDArray[np.floating], correct: NDArray[np.bool_], bins: int = BINS
) -> ReliabilityCurve:
    """Sort pictures into bins by confidence.

    Args:
        confidence: float [n], 0..1 (rounding above 1 is forgiven). correct: bool [n]. n may be 0.
        bins: number of bins.
    """
    sure = confidence.astype(np.float64)
    upper = np.arange(1, bins + 1) / bins
    which = np.minimum(np.searchsorted(upper, sure, side="left"), bins - 1)
    count = np.bincount(which, minlength=bins)
    filled = np.where(count > 0, count, np.nan)
    return ReliabilityCurve(
        upper=upper,
        confidence=np.bincount(which, weights=sure, minlength=bins) / filled,
        accuracy=np.bincount(which, weights=correct, minlength=bins) / filled,
        count=count.astype(np.int64),
    )


def calibration_error(curve: ReliabilityCurve) -> float:
    """Expected calibration error, 0..1: mean distance of accuracy and confidence, bins weighted by their pictures.

    NaN without pictures.
    """
    total = int(curve.count.sum())
    if not total:
        return float("nan")
    filled = curve.count > 0
    gap = np.abs(curve.accuracy[filled] - curve.confidence[filled])
    return float((gap * curve.count[filled]).sum() / total)


def softmax_temperature(logits: NDArray[np.float32], labels: NDArray[np.int64]) -> float:
    """The temperature for one label a picture.

    Args:
        logits: float32 [n, C], finite. labels: int64 [n], 0..C-1. n may be 0.
    """

    def part(rows: slice, inverse: float) -> tuple[float, float]:
        z = logits[rows].astype(np.float64)
        p = np.exp(inverse * (z - z.max(axis=1, keepdims=True)))
        p /= p.sum(axis=1, keepdims=True)
        mean = (p * z).sum(axis=1)
        own = np.take_along_axis(z, labels[rows, None], axis=1)[:, 0]
        return float((mean - own).sum()), float(((p * z**2).sum(axis=1) - mean**2).sum())

    return _temperature(part, *logits.shape)


def sigmoid_temperature(logits: NDArray[np.float32], labels: NDArray[np.float32]) -> float:
    """The one temperature for all classes of several labels a picture.

    The decisions of one picture are no independent witnesses: together they count as one.

    Args:
        logits: float32 [n, C], finite. labels: float32 [n, C] of 0 and 1. n may be 0.
    """

    def part(rows: slice, inverse: float) -> tuple[float, float]:
        z = logits[rows].astype(np.float64)
        p = 0.5 * (1 + np.tanh(0.5 * inverse * z))  # the sigmoid, without overflow
        return float(((p - labels[rows]) * z).mean(axis=1).sum()), float((p * (1 - p) * z**2).mean(axis=1).sum())

    return _temperature(part, *logits.shape)


def _temperature(part: Callable[[slice, float], tuple[float, float]], rows: int, columns: int) -> float:
    """The temperature at which the slope of the cost over 1 / T is 0; Newton's method, kept between two bounds.

    The cost, the negative log likelihood and ``PRIOR`` (b - ln b) with b = 1 / T, is convex in b.

    Args:
        part: (rows, b) -> first and second derivative of their negative log likelihood.
    """
    size = max(1, _BLOCK // max(1, columns))
    blocks = [slice(start, start + size) for start in range(0, rows, size)]
    low, high, inverse = 1 / HOTTEST, HOTTEST, 1.0
    for _ in range(_STEPS):
        sums = np.sum([part(block, inverse) for block in blocks], axis=0) if blocks else np.zeros(2)
        slope = float(sums[0]) + PRIOR * (1 - 1 / inverse)
        low, high = (low, inverse) if slope > 0 else (inverse, high)
        after = inverse - slope / (float(sums[1]) + PRIOR / inverse**2)
        after = after if low <= after <= high else (low + high) / 2
        if abs(after - inverse) <= 1e-9 * inverse:
            break
        inverse = after
    return 1 / inverse
