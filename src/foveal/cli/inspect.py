"""``foveal inspect``: what a file or folder is, and what is in it."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from foveal.cli.shared import PATH, data_options, say_lines
from foveal.errors import UserError
from foveal.progress import plain
from foveal.storage.cache import named

if TYPE_CHECKING:
    from foveal.data.facts import BoxFacts
    from foveal.records import Reading, Source


@click.command("inspect")
@click.argument("path", type=PATH)
@data_options
@click.option("--json", "as_json", is_flag=True, help="For a .rec file: every record as a JSON line; else one object.")
def command(
    path: Path,
    form: str | None,
    validation: Path | None,
    test: Path | None,
    file_column: str | None,
    label_column: str | None,
    root: Path | None,
    reading: Reading,
    as_json: bool,
) -> None:
    """Tell what PATH is (data, a model, a checkpoint, a training run) and what is in it.

    \b
    foveal inspect photos/                 classes, counts, sizes; boxes, where there are some
    foveal inspect train.rec               the same, and damaged records by byte offset
    foveal inspect train.rec --json        every record as a JSON line
    foveal inspect foveal-runs/photos      what was trained, how good it is
    """
    from foveal.artifact import is_artifact
    from foveal.data.remote import local
    from foveal.data.unpack import is_packed_data

    found: list[str] = []
    path = local(path, found)
    say_lines(found)
    if not path.exists() and "{" not in path.name:  # else the name stands for several shards
        raise UserError("there is no such file or folder", str(path), "Check the path.")
    if path.name == "checkpoints" and any(path.glob("step-*")):
        path = path.parent
    if (path / "checkpoints").is_dir() or (path / "manifest.json").is_file():
        _run_or_checkpoint(path, as_json)
    elif is_artifact(path) and not is_packed_data(path):
        _artifact(path, as_json)
    elif path.suffix == ".rec" and as_json:
        sys.exit(_records(path))
    else:
        _data(path, form, validation, test, file_column, label_column, root, reading, as_json)


def _artifact(path: Path, as_json: bool) -> None:
    from foveal.algorithms.detection import NAME as DETECTION
    from foveal.artifact import open_artifact
    from foveal.models.detector import DetectorSpec
    from foveal.models.network import NetworkSpec

    artifact, tensors = open_artifact(path)
    weights = sum(tensor.numel() for tensor in tensors.values())
    if as_json:
        click.echo(json.dumps(asdict(artifact) | {"parameters": weights}, allow_nan=False))
        return
    network, rule = artifact.network, artifact.preprocessing
    kind = DetectorSpec if artifact.algorithm == DETECTION else NetworkSpec
    name = kind.from_dict(network, str(path)).label
    click.echo(f"{named(str(path))} is a model: {artifact.algorithm}, {name}, {weights:,} numbers")
    click.echo(f"classes ({len(artifact.class_names)}): {plain(', '.join(artifact.class_names[:20]))}"
               + (", ..." if len(artifact.class_names) > 20 else ""))  # fmt: skip
    resize = f", shorter side to {rule['resize']}" if rule.get("resize") else ""
    click.echo(f"pictures: {rule['kind']} to {rule['height']} x {rule['width']}, {rule['channels']} channels{resize}")
    figure = "mAP" if artifact.algorithm == DETECTION else "accuracy"
    if artifact.metrics.get(figure) is not None:
        value, count = artifact.metrics[figure], artifact.metrics["count"]
        click.echo(f"epoch {artifact.epoch}: validation {figure} {value:.6f} on {count:,} pictures")
    click.echo(f"trained with recipe {artifact.settings.get('recipe')}; every setting: foveal inspect {path} --json")


def _run_or_checkpoint(path: Path, as_json: bool) -> None:
    from foveal.training.checkpoint import read_checkpoint
    from foveal.training.plan import Plan

    single = (path / "manifest.json").is_file()
    found, torn = read_checkpoint(path.parent if single else path / "checkpoints")
    fields = {"kind": "checkpoint" if single else "run", "step": found.step if found else 0, "torn": torn}
    if found is not None:
        fields |= {"best": found.state["best"], "best_epoch": found.state["best_epoch"], "plan": found.state["plan"]}
    if as_json:
        click.echo(json.dumps(fields))
        return
    for line in torn:
        click.echo(line)
    click.echo(f"{path} is a {'checkpoint of a ' if single else ''}training run")
    if found is None:
        click.echo("no checkpoint yet")
    else:
        total = Plan.from_dict(found.state["plan"]).total_steps
        click.echo(
            f"step {found.step:,} of {total:,}; best so far {found.state['best']} in epoch {found.state['best_epoch']}"
        )
    if not single and (path / "model" / "foveal.json").is_file():
        _artifact(path / "model", as_json=False)


def _records(path: Path) -> int:
    """Every record as a JSON line; exit status 1 when something in the file is damaged."""
    from foveal.formats.imagerecord import describe

    damaged = False
    for line in describe(path):
        damaged = damaged or "error" in line
        click.echo(json.dumps(line, allow_nan=False))
    return 1 if damaged else 0


def _data(
    path: Path,
    form: str | None,
    validation: Path | None,
    test: Path | None,
    file_column: str | None,
    label_column: str | None,
    root: Path | None,
    reading: Reading,
    as_json: bool,
) -> None:
    from foveal.data.facts import look_at_boxes, look_at_pictures
    from foveal.data.recognise import open_data
    from foveal.records import BoxSource

    dataset = open_data(
        path, task=None, form=form, validation=validation, test=test,
        file_column=file_column, label_column=label_column, root=root, reading=reading,
    )  # fmt: skip
    splits = {"train": dataset.train, "validation": dataset.validation, "test": dataset.test}
    there = {name: source for name, source in splits.items() if source is not None}
    names = dataset.class_names if dataset.named else None
    counts = {name: _counts(source, names, len(dataset.class_names)) for name, source in there.items()}
    facts = look_at_pictures(dataset.train)
    boxes = {name: look_at_boxes(source) for name, source in there.items() if isinstance(source, BoxSource)}
    bad = [record for source in there.values() for record in source.bad]
    if as_json:
        fields: dict[str, object] = {"kind": "data", "form": dataset.train.form, "task": dataset.task}
        fields |= {"classes": dataset.class_names, "counts": counts}
        fields |= {"median_size": [facts.width, facts.height], "grey": facts.grey}
        fields |= {"boxes": {name: asdict(each) for name, each in boxes.items()}} if boxes else {}
        click.echo(json.dumps(fields | {"bad": [[record.where, record.reason] for record in bad]}))
        return
    click.echo(f"{named(str(path))} is data")
    for line in dataset.said:
        click.echo(plain(line))
    size = f"all {facts.width} x {facts.height}" if facts.same else f"about {facts.width} x {facts.height}"
    click.echo(f"pictures: {size}{', grey' if facts.grey else ''} ({facts.looked} looked at)")
    if facts.unread:
        click.echo(plain(f"{facts.unread} of them can't be read; the first: {facts.first_unread}"))
    for name, each in boxes.items():
        click.echo(_box_line(name, len(there[name]), each))
    listed = [plain(name) for name in dataset.class_names]
    width = max(map(len, [*listed, "class"]))
    click.echo(f"{'class':<{width}}" + "".join(f"{name:>12}" for name in counts) + ("  (boxes)" if boxes else ""))
    for number, name in enumerate(listed):
        click.echo(f"{name:<{width}}" + "".join(f"{each[number]:>12,}" for each in counts.values()))
    for record in bad:
        click.echo(plain(f"left out: {record.where}: {record.reason}"))


def _counts(source: Source, names: tuple[str, ...] | None, classes: int) -> list[int]:
    """Pictures of each class, or boxes where there are some; every label is checked on the way."""
    import numpy as np

    from foveal.data.check import check_objects, class_indices, class_sets
    from foveal.formats.multihot import looks_multi_hot
    from foveal.records import BoxSource

    if isinstance(source, BoxSource):
        numbers = check_objects(source, None, names, gaps_allowed=True).classes
    elif looks_multi_hot(source.labels()):
        numbers = np.nonzero(class_sets(source, None, names)[0])[1]
    else:
        numbers, _ = class_indices(source, None, names, gaps_allowed=True)
    counts: list[int] = np.bincount(numbers, minlength=classes).tolist()
    return counts


def _box_line(split: str, pictures: int, facts: BoxFacts) -> str:
    line = f"{split}: {facts.boxes:,} boxes, {facts.median:,} a picture (median), {facts.most:,} at most; "
    line += f"{facts.empty:,} of {pictures:,} pictures without"
    if facts.sides is None:
        return line
    low, middle, high = facts.sides
    return line + f"; a box's side is {middle:.0%} of its picture's (median), nine of ten {low:.0%} to {high:.0%}"
