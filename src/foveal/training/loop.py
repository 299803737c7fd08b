"""The training loop: one function, the same for every algorithm.

The order on the page is the order in time. Within a step nothing waits for the device: sums and the number of the
first step whose loss was not finite stay there, and are read only before something is said or written.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from foveal.algorithms.algorithm import Verdict
from foveal.data.tiles import tiles_each
from foveal.errors import UserError
from foveal.records import BadRecord
from foveal.training.checkpoint import Checkpoint, write_checkpoint
from foveal.training.early_stopping import EarlyStoppingState, observe
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
from foveal.training.job import Job, Progress
from foveal.training.optimizers import load_state_tensors, set_learning_rate, state_tensors
from foveal.training.parcel import pack, unpack
from foveal.training.plan import Plan
from foveal.training.ranks import exchange, stopping
from foveal.training.schedules import learning_rate
from foveal.training.step import learn, training_batches
from foveal.training.stopping import StopRequest

STOP_AFTER = 2048  # validation pictures, or their tiles, asked between two looks for a signal


def train_network(job: Job, restored: Checkpoint | None, stop: StopRequest, tell: Listener) -> Progress:
    """Run a job from its start, or from ``restored``, to its last step, an early stop or a signal.

    Raises:
        UserError: when the loss is not finite (nothing is written from then on), or when more pictures than
            ``job.bad_pictures`` cannot be read.
    """
    plan, network, ranks = job.plan, job.network, job.ranks
    progress = start_progress(job) if restored is None else restore(job, restored)
    done = plan.epochs_done(progress.step)
    size = (plan.total_steps, plan.steps_per_epoch, plan.epochs, plan.batch_size)
    tell(RunStarted(job.algorithm.name, progress.step, *size, job.settings))
    stream = training_batches(job, range(progress.step, plan.total_steps))
    saved, saved_step = time.monotonic(), progress.step
    for epoch in range(done, plan.epochs):
        if progress.stopped or progress.early.stop:
            break
        network.train()
        began = time.monotonic()
        for batch_number in range(progress.step - plan.steps_before(epoch), plan.steps_in(epoch)):
            batch = next(stream)
            news = exchange(ranks, batch, stop, time.monotonic() - saved >= job.checkpoint_seconds)
            due = job.checkpoint_steps is not None and progress.step % job.checkpoint_steps == 0
            progress.stopped = news.signal
            if progress.step > saved_step and (news.signal or news.due or due):
                save(job, progress, tell)
                saved, saved_step = time.monotonic(), progress.step
            if progress.stopped:
                break
            note_bad(job, progress, news.bad, tell)
            rate = learning_rate(plan.schedule, progress.step + 1)
            set_learning_rate(job.optimizer, rate)
            progress.step += 1
            if news.pictures:
                loss, counts = learn(job, progress, batch, news, tell)  # forward, backward, added up over the ranks
                if job.clip_gradient is not None:
                    job.scaler.unscale_(job.optimizer)
                    nn.utils.clip_grad_norm_(network.parameters(), job.clip_gradient)
                job.scaler.step(job.optimizer)
                job.scaler.update()
                job.optimizer.zero_grad(set_to_none=True)
                if job.ema is not None:
                    job.ema.update(network, progress.step)
                count(progress, loss, counts, news.pictures)
            if progress.step % job.log_steps == 0:
                check_finite(progress, plan)
                tell(step_event(job, progress, epoch, batch_number, rate, time.monotonic() - began))
        if progress.stopped:
            break
        check_finite(progress, plan)
        trained = time.monotonic()
        if epoch == done:
            tell_enlarged(job, tell)
        judged = job.ema.network if job.ema is not None else network
        ranks.send_tensors(judged.buffers())  # statistics of norms that are each rank's own: the first one's are judged
        answers, progress.stopped = ask_validation(job, judged, stop)
        if progress.stopped:  # the run goes on from the checkpoint before
            break
        verdict = judge(job, answers)
        note_bad(job, progress, verdict.bad if verdict is not None else (), tell)
        seconds = (trained - began, time.monotonic() - trained)
        tell_epoch(job, progress, epoch, judged, verdict, seconds, tell)
        progress.sums.zero_()
        progress.stopped = stopping(ranks, stop)
        save(job, progress, tell)
        saved, saved_step = time.monotonic(), progress.step
    stream.close()
    finish_early(job, progress, tell)
    return progress


def start_progress(job: Job) -> Progress:
    """Nothing done yet. MPS has no float64, so sums are float32 there."""
    precise = torch.float32 if job.device.type == "mps" else torch.float64
    sums = torch.zeros(2 + len(job.algorithm.counted), dtype=precise, device=job.device)
    return Progress(sums, torch.zeros((), dtype=torch.int64, device=job.device), parts=job.parts)


def count(progress: Progress, loss: Tensor, counts: Tensor, pictures: int) -> None:
    """Add a batch to the running sums, and keep the number of the first step whose loss is not finite."""
    with torch.no_grad():
        loss = loss.detach().to(progress.sums.dtype)
        progress.sums[0] += loss * pictures
        progress.sums[1] += pictures
        progress.sums[2:] += counts
        first = (progress.not_finite == 0) & ~torch.isfinite(loss)
        progress.not_finite += first * progress.step


def ask_validation(job: Job, network: nn.Module, stop: StopRequest) -> tuple[list[Any], str]:
    """Answers that together hold each validation picture once, of which every rank asks its part, for the first rank;
    and the name of a signal that has come, for which it looks every ``STOP_AFTER`` pictures, so that a long validation
    does not hold up the end."""
    parts: list[Any] = []
    rows = range(0 if job.validation is None else len(job.validation.source))
    after = max(1, STOP_AFTER // tiles_each(job.pictures.source))
    for start in range(0, len(rows), after):
        reason = stopping(job.ranks, stop)
        if reason:
            return [], reason
        assert job.validation is not None
        mine = job.ranks.part(rows[start : start + after])
        answers = job.algorithm.ask(network, job.validation, mine)
        if job.ranks.count == 1:
            parts.append(answers)
            continue
        every = job.ranks.everyones(pack(answers))
        parts += [unpack(each) for each in every] if job.ranks.first else []
    return parts, ""


def judge(job: Job, answers: list[Any]) -> Verdict | None:
    """The first rank's verdict, on all ranks; None without validation pictures."""
    if job.validation is None or not len(job.validation.source):
        return None
    if job.ranks.count == 1:
        return job.algorithm.judge(answers)
    verdict = job.ranks.firsts(pack(job.algorithm.judge(answers)) if job.ranks.first else b"")
    found: Verdict = unpack(verdict)
    return found


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


def note_bad(job: Job, progress: Progress, bad: Iterable[BadRecord], tell: Listener) -> None:
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
    seen = len(job.pictures.source)
    mine = np.zeros(seen, dtype=np.bool_)
    mine[list(job.pictures.smaller)] = True
    every = [np.frombuffer(each, np.uint8) for each in job.ranks.everyones(np.packbits(mine).tobytes())]
    smaller = int(np.unpackbits(np.bitwise_or.reduce(every)).sum())
    if smaller:
        height, width = job.pictures.smallest
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
    """Write a checkpoint, on the first rank; never after a loss that was not finite."""
    check_finite(progress, job.plan)
    generators = job.ranks.everyones(pack(generator_states(job.device)))
    if not job.ranks.first:
        return
    tensors = {f"network/{name}": tensor for name, tensor in job.network.state_dict().items()}
    if job.ema is not None:
        tensors |= {f"ema/{name}": tensor for name, tensor in job.ema.network.state_dict().items()}
    tensors |= {f"optimizer/{k}": v for k, v in state_tensors(job.optimizer, job.network.named_parameters()).items()}
    tensors |= {"counters/sums": progress.sums}
    for rank, states in enumerate(map(unpack, generators)):
        of_rank = f"generator/rank{rank}/" if rank else "generator/"
        tensors |= {of_rank + name: torch.from_numpy(state) for name, state in states.items()}
    state = {
        "plan": job.plan.to_dict(),
        "order": job.order.to_dict(),
        "best": progress.best,
        "best_epoch": progress.best_epoch,
        "early": progress.early.to_dict(),
        "bad": progress.bad,
        "scaler": job.scaler.state_dict(),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "processes": job.ranks.count,
        "compile": job.compiled,
        "parts": progress.parts,
    }
    copies = {name: tensor.detach().to("cpu", copy=True) for name, tensor in tensors.items()}
    path = write_checkpoint(job.checkpoints, Checkpoint(progress.step, copies, state))
    tell(CheckpointWritten(progress.step, str(path)))


def generator_states(device: torch.device) -> dict[str, Any]:
    """torch's generators of this process: uint8 arrays."""
    states = {"cpu": torch.get_rng_state().numpy()}
    return states | {"cuda": torch.cuda.get_rng_state(device).numpy()} if device.type == "cuda" else states


def restore(job: Job, checkpoint: Checkpoint) -> Progress:
    """Put a checkpoint back into the job's network, optimizer and generators, and return its progress.

    A rank that the run did not have keeps its generators as they are.
    """

    def part(prefix: str) -> dict[str, Tensor]:
        return {name[len(prefix) :]: t for name, t in checkpoint.tensors.items() if name.startswith(prefix)}

    job.network.load_state_dict(part("network/"))
    if job.ema is not None:
        job.ema.network.load_state_dict(part("ema/"))
    load_state_tensors(job.optimizer, job.network.named_parameters(), part("optimizer/"))
    job.scaler.load_state_dict(checkpoint.state["scaler"])
    generators = part(f"generator/rank{job.ranks.rank}/" if job.ranks.rank else "generator/")
    if "cpu" in generators:
        torch.set_rng_state(generators["cpu"])
    if job.device.type == "cuda" and "cuda" in generators:
        torch.cuda.set_rng_state(generators["cuda"], job.device)
    progress = start_progress(job)
    progress.sums.copy_(checkpoint.tensors["counters/sums"])
    progress.step = checkpoint.step
    progress.best = checkpoint.state["best"]
    progress.best_epoch = checkpoint.state["best_epoch"]
    progress.early = EarlyStoppingState.from_dict(checkpoint.state["early"])
    progress.bad = dict(checkpoint.state["bad"])
    progress.parts = max(job.parts, checkpoint.state.get("parts", 1))
    return progress
