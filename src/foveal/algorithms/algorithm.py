"""What the training loop needs to know of an algorithm: plain functions, one set for each algorithm."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from foveal.data.loader import Decoder, Prepare
from foveal.records import BadRecord, Label


@dataclass(frozen=True)
class Verdict:
    """What validation found.

    Attributes:
        objective: the one number by which epochs are compared; more is better.
        figures: flat figures by name, such as ``accuracy``.
        details: everything judged, JSON-able (per-class table, confusion matrix, ...).
        bad: pictures that could not be read and were not judged.
        thresholds: decision thresholds that the artifact keeps: class name -> confidence.
        calibration: what the artifact keeps of how confidences were calibrated: ``temperature``.
    """

    objective: float
    figures: Mapping[str, float]
    details: Mapping[str, Any]
    bad: tuple[BadRecord, ...]
    thresholds: Mapping[str, float] = field(default_factory=dict)
    calibration: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Loss:
    """What one batch, or one rank's part of it, costs: sums and what to divide them by, never means.

    The loss is ``(sums / shares).sum()`` with both added up over the ranks, so a part of a batch needs to know nothing
    of the rest. Classification has one term; detection has two, over anchors and over offsets.

    Attributes:
        sums: float32 [k], the terms summed over the batch, with gradient.
        shares: float32 [k], what each term counts: pictures, anchors, offsets. Less than 1 counts as 1.
        counts: float32 [len(counted)], further sums for the training figures, without gradient.
    """

    sums: Tensor
    shares: Tensor
    counts: Tensor

    def mean(self, shares: Tensor) -> Tensor:
        """The loss to differentiate: the terms over ``shares``, those of the whole batch. A scalar."""
        return (self.sums / shares.clamp(min=1)).sum()


@dataclass(frozen=True)
class Algorithm:
    """The functions in which classification and detection differ.

    Attributes:
        name: as in the artifact, e.g. ``image-classification``.
        prepare: (decoded uint8 [H, W, C], label, generator) -> (uint8 [h, w, c], target): augmentation in training;
            boxes come in pixels of the upright picture.
        collate: targets of a batch -> tensors on the CPU (anything ``to_device`` of the loop can move).
        loss: (outputs, targets) -> loss and counts of the batch, on the device; no host sync.
        counted: names of the counts.
        figures: (sums by name, pictures) -> training figures, such as accuracy.
        ask: (network, pictures, rows) -> answers for these rows; in float32, exactly as a predictor asks.
        judge: answers that together hold each validation picture once -> verdict.
        terms: how many terms its loss has.
        preparing: (training pictures, seed, step) -> what prepares a picture in place of ``prepare``, where that needs
            other pictures, or follows from the step.
    """

    name: str
    prepare: Callable[[NDArray[np.uint8], Label, np.random.Generator], tuple[NDArray[np.uint8], Any]]
    collate: Callable[[list[Any]], Any]
    loss: Callable[[Any, Any], Loss]
    counted: tuple[str, ...]
    figures: Callable[[Mapping[str, float], int], dict[str, float]]
    ask: Callable[[nn.Module, Decoder, range], Any]
    judge: Callable[[Sequence[Any]], Verdict]
    terms: int = 1
    preparing: Callable[[Decoder, int, int], Prepare] | None = None
