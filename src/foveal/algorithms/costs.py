"""What a classifier's answers cost, and how classes are weighed.

labels        loss                                            MXNet's operator (reference 2.9)
one           softmax cross entropy, a share a picture        SoftmaxOutput, rescaled by 1 / batch
any number    binary cross entropy, a share a decision        LogisticRegressionOutput, which divides its gradient
                                                              by the number of classes, rescaled by 1 / batch
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from foveal.algorithms.algorithm import Loss


def cross_entropy(
    logits: Tensor, targets: Tensor, counts: Tensor, smoothing: float = 0.0, weights: Tensor | None = None
) -> Loss:
    """Softmax cross entropy of one label a picture, or of one that is mixed.

    Args:
        logits: [B, C]. targets: int64 [B], or float32 [B, C] whose rows sum to 1.
        counts: ``Loss.counts``.
        smoothing: share of each label that is spread evenly over all classes.
        weights: float32 [C], by which a label of each class counts; None: 1.
    """
    weights = None if weights is None else weights.to(logits.device)
    total = F.cross_entropy(logits.float(), targets, weights, reduction="sum", label_smoothing=smoothing)
    return Loss(total[None], total.new_full((1,), len(targets)), counts)


def binary_cross_entropy(
    logits: Tensor, targets: Tensor, counts: Tensor, smoothing: float = 0.0, positive: Tensor | None = None
) -> Loss:
    """Binary cross entropy of any number of labels a picture.

    Args:
        logits: [B, C]. targets: float32 [B, C], 0..1.
        counts: ``Loss.counts``.
        smoothing: share of each decision's label that is spread evenly over yes and no.
        positive: float32 [C], by which a class that is there counts, beside 1 for one that is not; None: 1.
    """
    targets = targets * (1 - smoothing) + smoothing / 2 if smoothing else targets
    positive = None if positive is None else positive.to(logits.device)
    total = F.binary_cross_entropy_with_logits(logits.float(), targets, pos_weight=positive, reduction="sum")
    return Loss(total[None], total.new_full((1,), targets.numel()), counts)


def balanced_weights(labels: NDArray[np.int64], num_classes: int) -> Tensor:
    """Weights, float32 [C], by which each class counts as much as any other, and pictures count 1 on average.

    n / (K n_c) for n pictures, n_c of the class and K classes that occur; 1 for a class that does not.

    Args:
        labels: int64 [n], the class of each training picture.
    """
    counts = np.bincount(labels, minlength=num_classes)
    there = counts > 0
    weights = np.where(there, len(labels) / (there.sum() * np.maximum(counts, 1)), 1.0)
    return torch.from_numpy(weights.astype(np.float32))


def positive_weights(labels: NDArray[np.int64], pictures: int, num_classes: int) -> Tensor:
    """The original's ``use_weighted_loss`` (reference 2.9, its formula inferred): negatives / positives of each class.

    1 for a class of which all training pictures are, or none.

    Args:
        labels: int64 [m], the classes of all training pictures, one picture's after another's.
        pictures: how many training pictures there are.

    Returns:
        float32 [C].
    """
    positives = np.bincount(labels, minlength=num_classes)
    mixed = (positives > 0) & (positives < pictures)
    weights = np.where(mixed, (pictures - positives) / np.maximum(positives, 1), 1.0)
    return torch.from_numpy(weights.astype(np.float32))
