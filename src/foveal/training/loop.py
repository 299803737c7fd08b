"""The training loop: one function, the same for every algorithm.

The order on the page is the order in time. Within a step nothing waits for the device: sums and the number of the
first step whose loss was not finite stay there, and are read only before something is said or written.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Generator
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from foveal.algorithms.algorithm import Algorithm, Verdict
from foveal.algorithms.shares import whole_batch
from foveal.data.loader import Batch, Decoder, batches
from foveal.data.order import Order, picture_generator
from foveal.errors import UserError
from foveal.records import BadRecord
from foveal.training.checkpoint import Checkpoint, write_checkpoint
from foveal.training.early_stopping import EarlyStopping, EarlyStoppingState, observe
from foveal.training.ema import Ema
from foveal.training.events import (
    CheckpointWritten,
    EpochDone,
    Listener,
    ModelWritten,
    PictureSkipped,
    RunStarted,
    Said,
    StepDone,
    Stopped,
)
from foveal.training.optimizers import load_state_tensors, set_learning_rate, state_tensors
from foveal.training.plan import Plan
from foveal.training.schedules import learning_rate
from foveal.training.stopping import StopRequest

STOP_AFTER = 2048  # validation pictures asked between two looks for a signal


@dataclass(frozen=True)
class Job:
    """Everything a run works with, set up once.

    ``keep_best`` writes the artifact with the network's weights, ``keep_epoch`` stores one epoch's weights beside it.
    """

    algorithm: Algorithm
    plan: Plan
    network: nn.Module
    ema: Ema | None
    optimizer: torch.optim.Optimizer
    device: torch.device
    autocast: torch.dtype | None
    scaler: torch.amp.GradScaler
    clip_gradient: float | None
    pictures: Decoder
    validation: Decoder | None
    order: Order
    workers: int
    early_stopping: EarlyStopping | None
    checkpoint_frequency: int | None
    checkpoint_seconds: float
    checkpoint_steps: int | None
    log_steps: int
    bad_pictures: int
    checkpoints: Path
    keep_best: Callable[[nn.Module, Verdict | None, int], str]
    keep_epoch: Callable[[nn.Module, int], None]
    settings: dict[str, object] = field(default_factory=dict)


@dataclass
class Progress:
    """How far a run is; what a checkpoint restores besides weights and optimizer.

    ``sums``: since the epoch's start, the loss a picture, the pictures, and the algorithm's counts. ``not_finite``: the
    first step (from 1) whose loss was not finite, or 0. Both stay on the device.
    """

    sums: Tensor
    not_finite: Tensor
    step: int = 0
    best: float | None = None
    best_epoch: int = 0
    early: EarlyStoppingState = field(default_factory=EarlyStoppingState)
    bad: dict[str, str] = field(default_factory=dict)
    stopped: str = ""


def train_network(job: Job, restored: Checkpoint | None, stop: StopRequest, tell: Listener) -> Progress:
    """Run a job from its start, or from ``restored``, to its last step, an early stop or a signal.

    Raises:
        UserError: when the loss is not finite (nothing is written from then on), or when more pictures than
            ``job.bad_pictures`` cannot be read.
    """
    algorithm, plan, network = job.algorithm, job.plan, job.network
    progress = start_progress(job) if restored is None else restore(job, restored)
    done = plan.epochs_done(progress.step)
    size = (plan.total_steps, plan.steps_per_epoch, plan.epochs, plan.batch_size)
    tell(RunStarted(algorithm.name, progress.step, *size, job.settings))
    stream = training_batches(job, progress.step)
    saved = time.monotonic()
    for epoch in range(done, plan.epochs):
        if progress.stopped or progress.early.stop:
            break
        network.train()
        began = time.monotonic()
        for batch_number in range(progress.step - plan.steps_before(epoch), plan.steps_in(epoch)):
            batch = next(stream)
            note_bad(job, progress, batch.bad, tell)
            rate = learning_rate(plan.schedule, progress.step + 1)
            set_learning_rate(job.optimizer, rate)
            progress.step += 1
            if len(batch.rows):
                pixels, targets = to_device(batch.pixels, job.device), to_device(batch.targets, job.device)
                with torch.autocast(job.device.type, job.autocast) if job.autocast else nullcontext():
                    costs = algorithm.loss(network(pixels), targets)
                    loss = costs.mean(whole_batch(costs.shares))
                job.scaler.scale(loss).backward()
                if job.clip_gradient is not None:
                    job.scaler.unscale_(job.optimizer)
                    nn.utils.clip_grad_norm_(network.parameters(), job.clip_gradient)
                job.scaler.step(job.optimizer)
                job.scaler.update()
                job.optimizer.zero_grad(set_to_none=True)
                if job.ema is not None:
                    job.ema.update(network, progress.step)
                count(progress, loss, costs.counts, len(batch.rows))
            if progress.step % job.log_steps == 0:
                check_finite(progress, plan)
                tell(step_event(job, progress, epoch, batch_number, rate, time.monotonic() - began))
            if batch_number + 1 == plan.steps_in(epoch):
                break  # the epoch's end has its own checkpoint, after validation
            due = job.checkpoint_steps is not None and progress.step % job.checkpoint_steps == 0
            if stop.reason or due or time.monotonic() - saved >= job.checkpoint_seconds:
                progress.stopped = stop.reason
                save(job, progress, tell)
                saved = time.monotonic()
                if progress.stopped:
                    break
        if progress.stopped:
            break
        check_finite(progress, plan)
        trained = time.monotonic()
        if epoch == done:
            tell_enlarged(job, tell)
        judged = job.ema.network if job.ema is not None else network
        answers = ask_validation(job, judged, stop)
        if answers is None:  # the run goes on from the checkpoint before
            progress.stopped = stop.reason
            break
        verdict = job.algorithm.judge(answers) if answers else None
        note_bad(job, progress, verdict.bad if verdict is not None else (), tell)
        seconds = (trained - began, time.monotonic() - trained)
        tell_epoch(job, progress, epoch, judged, verdict, seconds, tell)
        progress.sums.zero_()
        progress.stopped = stop.reason
        save(job, progress, tell)
        saved = time.monotonic()
    stream.close()
    finish_early(job, progress, tell)
    return progress


def training_batches(job: Job, step: int) -> Generator[Batch, None, None]:
    """The batches of the run from ``step`` on; one stream over all epochs, so that the workers never fall idle."""
    size = job.plan.batch_size
    seed = job.order.seed

    def prepare(image: Any, label: Any, row: int, number: int) -> Any:
        return job.algorithm.prepare(image, label, picture_generator(seed, number, row))

    slices = (range(each * size, (each + 1) * size) for each in range(step, job.plan.total_steps))
    return batches(job.pictures, job.order, slices, prepare, job.algorithm.collate, job.workers)


def to_device(value: Any, device: torch.device) -> Any:
    """Tensors, and tuples, lists (which become tuples) and dicts of them, on ``device``."""
    if isinstance(value, Tensor):
        return value.to(device, non_blocking=True)
    if isinstance(value, dict):
        return {name: to_device(each, device) for name, each in value.items()}
    assert isinstance(value, tuple | list), f"collate gives {type(value).__name__}, which cannot be moved"
    return tuple(to_device(each, device) for each in value)


def start_progress(job: Job) -> Progress:
    """Nothing done yet. MPS has no float64, so sums are float32 there."""
    precise = torch.float32 if job.device.type == "mps" else torch.float64
    sums = torch.zeros(2 + len(job.algorithm.counted), dtype=precise, device=job.device)
    return Progress(sums, torch.zeros((), dtype=torch.int64, device=job.device))


def count(progress: Progress, loss: Tensor, counts: Tensor, pictures: int) -> None:
    """Add a batch to the running sums, and keep the number of the first step whose loss is not finite."""
    with torch.no_grad():
        loss = loss.detach().to(progress.sums.dtype)
        progress.sums[0] += loss * pictures
        progress.sums[1] += pictures
        progress.sums[2:] += counts
        first = (progress.not_finite == 0) & ~torch.isfinite(loss)
        progress.not_finite += first * progress.step


def ask_validation(job: Job, network: nn.Module, stop: StopRequest) -> list[Any] | None:
    """Answers that together hold each validation picture once; None when a signal has come, which is looked for after
    every ``STOP_AFTER`` pictures, so that a long validation does not hold up the end."""
    parts: list[Any] = []
    rows = range(0 if job.validation is None else len(job.validation.source))
    for start in range(0, len(rows), STOP_AFTER):
        if stop.reason:
            return None
        assert job.validation is not None
        parts.append(job.algorithm.ask(network, job.validation, rows[start : start + STOP_AFTER]))
    return parts


def training_figures(job: Job, progress: Progress) -> tuple[dict[str, float], int]:
    """Loss and figures since the epoch's start, and the pictures they are over; waits for the device."""
    loss, pictures, *sums = progress.sums.tolist()
    named = dict(zip(job.algorithm.counted, sums, strict=True))
    return {"loss": loss / max(1, pictures)} | job.algorithm.figures(named, int(pictures)), int(pictures)


def step_event(job: Job, progress: Progress, epoch: int, batch: int, rate: float, seconds: float) -> StepDone:
    figures, pictures = training_figures(job, progress)
    loss = figures.pop("loss")
    return StepDone(progress.step, epoch, batch, rate, loss, figures, pictures, seconds)


def check_finite(progress: Progress, plan: Plan) -> None:
    """Stop the run when a loss since the start was not finite. Raises UserError."""
    step = int(progress.not_finite)
    if step:
        rate = learning_rate(plan.schedule, step)
        epoch = plan.epochs_done(step - 1)
        raise UserError(
            f"the loss was not finite in step {step} (epoch {epoch}, learning rate {rate:g})",
            "training",
            "Lower learning_rate (a tenth of it is a good try), or set clip_gradient=1.",
            "learning_rate",
        )


def note_bad(job: Job, progress: Progress, bad: tuple[BadRecord, ...], tell: Listener) -> None:
    """Name pictures that could not be read, once each, and stop the run when they are too many."""
    for record in bad:
        if record.where not in progress.bad:
            progress.bad[record.where] = record.reason
            tell(PictureSkipped(record.where, record.reason))
    if len(progress.bad) > job.bad_pictures:
        last = next(reversed(progress.bad))
        raise UserError(
            f"{len(progress.bad)} pictures cannot be read, more than the {job.bad_pictures} that are allowed; "
            f"the last: {last}: {progress.bad[last]}",
            job.pictures.source.origin,
            "Mend or remove the pictures named in bad_records.jsonl, or raise bad_records_limit.",
            "bad_records_limit",
        )


def tell_enlarged(job: Job, tell: Listener) -> None:
    """Say once, after the first epoch, how many pictures had to be enlarged."""
    smaller = len(job.pictures.smaller)
    if smaller:
        height, width = job.pictures.smallest
        seen = len(job.pictures.source)
        tell(
            Said(f"{smaller:,} of {seen:,} pictures are smaller than {height} x {width} and are enlarged", warning=True)
        )


def tell_epoch(
    job: Job,
    progress: Progress,
    epoch: int,
    network: nn.Module,
    verdict: Verdict | None,
    seconds: tuple[float, float],
    tell: Listener,
) -> None:
    """Report an epoch, and keep its weights when it is the best so far.

    Better means strictly better (reference 2.3); without validation data every epoch replaces the one before.
    """
    improved = verdict is None or progress.best is None or verdict.objective > progress.best
    rate = learning_rate(job.plan.schedule, progress.step)
    figures, pictures = training_figures(job, progress)
    validation = {} if verdict is None else dict(verdict.figures)
    tell(EpochDone(progress.step, epoch, rate, figures, validation, improved, *seconds, pictures))
    if improved:
        progress.best = None if verdict is None else verdict.objective
        progress.best_epoch = epoch + 1
        tell(ModelWritten(job.keep_best(network, verdict, epoch + 1), epoch))
    if job.checkpoint_frequency and (epoch + 1) % job.checkpoint_frequency == 0:
        job.keep_epoch(network, epoch + 1)
    if job.early_stopping is not None and verdict is not None:
        progress.early = observe(progress.early, verdict.objective, job.early_stopping)


def finish_early(job: Job, progress: Progress, tell: Listener) -> None:
    """Say that a run ended early; one that is stopped before its first validation leaves the weights it has."""
    if progress.early.stop:
        tell(Stopped(progress.step, "early stopping"))
    elif progress.stopped:
        if progress.best_epoch == 0:
            network = job.ema.network if job.ema is not None else job.network
            tell(ModelWritten(job.keep_best(network, None, 0), -1))
        tell(Stopped(progress.step, progress.stopped))


def save(job: Job, progress: Progress, tell: Listener) -> None:
    """Write a checkpoint; never after a loss that was not finite."""
    check_finite(progress, job.plan)
    tensors = {f"network/{name}": tensor for name, tensor in job.network.state_dict().items()}
    if job.ema is not None:
        tensors |= {f"ema/{name}": tensor for name, tensor in job.ema.network.state_dict().items()}
    tensors |= {f"optimizer/{k}": v for k, v in state_tensors(job.optimizer, job.network.named_parameters()).items()}
    tensors |= {"counters/sums": progress.sums, "generator/cpu": torch.get_rng_state()}
    if job.device.type == "cuda":
        tensors["generator/cuda"] = torch.cuda.get_rng_state(job.device)
    state = {
        "plan": job.plan.to_dict(),
        "best": progress.best,
        "best_epoch": progress.best_epoch,
        "early": progress.early.to_dict(),
        "bad": progress.bad,
        "scaler": job.scaler.state_dict(),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
    }
    copies = {name: tensor.detach().to("cpu", copy=True) for name, tensor in tensors.items()}
    path = write_checkpoint(job.checkpoints, Checkpoint(progress.step, copies, state))
    tell(CheckpointWritten(progress.step, str(path)))


def restore(job: Job, checkpoint: Checkpoint) -> Progress:
    """Put a checkpoint back into the job's network, optimizer and generators, and return its progress."""

    def part(prefix: str) -> dict[str, Tensor]:
        return {name[len(prefix) :]: t for name, t in checkpoint.tensors.items() if name.startswith(prefix)}

    job.network.load_state_dict(part("network/"))
    if job.ema is not None:
        job.ema.network.load_state_dict(part("ema/"))
    load_state_tensors(job.optimizer, job.network.named_parameters(), part("optimizer/"))
    job.scaler.load_state_dict(checkpoint.state["scaler"])
    torch.set_rng_state(checkpoint.tensors["generator/cpu"])
    if job.device.type == "cuda" and "generator/cuda" in checkpoint.tensors:
        torch.cuda.set_rng_state(checkpoint.tensors["generator/cuda"], job.device)
    progress = start_progress(job)
    progress.sums.copy_(checkpoint.tensors["counters/sums"])
    progress.step = checkpoint.step
    progress.best = checkpoint.state["best"]
    progress.best_epoch = checkpoint.state["best_epoch"]
    progress.early = EarlyStoppingState.from_dict(checkpoint.state["early"])
    progress.bad = dict(checkpoint.state["bad"])
    return progress
