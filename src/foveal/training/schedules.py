"""The learning rate as a plain function of the number of the update, counted from 1.

    step       base, multiplied by ``factor`` at the first update after each of ``steps`` (the original's)
    cosine     falls along half a cosine from base to ``final``
    one_cycle  rises from base / 25 to base in ``warmup_updates``, falls to ``final``, both along half a cosine

``step`` and ``cosine`` may begin with a linear warm-up from ``warmup_begin``. What they give during and after it is
what MXNet's MultiFactorScheduler and CosineScheduler give.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

ONE_CYCLE_START = 25.0  # one_cycle begins at base / 25, as its inventor's and torch's


@dataclass(frozen=True)
class Schedule:
    """A learning rate schedule; all its values are JSON-able.

    Attributes:
        kind: see the module's head.
        base: the highest rate, after the warm-up.
        total_updates: the last update of the run; ``cosine`` and ``one_cycle`` end there.
        warmup_updates: the first update at full rate (``step``, ``cosine``: 0 for none; ``one_cycle``: the peak).
        steps: update numbers, increasing; the rate drops at the first update after each.
        factor: of each drop.
        final: the rate of the last update (``cosine``, ``one_cycle``).
        warmup_begin: the rate from which the warm-up starts, at update 0.
    """

    kind: Literal["step", "cosine", "one_cycle"]
    base: float
    total_updates: int
    warmup_updates: int = 0
    steps: tuple[int, ...] = ()
    factor: float = 1.0
    final: float = 0.0
    warmup_begin: float = 0.0


def step_schedule(
    base: float,
    factor: float,
    step_epochs: Sequence[int],
    epoch_updates: int,
    total_updates: int,
    *,
    warmup_updates: int = 0,
    begin_epoch: int = 0,
) -> Schedule:
    """The original's schedule: a drop at the first update of each epoch in ``step_epochs`` (counted from 0).

    Args:
        base: learning rate. factor: of each drop; 1 or more means a constant rate.
        step_epochs: increasing, 1 or more.
        epoch_updates: updates an epoch; the original passes floor(num_training_samples / mini_batch_size).
        total_updates: of the whole run.
        warmup_updates: see ``Schedule``.
        begin_epoch: the epoch at which update 1 lies; steps at or before it have acted already.
    """
    if factor >= 1:
        return Schedule("step", base, total_updates, warmup_updates)
    for epoch in step_epochs:
        if epoch <= begin_epoch:
            base *= factor
    steps = tuple((epoch - begin_epoch) * epoch_updates for epoch in step_epochs if epoch > begin_epoch)
    return Schedule("step", base, total_updates, warmup_updates, steps, factor)


def learning_rate(schedule: Schedule, update: int) -> float:
    """The rate of update ``update``, counted from 1; past the last update it stays as it was."""
    if schedule.kind == "one_cycle":
        return _one_cycle(schedule, min(update, schedule.total_updates))
    if update < schedule.warmup_updates:
        begin = schedule.warmup_begin
        return begin + (schedule.base - begin) * update / schedule.warmup_updates
    if schedule.kind == "cosine":
        length = schedule.total_updates - schedule.warmup_updates
        done = (update - schedule.warmup_updates) / length if length > 0 else 1.0
        return _along_cosine(schedule.base, schedule.final, done)
    rate = schedule.base
    for step in schedule.steps:
        if update > step:
            rate *= schedule.factor
    return rate


def _one_cycle(schedule: Schedule, update: int) -> float:
    peak = schedule.warmup_updates
    if update < peak:
        return _along_cosine(schedule.base / ONE_CYCLE_START, schedule.base, (update - 1) / max(1, peak - 1))
    length = schedule.total_updates - peak
    return _along_cosine(schedule.base, schedule.final, (update - peak) / length if length > 0 else 0.0)


def _along_cosine(start: float, end: float, done: float) -> float:
    """From start to end along half a cosine; ``done`` is 0 to 1 and held there."""
    return end + (start - end) * (1 + math.cos(math.pi * min(max(done, 0.0), 1.0))) / 2
