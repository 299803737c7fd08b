"""Losses that are divided by counts, over two ranks: reference 2.2 and 6.5.

Run as a script, ``python test_shares.py RANK FOLDER``, this is one of two processes that share a batch: it leaves
``FOLDER/RULE-RANK.safetensors``, the gradients of its two pictures under each rule of ``whole_batch``.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from safetensors.torch import load_file, save_file
from torch import Tensor

from foveal.algorithms.algorithm import Loss
from foveal.algorithms.detection import Teaching, loss
from foveal.algorithms.shares import whole_batch
from foveal.models.detector import Detector, DetectorSpec, build_detector

OBJECTS = (1, 5, 0, 2)  # in each picture, so that the halves count differently
RULES = ("batch", "device")
Gradients = dict[str, Tensor]
HALVES = (slice(0, 2), slice(2, 4))


def network() -> Detector:
    """A narrow SSD on VGG-16, in float64 up to its answers."""
    torch.manual_seed(3)
    spec = DetectorSpec("vgg-16", 2, (3, 300, 300), width=1 / 16, mean=(120.0,) * 3, std=(60.0,) * 3)
    return build_detector(spec).double().train()


def pictures() -> tuple[Tensor, Tensor]:
    """Noise with objects anywhere: uint8 [4, 300, 300, 3] and float32 [4, 5, 6]."""
    chance = torch.Generator().manual_seed(4)
    pixels = torch.randint(0, 256, (4, 300, 300, 3), dtype=torch.uint8, generator=chance)
    labels = torch.full((4, max(OBJECTS), 6), -1.0)
    for row, count in enumerate(OBJECTS):
        corners = torch.rand((count, 2), generator=chance) * 0.6
        sides = 0.1 + torch.rand((count, 2), generator=chance) * 0.3
        labels[row, :count, 0] = torch.arange(count) % 2
        labels[row, :count, 1:5] = torch.cat([corners, corners + sides], dim=1)
        labels[row, :count, 5] = 0
    return pixels, labels


def costs(detector: Detector, part: slice) -> Loss:
    pixels, labels = pictures()
    return loss(Teaching(negatives_per_empty_picture=32), detector(pixels[part]), labels[part])


def gradients(detector: Detector, value: Tensor) -> dict[str, Tensor]:
    detector.zero_grad()
    value.backward()
    return {name: parameter.grad.clone() for name, parameter in detector.named_parameters()}  # type: ignore[union-attr]


@pytest.fixture(scope="module")
def of_ranks(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[Gradients]]:
    """Rule -> the gradients of rank 0 and rank 1, each with half of the batch."""
    folder = tmp_path_factory.mktemp("ranks")
    script = str(Path(__file__))
    ranks = [subprocess.Popen([sys.executable, script, str(rank), str(folder)]) for rank in range(2)]
    assert [rank.wait(timeout=300) for rank in ranks] == [0, 0]
    return {rule: [load_file(folder / f"{rule}-{rank}.safetensors") for rank in range(2)] for rule in RULES}


def own(part: slice) -> Gradients:
    """The gradients of a part of the batch divided by its own shares, in this process."""
    detector = network()
    found = costs(detector, part)
    return gradients(detector, found.mean(found.shares))


def far(a: Gradients, b: Gradients) -> float:
    """The largest difference of two sets of gradients, in the largest value of each tensor."""
    assert a.keys() == b.keys()
    return max(float((a[name] - b[name]).abs().max() / b[name].abs().max().clamp(min=1e-12)) for name in a)


def test_the_halves_count_differently() -> None:
    first, second = (costs(network(), half).shares for half in HALVES)
    assert first.tolist() != second.tolist()
    assert (first > 0).all() and (second > 0).all()


def test_by_the_whole_batch_summed_gradients_are_those_of_one_process(of_ranks: dict[str, list[Gradients]]) -> None:
    first, second = of_ranks["batch"]
    whole = own(slice(0, 4))
    assert far({name: first[name] + second[name] for name in first}, whole) < 1e-5


def test_by_device_averaged_gradients_are_the_mean_of_the_parts_own(of_ranks: dict[str, list[Gradients]]) -> None:
    first, second = of_ranks["device"]
    parts = [own(half) for half in HALVES]
    mean = {name: (parts[0][name] + parts[1][name]) / 2 for name in first}
    assert far({name: (first[name] + second[name]) / 2 for name in first}, mean) < 1e-5
    assert far(mean, own(slice(0, 4))) > 1e-2  # the two rules are not the same


def test_alone_they_stay_as_they_are() -> None:
    shares = torch.tensor([3.0, 0.0])
    for rule in RULES:
        assert whole_batch(shares, rule).tolist() == [3.0, 0.0]  # type: ignore[arg-type]


def test_a_part_without_anything_that_counts_costs_nothing() -> None:
    nothing = Loss(torch.zeros(2, requires_grad=True), torch.zeros(2), torch.zeros(3))
    assert float(nothing.mean(whole_batch(nothing.shares)).detach()) == 0


if __name__ == "__main__":
    rank, folder = int(sys.argv[1]), Path(sys.argv[2])
    dist.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=2)
    for rule in RULES:
        detector = network()
        part = costs(detector, slice(2 * rank, 2 * rank + 2))
        found = gradients(detector, part.mean(whole_batch(part.shares, rule)))  # type: ignore[arg-type]
        save_file(found, folder / f"{rule}-{rank}.safetensors")
    dist.destroy_process_group()
