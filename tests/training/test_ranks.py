"""Several processes train as one: what they learn, what they do not share, and how they end together.

The processes are ``ranked.py``; most jobs are done one after another by the same two, since each start costs seconds.
"""

from __future__ import annotations

import hashlib
import json
import os
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from foveal.data.order import Order
from foveal.errors import UserError
from foveal.settings import parse_settings
from foveal.training.parcel import pack, unpack
from foveal.training.ranks import Ranks, idle_alone, ranks_of

HERE = Path(__file__).parent
STEPS = 20
# 41 pictures, of which 3 can't be read, in batches of 5; 20 steps are 2 epochs and a part; 7 validation pictures
SETTINGS = {
    "num_layers": 20,
    "image_shape": "3,16,16",
    "mini_batch_size": 5,
    "epochs": 3,
    "checkpoint_steps": STEPS,
    "use_pretrained_model": 0,
    "bad_records_limit": 0.2,
    "log_steps": 1,
    "loader_workers": 0,
}


@dataclass(frozen=True)
class Job:
    name: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    ends: tuple[int, str] = (-1, "")
    double: bool = False
    narrow: bool = False
    data: str = "pictures"
    out: str = ""


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def train_together(count: int, root: Path, jobs: Sequence[Job], base: Mapping[str, Any] = SETTINGS) -> list[str]:
    """What each of ``count`` processes printed; runs lie in ``root/COUNT-OUT``."""
    told = [
        {
            "data": [str(root / f"pictures{rank}") for rank in range(count)]
            if job.data == "different"
            else str(root / job.data),
            "out": str(root / f"{count}-{job.out or job.name}"),
            "settings": {**base, **job.settings},
            "port": free_port(),
            "ends": job.ends,
            "double": job.double,
            "narrow": job.narrow,
        }
        for job in jobs
    ]
    file = root / f"jobs-{count}-{jobs[0].name}.json"
    file.write_text(json.dumps(told), encoding="utf-8")
    processes = []
    for rank in range(count):
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "passive"}
        if count > 1:
            environment |= {"RANK": str(rank), "WORLD_SIZE": str(count), "MASTER_ADDR": "127.0.0.1"}
            environment |= {"MASTER_PORT": "1", "LOCAL_RANK": str(rank), "LOCAL_WORLD_SIZE": str(count)}
        command = [sys.executable, str(HERE / "ranked.py"), str(file)]
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
        processes.append(subprocess.Popen(command, text=True, env=environment, **pipes))  # type: ignore[call-overload]
    return [process.communicate(timeout=1200)[0] for process in processes]


def write_pictures(root: Path) -> None:
    """``pictures``: 16 of each of 3 classes, 3 of them cut off; ``pictures0``, ``pictures1``: two sets."""
    rng = np.random.default_rng(3)
    for name, count in (("pictures", 16), ("pictures0", 3), ("pictures1", 4)):
        for shade, label in enumerate(("dark", "grey", "light")):
            folder = root / name / label
            folder.mkdir(parents=True)
            for number in range(count):
                noise = rng.integers(0, 100, size=(16, 16, 3)) + 70 * shade
                Image.fromarray(noise.astype(np.uint8)).save(folder / f"{number:02d}.png")
    for number in range(3):
        file = root / "pictures" / "dark" / f"{number:02d}.png"
        file.write_bytes(file.read_bytes()[:300])


BN = Job("synced", {"sync_batch_norm": 1, "learning_rate": 0.01}, double=True)
OWN = {"sync_batch_norm": 0, "epochs": 1, "checkpoint_steps": 2, "mini_batch_size": 6}
TWO = [
    BN,
    Job("whole", OWN),
    Job("stopped", OWN, ends=(1, "signal"), out="cut"),
    Job("went-on", OWN, out="cut"),
    Job("different", data="different"),
    Job("few", {"mini_batch_size": 1}),
    Job("error", OWN, ends=(1, "error")),
    Job("killed", OWN, ends=(1, "killed")),
]


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("ranks")
    write_pictures(root)
    return root


@pytest.fixture(scope="module")
def alone(root: Path) -> str:
    return train_together(1, root, [BN])[0]


@pytest.fixture(scope="module")
def two(root: Path) -> dict[str, tuple[str, str]]:
    """Job -> what the two processes printed, until the second was killed in the last."""
    first, second = (re_cut(each) for each in train_together(2, root, TWO))
    second += [""] * (len(first) - len(second))
    return {job.name: pair for job, pair in zip(TWO, zip(first, second, strict=True), strict=True)}


def re_cut(text: str) -> list[str]:
    """The output job by job: each ends with a line ``ended``, ``error`` or ``told``."""
    jobs, lines = [], []
    for line in text.splitlines():
        lines.append(line)
        if line.startswith(("ended:", "error:", "told by another:")):
            jobs.append("\n".join(lines))
            lines = []
    return jobs + (["\n".join(lines)] if lines else [])


def weights(run: Path, step: int = STEPS) -> dict[str, torch.Tensor]:
    tensors = load_file(run / "checkpoints" / f"step-{step:08d}" / "tensors.safetensors")
    return {name: tensor.double() for name, tensor in tensors.items() if name.startswith(("network/", "ema/"))}


def far(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> float:
    """The largest difference of two networks, of each tensor in its largest value."""
    assert a.keys() == b.keys()
    return max(float((a[name] - b[name]).abs().max() / b[name].abs().max().clamp(min=1e-9)) for name in b)


def distance(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> float:
    """The length of the difference of two networks' weights, in that of the second's."""
    parts = [((a[name] - b[name]).square().sum(), b[name].square().sum()) for name in b]
    return float((sum(part for part, _ in parts) / sum(part for _, part in parts)) ** 0.5)


def lines_of(run: Path) -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    for line in lines:
        line.pop("seconds", None)
        line.pop("pictures_per_second", None)
    return lines


def assert_alike(mine: list[dict[str, Any]], theirs: list[dict[str, Any]], within: float) -> None:
    """The same lines, numbers but for rounding."""
    assert len(mine) == len(theirs)
    for line, other in zip(mine, theirs, strict=True):
        assert line.pop("kind") == other.pop("kind")
        assert line == pytest.approx(other, rel=within, abs=within)


def test_two_processes_with_norms_over_both_learn_as_one(root: Path, alone: str, two: Mapping[str, Any]) -> None:
    """Batches of 5 on 2, pictures that one of them can't read, and 7 validation pictures included. In float64: in
    float32 rounding is made larger by norms over 5 small pictures, to 5e-6 of the weights' length."""
    assert far(weights(root / "2-synced"), weights(root / "1-synced")) < 1e-10
    assert_alike(lines_of(root / "2-synced"), lines_of(root / "1-synced"), 1e-5)


def test_every_unreadable_picture_is_told_once_and_by_the_first(alone: str, two: Mapping[str, Any]) -> None:
    first, second = two["synced"]
    skipped = [line for line in first.splitlines() if line.startswith("skipped")]
    assert sorted(skipped) == sorted(line for line in alone.splitlines() if line.startswith("skipped"))
    assert "skipped" not in second and "said" not in second


def test_norms_over_all_are_idle_in_one_process(alone: str) -> None:
    assert "said: sync_batch_norm=1 has no effect: one process trains" in alone


def test_how_many_train_is_told(two: Mapping[str, Any]) -> None:
    assert "said: 2 processes train together, each on its part of every batch" in two["synced"][0]


def test_a_signal_to_one_process_stops_both_and_both_go_on_to_the_bit(root: Path, two: Mapping[str, Any]) -> None:
    assert all("ended: SIGTERM" in each for each in two["stopped"])
    assert "from step 3" in two["went-on"][0]
    ends = [root / "2-whole", root / "2-cut"]
    newest = [max((end / "checkpoints").glob("step-*")) / "tensors.safetensors" for end in ends]
    whole, cut = (hashlib.sha256(file.read_bytes()).hexdigest() for file in newest)
    assert whole == cut
    assert lines_of(ends[0]) == lines_of(ends[1])


def test_different_data_is_refused(two: Mapping[str, Any]) -> None:
    first, second = two["different"]
    assert first.splitlines()[-1] == (
        "error: training: processes 0 and 1 differ in their training data"
        " / Start all processes with the same command, on machines that see the same data."
    )
    assert second.splitlines()[-1].startswith("told by another:")


def test_a_batch_that_does_not_reach_all_processes_is_refused(two: Mapping[str, Any]) -> None:
    assert two["few"][0].splitlines()[-1] == (
        "error: mini_batch_size: a batch of 1 can't be shared by 2 processes"
        " / Set mini_batch_size to 2 or more (it is that of all processes together), or start fewer."
    )


def test_an_error_of_one_process_ends_both_and_the_first_tells_it(two: Mapping[str, Any]) -> None:
    first, second = two["error"]
    assert first.splitlines()[-1] == "error: sky: process 1: the moon is full / Wait for a week."
    assert second.splitlines()[-1] == "told by another: sky: the moon is full"


def test_a_process_that_dies_ends_the_other_with_a_word(two: Mapping[str, Any]) -> None:
    assert two["killed"][0].splitlines()[-1] == (
        "error: training: another one of the 2 processes has ended without a word, or does not answer"
        " / Look whether the system killed it (for want of memory, as a rule); the same command goes on from the last "
        "checkpoint."
    )


@pytest.mark.slow
def test_four_processes_with_norms_over_all_learn_as_one(root: Path, alone: str) -> None:
    """Batches of 5 on 4: one process has two pictures, the rest one, at times an unreadable one."""
    train_together(4, root, [BN])
    assert far(weights(root / "4-synced"), weights(root / "1-synced")) < 1e-10
    assert_alike(lines_of(root / "4-synced"), lines_of(root / "1-synced"), 1e-5)


@pytest.mark.slow
def test_a_bug_in_one_process_ends_both_and_is_named_by_the_first(root: Path) -> None:
    first, second = train_together(2, root, [Job("bug", OWN, ends=(1, "bug"))])
    assert "error: training: process 1: KeyError: 'moon' / This is a bug in Foveal; its traceback is above." in first
    assert "Traceback" in second and "KeyError: 'moon'" in second


@pytest.mark.slow
def test_a_run_goes_on_with_another_number_of_processes(root: Path) -> None:
    train_together(2, root, [Job("another", OWN, ends=(0, "signal"))])
    (root / "2-another").rename(root / "3-another")
    first, *_ = train_together(3, root, [Job("another", OWN)])
    told = "said: processes: 2 before, 3 now: the run goes on, and results will differ somewhat"
    assert told in first and "from step 3" in first and "ended: whole" in first


def write_boxes(root: Path, count: int) -> None:
    """Pictures of 100 x 100 pixels with one or two bright rectangles, as Pascal VOC."""
    rng = np.random.default_rng(5)
    for folder in ("JPEGImages", "Annotations"):
        (root / folder).mkdir(parents=True)
    for number in range(count):
        pixels = rng.integers(0, 80, size=(100, 100, 3))
        objects = ""
        for _ in range(1 + number % 2):
            x, y = (int(each) for each in rng.integers(0, 50, size=2))
            pixels[y : y + 40, x : x + 30] += 150
            box = f"<xmin>{x}</xmin><ymin>{y}</ymin><xmax>{x + 30}</xmax><ymax>{y + 40}</ymax>"
            objects += f"<object><name>bar</name><bndbox>{box}</bndbox></object>"
        Image.fromarray(pixels.astype(np.uint8)).save(root / "JPEGImages" / f"{number:02d}.png")
        text = f"<annotation><filename>{number:02d}.png</filename>{objects}</annotation>"
        (root / "Annotations" / f"{number:02d}.xml").write_text(text, encoding="utf-8")


@pytest.mark.slow
@pytest.mark.parametrize("count", [2, 4])
def test_ssd_on_vgg_learns_as_one_process(count: int, tmp_path: Path) -> None:
    """No norms, so nothing is to be synced; losses are divided by the anchors of the whole batch. In float32 rounding
    moves an anchor in or out of those that are mined, and with it the biases, which begin at 0."""
    write_boxes(tmp_path / "pictures", 13)
    settings = {
        "base_network": "vgg-16",
        "image_shape": 300,
        "mini_batch_size": 5,
        "epochs": 10,
        "checkpoint_steps": STEPS,
        "use_pretrained_model": 0,
        "learning_rate": 0.001,
        "log_steps": 1,
        "loader_workers": 0,
    }
    jobs = [Job("double", double=True, narrow=True), Job("single", narrow=True)]
    train_together(1, tmp_path, jobs, settings)
    train_together(count, tmp_path, jobs, settings)
    assert far(weights(tmp_path / f"{count}-double"), weights(tmp_path / "1-double")) < 1e-4
    assert_alike(lines_of(tmp_path / f"{count}-double"), lines_of(tmp_path / "1-double"), 1e-4)
    assert distance(weights(tmp_path / f"{count}-single"), weights(tmp_path / "1-single")) < 1e-4


@pytest.mark.slow
def test_torchrun_trains_and_an_error_is_told_once(root: Path) -> None:
    """The documented command."""
    options = [f"--{name.replace('_', '-')}={value}" for name, value in {**SETTINGS, "epochs": 1}.items()]
    train = ["-m", "foveal", "train", str(root / "pictures"), "-o", str(root / "torchrun"), *options]
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", *train]
    done = subprocess.run(command, capture_output=True, text=True, timeout=1200)
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("2 processes train together") == 1 and done.stderr.count("Judge it:") == 1
    assert (root / "torchrun" / "model.tar.gz").exists()
    done = subprocess.run([*command, "--epochs", "2"], capture_output=True, text=True, timeout=1200)
    assert done.returncode != 0
    assert done.stderr.count("a run with other settings or data is in this folder") == 1


@pytest.mark.parametrize("count", [1, 2, 3, 4])
@pytest.mark.parametrize("size", [4, 5, 7])
def test_the_ranks_parts_of_a_batch_are_the_batch(count: int, size: int) -> None:
    order = Order(23, 5)
    for step in range(8):
        places = range(step * size, (step + 1) * size)
        parts = [order.rows(Ranks(rank, count).part(places))[0].tolist() for rank in range(count)]
        together = [parts[place % count][place // count] for place in range(size)]
        assert together == order.rows(places)[0].tolist()


def test_what_ranks_hand_over_comes_back_the_same() -> None:
    from foveal.algorithms.detection import Answers
    from foveal.records import BadRecord, Boxes, Detections

    flags, numbers = np.array([True, False]), np.array([[0.5, 1, 2, 3], [4, 5, 6, 7]], np.float32)
    boxes = Boxes(
        numbers, np.array([1, 0]), "pixel", "upright", flags, ~flags, np.zeros((2, 0), np.float32), size=(20, 10)
    )
    nothing = Detections(numbers[:0], np.zeros(0, np.int64), np.zeros(0, np.float32), (20, 10))
    answers = Answers(np.array([3]), (boxes,), (nothing,), (BadRecord("a.jpg", "cut off"),))
    back = unpack(pack(answers))
    assert repr(back) == repr(answers)
    assert back.truths[0].values.dtype == np.float32 and back.found[0].values.shape == (0, 4)


def test_only_dataclasses_arrays_texts_and_numbers_are_handed_over() -> None:
    with pytest.raises(TypeError, match="set can't be handed to another process"):
        pack({"a": {1, 2}})


@pytest.mark.parametrize(
    ("environment", "text"),
    [
        (
            {"WORLD_SIZE": "2"},
            "environment: WORLD_SIZE=2 asks for several processes, but RANK is not set\n"
            "Start them with torchrun, which sets all that is needed, or unset WORLD_SIZE.",
        ),
        (
            {"WORLD_SIZE": "two"},
            "environment: WORLD_SIZE='two' is no whole number\nUse torchrun, or unset WORLD_SIZE.",
        ),
        (
            {"WORLD_SIZE": "2", "RANK": "2", "MASTER_ADDR": "a", "MASTER_PORT": "1"},
            "environment: RANK=2 is outside 0..1 (WORLD_SIZE=2)\nUse torchrun.",
        ),
    ],
)
def test_variables_that_no_launcher_would_set_are_refused(environment: dict[str, str], text: str) -> None:
    with pytest.raises(UserError) as error:
        ranks_of(environment)
    assert str(error.value) == text


def test_settings_for_several_processes_are_idle_in_one_and_said_to_be() -> None:
    given = {"sync_batch_norm": 1, "loss_shares": "device"}
    settings = parse_settings(given, recipe="modern", algorithm="object-detection").settings
    assert idle_alone(settings, Ranks()) == [
        "sync_batch_norm=1 has no effect: one process trains",
        "loss_shares=device has no effect: one process trains",
    ]
    assert idle_alone(settings, Ranks(0, 2)) == []


def test_a_process_by_itself_is_alone() -> None:
    assert ranks_of({}) == ranks_of({"WORLD_SIZE": "1", "RANK": "0"}) == Ranks()
