"""What the training loop needs to know of an algorithm: plain functions, one set for each algorithm."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from foveal.data.loader import Decoder
from foveal.records import BadRecord, Label


@dataclass(frozen=True)
class Verdict:
    """What validation found.

    Attributes:
        objective: the one number by which epochs are compared; more is better.
        figures: flat figures by name, such as ``accuracy``.
        details: everything judged, JSON-able (per-class table, confusion matrix, ...).
        bad: pictures that could not be read and were not judged.
    """

    objective: float
    figures: Mapping[str, float]
    details: Mapping[str, Any]
    bad: tuple[BadRecord, ...]


@dataclass(frozen=True)
class Algorithm:
    """The functions in which classification and detection differ.

    Attributes:
        name: as in the artifact, e.g. ``image-classification``.
        prepare: (decoded uint8 [H, W, C], label, generator) -> (uint8 [h, w, c], target): augmentation in training.
        collate: targets of a batch -> tensors on the CPU (anything ``to_device`` of the loop can move).
        loss: (outputs, targets) -> scalar: the mean over the batch.
        counted: names of the running sums that ``count`` gives, besides the loss.
        count: (outputs, targets) -> tensor [len(counted)] of sums over the batch, on the device; no host sync.
        figures: (sums by name, pictures) -> training figures, such as accuracy.
        judge: (network, validation pictures) -> verdict; asking, in float32, exactly as a predictor asks.
    """

    name: str
    prepare: Callable[[NDArray[np.uint8], Label, np.random.Generator], tuple[NDArray[np.uint8], Any]]
    collate: Callable[[list[Any]], Any]
    loss: Callable[[Any, Any], Tensor]
    counted: tuple[str, ...]
    count: Callable[[Any, Any], Tensor]
    figures: Callable[[Mapping[str, float], int], dict[str, float]]
    judge: Callable[[nn.Module, Decoder], Verdict]
