"""``compile``: a network whose training steps are compiled, where that pays; a run goes on without where it does not.

Compiling costs a minute or so and makes steps on cards quicker by a tenth to a third. So ``auto`` looks at it only on
cards, and only where a fifth of the run would be well more than that; then it compiles, times some steps of both, and
keeps what is quicker. On processors it gains little or nothing (measured: 1.2 times with one thread after 25 s, nothing
with two).
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from foveal.progress import duration
from foveal.training.events import Listener, Said
from foveal.training.job import Job
from foveal.training.pace import TIMED, WARM_UP, step_times

COST = 90.0  # seconds that compiling takes, and more than that
GAIN = 0.2  # share of a step's time that may be gained
QUICKER = 0.95  # of a step's time; else it is not worth it

Backend = str | Callable[..., Any]


class Compiled:
    """The compiled network; the network itself from where on it can't be compiled."""

    def __init__(self, network: nn.Module, backend: Backend, tell: Listener) -> None:
        self.network = network
        self.compiled: Callable[[Tensor], Any] = torch.compile(network, backend=backend)
        self.tell = tell

    def __call__(self, pixels: Tensor) -> Any:
        from torch._dynamo.exc import TorchDynamoException  # takes seconds to import

        try:
            return self.compiled(pixels)
        except TorchDynamoException as error:
            self.compiled = self.network
            self.tell(Said(f"compile: not possible, going on without ({_first_line(error)})", warning=True))
            return self.network(pixels)


def with_compiled(job: Job, wanted: bool | None, tell: Listener, backend: Backend = "inductor") -> Job:
    """The job with its network compiled, where that is wanted (None: where it pays) and possible."""
    if wanted is False or (wanted is None and job.device.type != "cuda"):
        return job
    if job.synced:
        if wanted:
            tell(Said("compile=1 has no effect: norms over all processes are not compiled", warning=True))
        return job
    usual = 0.0
    if wanted is None:
        usual = _pace(job)
        if usual * job.plan.total_steps * GAIN < COST:
            return job
    compiled = replace(job, forward=Compiled(job.network, backend, tell), compiled=True)
    if not all(possible for (possible,) in job.ranks.table([_works(compiled, tell)])):
        return job
    if wanted:
        tell(Said("compile: training steps are compiled"))
        return compiled
    quick = _pace(compiled)
    pays = quick < usual * QUICKER
    told = f"{duration(usual * job.plan.total_steps)} of steps, {quick / usual:.2f} of it compiled"
    tell(Said(f"compile=auto: {'on' if pays else 'off'} ({told})"))
    return compiled if pays else job


def _works(job: Job, tell: Listener) -> bool:
    """Whether a step's two ways can be compiled; tried on black pictures, and the network left as it was."""
    from torch._dynamo.exc import TorchDynamoException

    network, forward = job.network, job.forward
    assert isinstance(forward, Compiled)
    kept = [(each, each.clone()) for each in network.buffers()]
    count = -(-job.plan.batch_size // (job.ranks.count * job.parts))
    black = torch.zeros((count, *job.pictures.smallest, job.pictures.channels), dtype=torch.uint8, device=job.device)
    network.train()
    try:
        with torch.autocast(job.device.type, job.autocast) if job.autocast else nullcontext():
            answers = forward(black)
        found = answers if isinstance(answers, tuple) else (answers,)
        torch.stack([each.float().sum() for each in found if each.requires_grad]).sum().backward()
    except TorchDynamoException as error:
        forward.compiled = network
        tell(Said(f"compile: not possible, going on without ({_first_line(error)})", warning=True))
    network.zero_grad(set_to_none=True)
    for buffer, before in kept:
        buffer.copy_(before)
    return forward.compiled is not network


def _pace(job: Job) -> float:
    """Seconds of a step, by the first rank's clock; the network is left as it was."""
    kept = [(each, each.clone()) for each in job.network.buffers()]
    seconds = float(np.median(step_times(job, WARM_UP + TIMED)[WARM_UP:]))
    for buffer, before in kept:
        buffer.copy_(before)
    return float(job.ranks.decide(lambda: seconds))


def _first_line(error: BaseException) -> str:
    words = str(error).strip() or type(error).__name__
    return words.splitlines()[0][:200]
