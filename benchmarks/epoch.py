"""How much of the bare training step's speed a whole epoch keeps: reading, decoding, augmentation, counting, logging.

    python benchmarks/epoch.py PACKED_OR_FOLDER [--pictures 6400] [--rounds 3]

Alternates in one process between (a) forward, backward and update on batches that lie ready in memory and (b) the
training loop from encoded pictures, without validation: as in a first pass (all are decoded) and as in a later one
(decoded pictures are kept in memory). Prints pictures a second and the ratios; more is better.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import torch

from foveal.data.recognise import open_data
from foveal.settings import parse_settings
from foveal.training import run
from foveal.training.events import EpochDone
from foveal.training.job import Job
from foveal.training.loop import train_network
from foveal.training.pictures import check_pictures
from foveal.training.plan import make_plan
from foveal.training.ranks import Ranks
from foveal.training.step import training_batches
from foveal.training.stopping import StopRequest
from foveal.training.task import CLASSIFICATION


def bare(job: Job, batches: list) -> float:
    """Pictures a second of the step alone."""
    job.network.train()
    began = time.perf_counter()
    for batch in batches:
        costs = job.algorithm.loss(job.network(batch.pixels), batch.targets)
        costs.mean(costs.shares).backward()
        job.optimizer.step()
        job.optimizer.zero_grad(set_to_none=True)
    return sum(len(batch.rows) for batch in batches) / (time.perf_counter() - began)


def whole(job: Job) -> float:
    """Pictures a second of one epoch through the loop."""
    seconds: list[float] = []
    pictures: list[int] = []

    def listen(event: object) -> None:
        if isinstance(event, EpochDone):
            seconds.append(event.train_seconds)
            pictures.append(event.pictures)

    train_network(job, None, StopRequest(), listen)
    return pictures[0] / seconds[0]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("--pictures", type=int, default=6400)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--set", dest="pairs", nargs="*", default=[], metavar="NAME=VALUE")
    options = parser.parse_args()
    given = dict(pair.split("=", 1) for pair in options.pairs) | {"use_pretrained_model": "0", "epochs": "1"}
    task = CLASSIFICATION
    parsed = parse_settings(given, recipe="modern")
    with tempfile.TemporaryDirectory() as scratch:
        pictures = check_pictures(open_data(options.data), parsed.settings, lambda event: None)
        resolved = run._resolved(
            task, Path(scratch), parsed, {}, pictures, torch.device("cpu"), None, Ranks(), lambda event: None
        )
        settings = replace(resolved.settings, checkpoint_seconds=1e9)
        network = run._network(task, resolved, 0, None, pictures, True, lambda event: None)
        network.to(memory_format=torch.channels_last)
        job = run._job(
            task, Path(scratch), replace(resolved, settings=settings), pictures, network, torch.device("cpu"), Ranks()
        )
        steps = options.pictures // job.plan.batch_size
        plan = replace(
            make_plan(settings, frozenset(), len(pictures.train), None)[0],
            steps_per_epoch=steps,
            pictures_per_epoch=steps * job.plan.batch_size,
            ema_decay=None,
        )
        job = replace(job, plan=plan, validation=None, order=replace(job.order, length=options.pictures))
        ready = list(training_batches(job, range(job.plan.total_steps)))
        fresh = replace(job, pictures=type(job.pictures)(job.pictures.source, job.pictures.channels, 0))
        bare(job, ready[: max(2, steps // 4)])  # warm up
        print(f"{options.data}: {resolved.network.label}, {steps} steps of {plan.batch_size} pictures")
        ratios: dict[str, list[float]] = {"decoding": [], "kept": []}
        for _ in range(options.rounds):
            step = bare(job, ready)
            decoding = whole(fresh)
            between = bare(job, ready)
            kept = whole(job)
            print(f"bare {step:,.0f} and {between:,.0f}, decoding {decoding:,.0f}, kept {kept:,.0f} pictures/s")
            ratios["decoding"].append(2 * decoding / (step + between))
            ratios["kept"].append(2 * kept / (step + between))
        for name, values in ratios.items():
            print(f"{name}: {statistics.median(values):.3f} of the bare step ({min(values):.3f} to {max(values):.3f})")


if __name__ == "__main__":
    main()
