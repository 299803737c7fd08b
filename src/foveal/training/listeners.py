"""What is written down while a run goes on: ``metrics.jsonl``, ``bad_records.jsonl``, TensorBoard's files."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from foveal.errors import UserError
from foveal.files import write_text
from foveal.training.events import EpochDone, Event, Finished, Listener, PictureSkipped, RunStarted, StepDone, Stopped


def to_all(listeners: Iterable[Listener]) -> Listener:
    """One listener that passes every event on, in order."""
    fixed = tuple(listeners)

    def tell(event: Event) -> None:
        for listener in fixed:
            listener(event)

    return tell


def journal(path: Path) -> Listener:
    """Writes ``metrics.jsonl``: a line every ``log_steps`` steps and one an epoch.

    ``kind`` is ``step`` or ``epoch``; epochs and batches count from 0, ``step`` from 1. Only the fields ``seconds``
    (training, validation) and ``pictures_per_second`` depend on the clock. When a run is resumed, lines of steps after
    the checkpoint are cut off, since those steps come again.
    """

    def write(fields: dict[str, Any]) -> None:
        with path.open("a", encoding="utf-8", newline="\n") as file:
            file.write(json.dumps(fields, allow_nan=False) + "\n")

    def listen(event: Event) -> None:
        if isinstance(event, RunStarted):
            keep_lines(path, event.step)
        elif isinstance(event, StepDone):
            write(
                {
                    "kind": "step",
                    "step": event.step,
                    "epoch": event.epoch,
                    "batch": event.batch,
                    "learning_rate": event.learning_rate,
                    "train:loss": event.loss,
                    **{f"train:{name}": value for name, value in event.figures.items()},
                    "pictures_per_second": round(event.pictures / max(event.seconds, 1e-9), 1),
                }
            )
        elif isinstance(event, EpochDone):
            write(
                {
                    "kind": "epoch",
                    "step": event.step,
                    "epoch": event.epoch,
                    "learning_rate": event.learning_rate,
                    **{f"train:{name}": value for name, value in event.train.items()},
                    **{f"validation:{name}": value for name, value in event.validation.items()},
                    "improved": event.improved,
                    "seconds": [round(event.train_seconds, 3), round(event.validation_seconds, 3)],
                }
            )

    return listen


def keep_lines(path: Path, step: int) -> None:
    """Cut ``metrics.jsonl`` back to the lines of steps up to ``step``; a torn last line goes too."""
    if not path.exists():
        return
    kept = []
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            if json.loads(line)["step"] <= step:
                kept.append(line + "\n")
        except ValueError:
            continue  # the line that was being written when the process was killed
    write_text(path, "".join(kept))


def bad_records(path: Path) -> Listener:
    """Writes ``bad_records.jsonl``: a line with ``where`` and ``reason`` for each picture left out, once."""
    known: set[str] = set()

    def listen(event: Event) -> None:
        if isinstance(event, RunStarted) and path.exists():
            known.update(path.read_text(encoding="utf-8").splitlines())
        elif isinstance(event, PictureSkipped):
            line = json.dumps({"where": event.where, "reason": event.reason}, ensure_ascii=False)
            if line not in known:
                known.add(line)
                with path.open("a", encoding="utf-8", newline="\n") as file:
                    file.write(line + "\n")

    return listen


def tensorboard(folder: Path) -> Listener:
    """Writes TensorBoard event files through tensorboardX (extra ``tensorboard``).

    Raises UserError without it, and for a folder that can't be made.
    """
    try:
        from tensorboardX import SummaryWriter
    except ImportError as error:
        raise UserError(
            "TensorBoard files need the package tensorboardX, which is not installed",
            "tensorboard",
            'Install it: pip install "foveal[tensorboard]"',
        ) from error
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"can't be made: {error.strerror}", str(folder), "Name another folder.") from error
    writer: Any = None

    def listen(event: Event) -> None:
        nonlocal writer
        if isinstance(event, RunStarted):
            writer = SummaryWriter(str(folder), purge_step=event.step + 1 if event.step else None)
        elif writer is None:
            return
        elif isinstance(event, StepDone):
            writer.add_scalar("train/loss", event.loss, event.step)
            writer.add_scalar("learning_rate", event.learning_rate, event.step)
        elif isinstance(event, EpochDone):
            for part, figures in (("train", event.train), ("validation", event.validation)):
                for name, value in figures.items():
                    writer.add_scalar(f"epoch/{part}_{name}", value, event.step)
            writer.flush()
        elif isinstance(event, Stopped | Finished):
            writer.close()
            writer = None

    return listen
