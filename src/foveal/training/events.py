"""What the training loop reports. Listeners watch; nothing they do changes the run."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class RunStarted:
    """Before the first step. ``step`` is 0, or the number of steps already done when the run is resumed; ``steps`` are
    all of the run's, ``steps_per_epoch`` those of an epoch, but for one more or less at times in detection."""

    algorithm: str
    step: int
    steps: int
    steps_per_epoch: int
    epochs: int
    batch_size: int
    settings: Mapping[str, object]


@dataclass(frozen=True)
class StepDone:
    """Every ``log_steps`` steps. ``batch`` counts from 0 within the epoch; figures are since the epoch's start."""

    step: int
    epoch: int
    batch: int
    learning_rate: float
    loss: float
    figures: Mapping[str, float]
    pictures: int
    seconds: float


@dataclass(frozen=True)
class EpochDone:
    """After an epoch's training and its validation. ``epoch`` counts from 0.

    ``train`` and ``validation`` hold flat figures such as ``accuracy``; ``improved`` tells whether this is the best
    epoch so far. Seconds are wall time of the training part and of the validation part.
    """

    step: int
    epoch: int
    learning_rate: float
    train: Mapping[str, float]
    validation: Mapping[str, float]
    improved: bool
    train_seconds: float
    validation_seconds: float
    pictures: int


@dataclass(frozen=True)
class CheckpointWritten:
    """A checkpoint lies in ``path``; a run started again goes on from its ``step``."""

    step: int
    path: str


@dataclass(frozen=True)
class PictureSkipped:
    """A picture that could not be read was left out of its batch, for the first time."""

    where: str
    reason: str


@dataclass(frozen=True)
class Said:
    """A decision and its reason, or a warning, in one line."""

    text: str
    warning: bool = False


@dataclass(frozen=True)
class Stopped:
    """The run ended before its last step: ``reason`` is a signal's name or ``early stopping``."""

    step: int
    reason: str


@dataclass(frozen=True)
class ModelWritten:
    """The artifact now holds the weights of ``epoch`` (from 0)."""

    path: str
    epoch: int


@dataclass(frozen=True)
class Finished:
    """The artifact is complete in ``path``; ``figures`` are those of the best epoch on the validation data."""

    step: int
    path: str
    best_epoch: int
    figures: Mapping[str, float]


Event = (
    RunStarted | StepDone | EpochDone | CheckpointWritten | PictureSkipped | Said | Stopped | ModelWritten | Finished
)
Listener = Callable[[Event], None]
