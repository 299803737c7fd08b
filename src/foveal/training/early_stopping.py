"""Early stopping as the original does it (reference 2.3): a small state, and one function that takes it an epoch on."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class EarlyStopping:
    """When to stop.

    Attributes:
        min_epochs: no stop before so many epochs are done (early_stopping_min_epochs).
        patience: so many epochs in a row without improvement end the run (early_stopping_patience).
        tolerance: gain relative to the best value, 0..1; less is no improvement (early_stopping_tolerance).
    """

    min_epochs: int = 10
    patience: int = 5
    tolerance: float = 0.0


@dataclass(frozen=True)
class EarlyStoppingState:
    """What is remembered between epochs.

    Attributes:
        epochs: epochs seen.
        best: the highest value seen, None before the first.
        waited: epochs in a row without improvement.
        stop: whether the run should end now.
    """

    epochs: int = 0
    best: float | None = None
    waited: int = 0
    stop: bool = False

    def to_dict(self) -> dict[str, Any]:
        """JSON-able."""
        return asdict(self)

    @classmethod
    def from_dict(cls, fields: Mapping[str, Any]) -> EarlyStoppingState:
        """What ``to_dict`` gave."""
        return cls(fields["epochs"], fields["best"], fields["waited"], fields["stop"])


def observe(state: EarlyStoppingState, value: float, rule: EarlyStopping) -> EarlyStoppingState:
    """The state after one more epoch, whose validation metric (more is better) is ``value``.

    The gain is measured against the highest value so far, even where that came by a gain too small to count. An
    equal value is no improvement. After a best value of 0 any positive one improves. Epochs without improvement
    are counted from the first epoch on, but end the run only once ``min_epochs`` are done. NaN never improves.
    """
    epochs = state.epochs + 1
    waited = 0 if _improves(state.best, value, rule.tolerance) else state.waited + 1
    higher = not math.isnan(value) and (state.best is None or value > state.best)
    stop = epochs >= rule.min_epochs and waited >= rule.patience
    return EarlyStoppingState(epochs, value if higher else state.best, waited, stop)


def _improves(best: float | None, value: float, tolerance: float) -> bool:
    if best is None:
        return not math.isnan(value)
    if not value > best:
        return False
    return best == 0 or (value - best) / abs(best) >= tolerance
