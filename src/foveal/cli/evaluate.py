"""``foveal evaluate``: how good a model is on labelled pictures."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from foveal.cli.shared import DEVICES, NEW_PATH, PAGE, PATH, data_options, say_lines, say_warning
from foveal.errors import UserError

if TYPE_CHECKING:
    from foveal.records import Reading

MARK = "foveal evaluate"


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
@click.option("--report", type=NEW_PATH, metavar="DIR", help=f"Write DIR/{PAGE}: one page, mistakes as pictures.")
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
    report: Path | None,
    as_json: bool,
) -> None:
    """Judge MODEL on DATA: accuracy, per-class precision and recall, confusion matrix, calibration; of a detector
    mAP, per-class average precision, what was missed and what was falsely found.

    \b
    foveal evaluate foveal-runs/photos photos/          its test split, else its validation split, else all
    foveal evaluate foveal-runs/photos photos/ --split validation
    foveal evaluate model.tar.gz test.rec --json > figures.json
    foveal evaluate model.tar.gz photos/ --report report/     report/index.html shows figures, charts and mistakes

    Asked of the data it was trained on, `--split validation` judges on the very pictures that training set aside,
    and gives training's last figures again.
    """
    from foveal.data.recognise import open_data
    from foveal.evaluation import evaluate
    from foveal.pages.evaluated import page_of
    from foveal.pages.parts import check_free, write_page
    from foveal.predictor import DetectionPredictor, load

    if report is not None:
        check_free(report, PAGE, MARK)
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
    if report is not None:
        page = write_page(report, PAGE, page_of(judged, predictor, str(model), str(data)), MARK)
        say_lines([f"the page: {page}"])
    if as_json:
        click.echo(json.dumps({**judged.verdict.details, "split": judged.split}, allow_nan=False))
    else:
        several = judged.verdict.details.get("multi_label")
        (show_boxes if boxes else show_labels if several else show)(judged.verdict.details)


def show(details: Mapping[str, Any]) -> None:
    """Figures, the per-class table, and the confusions that happen most, for a person."""
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    console = Console(soft_wrap=True)
    console.print(
        f"accuracy {details['accuracy']:.6f} on {details['count']:,} pictures, {_sureness(details)}", highlight=False
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


def _sureness(details: Mapping[str, Any]) -> str:
    told = f"log loss {details['log_loss']:.6f}, calibration error {details['calibration_error']:.6f}"
    if "temperature" in details:
        before = details["calibration_error_before"]
        told += f" (before the temperature of {details['temperature']:.3f}: {before:.6f})"
    return told


def show_labels(details: Mapping[str, Any]) -> None:
    """Figures and the per-class table of a classifier of several labels a picture, for a person."""
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    console = Console(soft_wrap=True)

    def told(value: float | None, digits: int = 6) -> str:
        return "-" if value is None else f"{value:.{digits}f}"

    micro, macro, right = (told(details[name]) for name in ("micro_f1", "macro_f1", "all_right"))
    half = f"{told(details['micro_f1_at_half'])} and {told(details['macro_f1_at_half'])}"
    for line in (
        f"mAP {told(details['mAP'])} on {details['count']:,} pictures, {_sureness(details)}",
        f"accuracy {told(details['accuracy'])} of all decisions at 0.5",
        f"F1 micro {micro}, macro {macro} at each class's threshold, as training chose it ({half} at 0.5)",
        f"all classes right in {right} of the pictures",
    ):
        console.print(line, highlight=False)
    table = Table("class", "AP", "threshold", "precision", "recall", "F1", "pictures", "told", box=None)
    for column in table.columns[1:]:
        column.justify = "right"
    for row in details["per_class"]:
        figures = [told(row[name], 3) for name in ("average_precision", "threshold", "precision", "recall", "f1")]
        table.add_row(escape(row["class"]), *figures, f"{row['support']:,}", f"{row['predicted']:,}")
    console.print(table)


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
