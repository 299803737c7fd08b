"""Whether a classifier is as often right as it says: reliability curve and expected calibration error.

Pictures are put into bins of equal width by their confidence, the probability of the predicted class. Bin i of b
holds confidences above i / b up to and including (i + 1) / b; 0 goes into the first. (Guo et al., "On calibration of
modern neural networks", 2017; 15 bins as there.)
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

BINS = 15


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
