"""What the settings of classification make of a run's functions: each one does what it says."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy

from foveal.algorithms.algorithm import Algorithm
from foveal.data.views import Preprocessing
from foveal.settings import parse_settings
from foveal.training.pictures import Pictures
from foveal.training.task import CLASSIFICATION

RULE = Preprocessing("squeeze", 3, 16, 16)
LOGITS = torch.tensor([[1.0, -1.0, 0.5], [0.0, 2.0, -0.5]])
ONE, SEVERAL = torch.tensor([0, 2]), torch.tensor([[1.0, 0.0, 1.0], [0.0, 1.0, 0.0]])


def taught(labels: list[int], several: bool = False, **settings: Any) -> Algorithm:
    """The functions for training pictures with these labels; three classes, four pictures."""
    parsed = parse_settings({"recipe": "original", **settings}, recipe="original").settings
    train: Any = range(4)
    pictures = Pictures(train, None, ("a", "b", "c"), True, "", False, np.array(labels), several)
    return CLASSIFICATION.teach(parsed, RULE, pictures, 0)


def loss(algorithm: Algorithm, targets: torch.Tensor) -> float:
    costs = algorithm.loss(LOGITS, targets)
    return float(costs.mean(costs.shares))


def test_without_extensions_it_is_cross_entropy() -> None:
    algorithm = taught([0, 0, 1, 2])
    assert loss(algorithm, ONE) == pytest.approx(float(cross_entropy(LOGITS, ONE)))
    assert algorithm.preparing is None
    assert algorithm.loss(LOGITS, ONE).counts.tolist() == [1]  # the first is right, the second is not


def test_label_smoothing() -> None:
    expected = float(cross_entropy(LOGITS, ONE, label_smoothing=0.2))
    assert loss(taught([0, 0, 1, 2], label_smoothing=0.2), ONE) == pytest.approx(expected)


def test_class_weights_are_those_of_the_training_labels() -> None:
    weights = torch.tensor([4 / (3 * 2), 4 / 3, 4 / 3])
    expected = float(cross_entropy(LOGITS, ONE, weights, reduction="sum")) / 2
    assert loss(taught([0, 0, 1, 2], class_weights="auto"), ONE) == pytest.approx(expected)


def test_several_labels_and_their_weights() -> None:
    plain = float(binary_cross_entropy_with_logits(LOGITS, SEVERAL))
    assert loss(taught([0, 1, 1, 1, 2, 2], True, multi_label=1), SEVERAL) == pytest.approx(plain)
    weighted = taught([0, 1, 1, 1, 2, 2], True, multi_label=1, use_weighted_loss=1)
    expected = float(binary_cross_entropy_with_logits(LOGITS, SEVERAL, pos_weight=torch.tensor([3.0, 1 / 3, 1.0])))
    assert loss(weighted, SEVERAL) == pytest.approx(expected)
    # decisions at 0.5: all of the first picture are right; of the second, class a is told (a logit of 0) and wrong
    assert weighted.loss(LOGITS, SEVERAL).counts.tolist() == pytest.approx([1 + 2 / 3])


class Pair:
    """Two pictures of one value each, as a decoder gives them."""

    channels = 3

    def __init__(self) -> None:
        self.source = self

    def __len__(self) -> int:
        return 2

    def __call__(self, row: int) -> tuple[np.ndarray, int]:
        return np.full((16, 16, 3), 200 * row, np.uint8), row


@pytest.mark.parametrize(("setting", "blended"), [("mixup", True), ("cutmix", False)])
def test_pictures_are_mixed_with_training_pictures(setting: str, blended: bool) -> None:
    algorithm, pictures = taught([0, 0, 1, 2], **{setting: 1.0}), Pair()
    assert algorithm.preparing is not None
    prepare: Any = algorithm.preparing(pictures, 3, 0)  # type: ignore[arg-type]
    made = [prepare(*pictures(0), 0, number) for number in range(20)]
    mixed = [(pixels, label) for pixels, label in made if 0 < label[0] < 1]
    assert mixed and all(label.sum() == pytest.approx(1) for _, label in made)
    for pixels, label in mixed:
        assert (len(np.unique(pixels)) == 1) is blended
        assert pixels.mean() == pytest.approx(200 * label[1], abs=0.51)
    targets = algorithm.collate([label for _, label in made])
    assert targets.shape == (20, 3) and targets.dtype == torch.float32
    assert loss(algorithm, targets[:2]) == pytest.approx(float(cross_entropy(LOGITS, targets[:2])))


def test_random_erasing_puts_noise_into_pictures() -> None:
    algorithm, image = taught([0, 0, 1, 2], random_erasing=1.0), np.zeros((16, 16, 3), np.uint8)
    pixels, label = algorithm.prepare(image, 1, np.random.default_rng(0))
    assert label == 1 and 0 < (pixels > 0).any(axis=2).mean() < 0.5
    untouched, _ = taught([0, 0, 1, 2]).prepare(image, 1, np.random.default_rng(0))
    assert not untouched.any()
