"""Trains, and kills itself (SIGKILL) at a given moment: `python killed.py MOMENT DATA OUT NAME=VALUE...`.

MOMENT is `never`, or a place and a count: `step:7`, `validation:1`, `epoch:2`, `tensors:3` (inside the third writing of
a checkpoint, half of its tensors on disk), `rename:2` (before the second checkpoint gets its name), `artifact:1`
(between the artifact's weights and its description), `archive:1` (half of the archive written).
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import foveal.algorithms.asking as asking
import foveal.artifact as artifact
import foveal.training.checkpoint as checkpoint
import foveal.training.loop as loop
import foveal.training.run as run
from foveal.training.events import EpochDone, RunStarted


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def on_call(count: int, then: Callable[..., Any], instead: Callable[..., Any]) -> Callable[..., Any]:
    """``then`` until the ``count``-th call, which goes to ``instead``."""
    seen = 0

    def called(*arguments: Any, **more: Any) -> Any:
        nonlocal seen
        seen += 1
        return instead(*arguments, **more) if seen == count else then(*arguments, **more)

    return called


def half_a_file(tensors: Any, path: Path) -> None:
    whole = path.with_suffix(".whole")
    SAVE(tensors, whole)
    content = whole.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    die()


def half_an_archive(aside: Path, write: Callable[[Path], None]) -> None:
    def torn(path: Path) -> None:
        write(path)
        path.write_bytes(path.read_bytes()[:1000])
        die()

    WRITE(aside, torn)


SAVE, WRITE = checkpoint.save_file, artifact.write_aside


def arm(place: str, count: int) -> list[Callable[[Any], None]]:
    if place == "step":
        loop.learning_rate = on_call(count, loop.learning_rate, lambda *_: die())
    elif place == "validation":
        asking.views = on_call(count, asking.views, lambda *_: die())
    elif place == "tensors":
        checkpoint.save_file = on_call(count, SAVE, half_a_file)
    elif place == "rename":
        loop.write_checkpoint = on_call(count, loop.write_checkpoint, checkpoint.write_checkpoint)
        checkpoint.write_json = on_call(2 * count, checkpoint.write_json, lambda *_: die())
    elif place == "artifact":
        artifact.describe = on_call(count, artifact.describe, lambda *_: die())
    elif place == "archive":
        run.pack_artifact = lambda folder, archive: _torn_archive(folder, archive)
    elif place == "epoch":
        seen: list[int] = []

        def after_epoch(event: Any) -> None:
            if isinstance(event, EpochDone):
                seen.append(event.epoch)
                if len(seen) == count:
                    die()

        return [after_epoch]
    return []


def _torn_archive(folder: Path, archive: Path) -> None:
    artifact.write_aside = half_an_archive
    artifact.pack_artifact(folder, archive)


if __name__ == "__main__":
    moment, data, out, *pairs = sys.argv[1:]
    place, _, number = moment.partition(":")
    listeners = arm(place, int(number or 1))
    listeners.append(lambda event: print(f"from step {event.step}") if isinstance(event, RunStarted) else None)
    result = run.train(data, out, listeners=listeners, **dict(pair.split("=", 1) for pair in pairs))
    print(result.best_epoch, dict(result.figures))
