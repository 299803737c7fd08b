"""The log lines of SageMaker's Image Classification (reference 2.4), for scripts and expressions that read them."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import TextIO

from foveal.training.events import EpochDone, Event, Listener, ModelWritten, RunStarted, Said, StepDone

BATCHES_A_LINE = 20  # "Epoch[0] Batch [20] ...", then 40, ...: run with log_steps=1 so that every one is seen


def log_line(text: str, level: str = "INFO", moment: datetime | None = None) -> str:
    """``[MM/DD/YYYY HH:MM:SS LEVEL thread] text``, in UTC."""
    moment = moment or datetime.now(UTC)
    return f"[{moment:%m/%d/%Y %H:%M:%S} {level} {threading.get_ident()}] {text}"


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
