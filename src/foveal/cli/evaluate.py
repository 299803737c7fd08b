"""``foveal evaluate``: how good a model is on labelled pictures."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from foveal.cli.shared import DEVICES, PATH, data_options, say_lines, say_warning
from foveal.errors import UserError

if TYPE_CHECKING:
    from foveal.records import Reading


@click.command("evaluate")
@click.argument("model", type=PATH)
@click.argument("data", type=PATH)
@data_options
@click.option(
    "--split",
    type=click.Choice(["test", "validation", "train", "all"]),
    help="Part of the data to judge on. Left out: test if there is one, else validation, else all of it.",
)
@click.option("--epoch", type=click.IntRange(1), help="Judge a stored epoch (checkpoint_frequency), not the best.")
@click.option("--device", type=click.Choice(DEVICES), default="auto", show_default=True, help="Where to compute.")
@click.option("--top-k", type=click.IntRange(2), help="Also the share with the label among the k best.")
@click.option("--json", "as_json", is_flag=True, help="Print everything judged as one JSON object.")
def command(
    model: Path,
    data: Path,
    form: str | None,
    validation: Path | None,
    test: Path | None,
    file_column: str | None,
    label_column: str | None,
    root: Path | None,
    reading: Reading,
    split: str | None,
    epoch: int | None,
    device: str,
    top_k: int | None,
    as_json: bool,
) -> None:
    """Judge MODEL on DATA: accuracy, per-class precision and recall, confusion matrix, calibration; of a detector
    mAP, per-class average precision, what was missed and what was falsely found.

    \b
    foveal evaluate foveal-runs/photos photos/          its test split, else its validation split, else all
    foveal evaluate foveal-runs/photos photos/ --split validation
    foveal evaluate model.tar.gz test.rec --json > figures.json

    Asked of the data it was trained on, `--split validation` judges on the very pictures that training set aside,
    and gives training's last figures again.
    """
    from foveal.data.recognise import open_data
    from foveal.evaluation import evaluate
    from foveal.predictor import DetectionPredictor, load

    predictor = load(model, device=device, epoch=epoch)
    boxes = isinstance(predictor, DetectionPredictor)
    if boxes and top_k is not None:
        raise UserError("--top-k is for a classifier, and this is a detector", str(model), "Leave --top-k out.")
    dataset = open_data(
        data, task="boxes" if boxes else "classes", form=form, validation=validation, test=test,
        file_column=file_column, label_column=label_column, root=root, reading=reading,
    )  # fmt: skip
    say_lines(dataset.said)
    judged = evaluate(predictor, dataset, split=split, top_k=top_k)
    say_lines(judged.said)
    for record in judged.verdict.bad:
        say_warning(f"not judged: {record.where}: {record.reason}")
    if as_json:
        click.echo(json.dumps({**judged.verdict.details, "split": judged.split}, allow_nan=False))
    else:
        (show_boxes if boxes else show)(judged.verdict.details)


def show(details: Mapping[str, Any]) -> None:
    """Figures, the per-class table, and the confusions that happen most, for a person."""
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    console = Console(soft_wrap=True)
    console.print(
        f"accuracy {details['accuracy']:.6f} on {details['count']:,} pictures, "
        f"log loss {details['log_loss']:.6f}, calibration error {details['calibration_error']:.6f}",
        highlight=False,
    )
    for name in details:
        if name.startswith("top_k_accuracy_"):
            console.print(f"{name} {details[name]:.6f}", highlight=False)
    table = Table("class", "precision", "recall", "F1", "pictures", box=None)
    for column in table.columns[1:]:
        column.justify = "right"
    for row in details["per_class"]:
        figures = [f"{row[name]:.3f}" for name in ("precision", "recall", "f1")]
        table.add_row(escape(row["class"]), *figures, f"{row['support']:,}")
    console.print(table)
    for pair in details["mixed_up"][:5]:
        line = f"{pair['count']:,} of class {pair['label']} were taken for {pair['predicted']}"
        console.print(line, highlight=False, markup=False)


def show_boxes(details: Mapping[str, Any]) -> None:
    """A detector's figures and its per-class table, for a person."""
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    console = Console(soft_wrap=True)

    def told(value: float | None, digits: int = 6) -> str:
        return "-" if value is None else f"{value:.{digits}f}"

    form = "area" if details["ap_form"] == "area" else "11 points"
    rule = f"IoU above {details['overlap_threshold']:g}, {form}"
    lines = [f"mAP {told(details['mAP'])} on {details['count']:,} pictures ({rule})"]
    if details.get("mAP_50_95") is not None:
        lines.append(f"COCO: mAP 0.50 to 0.95 {told(details['mAP_50_95'])}, at 0.50 {told(details['mAP_50'])}")
    rates = f"recall {told(details['recall'])}, precision {told(details['precision'])}"
    lines.append(f"at each class's confidence, as training chose it: {rates}")
    if details["empty_pictures"]:
        false = told(details["false_alarms_per_empty_picture"], 3)
        lines.append(f"{details['empty_pictures']:,} pictures without objects: {false} false alarms in each")
        lines.append(f"mAP with these false alarms counted {told(details['mAP_all_pictures'])}")
    for line in lines:
        console.print(line, highlight=False)
    table = Table("class", "AP", "recall", "precision", "confidence", "objects", "missed", "false", box=None)
    for column in table.columns[1:]:
        column.justify = "right"
    for row in details["per_class"]:
        figures = [told(row[name], 3) for name in ("average_precision", "recall", "precision", "confidence")]
        table.add_row(escape(row["class"]), *figures, *(f"{row[name]:,}" for name in ("objects", "missed", "false")))
    console.print(table)
