"""Calibration error and reliability curve by hand."""

from __future__ import annotations

import numpy as np
import pytest

from foveal.metrics.calibration import calibration_error, reliability_curve


def test_sure_and_always_right_is_calibrated() -> None:
    assert calibration_error(reliability_curve(np.ones(5, np.float32), np.ones(5, bool))) == 0.0


def test_error_is_the_gap_of_each_bin_weighted_by_its_pictures() -> None:
    confidence = np.array([0.9, 0.95, 0.91, 0.92, 0.5, 0.48])
    correct = np.array([True, True, True, False, False, False])
    curve = reliability_curve(confidence, correct, bins=10)
    # 0.9 belongs to the bin up to 0.9; the three above it are right 2 times of 3
    assert curve.count.tolist() == [0, 0, 0, 0, 2, 0, 0, 0, 1, 3]
    assert curve.accuracy[[4, 8, 9]] == pytest.approx([0, 1, 2 / 3])
    assert curve.confidence[[4, 8, 9]] == pytest.approx([0.49, 0.9, 0.92666667])
    assert calibration_error(curve) == pytest.approx((2 * 0.49 + 0.1 + 3 * (0.92666667 - 2 / 3)) / 6)


def test_bins_hold_their_upper_edge_and_the_first_one_zero() -> None:
    curve = reliability_curve(np.array([0.0, 0.25, 0.250001, 1.0, 1.0000001]), np.ones(5, bool), bins=4)
    assert curve.upper.tolist() == [0.25, 0.5, 0.75, 1.0]
    assert curve.count.tolist() == [2, 1, 0, 2]


def test_an_empty_bin_has_no_mean_and_no_pictures_have_no_error() -> None:
    curve = reliability_curve(np.zeros(0, np.float32), np.zeros(0, bool))
    assert len(curve.count) == 15
    assert np.isnan(curve.accuracy).all()
    assert np.isnan(calibration_error(curve))


def test_error_equals_a_slow_count_from_the_definition() -> None:
    rng = np.random.default_rng(1)
    confidence, correct = rng.random(500), rng.random(500) < 0.6
    slow = 0.0
    for i in range(15):
        inside = [j for j, each in enumerate(confidence) if i / 15 < each <= (i + 1) / 15]
        if inside:
            slow += len(inside) / 500 * float(abs(np.mean(correct[inside]) - np.mean(confidence[inside])))
    assert calibration_error(reliability_curve(confidence, correct)) == pytest.approx(slow)
