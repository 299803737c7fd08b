"""Early stopping, epoch by epoch (reference 2.3)."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence

import pytest

from foveal.training.early_stopping import EarlyStopping, EarlyStoppingState, observe


def epochs_until_stop(values: Sequence[float], rule: EarlyStopping) -> int | None:
    """The epoch (from 1) after which the run ends, or None."""
    state = EarlyStoppingState()
    for epoch, value in enumerate(values, 1):
        state = observe(state, value, rule)
        if state.stop:
            return epoch
    return None


def test_patience_epochs_in_a_row_without_improvement_end_the_run() -> None:
    assert epochs_until_stop([0.5, 0.6, 0.4, 0.5, 0.6, 0.9], EarlyStopping(min_epochs=1, patience=3)) == 5


def test_an_improvement_starts_the_count_anew() -> None:
    assert epochs_until_stop([0.5, 0.4, 0.4, 0.6, 0.5, 0.5, 0.5], EarlyStopping(min_epochs=1, patience=3)) == 7


def test_no_stop_before_min_epochs() -> None:
    assert epochs_until_stop([0.5] + [0.4] * 20, EarlyStopping(min_epochs=10, patience=3)) == 10


def test_the_default_is_ten_epochs_and_patience_five() -> None:
    assert epochs_until_stop([0.1 * epoch for epoch in range(8)] + [0.1] * 20, EarlyStopping()) == 13


def test_an_equal_value_is_no_improvement() -> None:
    assert epochs_until_stop([0.5, 0.5, 0.5], EarlyStopping(min_epochs=1, patience=2)) == 3


@pytest.mark.parametrize(("second", "waited"), [(0.549, 1), (0.55, 0), (0.551, 0)])
def test_tolerance_is_relative_to_the_best_and_reaching_it_is_enough(second: float, waited: int) -> None:
    rule = EarlyStopping(tolerance=0.1)
    assert observe(observe(EarlyStoppingState(), 0.5, rule), second, rule).waited == waited


def test_the_gain_is_measured_against_the_highest_value_even_one_that_was_no_improvement() -> None:
    rule = EarlyStopping(min_epochs=1, patience=3, tolerance=0.1)
    assert epochs_until_stop([0.50, 0.54, 0.58, 0.62], rule) == 4


def test_any_positive_value_improves_on_zero() -> None:
    rule = EarlyStopping(tolerance=1.0)
    state = observe(observe(EarlyStoppingState(), 0.0, rule), 1e-9, rule)
    assert (state.best, state.waited) == (1e-9, 0)


def test_nan_never_improves() -> None:
    rule = EarlyStopping(min_epochs=1, patience=9)
    state = observe(observe(EarlyStoppingState(), math.nan, rule), 0.3, rule)
    assert observe(state, math.nan, rule) == EarlyStoppingState(epochs=3, best=0.3, waited=1)


def test_the_state_survives_json() -> None:
    state = observe(EarlyStoppingState(), 1 / 3, EarlyStopping())
    assert EarlyStoppingState.from_dict(json.loads(json.dumps(state.to_dict()))) == state
    assert EarlyStoppingState.from_dict(EarlyStoppingState().to_dict()) == EarlyStoppingState()


def test_a_detector_that_finds_nothing_at_first_is_not_stopped_once_it_finds_something() -> None:
    """mAP stays at 0 in the first epochs: they count as waiting, and any positive mAP is a gain."""
    rule = EarlyStopping(min_epochs=4, patience=3, tolerance=0.5)
    assert epochs_until_stop([0.0, 0.0, 0.0, 0.001, 0.002, 0.004, 0.008], rule) is None
    assert epochs_until_stop([0.0, 0.0, 0.0, 0.0], rule) == 4
