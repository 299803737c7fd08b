"""A run that is killed at any moment and started again with the same command ends as if it had never been killed."""

from __future__ import annotations

import hashlib
import json
import os
import random
import subprocess
import sys
from pathlib import Path

import pytest

from foveal.artifact import open_artifact

HERE = Path(__file__).parent
KILLED = -9
SETTINGS = [
    "num_layers=20", "image_shape=3,32,32", "epochs=3", "mini_batch_size=8", "checkpoint_steps=4", "log_steps=3",
    "checkpoint_frequency=2", "use_pretrained_model=0", "seed=5",
]  # fmt: skip
PLACES = {"step": 36, "validation": 60, "epoch": 3, "tensors": 8, "rename": 8, "artifact": 3, "archive": 1}


def train(moment: str, data: Path, out: Path, workers: int) -> subprocess.CompletedProcess[str]:
    command = [
        sys.executable,
        str(HERE / "killed.py"),
        moment,
        str(data),
        str(out),
        *SETTINGS,
        f"loader_workers={workers}",
    ]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "passive"}
    return subprocess.run(command, capture_output=True, text=True, env=environment, timeout=300)


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


@pytest.fixture(scope="module")
def uninterrupted(shapes_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, object]:
    out = tmp_path_factory.mktemp("whole") / "run"
    done = train("never", shapes_folder, out, workers=0)
    assert done.returncode == 0, done.stderr
    return end_of(out)


def resume_after(moments: list[str], data: Path, out: Path, workers: int) -> dict[str, object]:
    for moment in moments:
        done = train(moment, data, out, workers)
        assert done.returncode == KILLED or done.returncode == 0, done.stderr
    written = any((out / "checkpoints").glob("step-*"))
    done = train("never", data, out, workers)
    assert done.returncode == 0, done.stderr
    if written:  # a run that began anew would end as the uninterrupted one, too
        assert "from step 0\n" not in done.stdout
    return end_of(out)


@pytest.mark.parametrize("moments", [["step:2", "tensors:3"], ["validation:7", "archive:1"]], ids="-".join)
def test_a_killed_run_ends_as_the_uninterrupted_one(
    moments: list[str], shapes_folder: Path, tmp_path: Path, uninterrupted: dict[str, object]
) -> None:
    assert resume_after(moments, shapes_folder, tmp_path / "run", workers=2) == uninterrupted


@pytest.mark.slow
@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("part", range(5))
def test_twenty_random_moments(
    part: int, workers: int, shapes_folder: Path, tmp_path: Path, uninterrupted: dict[str, object]
) -> None:
    seed = int(os.environ.get("FOVEAL_KILL_SEED", "20261124")) + 10 * part + workers
    chance = random.Random(seed)
    places = [chance.choice(list(PLACES)) for _ in range(2)]
    moments = [f"{place}:{chance.randint(1, PLACES[place])}" for place in places]
    print(f"seed {seed}: {moments}")
    assert resume_after(moments, shapes_folder, tmp_path / "run", workers) == uninterrupted


def test_a_torn_checkpoint_falls_back_to_the_one_before(
    shapes_folder: Path, tmp_path: Path, uninterrupted: dict[str, object]
) -> None:
    out = tmp_path / "run"
    assert train("step:20", shapes_folder, out, workers=0).returncode == KILLED
    newest = max((out / "checkpoints").glob("step-*")) / "tensors.safetensors"
    content = bytearray(newest.read_bytes())
    content[len(content) // 2] ^= 1
    newest.write_bytes(content)
    assert resume_after([], shapes_folder, out, workers=0) == uninterrupted
