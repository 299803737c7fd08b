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
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
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
from foveal.data.order import Order, choose_order, order_of
from foveal.data.recognise import open_data
from foveal.data.tiles import TiledSource, window_for
from foveal.data.views import Preprocessing
from foveal.errors import UserError
from foveal.files import lock, write_json
from foveal.models.allocation import memory_kept
from foveal.models.device import Device, choose_device, choose_precision, place
from foveal.models.syncnorm import sync_norms
from foveal.records import Reading
from foveal.settings import ORIGINAL, Parsed, Settings, parse_settings
from foveal.training.batch_size import auto_batch_size, share_batch
from foveal.training.carry import carry_over
from foveal.training.checkpoint import Checkpoint, shared_checkpoint
from foveal.training.compiling import with_compiled
from foveal.training.early_stopping import EarlyStopping
from foveal.training.ema import Ema
from foveal.training.events import Finished, Listener, Said
from foveal.training.job import Job, Progress
from foveal.training.listeners import bad_records, journal, tensorboard, to_all
from foveal.training.loop import train_network
from foveal.training.pace import measure_pace
from foveal.training.pictures import Pictures
from foveal.training.plan import Plan, make_plan
from foveal.training.ranks import Ranks, Together, idle_alone
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
    "compile",
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
    with Together() as ranks:  # one process is a rank, too
        tell = to_all(listeners if ranks.first else ())
        task = _task(algorithm)
        parsed = parse_settings(settings, recipe=recipe, algorithm=task.name) if task is not None else None
        if ranks.here:
            ranks.meet()  # what is fetched or unpacked is so once on each machine
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
        if not ranks.here:
            ranks.meet()
        if task is None or parsed is None:  # wrong settings are told before data is opened wherever that is possible
            task = next(each for each in TASKS if (each.labels == "boxes") == (dataset.task == "boxes"))
            parsed = parse_settings(settings, recipe=recipe, algorithm=task.name)
        decided, doubts = task.read_data(parsed.settings, parsed.given, dataset.task, dataset.train.origin)
        parsed = replace(parsed, settings=decided, warnings=(*parsed.warnings, *doubts, *idle_alone(decided, ranks)))
        for line in parsed.warnings:
            tell(Said(line, warning=True))
        out = Path(output) if output is not None else Path("foveal-runs") / (Path(data).resolve().stem or "data")
        with _held(out, ranks):
            pictures = task.check(dataset, parsed.settings, tell)
            return _begin(task, out, parsed, pictures, model, tensorboard_folder, ranks, tell)


def _begin(
    task: Task,
    out: Path,
    parsed: Parsed,
    pictures: Pictures,
    model: str | Path | None,
    tensorboard_folder: str | Path | None,
    ranks: Ranks,
    tell: Listener,
) -> Result:
    """Look whether this run has ended already, and run it if not."""
    identity = _identity(parsed.settings, pictures, model)
    device = choose_device(parsed.settings.device, ranks.here if ranks.count > 1 else None)
    _agree(ranks, parsed.settings, identity, pictures, device.device)
    finished = ranks.decide(lambda: find_finished(out, identity))
    if finished is not None:
        tell(Said(f"this run is finished already; for a new one name another output folder than {out}"))
        figures = ranks.decide(lambda: _figures(open_artifact(out / "model")[0]))
        archive = str(out / "model.tar.gz")
        return Result(str(out / "model"), archive, figures, finished["best_epoch"], finished["stopped"])
    kept = []
    if ranks.first:
        kept = [journal(out / "metrics.jsonl"), bad_records(out / "bad_records.jsonl")]
        if tensorboard_folder is not None:
            kept.append(tensorboard(Path(tensorboard_folder)))
    return _run(task, out, parsed, identity, pictures, device, model, ranks, to_all([*kept, tell]))


@contextmanager
def _held(out: Path, ranks: Ranks) -> Iterator[None]:
    """The run's folder, made and locked by the first rank."""
    if not ranks.first:
        yield
        return
    make_folder(out)
    with lock(out, "another process is training into this folder"):
        yield


def _agree(
    ranks: Ranks, settings: Settings, identity: Mapping[str, Any], pictures: Pictures, device: torch.device
) -> None:
    """All ranks are to train the same on the same. Raises UserError."""
    own = ("loader_workers", "cache_pictures")
    same = {
        "settings": {name: value for name, value in settings.to_dict().items() if name not in own},
        "training data": [identity["data"], len(pictures.train)],
        "validation data": identity["validation"],
        "class names": list(pictures.class_names),
        "earlier model": identity["model"],
        "kind of device": device.type,
        "version of torch": str(torch.__version__),
    }
    ranks.agree("training", same)
    if ranks.count > 1 and device.type == "mps":
        raise UserError("several processes can't share an Apple GPU", "device", "Set device=cpu.", "device")


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
    device: Device,
    model: str | Path | None,
    ranks: Ranks,
    tell: Listener,
) -> Result:
    """Set up, loop, end; ``out`` is locked."""
    started = time.monotonic()
    tell(Said(device.said))
    if ranks.count > 1:
        tell(Said(f"{ranks.count} processes train together, each on its part of every batch"))
    checkpoint, torn = shared_checkpoint(out / "checkpoints", ranks)
    for line in torn:
        tell(Said(line, warning=True))
    earlier = open_artifact(model) if model is not None and ranks.first else None
    if earlier is not None:
        expect_algorithm(earlier[0], task.name, str(model))
    before = earlier[0] if earlier else None
    resolved = _resolved(task, out, parsed, identity, pictures, device.device, before, ranks, tell)
    settings = resolved.settings
    network = _network(task, resolved, settings.seed, earlier, pictures, checkpoint is None, tell)
    place(network, device.device)
    ranks.send_tensors(network.state_dict().values())
    synced = settings.sync_batch_norm and ranks.count > 1 and sync_norms(network, device.device) > 0
    if ranks.rank:
        torch.manual_seed(settings.seed + ranks.rank)  # what the network draws (dropout) is each rank's own
    job = replace(_job(task, out, resolved, pictures, network, device.device, ranks), synced=synced)
    share_batch(job.plan.batch_size, ranks)
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
        _expect_order(checkpoint, job.order, out)
        _say_differences(checkpoint, ranks, tell)
    ema = Ema(network, plan.ema_decay) if plan.ema_decay is not None else None
    planned = replace(
        settings, epochs=plan.epochs, mini_batch_size=plan.batch_size, augmentation_type=plan.augmentation
    )
    job = _job(task, out, replace(resolved, settings=planned), pictures, network, device.device, ranks)
    job = replace(job, plan=plan, ema=ema, synced=synced, adapts=_is_auto(parsed))
    compiles = settings.compile if checkpoint is None else checkpoint.state.get("compile", False)
    with stop_on_signals() as stop, enough_memory(step, SMALLER), memory_kept(device.device):
        progress = train_network(with_compiled(job, compiles, tell), checkpoint, stop, tell)
    ended = ranks.decide(lambda: asdict(_end(out, identity, progress, tell)))
    return Result(**ended)


def _resolved(
    task: Task,
    out: Path,
    parsed: Parsed,
    identity: dict[str, Any],
    pictures: Pictures,
    device: torch.device,
    earlier: Artifact | None,
    ranks: Ranks,
    tell: Listener,
) -> Resolved:
    """Decide what the recipe leaves open, once and on the first rank: a run that is resumed reads its decisions from
    ``run.json``. Pretrained weights stay with the first rank, which sends the network."""

    def decide(settings: Settings) -> Resolved:
        count, classes = len(pictures.train), len(pictures.class_names)
        facts = look_at_pictures(pictures.train)
        resolved = task.resolve(settings, parsed.given, facts, classes, count, device, earlier)
        return _with_order(resolved, pictures, "shuffle_buffer" in parsed.given, _cache(settings, ranks))

    stored = ranks.decide(lambda: read_run(out))
    if stored is not None:
        return _as_stored(task, out, parsed, stored["resolved"], ranks, decide)
    settings = parsed.settings
    if _is_auto(parsed) and settings.recipe == ORIGINAL:
        settings = replace(settings, mini_batch_size=type(settings).mini_batch_size)
    resolved = _on_all(task, ranks, lambda: decide(settings))
    if _is_auto(parsed):
        size, line = auto_batch_size(task, resolved, pictures, device, ranks)
        tell(Said(line))
        resolved = _on_all(task, ranks, lambda: decide(replace(settings, mini_batch_size=size)))
    for line in resolved.said:
        tell(Said(line))
    for line in resolved.warnings:
        tell(Said(line, warning=True))
    if ranks.first:
        weights = resolved.weights.origin if resolved.weights is not None else None
        fields = {**_fields(resolved), "weights": weights}
        write_json(out / "run.json", {"format": 1, "identity": identity, "resolved": fields})
    return resolved


def _is_auto(parsed: Parsed) -> bool:
    return "mini_batch_size" in parsed.given and parsed.settings.mini_batch_size is None


def _fields(resolved: Resolved) -> dict[str, Any]:
    return {
        "settings": resolved.settings.to_dict(),
        "network": resolved.network.as_dict(),
        "preprocessing": resolved.rule.to_dict(),
    }


def _of_fields(task: Task, fields: Mapping[str, Any]) -> Resolved:
    settings = task.read_settings(fields["settings"])
    rule = Preprocessing.from_dict(fields["preprocessing"])
    return Resolved(settings, task.read_spec(fields["network"]), rule, None, ())


def _on_all(task: Task, ranks: Ranks, decide: Callable[[], Resolved]) -> Resolved:
    """What the first rank resolves, on every rank."""
    mine = decide() if ranks.first else None
    fields = ranks.decide(lambda: _fields(mine) if mine is not None else None)
    return mine if mine is not None else _of_fields(task, fields)


def _as_stored(
    task: Task,
    out: Path,
    parsed: Parsed,
    fields: Mapping[str, Any],
    ranks: Ranks,
    decide: Callable[[Settings], Resolved],
) -> Resolved:
    resolved = _of_fields(task, fields)
    free = {name: getattr(parsed.settings, name) for name in FREE}
    resolved = replace(resolved, settings=replace(resolved.settings, **free))
    begun = any((out / "checkpoints").glob("step-*"))
    if not ranks.first or begun or fields["weights"] is None:
        return resolved
    return replace(resolved, weights=decide(parsed.settings).weights)


def _cache(settings: Settings, ranks: Ranks) -> int:
    """Bytes of decoded pictures that this process may keep."""
    return 0 if settings.cache_pictures is False else CACHE_BYTES // ranks.beside


def _with_order(resolved: Resolved, pictures: Pictures, buffer_given: bool, room: int) -> Resolved:
    settings, tiles = resolved.settings, pictures.train
    if isinstance(tiles, TiledSource) and settings.order == "auto" and not buffer_given:
        window = window_for(tiles, room)
        if window is not None:
            settings = replace(settings, order="shards+window", shuffle_buffer=window)
            line = f"order=shards+window with shuffle_buffer={window}: the decoded pictures do not fit in memory"
            resolved = replace(resolved, said=(*resolved.said, line))
    kind, said, warnings = choose_order(settings.order, settings.shuffle_buffer, pictures.train, buffer_given)
    settings = replace(settings, order=kind, num_training_samples=pictures.count)
    return replace(resolved, settings=settings, said=(*resolved.said, *said), warnings=(*resolved.warnings, *warnings))


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
    ranks: Ranks,
) -> Job:
    settings, rule = resolved.settings, resolved.rule
    precision = choose_precision(settings.precision_dtype, device)
    workers = default_workers(ranks.beside) if settings.loader_workers is None else settings.loader_workers
    cache = _cache(settings, ranks)
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
        order=order_of(settings.order, settings.shuffle_buffer, settings.seed, pictures.train),
        workers=workers,
        early_stopping=EarlyStopping(*rules) if settings.early_stopping else None,
        checkpoint_frequency=settings.checkpoint_frequency,
        checkpoint_seconds=settings.checkpoint_seconds,
        checkpoint_steps=settings.checkpoint_steps,
        log_steps=settings.log_steps,
        bad_pictures=math.ceil(settings.bad_records_limit * (pictures.count + len(pictures.validation or ()))),
        checkpoints=out / "checkpoints",
        keep_best=_keeper(task, out / "model", resolved, pictures) if ranks.first else lambda *_: "",
        keep_epoch=lambda each, epoch: write_epoch(out / "model", epoch, each.state_dict()) if ranks.first else None,
        forward=network,
        settings=settings.to_dict(),
        ranks=ranks,
        loss_shares=settings.to_dict().get("loss_shares", "batch"),
        parts=settings.gradient_accumulation,
    )


def _keeper(
    task: Task, folder: Path, resolved: Resolved, pictures: Pictures
) -> Callable[[nn.Module, Verdict | None, int], str]:
    """What writes the artifact: (network, verdict, epoch from 1) -> the path of the weights."""
    data = {
        "fingerprint": pictures.fingerprint,
        "named": pictures.named,
        "training_pictures": pictures.count,
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
            calibration={} if verdict is None else dict(verdict.calibration),
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


def _expect_order(checkpoint: Checkpoint, order: Order, out: Path) -> None:
    """Raises UserError when the positions that are done were counted in another order than the run has now."""
    before = checkpoint.state.get("order", order.to_dict())
    changed = [name for name, now in order.to_dict().items() if before.get(name) != now]
    if changed:
        raise UserError(
            f"the pictures come in another order than before: {' and '.join(changed)} changed",
            str(out),
            "Name another folder with --output to train anew.",
        )


def _say_differences(checkpoint: Checkpoint, ranks: Ranks, tell: Listener) -> None:
    """Bit-equality with the uninterrupted run depends on these."""
    for name, now in (("threads", torch.get_num_threads()), ("torch", torch.__version__)):
        before = checkpoint.state[name]
        if before != now:
            tell(Said(f"{name}: {before} before, {now} now: results will differ in their last digits", warning=True))
    processes = checkpoint.state.get("processes", 1)
    if processes != ranks.count:
        told = f"processes: {processes} before, {ranks.count} now: the run goes on, and results will differ"
        tell(Said(f"{told} somewhat", warning=True))
