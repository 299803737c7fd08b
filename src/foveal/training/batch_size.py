"""``mini_batch_size=auto``: on a card the largest batch whose step fits its memory, else what the recipe takes."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from foveal.algorithms.recipe import Resolved
from foveal.data.loader import Decoder, make_batch
from foveal.data.order import picture_generator
from foveal.errors import UserError
from foveal.models.device import choose_precision, place
from foveal.training.pictures import Pictures
from foveal.training.ranks import Ranks
from foveal.training.step import to_device
from foveal.training.task import Task

TRIED = (4, 12)  # pictures of two steps, by which memory is seen to grow
ROOM = 0.85  # of the free memory; the rest is for what the steps that were tried did not need
MOST = 512  # pictures a card: beyond, more of them hardly make steps quicker
STEPS = 10  # that an epoch keeps at least


def auto_batch_size(
    task: Task, resolved: Resolved, pictures: Pictures, device: torch.device, ranks: Ranks
) -> tuple[int, str]:
    """The batch size of all ranks together, and a line that tells it. ``resolved`` has the recipe's."""
    assert resolved.settings.mini_batch_size is not None
    taken = resolved.settings.mini_batch_size
    if device.type != "cuda":
        return taken, f"mini_batch_size=auto: {taken}, the recipe's; only a card's memory is measured"
    most = max(1, min(MOST, len(pictures.train) // (STEPS * ranks.count)))
    room = int(torch.cuda.mem_get_info(device)[0] * ROOM)
    mine = largest_batch(_peak(task, resolved, pictures, device), room, most)
    each = min(number for (number,) in ranks.table([mine]))
    cards = f", {each} on each of {ranks.count} cards" if ranks.count > 1 else ""
    limit = "the largest that keeps ten steps an epoch" if each == most < MOST else "the largest that fits the memory"
    return each * ranks.count, f"mini_batch_size=auto: {each * ranks.count}{cards}, {limit}"


def share_batch(size: int, ranks: Ranks) -> None:
    """Raises UserError when a batch has no picture for some rank, as MXNet does for its devices."""
    if size < ranks.count:
        raise UserError(
            f"a batch of {size} can't be shared by {ranks.count} processes",
            "mini_batch_size",
            f"Set mini_batch_size to {ranks.count} or more (it is that of all processes together), or start fewer.",
            "mini_batch_size",
        )


def largest_batch(peak: Callable[[int], int | None], room: int, most: int) -> int:
    """The largest batch of at most ``most`` pictures whose step takes at most ``room`` bytes; 1 at least.

    Args:
        peak: pictures -> the most bytes that a step with so many takes; None when it did not fit.
    """
    few, more = (min(tried, most) for tried in TRIED)
    first, second = peak(few), peak(more)
    size = most
    if first is None:
        size = 1
    elif second is None:
        size = few
    elif more > few:
        slope = max(1, (second - first) // (more - few))
        size = max(1, min(most, (room - first) // slope + few))
    size = size // 8 * 8 or size
    while size > 1:
        bytes_taken = peak(size)
        if bytes_taken is not None and bytes_taken <= room:
            break
        size //= 2
    return size


def _peak(task: Task, resolved: Resolved, pictures: Pictures, device: torch.device) -> Callable[[int], int | None]:
    """What measures a training step on a card: one picture, over and over, through a network of its own."""
    settings, rule = resolved.settings, resolved.rule
    algorithm = task.teach(settings, rule, pictures, 0)
    autocast = choose_precision(settings.precision_dtype, device).autocast

    def prepare(image: object, label: object, row: int, number: int) -> object:
        return algorithm.prepare(image, label, picture_generator(settings.seed, number, row))  # type: ignore[arg-type]

    few = np.arange(min(16, len(pictures.train)), dtype=np.int64)
    sample = make_batch(Decoder(pictures.train, rule.channels), few, few * 0, prepare, algorithm.collate)  # type: ignore[arg-type]

    def peak(count: int) -> int | None:
        if not len(sample.rows):
            return None
        network = optimizer = None
        try:
            torch.cuda.reset_peak_memory_stats(device)
            before = torch.cuda.memory_allocated(device)
            network = place(task.build(resolved.network), device).train()
            optimizer = task.optimizer(network, settings)
            average = [parameter.detach().clone() for parameter in network.parameters()]
            rows = torch.arange(count) % len(sample.rows)
            for _ in range(2):  # the optimizer's memory is there from the second step on
                with torch.autocast(device.type, autocast, enabled=autocast is not None):
                    answers = network(to_device(sample.pixels[rows], device))
                    costs = algorithm.loss(answers, to_device(_picked(sample.targets, rows), device))
                costs.mean(costs.shares).backward()
                optimizer.step()
                optimizer.zero_grad(set_to_none=True)
            torch.cuda.synchronize(device)
            del average
            return torch.cuda.max_memory_allocated(device) - before
        except torch.OutOfMemoryError:
            return None
        finally:
            del network, optimizer
            torch.cuda.empty_cache()

    return peak


def _picked(targets: object, rows: Tensor) -> object:
    """Targets of these rows; ``targets`` as ``collate`` gives them."""
    if isinstance(targets, Tensor):
        return targets[rows]
    if isinstance(targets, dict):
        return {name: _picked(each, rows) for name, each in targets.items()}
    assert isinstance(targets, tuple | list)
    return tuple(_picked(each, rows) for each in targets)
