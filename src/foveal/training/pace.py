"""How quick this machine is with this work: a few steps timed before ``max_minutes`` is planned."""

from __future__ import annotations

import time

import numpy as np
import torch

from foveal.data.loader import Decoder
from foveal.data.tiles import tiles_each
from foveal.training.job import Job
from foveal.training.loop import start_progress
from foveal.training.plan import Pace
from foveal.training.ranks import exchange
from foveal.training.step import learn, training_batches
from foveal.training.stopping import StopRequest

WARM_UP, TIMED = 2, 8  # steps
JUDGED = 256  # validation pictures, or their tiles, that are timed


def measure_pace(job: Job, started: float) -> Pace:
    """Time a few training steps and a part of validation, and leave network and optimizer as they were.

    All ranks take these steps together; the pace is the first one's, who waits for the slowest.
    """
    before = {name: tensor.clone() for name, tensor in job.network.state_dict().items()}
    step = float(np.median(step_times(job, WARM_UP + TIMED)[WARM_UP:]))
    validation = 0.0
    if job.validation is not None:
        total = len(job.validation.source)
        rows = range(min(max(1, JUDGED // tiles_each(job.pictures.source)), total))
        began = time.monotonic()
        pictures = Decoder(job.validation.source, job.validation.channels)
        job.algorithm.ask(job.network, pictures, job.ranks.part(rows))
        validation = (time.monotonic() - began) * total / len(rows)
    job.network.load_state_dict(before)
    return Pace(*job.ranks.decide(lambda: [step, validation, time.monotonic() - started]))


def step_times(job: Job, steps: int) -> list[float]:
    """Seconds of so many training steps, which move nothing but the statistics of norms."""
    optimizer = torch.optim.SGD(job.network.parameters(), lr=0.0, momentum=0.9)
    progress = start_progress(job)
    job.network.train()
    times: list[float] = []
    began = time.monotonic()
    for batch in training_batches(job, range(steps)):
        news = exchange(job.ranks, batch, StopRequest(), due=False)
        if news.pictures:
            loss, _ = learn(job, progress, batch, news, lambda event: None)
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
            float(loss)  # waits for the device
        now = time.monotonic()
        times.append(now - began)
        began = now
    return times
