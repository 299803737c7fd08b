"""What answers cost, by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from foveal.algorithms.algorithm import Loss
from foveal.algorithms.costs import balanced_weights, binary_cross_entropy, cross_entropy, positive_weights

COUNTS = torch.zeros(1)
LOGITS = torch.tensor([[math.log(2.0), 0.0, 0.0], [0.0, 0.0, math.log(6.0)]])  # 1/2 1/4 1/4 and 1/8 1/8 3/4


def mean(costs: Loss) -> float:
    return float(costs.mean(costs.shares))


def test_cross_entropy_is_a_share_a_picture() -> None:
    costs = cross_entropy(LOGITS, torch.tensor([0, 2]), COUNTS)
    assert float(costs.sums) == pytest.approx(-math.log(1 / 2) - math.log(3 / 4))
    assert costs.shares.tolist() == [2]


def test_smoothing_spreads_a_share_of_the_label_over_all_classes() -> None:
    own, others = 0.9 + 0.1 / 3, 0.1 / 3
    expected = -own * math.log(1 / 2) - 2 * others * math.log(1 / 4)
    assert mean(cross_entropy(LOGITS[:1], torch.tensor([0]), COUNTS, 0.1)) == pytest.approx(expected)


def test_a_weight_counts_a_label_so_much_and_the_share_stays() -> None:
    weights = torch.tensor([3.0, 1.0, 0.5])
    expected = (-3 * math.log(1 / 2) - 0.5 * math.log(3 / 4)) / 2
    assert mean(cross_entropy(LOGITS, torch.tensor([0, 2]), COUNTS, weights=weights)) == pytest.approx(expected)


def test_a_mixed_label_costs_its_shares() -> None:
    mixed = torch.tensor([[0.7, 0.0, 0.3]])
    expected = -0.7 * math.log(1 / 2) - 0.3 * math.log(1 / 4)
    assert mean(cross_entropy(LOGITS[:1], mixed, COUNTS)) == pytest.approx(expected)


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_a_whole_label_costs_the_same_as_a_row_and_as_a_number(smoothing: float) -> None:
    weights = torch.tensor([3.0, 1.0, 0.5])
    rows = torch.nn.functional.one_hot(torch.tensor([0, 2])).float()
    one = mean(cross_entropy(LOGITS, torch.tensor([0, 2]), COUNTS, smoothing, weights))
    assert mean(cross_entropy(LOGITS, rows, COUNTS, smoothing, weights)) == pytest.approx(one)


def decisions() -> tuple[Tensor, Tensor]:
    """Probabilities 3/4, 1/2 and 1/4; labels yes, yes, no."""
    return torch.tensor([[math.log(3.0), 0.0, -math.log(3.0)]]), torch.tensor([[1.0, 1.0, 0.0]])


def test_binary_cross_entropy_is_a_share_a_decision() -> None:
    costs = binary_cross_entropy(*decisions(), COUNTS)
    assert float(costs.sums) == pytest.approx(-math.log(3 / 4) - math.log(1 / 2) - math.log(3 / 4))
    assert costs.shares.tolist() == [3]


def test_its_gradient_is_that_of_logistic_regression_output_rescaled_by_the_batch() -> None:
    logits = torch.tensor([[0.3, -1.0], [2.0, 0.0]], requires_grad=True)
    labels = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    costs = binary_cross_entropy(logits, labels, COUNTS)
    costs.mean(costs.shares).backward()
    assert logits.grad is not None
    torch.testing.assert_close(logits.grad, (logits.detach().sigmoid() - labels) / 2 / 2)  # 2 classes, 2 pictures


def test_smoothing_of_decisions_spreads_over_yes_and_no() -> None:
    yes = 0.8 + 0.1
    own = -yes * math.log(3 / 4) - (1 - yes) * math.log(1 / 4)
    expected = (2 * own - math.log(1 / 2)) / 3
    assert mean(binary_cross_entropy(*decisions(), COUNTS, 0.2)) == pytest.approx(expected)


def test_a_positive_weight_counts_what_is_there() -> None:
    positive = torch.tensor([5.0, 1.0, 5.0])
    expected = (-5 * math.log(3 / 4) - math.log(1 / 2) - math.log(3 / 4)) / 3
    assert mean(binary_cross_entropy(*decisions(), COUNTS, positive=positive)) == pytest.approx(expected)


def test_balanced_weights_make_each_class_count_the_same() -> None:
    labels = np.array([0, 0, 0, 0, 0, 0, 2, 2])
    weights = balanced_weights(labels, 4)
    assert weights.tolist() == pytest.approx([8 / (2 * 6), 1, 8 / (2 * 2), 1])
    assert float(weights[torch.from_numpy(labels)].mean()) == pytest.approx(1)


def test_positive_weights_are_negatives_by_positives() -> None:
    labels = np.array([0, 1, 1, 1, 1, 0, 3, 3, 3, 3, 3, 3, 3, 3])  # of 8 pictures; none of class 2, all of class 3
    assert positive_weights(labels, 8, 4).tolist() == [3, 1, 1, 1]
