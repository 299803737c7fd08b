"""``foveal compare``: two models on the same labelled pictures."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from foveal.cli.shared import DEVICES, NEW_PATH, PAGE, PATH, data_options, say_lines

if TYPE_CHECKING:
    from rich.console import Console

    from foveal.comparison import Comparison
    from foveal.records import Reading
    from foveal.report.page import Table

MARK = "foveal compare"
_CLASSES = 20  # listed on a terminal


@click.command("compare")
@click.argument("first", type=PATH)
@click.argument("second", type=PATH)
@click.option("--data", type=PATH, required=True, help="Labelled pictures that both are judged on.")
@data_options
@click.option(
    "--split",
    type=click.Choice(["test", "validation", "train", "all"]),
    help="Part of the data to judge on. Left out: test if there is one, else validation, else all of it.",
)
@click.option(
    "--resamples",
    type=click.IntRange(100, 100_000),
    default=2000,
    show_default=True,
    help="Of the pictures, for the intervals.",
)
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Of the resamples.")
@click.option("--device", type=click.Choice(DEVICES), default="auto", show_default=True, help="Where to compute.")
@click.option("--report", type=NEW_PATH, metavar="DIR", help=f"Write DIR/{PAGE}: one page, disagreements as pictures.")
@click.option("--json", "as_json", is_flag=True, help="Print everything as one JSON object.")  # fmt: skip
def command(
    first: Path,
    second: Path,
    data: Path,
    form: str | None,
    validation: Path | None,
    test: Path | None,
    file_column: str | None,
    label_column: str | None,
    root: Path | None,
    reading: Reading,
    split: str | None,
    resamples: int,
    seed: int,
    device: str,
    report: Path | None,
    as_json: bool,
) -> None:
    """Judge the models FIRST and SECOND on the same pictures: by how much they differ, with an interval that tells
    whether that may be chance, and the pictures on which they disagree.

    \b
    foveal compare foveal-runs/old foveal-runs/new --data photos/ --test photos-of-may/
    foveal compare old.tar.gz new.tar.gz --data photos/ --report report/     report/index.html shows disagreements

    Both must be of one kind and know the same classes by name. Differences are the second's figure minus the first's.
    """
    from foveal.comparison import compare
    from foveal.data.recognise import open_data
    from foveal.pages.compared import page_of
    from foveal.pages.parts import check_free, write_page
    from foveal.predictor import DetectionPredictor, load

    if report is not None:
        check_free(report, PAGE, MARK)
    models = load(first, device=device), load(second, device=device)
    dataset = open_data(
        data, task="boxes" if isinstance(models[0], DetectionPredictor) else "classes", form=form,
        validation=validation, test=test, file_column=file_column, label_column=label_column, root=root,
        reading=reading,
    )  # fmt: skip
    say_lines(dataset.said)
    found = compare(*models, dataset, split=split, resamples=resamples, seed=seed)
    say_lines(found.said)
    if report is not None:
        page = write_page(report, PAGE, page_of(found, *models, (str(first), str(second)), str(data)), MARK)
        say_lines([f"the page: {page}"])
    if as_json:
        click.echo(json.dumps(found.to_dict(), allow_nan=False))
    else:
        _show(found)


def _show(found: Comparison) -> None:
    """Figures, classes and the verdict, for a person."""
    from rich.console import Console

    from foveal.pages.compared import figures_table

    console = Console(soft_wrap=True, highlight=False)
    _show_table(console, figures_table(found.figures, f"{found.count:,} pictures"))
    _show_table(console, figures_table(dict(list(found.per_class.items())[:_CLASSES]), "class"))
    if len(found.per_class) > _CLASSES:
        console.print(f"... {len(found.per_class) - _CLASSES:,} more; all with --json", markup=False)
    if found.p_value is not None:
        right = f"only A has {found.only_a:,} pictures right, only B {found.only_b:,}"
        console.print(f"{right}: McNemar's exact test, p = {found.p_value:.3g}", markup=False)
    console.print(found.verdict, markup=False)


def _show_table(console: Console, table: Table) -> None:
    from rich.table import Table as RichTable
    from rich.text import Text

    drawn = RichTable(*table.head, box=None, pad_edge=False)
    for column in drawn.columns[1:]:
        column.justify = "right"
    for row in table.rows:
        drawn.add_row(*(Text(str(cell)) for cell in row))
    console.print(drawn, crop=False)
