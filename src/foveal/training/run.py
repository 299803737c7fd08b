"""A training run from data to artifact: set up, loop, end. The loop itself is in ``loop.py``.

What a run leaves in its folder:

    OUT/
      run.json            the settings and data it was started with, and what was resolved from them
      model/              the artifact; holds the best weights so far from the first validation on
      model.tar.gz        the same, packed, when the run has ended
      checkpoints/        the newest two; a run that was killed goes on from there
      metrics.jsonl       a line every few steps and one an epoch
      bad_records.jsonl   pictures that could not be read, when there are any
      finished.json       written last
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from foveal.algorithms.algorithm import Verdict
from foveal.algorithms.memory import enough_memory
from foveal.algorithms.recipe import Resolved
from foveal.artifact import Artifact, expect_algorithm, open_artifact, pack_artifact, write_artifact, write_epoch
from foveal.data.facts import look_at_pictures
from foveal.data.loader import Decoder, default_workers
from foveal.data.order import Order
from foveal.data.recognise import open_data
from foveal.data.views import Preprocessing
from foveal.errors import UserError
from foveal.files import lock, write_json
from foveal.models.allocation import memory_kept
from foveal.models.device import choose_device, choose_precision, place
from foveal.records import Reading
from foveal.settings import Parsed, Settings, parse_settings
from foveal.training.carry import carry_over
from foveal.training.checkpoint import Checkpoint, read_checkpoint
from foveal.training.early_stopping import EarlyStopping
from foveal.training.ema import Ema
from foveal.training.events import Finished, Listener, Said
from foveal.training.listeners import bad_records, journal, tensorboard, to_all
from foveal.training.loop import Job, Progress, train_network
from foveal.training.pace import measure_pace
from foveal.training.pictures import Pictures
from foveal.training.plan import Plan, make_plan
from foveal.training.run_folder import find_finished, make_folder, read_run
from foveal.training.stopping import stop_on_signals
from foveal.training.task import TASKS, Network, Task
from foveal.weights import load_pretrained

FREE = (
    "device",
    "loader_workers",
    "checkpoint_seconds",
    "checkpoint_steps",
    "cache_pictures",
    "strict",
    "bad_records_limit",
)
"""Settings that may differ when a run is resumed: they change how it runs, not what comes out."""
SMALLER = "Lower mini_batch_size or image_shape, or take a network of fewer layers."
CACHE_BYTES = 1 << 30  # decoded pictures kept in memory at most


@dataclass(frozen=True)
class Result:
    """What a run ended with.

    Attributes:
        model: the artifact's folder. archive: the same as ``model.tar.gz`` (empty when the run was stopped).
        figures: validation figures of the stored weights, by name; empty without validation data.
        best_epoch: from 1; 0 when the run was stopped before its first validation.
        stopped: empty, ``early stopping``, or the name of the signal that stopped the run.
    """

    model: str
    archive: str
    figures: Mapping[str, float]
    best_epoch: int
    stopped: str


def train(
    data: str | Path,
    output: str | Path | None = None,
    *,
    algorithm: str | None = None,
    recipe: str = "modern",
    validation: str | Path | None = None,
    test: str | Path | None = None,
    model: str | Path | None = None,
    form: str | None = None,
    file_column: str | None = None,
    label_column: str | None = None,
    root: str | Path | None = None,
    reading: Reading | None = None,
    tensorboard_folder: str | Path | None = None,
    listeners: Sequence[Listener] = (),
    **settings: object,
) -> Result:
    """Train a classifier or a detector on labelled pictures, or go on with a run that was stopped or killed.

    Args:
        data: RecordIO, a ``.lst``, a CSV file, a folder per class, Pascal VOC, COCO or YOLO data, or SageMaker's JSON;
            splits inside it are recognised.
        output: the run's folder; ``foveal-runs/<name of data>`` when left out. The same call again resumes an
            unfinished run and returns the result of a finished one.
        algorithm: ``image-classification`` or ``object-detection``; by the data when left out.
        recipe: ``modern``, or ``original`` for every default of SageMaker's algorithm.
        validation: validation data, when it lies elsewhere; else a part of the training data is set aside.
        test: test data, when it lies elsewhere; only its classes are checked, it is never trained or chosen on.
        model: an earlier artifact to go on from (incremental training).
        form, file_column, label_column: how to read ``data``, where recognising it is not enough.
        root: the folder of the pictures that a list or table names, when they do not lie beside it.
        reading: how a text of labels is to be read, where it does not tell itself.
        tensorboard_folder: also write TensorBoard files there.
        listeners: called with every event of ``foveal.training.events``.
        settings: hyperparameters by their SageMaker names, as strings or typed values.

    Raises:
        UserError: for anything wrong in data or settings, with file, record or setting and the remedy.
    """
    tell = to_all(listeners)
    task = _task(algorithm)
    parsed = parse_settings(settings, recipe=recipe, algorithm=task.name) if task is not None else None
    dataset = open_data(
        data,
        task=None if task is None else task.labels,
        form=form,
        validation=validation,
        test=test,
        file_column=file_column,
        label_column=label_column,
        root=root,
        reading=reading,
        channel="train",
    )
    if task is None or parsed is None:  # wrong settings are told before data is opened wherever that is possible
        task = next(each for each in TASKS if (each.labels == "boxes") == (dataset.task == "boxes"))
        parsed = parse_settings(settings, recipe=recipe, algorithm=task.name)
    for line in parsed.warnings:
        tell(Said(line, warning=True))
    out = Path(output) if output is not None else Path("foveal-runs") / (Path(data).resolve().stem or "data")
    make_folder(out)
    with lock(out, "another process is training into this folder"):
        pictures = task.check(dataset, parsed.settings, tell)
        identity = _identity(parsed.settings, pictures, model)
        finished = find_finished(out, identity)
        if finished is not None:
            tell(Said(f"this run is finished already; for a new one name another output folder than {out}"))
            figures = _figures(open_artifact(out / "model")[0])
            archive = str(out / "model.tar.gz")
            return Result(str(out / "model"), archive, figures, finished["best_epoch"], finished["stopped"])
        kept = [journal(out / "metrics.jsonl"), bad_records(out / "bad_records.jsonl")]
        if tensorboard_folder is not None:
            kept.append(tensorboard(Path(tensorboard_folder)))
        return _run(task, out, parsed, identity, pictures, model, to_all([*kept, *listeners]))


def _task(algorithm: str | None) -> Task | None:
    found = [task for task in TASKS if task.name == algorithm]
    if algorithm is not None and not found:
        names = " or ".join(task.name for task in TASKS)
        raise UserError(f"there is no algorithm {algorithm!r}", "algorithm", f"Give {names}.", "algorithm")
    return found[0] if found else None


def _run(
    task: Task,
    out: Path,
    parsed: Parsed,
    identity: dict[str, Any],
    pictures: Pictures,
    model: str | Path | None,
    tell: Listener,
) -> Result:
    """Set up, loop, end; ``out`` is locked."""
    started = time.monotonic()
    device = choose_device(parsed.settings.device)
    tell(Said(device.said))
    checkpoint, torn = read_checkpoint(out / "checkpoints")
    for line in torn:
        tell(Said(line, warning=True))
    earlier = open_artifact(model) if model is not None else None
    if earlier is not None:
        expect_algorithm(earlier[0], task.name, str(model))
    resolved = _resolved(task, out, parsed, identity, pictures, device.device, earlier[0] if earlier else None, tell)
    settings = resolved.settings
    network = _network(task, resolved, settings.seed, earlier, pictures, checkpoint is None, tell)
    place(network, device.device)
    job = _job(task, out, resolved, pictures, network, device.device)
    if settings.precision_dtype != "float32":
        tell(Said(choose_precision(settings.precision_dtype, device.device).said))
    step = f"a step of {job.plan.batch_size:,} pictures of {resolved.rule.height} x {resolved.rule.width} pixels"
    if checkpoint is None:
        with enough_memory(step, SMALLER), memory_kept(device.device):
            pace = measure_pace(job, started) if settings.max_minutes is not None else None
        plan, said = make_plan(settings, parsed.given, len(pictures.train), pace)
        for decision in said:
            tell(decision)
    else:
        plan = Plan.from_dict(checkpoint.state["plan"])
        _say_differences(checkpoint, tell)
    ema = Ema(network, plan.ema_decay) if plan.ema_decay is not None else None
    planned = replace(
        settings, epochs=plan.epochs, mini_batch_size=plan.batch_size, augmentation_type=plan.augmentation
    )
    job = _job(task, out, replace(resolved, settings=planned), pictures, network, device.device)
    job = replace(job, plan=plan, ema=ema)
    with stop_on_signals() as stop, enough_memory(step, SMALLER), memory_kept(device.device):
        progress = train_network(job, checkpoint, stop, tell)
    return _end(out, identity, progress, tell)


def _resolved(
    task: Task,
    out: Path,
    parsed: Parsed,
    identity: dict[str, Any],
    pictures: Pictures,
    device: torch.device,
    earlier: Artifact | None,
    tell: Listener,
) -> Resolved:
    """Decide what the recipe leaves open, once: a run that is resumed reads its decisions from ``run.json``."""
    stored = read_run(out)
    if stored is None:
        facts = look_at_pictures(pictures.train)
        count, classes = len(pictures.train), len(pictures.class_names)
        resolved = task.resolve(parsed.settings, parsed.given, facts, classes, count, device, earlier)
        for line in resolved.said:
            tell(Said(line))
        for line in resolved.warnings:
            tell(Said(line, warning=True))
        fields = {
            "settings": resolved.settings.to_dict(),
            "network": resolved.network.as_dict(),
            "preprocessing": resolved.rule.to_dict(),
            "weights": resolved.weights.origin if resolved.weights is not None else None,
        }
        write_json(out / "run.json", {"format": 1, "identity": identity, "resolved": fields})
        return resolved
    fields = stored["resolved"]
    settings = task.read_settings(fields["settings"])
    settings = replace(settings, **{name: getattr(parsed.settings, name) for name in FREE})
    spec = task.read_spec(fields["network"])
    rule = Preprocessing.from_dict(fields["preprocessing"])
    begun = any((out / "checkpoints").glob("step-*"))
    if begun or fields["weights"] is None:
        return Resolved(settings, spec, rule, None, ())
    facts, count = look_at_pictures(pictures.train), len(pictures.train)
    again = task.resolve(parsed.settings, parsed.given, facts, spec.num_classes, count, device, earlier)
    return Resolved(settings, spec, rule, again.weights, ())


def _network(
    task: Task,
    resolved: Resolved,
    seed: int,
    earlier: tuple[Artifact, dict[str, Tensor]] | None,
    pictures: Pictures,
    fresh: bool,
    tell: Listener,
) -> Network:
    """The network with its starting weights; those of a run that is resumed come from the checkpoint instead."""
    torch.manual_seed(seed)
    network = task.build(resolved.network)
    frozen = task.freeze(network, resolved.settings)
    for name in frozen:
        network.get_parameter(name).requires_grad_(False)
    if frozen:
        tell(Said(f"{len(frozen)} parameters are frozen: {frozen[0]} to {frozen[-1]}"))
    pattern = resolved.settings.to_dict().get("freeze_layer_pattern")
    if pattern and not frozen:
        tell(Said(f"freeze_layer_pattern={pattern} matches no parameter: all of them learn", warning=True))
    if not fresh:
        return network
    if earlier is not None:
        said = carry_over(network, *earlier, pictures.class_names)
    elif resolved.weights is not None:
        said = list(load_pretrained(network, resolved.weights).said)
        task.renew(network, resolved.settings.recipe)
    else:
        return network
    for line in said:
        tell(Said(line))
    return network


def _job(
    task: Task,
    out: Path,
    resolved: Resolved,
    pictures: Pictures,
    network: Network,
    device: torch.device,
) -> Job:
    settings, rule = resolved.settings, resolved.rule
    precision = choose_precision(settings.precision_dtype, device)
    workers = default_workers() if settings.loader_workers is None else settings.loader_workers
    cache = 0 if settings.cache_pictures is False else CACHE_BYTES
    rules = (settings.early_stopping_min_epochs, settings.early_stopping_patience, settings.early_stopping_tolerance)
    return Job(
        algorithm=task.teach(settings, rule, pictures, workers),
        plan=make_plan(settings, frozenset(), len(pictures.train), None)[0],
        network=network,
        ema=None,
        optimizer=task.optimizer(network, settings),
        device=device,
        autocast=precision.autocast,
        scaler=torch.amp.GradScaler(device.type, enabled=precision.scale),
        clip_gradient=settings.clip_gradient,
        pictures=Decoder(pictures.train, rule.channels, cache, (rule.height, rule.width)),
        validation=None if pictures.validation is None else Decoder(pictures.validation, rule.channels, cache),
        order=Order(len(pictures.train), settings.seed),
        workers=workers,
        early_stopping=EarlyStopping(*rules) if settings.early_stopping else None,
        checkpoint_frequency=settings.checkpoint_frequency,
        checkpoint_seconds=settings.checkpoint_seconds,
        checkpoint_steps=settings.checkpoint_steps,
        log_steps=settings.log_steps,
        bad_pictures=math.ceil(settings.bad_records_limit * (len(pictures.train) + len(pictures.validation or ()))),
        checkpoints=out / "checkpoints",
        keep_best=_keeper(task, out / "model", resolved, pictures),
        keep_epoch=lambda each, epoch: write_epoch(out / "model", epoch, each.state_dict()),
        settings=settings.to_dict(),
    )


def _keeper(
    task: Task, folder: Path, resolved: Resolved, pictures: Pictures
) -> Callable[[nn.Module, Verdict | None, int], str]:
    """What writes the artifact: (network, verdict, epoch from 1) -> the path of the weights."""
    data = {
        "fingerprint": pictures.fingerprint,
        "named": pictures.named,
        "training_pictures": len(pictures.train),
        "validation_pictures": 0 if pictures.validation is None else len(pictures.validation),
        "seed": resolved.settings.seed,
    }
    if pictures.split_off:
        data["validation_fraction"] = resolved.settings.validation_fraction

    def keep(network: nn.Module, verdict: Verdict | None, epoch: int) -> str:
        artifact = Artifact(
            algorithm=task.name,
            network=resolved.network.as_dict(),
            class_names=pictures.class_names,
            preprocessing=resolved.rule.to_dict(),
            settings=resolved.settings.to_dict(),
            metrics={} if verdict is None else dict(verdict.details),
            data=data,
            thresholds={} if verdict is None else dict(verdict.thresholds),
            epoch=epoch,
        )
        write_artifact(folder, artifact, network.state_dict())
        return str(folder / "model.safetensors")

    return keep


def _end(out: Path, identity: dict[str, Any], progress: Progress, tell: Listener) -> Result:
    """Pack the artifact of a run that has ended, and mark the run as finished; a stopped one can go on later."""
    model = out / "model"
    artifact, _ = open_artifact(model)
    figures = _figures(artifact)
    if progress.stopped:
        return Result(str(model), "", figures, progress.best_epoch, progress.stopped)
    archive = out / "model.tar.gz"
    pack_artifact(model, archive)
    stopped = "early stopping" if progress.early.stop else ""
    result = Result(str(model), str(archive), figures, progress.best_epoch, stopped)
    write_json(out / "finished.json", {"identity": identity, "best_epoch": result.best_epoch, "stopped": stopped})
    tell(Finished(progress.step, str(archive), progress.best_epoch, figures))
    return result


def _figures(artifact: Artifact) -> dict[str, float]:
    """The single numbers among everything judged, without those that only say how it was judged."""
    found = artifact.metrics.items()
    return {name: value for name, value in found if isinstance(value, float) and name not in artifact.settings}


def _identity(settings: Settings, pictures: Pictures, model: str | Path | None) -> dict[str, Any]:
    """What makes a run this run: settings, data and the model it goes on from."""
    fixed = {name: value for name, value in settings.to_dict().items() if name not in FREE}
    validation = pictures.validation.fingerprint() if pictures.validation is not None else None
    earlier = str(model) if model is not None else None
    return {"settings": fixed, "data": pictures.fingerprint, "validation": validation, "model": earlier}


def _say_differences(checkpoint: Checkpoint, tell: Listener) -> None:
    """Bit-equality with the uninterrupted run depends on these."""
    for name, now in (("threads", torch.get_num_threads()), ("torch", torch.__version__)):
        before = checkpoint.state[name]
        if before != now:
            tell(Said(f"{name}: {before} before, {now} now: results will differ in their last digits", warning=True))
