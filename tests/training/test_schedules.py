"""Schedules against MXNet's scheduler classes and the step lists of its example programs, and torch's one-cycle."""

from __future__ import annotations

import json
import os
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from foveal.training.schedules import Schedule, learning_rate, step_schedule

FOLDER = Path(os.environ.get("FOVEAL_OPTIM_FIXTURES", Path(__file__).parents[1] / "fixtures" / "optim"))
CASES: dict[str, Any] = json.loads((FOLDER / "schedules.json").read_text())["cases"]


def no_counterpart(case: dict[str, Any]) -> str:
    """Why a scheduler can't be said with ours, or an empty text."""
    arguments = case["arguments"]
    if case["class"] == "PolyScheduler":
        return "PolyScheduler has no counterpart"
    if arguments.get("warmup_mode", "linear") != "linear":
        return "warm-up at a constant rate has no counterpart"
    if "stop_factor_lr" in arguments:
        return "a lowest rate for repeated drops (stop_factor_lr) has no counterpart"
    return ""


def schedule_of(case: dict[str, Any]) -> Schedule:
    arguments = case["arguments"]
    total = case["num_update"][-1]
    warmup, begin = arguments.get("warmup_steps", 0), arguments.get("warmup_begin_lr", 0.0)
    if case["class"] == "CosineScheduler":
        final = arguments.get("final_lr", 0.0)
        return Schedule(
            "cosine", arguments["base_lr"], arguments["max_update"], warmup, final=final, warmup_begin=begin
        )
    steps = arguments["step"]
    if case["class"] == "FactorScheduler":
        steps = range(steps, total, steps)
    return Schedule("step", arguments["base_lr"], total, warmup, tuple(steps), arguments["factor"], warmup_begin=begin)


@pytest.mark.parametrize("name", [name for name, case in CASES["direct"].items() if not no_counterpart(case)])
def test_rates_equal_mxnets_scheduler_at_every_update(name: str) -> None:
    case = CASES["direct"][name]
    schedule = schedule_of(case)
    rates = [learning_rate(schedule, update) for update in case["num_update"]]
    assert rates == pytest.approx(case["lr"], rel=1e-6)


def test_exceptions_are_constant_warmup_poly_and_lowest_rate() -> None:
    named = {name: no_counterpart(case) for name, case in CASES["direct"].items() if not name.startswith("x_")}
    assert {name for name, why in named.items() if why} == {
        "factor_stop",
        "factor_warmup_constant",
        "multi_warmup_constant",
        "poly",
    }


@pytest.mark.parametrize("program", ["image_classification_fit", "ssd_train"])
@pytest.mark.parametrize("number", range(len(CASES["ssd_train"])))
def test_rates_change_where_the_example_programs_change_them(program: str, number: int) -> None:
    case = CASES[program][number]
    schedule = step_schedule(
        case["lr"],
        case["factor"],
        [int(epoch) for epoch in case["lr_step_epochs"].split(",")],
        case["epoch_size"],
        case["updates"],
        begin_epoch=case["begin_epoch"],
    )
    rates = [learning_rate(schedule, update) for update in range(1, case["updates"] + 1)]
    changes = [[i + 1, rate] for i, rate in enumerate(rates) if i == 0 or rate != rates[i - 1]]
    assert [update for update, _ in changes] == [update for update, _ in case["lr_changes_at_update"]]
    assert [rate for _, rate in changes] == pytest.approx([rate for _, rate in case["lr_changes_at_update"]], rel=1e-6)


def test_the_rate_drops_with_the_first_batch_of_the_listed_epoch() -> None:
    """A job of the original logged ``Update[3103]`` for 16,551 samples, batch 16 and steps 3,6 (reference 2.2)."""
    schedule = step_schedule(1e-3, 0.1, [3, 6], 16551 // 16, 30 * (16551 // 16))
    assert [learning_rate(schedule, update) for update in (1, 3102, 3103)] == pytest.approx([1e-3, 1e-3, 1e-4])


def test_steps_beyond_the_last_epoch_are_harmless() -> None:
    schedule = step_schedule(0.1, 0.1, [3, 6], 10, 50)
    assert learning_rate(schedule, 50) == pytest.approx(0.01)


def test_factor_of_one_is_a_constant_rate() -> None:
    assert step_schedule(0.1, 1.0, [1, 2], 10, 50) == Schedule("step", 0.1, 50)


def test_cosine_warms_up_in_a_line_and_ends_at_its_final_rate() -> None:
    schedule = Schedule("cosine", 0.4, 20, warmup_updates=4, final=0.01)
    assert [learning_rate(schedule, update) for update in (1, 2, 4, 12, 20, 21)] == pytest.approx(
        [0.1, 0.2, 0.4, 0.205, 0.01, 0.01]
    )


@pytest.mark.parametrize(("total", "peak"), [(40, 12), (10, 5), (200, 60)])
def test_one_cycle_equals_torchs(total: int, peak: int) -> None:
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    theirs = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, max_lr=0.5, total_steps=total, pct_start=peak / total, final_div_factor=100.0, cycle_momentum=False
    )
    schedule = Schedule("one_cycle", 0.5, total, peak, final=0.5 / 25 / 100)
    for update in range(1, total + 1):
        assert learning_rate(schedule, update) == pytest.approx(theirs.get_last_lr()[0], rel=1e-9)
        optimizer.step()
        if update < total:
            theirs.step()


@pytest.mark.parametrize("kind", ["cosine", "one_cycle"])
@pytest.mark.parametrize(("total", "warmup"), [(1, 0), (1, 1), (2, 1), (2, 2), (3, 0)])
def test_the_shortest_runs_have_rates_too(kind: Any, total: int, warmup: int) -> None:
    schedule = Schedule(kind, 0.1, total, warmup)
    assert all(0.0 <= learning_rate(schedule, update) <= 0.1 for update in range(total + 2))


@settings(max_examples=50, deadline=None)
@given(
    kind=st.sampled_from(["step", "cosine", "one_cycle"]),
    total=st.integers(1, 500),
    warmup=st.integers(0, 100),
    update=st.integers(0, 600),
)
def test_a_rate_is_never_above_base_or_below_zero_and_survives_json(
    kind: Any, total: int, warmup: int, update: int
) -> None:
    schedule = Schedule(kind, 0.3, total, min(warmup, total), steps=(5, 50), factor=0.5)
    stored = json.loads(json.dumps(asdict(schedule)))
    assert Schedule(**{**stored, "steps": tuple(stored["steps"])}) == schedule
    assert 0.0 <= learning_rate(schedule, update) <= 0.3
