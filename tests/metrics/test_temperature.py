"""Temperatures: found again where they are known, near 1 where little is known."""

from __future__ import annotations

import numpy as np
import pytest

from foveal.metrics.calibration import PRIOR, sigmoid_temperature, softmax_temperature


def answers(count: int, classes: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Logits, and labels drawn from the softmax of them."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(0, 2, (count, classes)).astype(np.float32)
    shares = np.exp(logits - logits.max(axis=1, keepdims=True))
    shares /= shares.sum(axis=1, keepdims=True)
    labels = (shares.cumsum(axis=1) > rng.random((count, 1))).argmax(axis=1)
    return logits, labels.astype(np.int64)


@pytest.mark.parametrize("truth", [0.4, 1.0, 3.0])
def test_a_known_temperature_is_found_again(truth: float) -> None:
    logits, labels = answers(20_000, 5)
    assert softmax_temperature(logits * np.float32(truth), labels) == pytest.approx(truth, rel=0.03)


@pytest.mark.parametrize("truth", [0.4, 1.0, 3.0])
def test_a_known_temperature_of_several_labels_is_found_again(truth: float) -> None:
    rng = np.random.default_rng(1)
    logits = rng.normal(0, 2, (5_000, 4)).astype(np.float32)
    labels = (rng.random(logits.shape) < 1 / (1 + np.exp(-logits))).astype(np.float32)
    assert sigmoid_temperature(logits * np.float32(truth), labels) == pytest.approx(truth, rel=0.03)


def test_it_is_where_the_cost_with_its_prior_is_least() -> None:
    logits, labels = answers(30, 3, seed=2)

    def cost(temperature: float) -> float:
        z = logits.astype(np.float64) / temperature
        own = z[np.arange(30), labels] - np.log(np.exp(z).sum(axis=1))
        return float(-own.sum() + PRIOR * (1 / temperature + np.log(temperature)))

    found = softmax_temperature(logits, labels)
    assert cost(found) < min(cost(found * 1.001), cost(found / 1.001))


def test_without_a_picture_it_is_1() -> None:
    assert softmax_temperature(np.zeros((0, 3), np.float32), np.zeros(0, np.int64)) == 1
    assert sigmoid_temperature(np.zeros((0, 3), np.float32), np.zeros((0, 3), np.float32)) == 1


def test_a_few_pictures_all_right_do_not_make_it_boundlessly_sure() -> None:
    logits = np.array([[4.0, 0.0], [0.0, 5.0], [6.0, 0.0]], np.float32)
    assert 0.9 < softmax_temperature(logits, np.array([0, 1, 0])) < 1


def test_logits_all_alike_and_very_large_ones_are_taken() -> None:
    assert softmax_temperature(np.zeros((10, 3), np.float32), np.zeros(10, np.int64)) == pytest.approx(1)
    wrong = np.tile(np.array([[1e4, 0.0]], np.float32), (50, 1))
    assert softmax_temperature(wrong, np.ones(50, np.int64)) == pytest.approx(100, rel=0.01)  # the bound
    assert sigmoid_temperature(wrong, np.zeros_like(wrong)) == pytest.approx(100, rel=0.01)
