"""What the terms of a loss are divided by when several ranks work on one batch.

A loss that is a mean over anchors or offsets can't be put together from the ranks' own means: they count differently
many. So each rank gives sums and shares (``Loss``), and here the shares become those to divide by. Two rules, of which
each wants the ranks' gradients combined in its own way:

    rule     divided by                       gradients of the ranks    the step that is taken
    batch    the shares of the whole batch    summed                    that of one device with the whole batch
    device   each rank's own shares           averaged                  the original's on several devices

The original divides by what counts in each device's part of the batch (reference 6.5) and rescales the summed gradients
by 1 / devices (reference 2.2). With one rank both are the same.
"""

from __future__ import annotations

from typing import Literal

import torch.distributed as dist
from torch import Tensor


def whole_batch(shares: Tensor, rule: Literal["batch", "device"] = "batch") -> Tensor:
    """The shares that this rank divides its sums by: ``costs.mean(whole_batch(costs.shares))``.

    Under ``batch`` all ranks of the default process group must come here in every step, also one that has no picture
    in it (with shares of 0). Their gradients are then to be summed; where they are averaged, as ``torch``'s
    DistributedDataParallel does, the loss is to be multiplied by the number of ranks. Under ``device`` nothing is
    exchanged, and gradients are to be averaged.

    Args:
        shares: float32 [k], ``Loss.shares`` of this rank's part of the batch, on the device of the process group.
        rule: ``batch`` or ``device``, as above.

    Returns:
        float32 [k], without gradient. Without ``torch.distributed``, or with one rank, they are ``shares``.
    """
    if rule == "device" or not (dist.is_available() and dist.is_initialized()) or dist.get_world_size() == 1:
        return shares.detach()
    total = shares.detach().clone()
    dist.all_reduce(total, op=dist.ReduceOp.SUM)
    return total
