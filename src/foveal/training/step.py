"""What one training step does with its batch: the gradients of the whole batch's loss, on every rank, by parts where
the memory is small.

A loss is sums and shares. The shares of the whole batch are needed before a part's gradients can be: in classification
they follow from the labels, and gradients are put right at the end; SSD's follow from the network's answers (which
anchors are mined), so that all parts are looked at once before.
"""

from __future__ import annotations

from collections.abc import Generator
from contextlib import nullcontext
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from foveal.algorithms.algorithm import Loss
from foveal.algorithms.shares import whole_batch
from foveal.data.loader import Batch, Prepare, batches
from foveal.data.order import picture_generator
from foveal.models.syncnorm import uncounted
from foveal.training.events import Listener, Said
from foveal.training.job import Job, Progress
from foveal.training.ranks import News


def training_batches(job: Job, steps: range) -> Generator[Batch, None, None]:
    """This rank's part of the batches of ``steps``; one stream over all epochs, so that the workers never fall idle."""
    size = job.plan.batch_size
    slices = (job.ranks.part(range(each * size, (each + 1) * size)) for each in steps)

    def prepare_at(places: range) -> Prepare:
        return preparing(job, places.start // size)

    return batches(job.pictures, job.order, slices, prepare_at, job.algorithm.collate, job.workers)


def preparing(job: Job, step: int) -> Prepare:
    """How a training picture becomes pixels and target in a step, in which pass ever it comes."""
    seed = job.order.seed
    if job.algorithm.preparing is not None:
        return job.algorithm.preparing(job.pictures, seed, step)

    def prepare(image: Any, label: Any, row: int, number: int) -> Any:
        return job.algorithm.prepare(image, label, picture_generator(seed, number, row))

    return prepare


def learn(job: Job, progress: Progress, batch: Batch, news: News, tell: Listener) -> tuple[Tensor, Tensor]:
    """Give the network's parameters their gradients.

    Where the memory does not suffice and the job adapts, the batch is worked off in more parts from then on.

    Args:
        batch: this rank's part of the batch; of all ranks together it has ``news.pictures``, more than 0.

    Returns:
        the loss of the whole batch, a scalar, and its counts, [len(counted)]; without gradient.
    """
    while True:
        try:
            return _gradients(job, batch, news, progress.parts)
        except torch.OutOfMemoryError:
            if not job.adapts or job.ranks.count > 1 or progress.parts >= len(batch.rows):
                raise
        progress.parts *= 2
        job.network.zero_grad(set_to_none=True)
        torch.cuda.empty_cache()
        tell(Said(f"the memory does not suffice: batches are worked off in {progress.parts} parts now", warning=True))


def _gradients(job: Job, batch: Batch, news: News, parts: int) -> tuple[Tensor, Tensor]:
    algorithm, ranks, rule = job.algorithm, job.ranks, job.loss_shares
    pieces = cut(batch, parts)
    whole: Tensor | None = None
    if parts > 1 and algorithm.terms > 1:
        whole = whole_batch(_all_shares(job, pieces), rule)
    elif parts > 1:
        whole = torch.full((1,), float(job.plan.batch_size), device=job.device)
    found = []
    for pixels, targets in pieces:
        costs = _costs(job, pixels, targets)
        loss = costs.mean(whole_batch(costs.shares, rule) if whole is None else whole)
        if loss.requires_grad:
            job.scaler.scale(loss).backward()
        found.append(torch.cat([loss.detach()[None], costs.counts, costs.shares.detach()]))
    sums = torch.stack(found).sum(dim=0)
    loss, counts, shares = sums[0], sums[1 : -algorithm.terms], sums[-algorithm.terms :]
    share = 1 / ranks.count if rule == "device" else 1.0
    ranks.add_gradients(job.network, share, alike=news.fewest > 0)
    if whole is not None and algorithm.terms == 1:
        right = whole / whole_batch(shares, rule).clamp(min=1)
        torch._foreach_mul_([each.grad for each in job.network.parameters() if each.grad is not None], right[0])
        loss = loss * right[0]
    total = torch.cat([loss[None] * share, counts])
    ranks.add(total)
    return total[0], total[1:]


def cut(batch: Batch, parts: int) -> list[tuple[Tensor, Any]]:
    """Pixels and targets of a batch in parts of about one size, the larger ones first; some may be empty."""
    ends = [len(batch.rows) * number // parts for number in range(parts + 1)]
    return [(batch.pixels[start:stop], _rows(batch.targets, start, stop)) for start, stop in pairwise(ends)]


def _rows(value: Any, start: int, stop: int) -> Any:
    if isinstance(value, Tensor):
        return value[start:stop]
    if isinstance(value, dict):
        return {name: _rows(each, start, stop) for name, each in value.items()}
    return tuple(_rows(each, start, stop) for each in value)


def _costs(job: Job, pixels: Tensor, targets: Any) -> Loss:
    """What pictures cost, of which there may be none: then 0, and where norms are over all ranks, which wait for this
    one, a black picture goes through the network and counts nothing."""
    algorithm = job.algorithm
    if len(pixels):
        context = torch.autocast(job.device.type, job.autocast) if job.autocast else nullcontext()
        with context:
            answers = job.forward(to_device(pixels, job.device))
            costs = algorithm.loss(answers, to_device(targets, job.device))
        assert len(costs.sums) == algorithm.terms
        return costs
    shares = torch.zeros(algorithm.terms, device=job.device)
    counts = torch.zeros(len(algorithm.counted), device=job.device)
    if not job.synced:
        return Loss(shares, shares, counts)
    black = torch.zeros((1, *job.pictures.smallest, job.pictures.channels), dtype=torch.uint8, device=job.device)
    with uncounted(job.network):
        answers = job.forward(black)
    outputs = [each for each in (answers if isinstance(answers, tuple) else (answers,)) if each.requires_grad]
    nothing = torch.stack([each.float().sum() * 0 for each in outputs]).sum()
    return Loss(nothing + shares, shares, counts)


@torch.no_grad()
def _all_shares(job: Job, pieces: list[tuple[Tensor, Any]]) -> Tensor:
    """The shares of all parts, by a first look at them that leaves statistics and generators as they were."""
    kept = [(each, each.clone()) for each in job.network.buffers()]
    devices = [job.device] if job.device.type == "cuda" else []
    with torch.random.fork_rng(devices):
        shares = torch.stack([_costs(job, *piece).shares for piece in pieces]).sum(dim=0)
    for buffer, before in kept:
        buffer.copy_(before)
    return shares


def to_device(value: Any, device: torch.device) -> Any:
    """Tensors, and tuples, lists (which become tuples) and dicts of them, on ``device``."""
    if isinstance(value, Tensor):
        return value.to(device, non_blocking=True)
    if isinstance(value, dict):
        return {name: to_device(each, device) for name, each in value.items()}
    assert isinstance(value, tuple | list), f"collate gives {type(value).__name__}, which cannot be moved"
    return tuple(to_device(each, device) for each in value)
