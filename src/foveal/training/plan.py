"""The plan of a run: how many epochs of how many steps at which rates. Stored in the checkpoint, so that a run that
is resumed follows the plan it began with, on a quicker or a slower day."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from foveal.progress import duration
from foveal.settings import ClassificationSettings, DetectionSettings, Settings
from foveal.training.events import Said
from foveal.training.schedules import Schedule

PLANNED_SHARE = 0.9  # of max_minutes; the rest is for the slow minutes that every machine has
FEW_EPOCHS = 4  # up to so many, pictures are not yet learnt by heart, and varying them costs accuracy (docs/recipes.md)


@dataclass(frozen=True)
class Plan:
    """Where epochs end, and what happens in them.

    Attributes:
        steps_per_epoch: floor(pictures / batch), in which the schedule counts.
        pictures_per_epoch: after each so many pictures an epoch ends with the last full batch: all of a pass in
            detection, whose epochs therefore differ by a step at times; ``steps_per_epoch`` full batches else.
        schedule: counts updates from 1 to ``total_steps``.
        ema_decay: None means no average.
        augmentation: the level that training pictures are varied by.
    """

    epochs: int
    steps_per_epoch: int
    pictures_per_epoch: int
    batch_size: int
    schedule: Schedule
    ema_decay: float | None
    augmentation: str

    @property
    def total_steps(self) -> int:
        return self.steps_before(self.epochs)

    def steps_before(self, epoch: int) -> int:
        """Steps of the run before ``epoch`` (from 0) begins."""
        return epoch * self.pictures_per_epoch // self.batch_size

    def steps_in(self, epoch: int) -> int:
        return self.steps_before(epoch + 1) - self.steps_before(epoch)

    def epochs_done(self, step: int) -> int:
        """Whole epochs in the run's first ``step`` steps."""
        return sum(self.steps_before(epoch + 1) <= step for epoch in range(self.epochs))

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_dict(cls, fields: Mapping[str, Any]) -> Plan:
        schedule = dict(fields["schedule"])
        schedule["steps"] = tuple(schedule["steps"])
        return cls(**{**fields, "schedule": Schedule(**schedule)})


@dataclass(frozen=True)
class Pace:
    """Seconds measured in the first steps: of one training step, of validating once, and of all before them."""

    step: float
    validation: float
    spent: float


def make_plan(settings: Settings, given: frozenset[str], pictures: int, pace: Pace | None) -> tuple[Plan, list[Said]]:
    """The plan for ``pictures`` training pictures, and a line for each decision.

    An epoch of classification is floor(pictures / mini_batch_size) steps, one of detection ends with the last full
    batch inside its pass over the pictures (reference 2.1); with a ``pace`` the epochs are as many as fit
    ``max_minutes``, and at most ``epochs``. ``given`` names the settings that the user gave.
    """
    said: list[Said] = []
    assert settings.mini_batch_size is not None and settings.epochs is not None and settings.learning_rate is not None
    batch = min(settings.mini_batch_size, pictures)
    if batch < settings.mini_batch_size:
        lowered = f"mini_batch_size is lowered from {settings.mini_batch_size} to {batch}"
        said.append(Said(f"{lowered}, as there are {pictures} training pictures", warning=True))
    steps, epochs = pictures // batch, settings.epochs
    whole = True
    if pace is not None and settings.max_minutes is not None:
        fitting, epochs, line = _fit(pace, settings.max_minutes * 60 * PLANNED_SHARE, steps, epochs)
        whole, steps = fitting == steps, fitting
        said.append(Said(line))
    carries = isinstance(settings, DetectionSettings) and whole
    each = pictures if carries else steps * batch
    total = epochs * each // batch
    schedule = Schedule(
        kind=settings.lr_schedule,
        base=settings.learning_rate,
        total_updates=total,
        warmup_updates=min(round(settings.warmup_epochs * steps), total // 3),
        steps=tuple(step * steps for step in settings.lr_scheduler_step or ()),
        factor=settings.lr_scheduler_factor,
    )
    augmentation = settings.augmentation_type or "none"
    varied_less = isinstance(settings, ClassificationSettings) and settings.recipe == "modern"
    if varied_less and epochs <= FEW_EPOCHS and "augmentation_type" not in given:
        few = f"with {FEW_EPOCHS} epochs or fewer, varying the pictures costs more than it gives"
        said.append(Said(f"augmentation none instead: {few}"))
        augmentation = "none"
    return Plan(epochs, steps, each, batch, schedule, _ema_decay(settings.ema_decay, total), augmentation), said


def _fit(pace: Pace, seconds: float, steps: int, most: int) -> tuple[int, int, str]:
    left = seconds - pace.spent
    epoch = steps * pace.step + pace.validation
    fitting = int(left // epoch)
    line = f"a step takes {pace.step:.3g} s, an epoch {duration(epoch)} with validation"
    if fitting >= 1:
        epochs = min(fitting, most)
        return steps, epochs, f"{line}: planned {epochs} epoch{'s' * (epochs != 1)} ({duration(epochs * epoch)})"
    short = max(1, min(steps, int((left - pace.validation) / pace.step)))
    return short, 1, f"{line}: one whole epoch does not fit, planned {short} of its {steps} steps"


def _ema_decay(decay: float | None, total: int) -> float | None:
    """0 switches the average off; a negative value (the recipe's) means: over about a twentieth of the run's steps."""
    if decay is None or decay == 0:
        return None
    return decay if decay > 0 else min(0.9995, max(0.9, 1 - 20 / total))
