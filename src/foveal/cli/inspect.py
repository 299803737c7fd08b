"""``foveal inspect``: what a file or folder is, and what is in it."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from foveal.cli.shared import NEW_PATH, PATH, data_options, say_lines
from foveal.errors import UserError
from foveal.progress import plain
from foveal.storage.cache import named

if TYPE_CHECKING:
    from foveal.records import Reading


@click.command("inspect")
@click.argument("path", type=PATH)
@data_options
@click.option("--json", "as_json", is_flag=True, help="For a .rec file: every record as a JSON line; else one object.")
@click.option("--pictures", is_flag=True, help="Of data: a JSON line for each picture, with its label or boxes.")
@click.option("--sheet", type=NEW_PATH, metavar="FILE", help="Of data: draw thumbnails with labels or boxes into FILE.")
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
    pictures: bool,
    sheet: Path | None,
) -> None:
    """Tell what PATH is (data, a model, a checkpoint, a training run) and what is in it.

    \b
    foveal inspect photos/                 classes, counts, sizes; boxes, where there are some
    foveal inspect train.rec               the same, and damaged records by byte offset
    foveal inspect train.rec --json        every record as a JSON line
    foveal inspect photos/ --sheet a.jpg   thumbnails of every class; boxes drawn, where there are some
    foveal inspect foveal-runs/photos      what was trained, how good it is
    """
    from foveal.artifact import is_artifact
    from foveal.cli.inspect_data import tell_data, tell_pictures, write_sheet
    from foveal.data.recognise import open_data
    from foveal.data.remote import local
    from foveal.data.unpack import is_packed_data

    found: list[str] = []
    path = local(path, found)
    say_lines(found)
    if not path.exists() and "{" not in path.name:  # else the name stands for several shards
        raise UserError("there is no such file or folder", str(path), "Check the path.")
    if path.name == "checkpoints" and any(path.glob("step-*")):
        path = path.parent
    run = (path / "checkpoints").is_dir() or (path / "manifest.json").is_file()
    model = not run and is_artifact(path) and not is_packed_data(path)
    if (run or model) and (pictures or sheet is not None):
        told = f"it is a {'training run' if run else 'model'}, and --pictures and --sheet are for labelled pictures"
        raise UserError(told, str(path), "Leave them out, or name the data.")
    if run:
        _run_or_checkpoint(path, as_json)
        return
    if model:
        _artifact(path, as_json)
        return
    records = path.suffix == ".rec" and as_json and not pictures
    if sheet is not None or not records:
        dataset = open_data(
            path, task=None, form=form, validation=validation, test=test,
            file_column=file_column, label_column=label_column, root=root, reading=reading,
        )  # fmt: skip
        if sheet is not None:
            write_sheet(dataset, sheet)
        if pictures:
            tell_pictures(dataset)
        elif not records:
            tell_data(path, dataset, as_json)
    if records:
        sys.exit(_records(path))


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
    tiled = f" of {rule['tile_size']} pixels, overlapping by {rule['tile_overlap']:g}" if rule.get("tile_size") else ""
    size = f"{rule['height']} x {rule['width']}"
    click.echo(f"pictures: {rule['kind']}{tiled} to {size}, {rule['channels']} channels{resize}")
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
