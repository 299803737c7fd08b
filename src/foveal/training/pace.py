"""How quick this machine is with this work: a few steps timed before ``max_minutes`` is planned."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import torch

from foveal.data.loader import Decoder, batches
from foveal.data.order import picture_generator
from foveal.training.loop import Job, to_device
from foveal.training.plan import Pace

WARM_UP, TIMED = 2, 8  # steps
JUDGED = 256  # validation pictures that are timed


def measure_pace(job: Job, started: float) -> Pace:
    """Time a few training steps and a part of validation, and leave network and optimizer as they were."""
    before = {name: tensor.clone() for name, tensor in job.network.state_dict().items()}
    optimizer = torch.optim.SGD(job.network.parameters(), lr=1e-6, momentum=0.9)
    size, seed = job.plan.batch_size, job.order.seed
    slices = (range(each * size, (each + 1) * size) for each in range(WARM_UP + TIMED))

    def prepare(image: Any, label: Any, row: int, number: int) -> Any:
        return job.algorithm.prepare(image, label, picture_generator(seed, number, row))

    job.network.train()
    times: list[float] = []
    began = time.monotonic()
    for batch in batches(job.pictures, job.order, slices, prepare, job.algorithm.collate, job.workers):
        if len(batch.rows):
            with torch.autocast(job.device.type, job.autocast, enabled=job.autocast is not None):
                outputs = job.network(to_device(batch.pixels, job.device))
                costs = job.algorithm.loss(outputs, to_device(batch.targets, job.device))
                loss = costs.mean(costs.shares)
            loss.backward()
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
            float(loss.detach())  # waits for the device
        now = time.monotonic()
        times.append(now - began)
        began = now
    validation = 0.0
    if job.validation is not None:
        total = len(job.validation.source)
        rows = range(min(JUDGED, total))
        began = time.monotonic()
        job.algorithm.ask(job.network, Decoder(job.validation.source, job.validation.channels), rows)
        validation = (time.monotonic() - began) * total / len(rows)
    job.network.load_state_dict(before)
    return Pace(float(np.median(times[WARM_UP:] or times)), validation, time.monotonic() - started)
