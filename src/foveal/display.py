"""What a person sees while a network is trained: lines for decisions and epochs, a bar with the time left between."""

from __future__ import annotations

import sys
import time
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn

from foveal.progress import duration, plain
from foveal.training.events import (
    EpochDone,
    Event,
    Finished,
    ModelWritten,
    PictureSkipped,
    RunStarted,
    Said,
    StepDone,
    Stopped,
)

EVERY = 30.0  # seconds between lines where there is no terminal to draw a bar on


class Display:
    """A listener. Used as ``with Display() as show: train(..., listeners=[show])``."""

    def __init__(self) -> None:
        self.console = Console(stderr=True, highlight=False, markup=False, soft_wrap=True)
        self.bar = Progress(
            TextColumn("epoch {task.fields[epoch]}"),
            BarColumn(40),
            TextColumn("{task.completed}/{task.total} steps"),
            TextColumn("{task.fields[figures]}"),
            TextColumn("{task.fields[left]} left"),
            console=self.console,
            transient=True,
            disable=not self.console.is_terminal,
        )
        self.task: TaskID | None = None
        self.epochs = self.steps = self.total = self.first = 0
        self.began = self.said = time.monotonic()

    def __enter__(self) -> Display:
        self.bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        self.bar.stop()

    def __call__(self, event: Event) -> None:
        match event:
            case Said(text, warning):
                self.console.print(plain(f"Warning: {text}" if warning else text))
            case PictureSkipped(where, reason):
                self.console.print(plain(f"Warning: skipped {where}: {reason}"))
            case RunStarted():
                self._start(event)
            case StepDone():
                self._step(event)
            case EpochDone():
                self._epoch(event)
            case ModelWritten(epoch=-1, path=path):
                self.console.print(f"no epoch was finished; the weights so far are in {path}")
            case Stopped(step, reason):
                self.console.print(f"stopped after step {step:,}: {reason}")
            case Finished():
                self._finish(event)

    def _start(self, event: RunStarted) -> None:
        self.epochs, self.steps, self.first = event.epochs, event.steps_per_epoch, event.step
        self.total = event.steps
        self.began = self.said = time.monotonic()
        if event.step:
            self.console.print(f"going on from step {event.step:,} of {event.steps:,}")
        else:
            self.console.print(
                f"{event.epochs} epoch{'s' * (event.epochs != 1)} of {event.steps_per_epoch:,} "
                f"step{'s' * (event.steps_per_epoch != 1)} of {event.batch_size} pictures"
            )
        self.task = self.bar.add_task("", total=self.steps, epoch="", figures="", left="?")

    def _left(self, step: int) -> str:
        """Time left, from the pace since this process began, validation and writing included."""
        done = step - self.first
        return duration((time.monotonic() - self.began) / max(1, done) * (self.total - step))

    def _step(self, event: StepDone) -> None:
        speed = event.pictures / max(event.seconds, 1e-9)
        shown = "  ".join(f"{name} {value:.4f}" for name, value in {"loss": event.loss, **event.figures}.items())
        figures = f"{shown}  {speed:,.0f} pictures/s"
        left = self._left(event.step)
        if self.task is not None:
            epoch = f"{event.epoch + 1}/{self.epochs}"
            self.bar.update(self.task, completed=event.batch + 1, epoch=epoch, figures=figures, left=left)
        if self.bar.disable and time.monotonic() - self.said > EVERY:
            self.said = time.monotonic()
            print(f"epoch {event.epoch + 1}/{self.epochs}, step {event.batch + 1}/{self.steps}  {figures}  {left} left",
                  file=sys.stderr, flush=True)  # fmt: skip

    def _epoch(self, event: EpochDone) -> None:
        shown = [f"{name} {value:.4f}" for name, value in event.train.items()]
        if event.validation:
            name, value = next(iter(event.validation.items()))  # the first figure is what epochs are compared by
            shown += [f"validation {name} {value:.4f}"]
        best = "  best so far" if event.improved and event.validation else ""
        spent = duration(event.train_seconds + event.validation_seconds)
        self.console.print(f"epoch {event.epoch + 1}/{self.epochs}  {'  '.join(shown)}  {spent}{best}")
        self.said = time.monotonic()

    def _finish(self, event: Finished) -> None:
        if event.figures:
            figures = ", ".join(f"{name} {value:.6f}" for name, value in event.figures.items())
            self.console.print(f"best epoch {event.best_epoch}: validation {figures}")
        self.console.print(f"model: {event.path}")
