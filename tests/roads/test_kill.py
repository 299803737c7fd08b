"""A run that is killed at any moment and started again with the same command ends as if it had never been killed."""

from __future__ import annotations

import hashlib
import json
import os
import random
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest

from foveal.artifact import open_artifact

HERE = Path(__file__).parent
KILLED = -9
SETTINGS = ["checkpoint_frequency=2", "epochs=3", "log_steps=3", "seed=5", "use_pretrained_model=0"]


@dataclass(frozen=True)
class Road:
    """An algorithm on small data. ``places``: how often a run comes to each place where ``killed.py`` can end it."""

    data: str
    settings: tuple[str, ...]
    places: Mapping[str, int]
    short: tuple[tuple[str, ...], ...]
    torn: str


ROADS = {
    "classification": Road(
        data="shapes_folder",
        settings=("num_layers=20", "image_shape=3,32,32", "mini_batch_size=8", "checkpoint_steps=4"),
        places={"step": 36, "validation": 60, "epoch": 3, "tensors": 8, "rename": 8, "artifact": 3, "archive": 1},
        short=(("step:2", "tensors:3"), ("validation:7", "archive:1")),
        torn="step:20",
    ),
    # 11 pictures in batches of 4: epochs of 2, 3 and 3 steps, for what is left over goes on into the next
    "detection": Road(
        data="few_boxes",
        settings=(
            "base_network=mobilenetv3_small_050",
            "image_shape=300",
            "mini_batch_size=4",
            "checkpoint_steps=1",
            "warmup_epochs=0",
        ),
        places={"step": 8, "validation": 12, "epoch": 3, "tensors": 8, "rename": 8, "artifact": 3, "archive": 1},
        short=(("step:4", "validation:6"),),
        torn="step:6",
    ),
}
BOTH = pytest.mark.parametrize("road", ROADS)


def train(moment: str, road: str, data: Path, out: Path, workers: int) -> subprocess.CompletedProcess[str]:
    settings = [*SETTINGS, *ROADS[road].settings, f"loader_workers={workers}"]
    command = [sys.executable, str(HERE / "killed.py"), moment, str(data), str(out), *settings]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "passive"}
    return subprocess.run(command, capture_output=True, text=True, env=environment, timeout=600)


def end_of(out: Path) -> dict[str, object]:
    """SHA-256 of all weights and of the newest checkpoint (optimizer, average, generators), and the metrics' lines."""
    last = max((out / "checkpoints").glob("step-*"))
    files = [*out.glob("model/**/*.safetensors"), last / "tensors.safetensors"]
    lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    for line in lines:
        line.pop("seconds", None)
        line.pop("pictures_per_second", None)
    _, packed = open_artifact(out / "model.tar.gz")
    _, loose = open_artifact(out / "model")
    assert packed.keys() == loose.keys() and all(packed[name].equal(loose[name]) for name in loose)
    hashes = {str(file.relative_to(out)): hashlib.sha256(file.read_bytes()).hexdigest() for file in files}
    return {"hashes": hashes, "lines": lines}


@pytest.fixture(scope="session")
def data(request: pytest.FixtureRequest) -> Callable[[str], Path]:
    return lambda road: request.getfixturevalue(ROADS[road].data)


@pytest.fixture(scope="session")
def uninterrupted(
    data: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory
) -> Callable[[str], dict[str, object]]:
    """The end of a run that nobody killed; each road is walked once."""

    @cache
    def walk(road: str) -> dict[str, object]:
        out = tmp_path_factory.mktemp("whole") / "run"
        done = train("never", road, data(road), out, workers=0)
        assert done.returncode == 0, done.stderr
        return end_of(out)

    return walk


def resume_after(moments: Sequence[str], road: str, data: Path, out: Path, workers: int) -> dict[str, object]:
    for moment in moments:
        done = train(moment, road, data, out, workers)
        assert done.returncode == KILLED or done.returncode == 0, done.stderr
    written = any((out / "checkpoints").glob("step-*"))
    done = train("never", road, data, out, workers)
    assert done.returncode == 0, done.stderr
    if written:  # a run that began anew would end as the uninterrupted one, too
        assert "from step 0\n" not in done.stdout
    return end_of(out)


SHORT = [(name, moments) for name, road in ROADS.items() for moments in road.short]


@pytest.mark.parametrize(("road", "moments"), SHORT, ids=["-".join((name, *moments)) for name, moments in SHORT])
def test_a_killed_run_ends_as_the_uninterrupted_one(
    road: str,
    moments: tuple[str, ...],
    data: Callable[[str], Path],
    tmp_path: Path,
    uninterrupted: Callable[[str], dict[str, object]],
) -> None:
    assert resume_after(moments, road, data(road), tmp_path / "run", workers=2) == uninterrupted(road)


@pytest.mark.slow
@BOTH
@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("part", range(5))
def test_twenty_random_moments(
    part: int,
    workers: int,
    road: str,
    data: Callable[[str], Path],
    tmp_path: Path,
    uninterrupted: Callable[[str], dict[str, object]],
) -> None:
    seed = int(os.environ.get("FOVEAL_KILL_SEED", "20261124")) + 10 * part + workers
    chance = random.Random(seed)
    places = ROADS[road].places
    chosen = [chance.choice(list(places)) for _ in range(2)]
    moments = [f"{place}:{chance.randint(1, places[place])}" for place in chosen]
    print(f"seed {seed}: {moments}")
    assert resume_after(moments, road, data(road), tmp_path / "run", workers) == uninterrupted(road)


@BOTH
def test_a_torn_checkpoint_falls_back_to_the_one_before(
    road: str, data: Callable[[str], Path], tmp_path: Path, uninterrupted: Callable[[str], dict[str, object]]
) -> None:
    out = tmp_path / "run"
    assert train(ROADS[road].torn, road, data(road), out, workers=0).returncode == KILLED
    newest = max((out / "checkpoints").glob("step-*")) / "tensors.safetensors"
    content = bytearray(newest.read_bytes())
    content[len(content) // 2] ^= 1
    newest.write_bytes(content)
    assert resume_after([], road, data(road), out, workers=0) == uninterrupted(road)
