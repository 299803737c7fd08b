"""A step in parts has the gradients of the whole batch; memory that runs out makes the parts more."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from foveal.algorithms.algorithm import Algorithm, Loss
from foveal.algorithms.costs import cross_entropy
from foveal.data.loader import Batch
from foveal.models.detector import DetectorSpec, build_detector
from foveal.models.matching import match_anchors, ssd_loss
from foveal.settings import parse_settings
from foveal.training.batch_size import auto_batch_size, largest_batch
from foveal.training.compiling import with_compiled
from foveal.training.events import Event, Said
from foveal.training.job import Job
from foveal.training.loop import start_progress
from foveal.training.ranks import News, Ranks
from foveal.training.step import cut, learn

Heard = list[str]


class Linear(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4 * 4 * 3, 3)

    def forward(self, pixels: Tensor) -> Tensor:
        return cast(Tensor, self.layer(pixels.flatten(1).float() / 255))


def job_of(network: nn.Module, loss: Callable[[Any, Any], Loss], terms: int, batch_size: int) -> Job:
    """A job with what a step needs, and nothing else."""
    algorithm = Algorithm("", *cast(Any, [None] * 2), loss, ("a",) * (3 if terms > 1 else 1), *cast(Any, [None] * 3))
    plan = SimpleNamespace(batch_size=batch_size, total_steps=100)
    fields: dict[str, Any] = dict.fromkeys(Job.__dataclass_fields__)
    fields |= {
        "algorithm": replace(algorithm, terms=terms),
        "plan": plan,
        "network": network,
        "forward": network,
        "device": torch.device("cpu"),
        "scaler": torch.amp.GradScaler("cpu", enabled=False),
        "checkpoints": Path(),
        "pictures": SimpleNamespace(smallest=(4, 4), channels=3),
        "ranks": Ranks(),
        "synced": False,
        "loss_shares": "batch",
        "parts": 1,
        "adapts": False,
        "compiled": False,
    }
    return Job(**fields)


def batch_of(pixels: Tensor, targets: Tensor) -> Batch:
    return Batch(pixels, targets, np.arange(len(pixels)), ())


def classes(count: int) -> Batch:
    chance = torch.Generator().manual_seed(2)
    pixels = torch.randint(0, 256, (count, 4, 4, 3), dtype=torch.uint8, generator=chance)
    return batch_of(pixels, torch.arange(count) % 3)


def class_loss(logits: Tensor, targets: Tensor) -> Loss:
    return cross_entropy(logits, targets, (logits.argmax(dim=1) == targets).sum().float()[None])


def step(job: Job, batch: Batch, parts: int, heard: Heard | None = None) -> tuple[list[float], list[Tensor]]:
    """Loss and counts, and the gradients."""
    job.network.zero_grad()
    progress = start_progress(job)
    progress.parts = parts

    def tell(event: Event) -> None:
        if isinstance(event, Said) and heard is not None:
            heard.append(event.text)

    news = News(len(batch.rows), len(batch.rows), "", False, ())
    loss, counts = learn(job, progress, batch, news, tell)
    gradients = [each.grad.clone() for each in job.network.parameters() if each.grad is not None]
    return [float(loss), *counts.tolist()], gradients


def test_a_batch_in_parts_gives_the_gradients_of_the_whole() -> None:
    """7 pictures of a batch of 8, of which one can't be read, in 3 parts."""
    job = job_of(Linear(), class_loss, 1, 8)
    whole, gradients = step(job, classes(7), 1)
    told, parts = step(job, classes(7), 3)
    assert told == pytest.approx(whole, rel=1e-6)
    for mine, other in zip(parts, gradients, strict=True):
        torch.testing.assert_close(mine, other, rtol=1e-5, atol=1e-7)


def test_parts_of_detection_are_divided_by_the_anchors_of_all() -> None:
    """Anchors are mined by the network's answers, so that shares are known only after a look at all parts."""
    torch.manual_seed(3)
    network = build_detector(DetectorSpec("vgg-16", 2, (3, 300, 300), width=1 / 16, mean=(120.0,) * 3, std=(60.0,) * 3))
    labels = torch.full((3, 2, 6), -1.0)
    labels[0, 0] = torch.tensor([0, 0.1, 0.1, 0.5, 0.6, 0])
    labels[1, :2] = torch.tensor([[1, 0.4, 0.3, 0.9, 0.8, 0], [0, 0.0, 0.1, 0.2, 0.25, 0]])
    pixels = torch.randint(0, 256, (3, 300, 300, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(4))

    def loss(outputs: Any, targets: Tensor) -> Loss:
        logits, offsets, anchors = outputs
        matched = match_anchors(anchors, targets, logits.detach(), negatives_per_empty_picture=32)
        return Loss(*ssd_loss(logits, offsets, matched))

    job = job_of(network.train(), loss, 2, 3)
    whole, gradients = step(job, batch_of(pixels, labels), 1)
    told, parts = step(job, batch_of(pixels, labels), 2)
    assert told == pytest.approx(whole, rel=1e-5)
    for mine, other in zip(parts, gradients, strict=True):
        torch.testing.assert_close(mine, other, rtol=1e-3, atol=1e-5)


def test_parts_are_of_about_one_size_and_hold_each_picture_once() -> None:
    pieces = cut(classes(7), 3)
    assert [len(pixels) for pixels, _ in pieces] == [2, 2, 3]
    assert torch.equal(torch.cat([targets for _, targets in pieces]), classes(7).targets)
    assert [len(pixels) for pixels, _ in cut(classes(1), 2)] == [0, 1]


class Small(Linear):
    """Runs out of memory with more than 2 pictures."""

    def forward(self, pixels: Tensor) -> Tensor:
        if len(pixels) > 2:
            raise torch.OutOfMemoryError
        return super().forward(pixels)


def test_memory_that_does_not_suffice_makes_parts_more_and_is_told() -> None:
    torch.manual_seed(1)
    small, heard = Small(), Heard()
    job = replace(job_of(small, class_loss, 1, 7), adapts=True)
    _, gradients = step(job, classes(7), 1, heard)
    large = Linear()
    large.load_state_dict(small.state_dict())
    _, expected = step(job_of(large, class_loss, 1, 7), classes(7), 1)
    assert heard == [
        "the memory does not suffice: batches are worked off in 2 parts now",
        "the memory does not suffice: batches are worked off in 4 parts now",
    ]
    for mine, other in zip(gradients, expected, strict=True):
        torch.testing.assert_close(mine, other, rtol=1e-5, atol=1e-7)


def test_a_batch_size_that_was_given_is_not_worked_around() -> None:
    with pytest.raises(torch.OutOfMemoryError):
        step(job_of(Small(), class_loss, 1, 7), classes(7), 1)


@pytest.mark.parametrize(
    ("fixed", "each", "room", "most", "found"),
    [
        (1000, 100, 10_000, 512, 88),  # 90 fit
        (1000, 100, 1_000_000, 512, 512),
        (1000, 100, 1_000_000, 37, 32),
        (1000, 100, 1_650, 512, 4),
        (1000, 100, 1_050, 512, 1),
    ],
)
def test_the_largest_batch_is_found_by_two_measured_steps(
    fixed: int, each: int, room: int, most: int, found: int
) -> None:
    def peak(count: int) -> int | None:
        taken = fixed + each * count
        return taken if taken <= room * 1.1 else None

    assert largest_batch(peak, room, most) == found


def test_a_batch_that_needs_more_than_its_measure_said_is_halved() -> None:
    """Memory that grows faster than linearly."""
    assert largest_batch(lambda count: 100 + count**2, 10_000, 512) == 64


def test_on_a_processor_auto_is_the_recipes_batch_and_says_so() -> None:
    resolved = cast(Any, SimpleNamespace(settings=SimpleNamespace(mini_batch_size=16)))
    size, line = auto_batch_size(cast(Any, None), resolved, cast(Any, None), torch.device("cpu"), Ranks())
    assert (size, line) == (16, "mini_batch_size=auto: 16, the recipe's; only a card's memory is measured")


@pytest.mark.parametrize("algorithm", ["image-classification", "object-detection"])
def test_auto_is_a_batch_size_that_can_be_given(algorithm: str) -> None:
    parsed = parse_settings({"mini_batch_size": "auto"}, recipe="original", algorithm=algorithm)
    assert parsed.settings.mini_batch_size is None and "mini_batch_size" in parsed.given


def refusing(graph: Any, inputs: Any) -> Any:
    raise RuntimeError("no compiler")


def test_a_network_that_cannot_be_compiled_is_trained_as_it_is() -> None:
    job, heard = job_of(Linear(), class_loss, 1, 4), Heard()
    kept = with_compiled(job, True, lambda event: heard.append(cast(Said, event).text), refusing)
    assert kept is job
    assert len(heard) == 1 and heard[0].startswith("compile: not possible, going on without (") and "no" in heard[0]


def test_a_compiled_network_learns_the_same() -> None:
    job, heard = job_of(Linear(), class_loss, 1, 4), Heard()
    compiled = with_compiled(job, True, lambda event: heard.append(cast(Said, event).text), "eager")
    assert heard == ["compile: training steps are compiled"] and compiled.compiled
    assert step(compiled, classes(4), 1)[0] == step(job, classes(4), 1)[0]


def test_on_a_processor_compile_is_off_unless_it_is_asked_for() -> None:
    job = job_of(Linear(), class_loss, 1, 4)
    assert with_compiled(job, None, lambda event: None) is job
    assert with_compiled(job, False, lambda event: None) is job
