"""A tuning is many runs, each its own process; killed at any moment it goes on, and no run is lost or made twice."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pytest

from foveal.errors import UserError
from foveal.tuning.study import tune

SMALL = ("--num-layers", "20", "--epochs", "2", "--mini-batch-size", "32", "--set", "checkpoint_steps=1")


def start(data: Path, out: Path, trials: int, *more: str) -> subprocess.Popen[str]:
    command = [
        sys.executable, "-m", "foveal.cli.main", "tune", str(data), "--output", str(out), "--trials", str(trials),
        "--range", "learning_rate=1e-3..1e-1", "--range", "optimizer=nag,adamw", *SMALL, *more,
    ]  # fmt: skip
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True)


def kill_when(process: subprocess.Popen[str], moment: Path) -> None:
    """SIGKILL to the tuner and to the runs it has started, once a file is there."""
    until = time.monotonic() + 300
    while not moment.exists():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < until
        time.sleep(0.05)
    for name in os.listdir("/proc"):
        if name.isdecimal():
            try:
                words = Path("/proc", name, "cmdline").read_bytes()
            except OSError:
                continue
            if b"foveal.tuning.trial" in words and str(moment.parents[1]).encode() in words:
                os.kill(int(name), signal.SIGKILL)
    process.kill()
    process.communicate()


def states(out: Path) -> list[str]:
    with sqlite3.connect(out / "study.db") as study:
        return [state for (state,) in study.execute("select state from trials order by number")]


@pytest.mark.skipif(sys.platform != "linux", reason="finds the runs' processes in /proc")
def test_a_killed_tuning_goes_on_and_repeats_nothing(shapes_folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "tuning"
    kill_when(start(shapes_folder, out, 2), out / "trials" / "0002" / "run.json")
    first = (out / "trials" / "0001.json").read_bytes(), (out / "trials" / "0001" / "metrics.jsonl").stat().st_mtime_ns
    second = json.loads((out / "trials" / "0002.json").read_text())
    assert states(out) == ["COMPLETE", "RUNNING"]
    printed, told = start(shapes_folder, out, 2).communicate(timeout=300)
    assert "going on with 1 run that had not ended" in told
    assert states(out) == ["COMPLETE", "COMPLETE"]
    assert json.loads((out / "trials" / "0002.json").read_text()) == second  # with the settings that it was begun with
    again = (out / "trials" / "0001.json").read_bytes(), (out / "trials" / "0001" / "metrics.jsonl").stat().st_mtime_ns
    assert again == first
    assert printed.startswith("optimizer=") and "learning_rate=" in printed
    assert not (out / "trials" / "0001" / "checkpoints").exists()


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="finds the runs' processes in /proc")
def test_twenty_runs_killed_twice(shapes_folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "tuning"
    for moment in ("0005", "0013"):
        kill_when(start(shapes_folder, out, 20, "--jobs", "2"), out / "trials" / moment / "metrics.jsonl")
    _, told = start(shapes_folder, out, 20, "--jobs", "2").communicate(timeout=1800)
    assert states(out).count("COMPLETE") + states(out).count("PRUNED") == 20, told
    assert sorted(path.name for path in (out / "trials").glob("*.json")) == [f"{n:04d}.json" for n in range(1, 21)]
    for number in range(1, 21):  # each was trained through once: no epoch is written twice
        lines = (out / "trials" / f"{number:04d}" / "metrics.jsonl").read_text().splitlines()
        epochs = [json.loads(line)["epoch"] for line in lines if '"kind": "epoch"' in line]
        assert epochs == list(range(len(epochs)))


def test_ctrl_c_stops_the_runs_and_says_how_to_go_on(shapes_folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "tuning"
    process = start(shapes_folder, out, 2)
    until = time.monotonic() + 300
    while not (out / "trials" / "0001" / "run.json").exists():
        assert process.poll() is None and time.monotonic() < until
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, told = process.communicate(timeout=120)
    assert process.returncode == 130
    assert told.splitlines()[-1].startswith("To go on: foveal tune ")


def refused(data: Path, out: Path, **call: object) -> str:
    with pytest.raises(UserError) as error:
        tune(data, out, **call)  # type: ignore[arg-type]
    return str(error.value)


def test_a_setting_given_and_searched_is_refused(shapes_folder: Path, tmp_path: Path) -> None:
    assert refused(shapes_folder, tmp_path, ranges=["momentum=0.1..0.9"], momentum=0.5) == (
        "range: momentum is given as 0.5 and searched as well\nLeave one out."
    )


def test_nothing_left_to_search_is_refused(shapes_folder: Path, tmp_path: Path) -> None:
    given = {
        "learning_rate": 0.1, "mini_batch_size": 8, "optimizer": "sgd", "momentum": 0.9, "weight_decay": 0.1,
        "beta_1": 0.9, "beta_2": 0.9, "eps": 0.1, "gamma": 0.1,
    }  # fmt: skip
    assert refused(shapes_folder, tmp_path, **given) == (
        "range: every setting that the guide would search is given\nName what to search: --range."
    )


def test_no_trials_are_refused(shapes_folder: Path, tmp_path: Path) -> None:
    assert refused(shapes_folder, tmp_path, trials=0) == "tune: trials=0, jobs=1\nBoth are whole numbers from 1."


def test_another_tunings_folder_is_refused(shapes_folder: Path, tmp_path: Path) -> None:
    (tmp_path / "tuning.json").write_text('{"search": {}, "call": {}}', encoding="utf-8")
    assert refused(shapes_folder, tmp_path, ranges=["momentum=0.1..0.9"]) == (
        f"{tmp_path}: a tuning of other data, settings or ranges is in this folder\n"
        "Name another folder with --output, or give the same to go on with that one."
    )


def test_a_damaged_note_of_the_search_is_told(shapes_folder: Path, tmp_path: Path) -> None:
    (tmp_path / "tuning.json").write_text("{", encoding="utf-8")
    text = refused(shapes_folder, tmp_path, ranges=["momentum=0.1..0.9"])
    assert text.startswith(f"{tmp_path / 'tuning.json'}: is damaged: ")
    assert text.endswith("\nName another folder with --output.")


@pytest.mark.slow
def test_runs_that_all_fail_end_the_tuning_with_the_reason(shapes_folder: Path, tmp_path: Path) -> None:
    text = refused(shapes_folder, tmp_path, ranges=["epochs=2..3"], weights="gone.safetensors", jobs=3, trials=3)
    assert text.splitlines()[0].startswith(f"{tmp_path / 'trials'}")
    assert "the first 3 runs failed; the last one: Error: " in text and "gone.safetensors" in text
    assert text.splitlines()[-1] == "Mend that, or narrow the ranges; their .log files have the whole."
