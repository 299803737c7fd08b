"""One of several processes that train together: ``RANK=0 WORLD_SIZE=2 ... python ranked.py JOBS.json``.

A job is ``{"data", "out", "settings", "port", "ends"}``; each is done after the other by the same processes. With
``ends``, (rank, moment), that rank comes to an end at its third step: ``killed`` (SIGKILL), ``error`` (a UserError of
its own), ``bug`` (another exception) or ``signal`` (SIGTERM to itself, which all heed). With ``double`` the network
computes in float64, with ``narrow`` a detector has a sixteenth of its filters. Prints what the run tells and how it
ended.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

import foveal.training.loop as loop
import foveal.training.run as run
from foveal.errors import UserError
from foveal.models.normalise import Normalise
from foveal.training.events import PictureSkipped, RunStarted, Said
from foveal.training.ranks import ToldByAnother
from foveal.training.task import Task

LEARN, PLACE = loop.learn, run.place
THIRD = 3


def ending(moment: str) -> Callable[..., Any]:
    steps = 0

    def learn(*arguments: Any) -> Any:
        nonlocal steps
        steps += 1
        if steps == THIRD and moment == "killed":
            os.kill(os.getpid(), signal.SIGKILL)
        if steps == THIRD and moment == "signal":
            os.kill(os.getpid(), signal.SIGTERM)
        if steps == THIRD and moment == "error":
            raise UserError("the moon is full", "sky", "Wait for a week.")
        if steps == THIRD and moment == "bug":
            raise KeyError("moon")
        return LEARN(*arguments)

    return learn


def place_double(network: nn.Module, device: torch.device) -> nn.Module:
    """What rounding does to one step, norms and time make large; in float64 it stays small."""
    return PLACE(network.double(), device)


def narrow(task: Task) -> Task:
    return replace(task, build=lambda spec: task.build(replace(spec, width=1 / 16)))


NORMALISE, TASKS = Normalise.forward, run.TASKS


def normalise_double(self: Normalise, batch: Tensor) -> Tensor:
    return NORMALISE(self, batch).double()


def say(event: Any) -> None:
    if isinstance(event, Said):
        print("said:", event.text, flush=True)
    elif isinstance(event, PictureSkipped):
        print("skipped:", Path(event.where).name, flush=True)
    elif isinstance(event, RunStarted):
        print("from step", event.step, flush=True)


def main(jobs: list[dict[str, Any]]) -> None:
    rank = int(os.environ.get("RANK", "0"))
    for job in jobs:
        os.environ["MASTER_PORT"] = str(job["port"])
        rank_ending, moment = job.get("ends", (-1, ""))
        loop.learn = ending(moment) if rank == rank_ending else LEARN
        run.TASKS = tuple(map(narrow, TASKS)) if job.get("narrow") else TASKS  # type: ignore[assignment]
        run.place = place_double if job.get("double") else PLACE
        Normalise.forward = normalise_double if job.get("double") else NORMALISE  # type: ignore[method-assign]
        data = job["data"][rank] if isinstance(job["data"], list) else job["data"]
        try:
            result = run.train(data, job["out"], listeners=[say], **job["settings"])
            print("ended:", result.stopped or "whole", dict(result.figures), flush=True)
        except ToldByAnother as error:
            print("told by another:", str(error).splitlines()[0], flush=True)
        except UserError as error:
            print("error:", str(error).replace("\n", " / "), flush=True)


if __name__ == "__main__":
    main(json.loads(Path(sys.argv[1]).read_text(encoding="utf-8")))
