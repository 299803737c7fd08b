"""The log lines of SageMaker's Image Classification (reference 2.4) and Object Detection (2.5), for scripts and
expressions that read them. Run with log_steps=1, so that every line about batches comes."""

from __future__ import annotations

import json
import sys
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TextIO

from foveal.settings import DetectionSettings
from foveal.training.events import EpochDone, Event, Finished, Listener, ModelWritten, RunStarted, Said, StepDone

BATCHES_A_LINE = 20  # "Epoch[0] Batch [20] ...", then 40, ...
DETECTION_BATCHES_A_LINE = 100
HOST = "algo-1"  # the only one, as SageMaker names it
COUNTERS = (
    "Total Records Seen",
    "Total Batches Seen",
    "Max Records Seen Between Resets",
    "Max Batches Seen Between Resets",
    "Reset Count",
    "Number of Records Since Last Reset",
    "Number of Batches Since Last Reset",
)


def log_line(text: str, level: str = "INFO", moment: datetime | None = None) -> str:
    """``[MM/DD/YYYY HH:MM:SS LEVEL thread] text``, in UTC."""
    moment = moment or datetime.now(UTC)
    return f"[{moment:%m/%d/%Y %H:%M:%S} {level} {threading.get_ident()}] {text}"


def original_log(stream: TextIO | None = None) -> Listener:
    """A listener that prints the lines of the original of whichever algorithm runs."""
    listen = classification_log(stream)  # what comes before a run starts is told alike by both

    def choose(event: Event) -> None:
        nonlocal listen
        if isinstance(event, RunStarted) and event.algorithm == DetectionSettings.ALGORITHM:
            listen = detection_log(stream)
        listen(event)

    return choose


def classification_log(stream: TextIO | None = None) -> Listener:
    """A listener that prints the original's lines to ``stream`` (standard output)."""

    def say(text: str, level: str = "INFO") -> None:
        print(log_line(text, level), file=stream or sys.stdout, flush=True)

    def listen(event: Event) -> None:
        if isinstance(event, RunStarted):
            _parameters(say, {**event.settings, "epochs": event.epochs, "mini_batch_size": event.batch_size})
        elif isinstance(event, Said):
            say(event.text, "WARNING" if event.warning else "INFO")
        elif isinstance(event, StepDone):
            if event.batch and event.batch % BATCHES_A_LINE == 0:
                speed = event.pictures / max(event.seconds, 1e-9)
                figures = "".join(f"\t{name}={value:.6f}" for name, value in event.figures.items())
                say(f"Epoch[{event.epoch}] Batch [{event.batch}]\tSpeed: {speed:.3f} samples/sec{figures}")
        elif isinstance(event, EpochDone):
            for name, value in event.train.items():
                if name != "loss":
                    say(f"Epoch[{event.epoch}] Train-{name}={value:.6f}")
            say(f"Epoch[{event.epoch}] Time cost={event.train_seconds:.3f}")
            if "accuracy" in event.validation:
                accuracy = event.validation["accuracy"]
                say(f"Epoch[{event.epoch}] Validation-accuracy={accuracy:.6f}")
                if event.improved:
                    say(f"Storing the best model with validation accuracy: {accuracy:.6f}")
        elif isinstance(event, ModelWritten):
            say(f'Saved checkpoint to "{event.path}"')

    return listen


_PARAMETERS = (
    "num_layers",
    "epochs",
    "resize",
    "optimizer",
    "momentum",
    "weight_decay",
    "learning_rate",
    "num_training_samples",
    "mini_batch_size",
    "image_shape",
    "num_classes",
    "augmentation_type",
    "kv_store",
    "top_k",
    "checkpoint_frequency",
)


def _parameters(say: Callable[[str], None], values: Mapping[str, object]) -> None:
    """The parameter print-out; names and order as the original's log shows them."""
    say("---- Parameters ----")
    for name in _PARAMETERS:
        value = values.get(name)
        if name == "checkpoint_frequency" and value is None:
            say("checkpoint_frequency not set, will store the best model")
        elif name == "resize" and value is not None:
            say(f"image resize size: {value}")
        elif name == "num_layers":
            say(f"num_layers: {value}")
            say("data type: <class 'numpy.float32'>")
        elif name == "kv_store":
            say(f"kv_store: {value or 'device'}")
        elif value is not None or name == "augmentation_type":
            shown = ",".join(map(str, value)) if isinstance(value, tuple | list) else value
            shown = None if shown == "none" else shown  # the original's word for no augmentation
            say(f"{name}: {shown}")
    say("--------------------")


@dataclass
class _Run:
    """What lines of a detection run need to know of the events before.

    Attributes:
        epochs: of the run. before: steps of the run before this epoch.
        since: Unix seconds, when the epoch began.
        epoch: the one whose last lines are to come once its model is written, or None.
        drops: whether the learning rate falls in steps. rate: the last one seen, or 0.
        model: the last file written.
    """

    epochs: int = 0
    before: int = 0
    since: float = 0.0
    epoch: int | None = None
    drops: bool = False
    rate: float = 0.0
    model: str = ""


Line = tuple[str, str]
"""(text, level); a line without a level has no prefix either."""


def detection_log(stream: TextIO | None = None, host: str = HOST, clock: Callable[[], float] = time.time) -> Listener:
    """A listener that prints the original's lines to ``stream`` (standard output); ``clock`` gives Unix seconds."""
    run = _Run()

    def listen(event: Event) -> None:
        now = clock()
        for text, level in _lines(run, event, host, now):
            line = log_line(text, level, datetime.fromtimestamp(now, UTC)) if level else text
            print(line, file=stream or sys.stdout, flush=True)

    return listen


def _lines(run: _Run, event: Event, host: str, now: float) -> list[Line]:
    if isinstance(event, RunStarted):
        return _start(run, event, host, now)
    if isinstance(event, Said):
        return [(event.text, "WARNING" if event.warning else "INFO")]
    if isinstance(event, StepDone):
        return _step(run, event)
    if isinstance(event, EpochDone):
        lines = _epoch(run, event, host)
        run.epoch = event.epoch
        return lines if event.improved else [*lines, *_end_epoch(run, host, now)]
    if isinstance(event, ModelWritten):
        run.model = event.path
        saved = (f'Saved checkpoint to "{event.path}"', "INFO")
        return [saved] if run.epoch is None else [saved, *_end_epoch(run, host, now)]
    if isinstance(event, Finished):
        best = f"validation-mAP={event.figures['mAP']}, " if "mAP" in event.figures else ""
        end = f"Training ended: best epoch={event.best_epoch - 1}, {best}model={event.path}"
        return [(f'Saved checkpoint to "{run.model}"', "INFO"), (end, "INFO")]
    return []


def _start(run: _Run, event: RunStarted, host: str, now: float) -> list[Line]:
    """Lines at the start; all values in force are told, as strings."""
    run.epochs, run.since = event.epochs, now
    run.before = event.step - event.step % max(1, event.steps_per_epoch)
    run.drops = event.settings.get("lr_schedule", "step") == "step"
    values = {name: _as_string(name, value) for name, value in event.settings.items()}
    side = values.get("image_shape", "")
    lines = [
        (f"Final configuration: {values}", "INFO"),
        (f"Training images are resized to image shape (3, {side}, {side})", "WARNING"),
        (f"Create Store: {values.get('kv_store') or 'device'}", "INFO"),
    ]
    if event.settings.get("use_pretrained_model"):
        lines.append(("Start training from pretrained model 1.", "INFO"))
    if not event.step:
        lines.append(("Creating a new state instance.", "INFO"))
    return [*lines, (_metrics(now, now, host, "init_train_data_iter", None), "")]


def _end_epoch(run: _Run, host: str, now: float) -> list[Line]:
    assert run.epoch is not None
    progress = f"#progress_metric: host={host}, completed {100 * (run.epoch + 1) / run.epochs} % of epochs"
    metrics = _metrics(run.since, now, host, "training_data_iter", run.epoch)
    run.epoch, run.since = None, now
    return [(progress, "INFO"), (metrics, "")]


def _as_string(name: str, value: object) -> str:
    if value is None:
        return ""
    if name == "use_pretrained_model":
        return str(int(bool(value)))
    return ",".join(map(str, value)) if isinstance(value, tuple | list) else str(value)


def _step(run: _Run, event: StepDone) -> list[Line]:
    lines = []
    run.before = event.step - event.batch - 1
    if run.drops and event.learning_rate < run.rate:
        lines.append(f"Update[{event.step}]: Change learning rate to {event.learning_rate:.5e}")
    run.rate = event.learning_rate
    batches = event.batch + 1
    if batches % DETECTION_BATCHES_A_LINE == 0:
        speed = event.pictures / max(event.seconds, 1e-9)
        lines.append(
            f"Epoch: {event.epoch:4d}, batches: {batches:6d}, num_examples: {event.pictures:6d}, "
            f"{speed:.1f} samples/sec, epoch time so far:  {timedelta(seconds=event.seconds)}"
        )
    return [(line, "INFO") for line in lines]


def _epoch(run: _Run, event: EpochDone, host: str) -> list[Line]:
    """Up to the line of the best model; the train figures are ``cross_entropy`` and ``smooth_l1``."""
    where = f"#quality_metric: host={host}, epoch={event.epoch}"
    batches = event.step - run.before
    run.before = event.step
    lines = [
        f"{where}, batch={batches} train {name} <loss>=({event.train[name]})"
        for name in ("cross_entropy", "smooth_l1")
        if name in event.train
    ]
    speed = event.pictures / max(event.train_seconds, 1e-9)
    lines += [
        "Round of batches complete",
        f"#throughput_metric: host={host}, train throughput={speed} records/second",
        "Updated the metrics",
    ]
    if "mAP" in event.validation:
        score = event.validation["mAP"]
        lines.append(f"{where}, validation mAP <score>=({score})")
        if event.improved:
            lines.append(f"Updating the best model with validation-mAP={score}")
    return [(line, "INFO") for line in lines]


def _metrics(start: float, end: float, host: str, meta: str, epoch: int | None) -> str:
    """The ``#metrics`` line. Its counters are 0 in every log of the original but for the one that counts epochs."""
    of_epoch = {} if epoch is None else {"epoch": epoch}
    dimensions = {"Algorithm": "AWS/Object Detection", "Host": host, "Operation": "training", **of_epoch, "Meta": meta}
    resets = 0 if epoch is None else epoch + 1
    counts = {name: resets if name == "Reset Count" else 0 for name in COUNTERS}
    metrics = {name: {"sum": float(n), "count": 1, "min": n, "max": n} for name, n in counts.items()}
    fields = {"StartTime": start, "EndTime": end, "Dimensions": dimensions, "Metrics": metrics}
    return f"#metrics {json.dumps(fields)}"
