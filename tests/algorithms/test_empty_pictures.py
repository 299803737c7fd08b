"""Pictures without objects teach: also those that the random crop has emptied."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from foveal.algorithms.algorithm import Loss
from foveal.algorithms.detection import Teaching, loss, train_figures
from foveal.data.boxaugment import BoxDraw, apply, collate_boxes, move
from foveal.data.views import Preprocessing
from foveal.models.detector import Detector, DetectorSpec, build_detector

RULE = Preprocessing("squeeze", 3, 300, 300)
CORNER = np.array([[1, 0.05, 0.05, 0.3, 0.35, 0]], dtype=np.float32)  # an object in the upper left corner
AWAY = BoxDraw(crop=(0.5, 0.5, 0.5, 0.5), rectangle=(100, 100, 100, 100))  # the other corner of 200 x 200 pixels


@dataclass(frozen=True)
class Example:
    pixels: Tensor
    labels: Tensor


def noise() -> NDArray[np.uint8]:
    return np.random.default_rng(1).integers(0, 256, (200, 200, 3), dtype=np.uint8)


def example(targets: NDArray[np.float32], draw: BoxDraw) -> Example:
    pixels = apply(noise(), draw, RULE)
    return Example(torch.from_numpy(pixels)[None], collate_boxes([move(targets, draw)]))


EXAMPLES = {
    "without objects": example(np.zeros((0, 6), dtype=np.float32), BoxDraw()),
    "emptied by the crop": example(CORNER, AWAY),
}
EMPTY = pytest.mark.parametrize("given", EXAMPLES.values(), ids=EXAMPLES.keys())


@pytest.fixture
def detector() -> Detector:
    """A narrow SSD on VGG-16; it has no norms, so one picture is a batch like any other."""
    torch.manual_seed(2)
    spec = DetectorSpec("vgg-16", 2, (3, 300, 300), width=1 / 16, mean=(120.0,) * 3, std=(60.0,) * 3)
    return build_detector(spec).train()


def costs(detector: Detector, given: Example, negatives: int) -> Loss:
    return loss(Teaching(negatives_per_empty_picture=negatives), detector(given.pixels), given.labels)


def highest_score(detector: Detector, given: Example) -> float:
    with torch.no_grad():
        logits, _, _ = detector(given.pixels)
    return float(logits.softmax(dim=2)[..., 1:].max())


def test_the_crop_leaves_nothing_of_an_object_whose_centre_is_outside() -> None:
    assert EXAMPLES["emptied by the crop"].labels.tolist() == [[[-1.0] * 6]]


@EMPTY
def test_it_costs_as_much_as_its_hardest_background(detector: Detector, given: Example) -> None:
    found = costs(detector, given, 32)
    assert found.shares.tolist() == [32, 0]
    assert float(found.mean(found.shares).detach()) > 0
    logits, _, _ = detector(given.pixels)
    background = logits.log_softmax(dim=2)[0, :, 0]
    hardest = -background.sort().values[:32]
    assert float(found.sums[0].detach()) == pytest.approx(float(hardest.sum().detach()), rel=1e-5)


@EMPTY
def test_by_the_originals_rule_it_costs_and_teaches_nothing(detector: Detector, given: Example) -> None:
    found = costs(detector, given, 0)
    value = found.mean(found.shares)
    assert float(value.detach()) == 0
    value.backward()
    assert all(not bool(p.grad.any()) for p in detector.parameters() if p.grad is not None)
    assert train_figures(dict(zip(("cross_entropy", "smooth_l1", "targets"), found.counts.tolist(), strict=True)), 1) \
        == {"cross_entropy": 0.0, "smooth_l1": 0.0}  # fmt: skip


@EMPTY
def test_one_step_lowers_its_highest_score(detector: Detector, given: Example) -> None:
    before = highest_score(detector, given)
    optimizer = torch.optim.SGD(detector.parameters(), lr=0.01)
    found = costs(detector, given, 32)
    found.mean(found.shares).backward()
    optimizer.step()
    assert highest_score(detector, given) < before


def test_beside_a_picture_with_objects_each_counts_for_itself(detector: Detector) -> None:
    full = example(CORNER, BoxDraw())
    empty = EXAMPLES["without objects"]
    both = Example(torch.cat([full.pixels, empty.pixels]), torch.cat([full.labels, empty.labels]))
    parts = [costs(detector, each, 32) for each in (full, empty)]
    whole = costs(detector, both, 32)
    assert whole.shares.tolist() == (parts[0].shares + parts[1].shares).tolist()
    assert whole.sums.tolist() == pytest.approx((parts[0].sums + parts[1].sums).tolist(), rel=1e-4)
