"""``foveal check``: what is wrong with labelled pictures, before anything is trained on them."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from foveal.cli.shared import NEW_PATH, PATH, data_options, say_lines
from foveal.errors import UserError
from foveal.progress import plain

if TYPE_CHECKING:
    from rich.console import Console

    from foveal.checking.examine import Examination
    from foveal.checking.finding import Finding
    from foveal.records import Dataset, Reading
    from foveal.report.page import Table

STATUS = {None: 0, "note": 0, "warning": 1, "error": 2}
PAGE = "index.html"
_MARK = '<html lang="en" data-by="foveal check">'
_EXAMPLES = 3  # suspects of a finding that are named on a terminal
_ROWS = 30  # classes that are listed on a terminal
_WIDTH = 160  # characters of a line in a file or pipe
_LONGEST = 100  # characters of a place on a terminal


@click.command("check")
@click.argument("data", type=PATH)
@data_options
@click.option("--image-shape", metavar="C,H,W", help="Judge crop and boxes by this setting (boxes: one number).")
@click.option("--resize", type=click.IntRange(1, 10_000), help="Judge the crop by this setting.")
@click.option(
    "--bad-records-limit", type=click.FloatRange(0, 1), default=0.05, show_default=True,
    help="Share of records that may be unusable.",
)  # fmt: skip
@click.option("--workers", type=click.IntRange(1, 256), help="Threads that decode. [the number of cores, at most 16]")
@click.option("--report", type=NEW_PATH, metavar="DIR", help=f"Write DIR/{PAGE}: one page, suspects as pictures.")
@click.option("--json", "as_json", is_flag=True, help="Print everything found as one JSON object.")
@click.option("--quiet", is_flag=True, help="Show no progress.")
def command(
    data: Path,
    form: str | None,
    validation: Path | None,
    test: Path | None,
    file_column: str | None,
    label_column: str | None,
    root: Path | None,
    reading: Reading,
    image_shape: str | None,
    resize: int | None,
    bad_records_limit: float,
    workers: int | None,
    report: Path | None,
    as_json: bool,
    quiet: bool,
) -> None:
    """Say what is wrong with DATA before it is trained on. Every picture is read once.

    \b
    foveal check photos/                              classes, sizes, broken files, duplicates, leaks, boxes, ...
    foveal check train.rec --validation val.rec       also pictures that both have
    foveal check photos/ --report report/             report/index.html shows the suspects
    foveal check photos/ --image-shape 3,224,224      how much the crop cuts away, without --resize

    Exit status: 0 when nothing or only notes were found, 1 with warnings (training goes on, and is probably worse for
    it), 2 with errors (training would refuse the data).
    """
    from foveal.checking.examine import as_json as to_json
    from foveal.checking.examine import examine, refused
    from foveal.data.recognise import open_data

    shape = _shape(image_shape)
    if report is not None:
        _check_free(report)
    dataset: Dataset | None = None
    try:
        dataset = open_data(
            data, task=None, form=form, validation=validation, test=test,
            file_column=file_column, label_column=label_column, root=root, reading=reading,
        )  # fmt: skip
    except UserError as error:
        examination = refused(str(data), error)
    else:
        say_lines(dataset.said)
        if dataset.task == "boxes":
            _check_detector(shape, resize)
        examination = examine(
            dataset, image_shape=shape, resize=resize, bad_records_limit=bad_records_limit, workers=workers, quiet=quiet
        )
    if report is not None:
        _write(report, examination, dataset, quiet)
    if as_json:
        click.echo(json.dumps(to_json(examination), allow_nan=False))
    else:
        _show(examination)
        if report is not None:
            click.echo(f"The suspects as pictures: {report / PAGE}")
    sys.exit(STATUS[examination.severity])


def _shape(text: str | None) -> tuple[int, int, int] | None:
    """``3,224,224``, or ``300`` for a detector. Raises UserError."""
    from foveal.kinds import shape

    if text is None:
        return None
    try:
        read: tuple[int, int, int] = shape().read(f"3,{text},{text}" if text.isdecimal() else text)
    except ValueError as error:
        raise UserError(
            f"{text!r} is no picture's shape", "--image-shape",
            "Give channels,height,width (3,224,224), or one number for a detector (300).", "image_shape",
        ) from error  # fmt: skip
    return read


def _check_detector(shape: tuple[int, int, int] | None, resize: int | None) -> None:
    """Raises UserError for what a detector has no setting of: its pictures are squeezed into a square."""
    if resize is not None:
        raise UserError(
            "these pictures carry boxes, and --resize is for image classification", "--resize",
            "Leave it out: a detector's pictures are squeezed to --image-shape.", "resize",
        )  # fmt: skip
    if shape is not None and shape[1] != shape[2]:
        raise UserError(
            f"a detector's pictures are square, and this shape is {shape[1]} x {shape[2]}", "--image-shape",
            "Give one number, such as 300.", "image_shape",
        )  # fmt: skip


def _check_free(folder: Path) -> None:
    """Raises UserError when a page of somebody else's lies where the report goes."""
    page = folder / PAGE
    if folder.exists() and not folder.is_dir():
        raise UserError("this is a file, and --report names a folder", str(folder), "Name another folder.")
    if page.exists() and _MARK.encode() not in page.read_bytes()[:400]:
        raise UserError("there is a page that is no report of `foveal check`", str(page), "Name another folder.")


def _write(folder: Path, examination: Examination, dataset: Dataset | None, quiet: bool) -> None:
    from foveal.checking.checkpage import page_of
    from foveal.files import write_text
    from foveal.report.page import render

    folder.mkdir(parents=True, exist_ok=True)
    html = render(page_of(examination, dataset, quiet))
    write_text(folder / PAGE, html.replace('<html lang="en">', _MARK, 1))


def _show(examination: Examination) -> None:
    """Tables, findings and settings, for a person."""
    from rich.console import Console

    from foveal.checking.checkpage import summary_tables

    console = Console(soft_wrap=True, highlight=False, width=None if sys.stdout.isatty() else _WIDTH)
    for table in summary_tables(examination) if examination.splits else ():
        _show_table(console, table)
    for each in examination.findings:
        _show_finding(console, each)
    if examination.advice:
        settings = ", ".join(f"{name}={value}" for name, value in examination.advice.items())
        console.print(f"Settings that fit: {settings}", markup=False)
    counts = dict.fromkeys(("error", "warning", "note"), 0)
    for each in examination.findings:
        counts[each.severity] += 1
    told = ", ".join(f"{count} {severity}{'s' * (count != 1)}" for severity, count in counts.items())
    console.print(told if examination.findings else "Nothing odd was found.", markup=False)


def _show_table(console: Console, table: Table) -> None:
    from rich.table import Table as RichTable
    from rich.text import Text

    drawn = RichTable(*table.head, box=None, pad_edge=False)
    for column in drawn.columns[1:]:
        column.justify = "right"
    for row in table.rows[:_ROWS]:
        drawn.add_row(*(Text(f"{cell:,}" if isinstance(cell, int | float) else plain(cell)) for cell in row))
    console.print(drawn, crop=False)
    if len(table.rows) > _ROWS:
        console.print(f"... {len(table.rows) - _ROWS:,} more; all with --json", markup=False)
    console.print()


def _show_finding(console: Console, found: Finding) -> None:
    from rich.text import Text

    style = {"error": "bold red", "warning": "bold yellow", "note": "bold blue"}[found.severity]
    console.print(Text.assemble((f"{found.severity}: ", style), plain(found.what)))
    console.print(f"    {plain(found.remedy)}", markup=False)
    for suspect in found.suspects[:_EXAMPLES]:
        places = [where if len(where) <= _LONGEST else "..." + where[-_LONGEST:] for where in suspect.where]
        told = ": ".join(filter(None, (" = ".join(places), suspect.why)))
        console.print(f"    - {plain(told)}", markup=False)
    more = len(found.suspects) - _EXAMPLES
    if more > 0:
        console.print(f"    ... {more:,}{found.more} more", markup=False)
