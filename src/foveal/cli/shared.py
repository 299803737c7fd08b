"""Options and lines that several commands share."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar, cast

import click

from foveal.errors import UserError
from foveal.progress import plain
from foveal.storage.address import is_address

if TYPE_CHECKING:
    from foveal.records import Reading

C = TypeVar("C", bound=Callable[..., Any])

FORMS = (
    "recordio", "lst", "folder", "csv", "manifest", "imagefolder", "webdataset", "coco", "voc", "yolo",
    "sagemaker-json", "boxes",
)  # fmt: skip
PAGE = "index.html"  # of a report
DEVICES = ("auto", "cpu", "cuda", "mps")


class _Path(click.Path):
    """A path; an empty text, as of a shell's unset variable, is not taken for the folder one is in."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if value == "":
            self.fail("the path is empty", param, ctx)
        return super().convert(value, param, ctx)


class _NewPath(_Path):
    """A path that is written to, which can't be an address."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        path = super().convert(value, param, ctx)
        if is_address(path):
            self.fail(f"{value} is an address: name a place on a disk, and copy it from there", param, ctx)
        return path


PATH = _Path(path_type=Path)
NEW_PATH = _NewPath(path_type=Path)


def data_options(command: C) -> C:
    """How labelled pictures are given: form, further splits, columns of a table.

    The command takes ``form``, ``validation``, ``test``, ``file_column``, ``label_column``, ``root``, and ``reading``,
    a ``foveal.records.Reading``.
    """

    @wraps(command)
    def collected(**options: Any) -> Any:
        kept = {name: options.pop(name) for name in _READING}
        return command(reading=read_texts(**kept), **options)

    decorated = cast(C, collected)
    for option in (
        click.option("--idx", is_flag=True, help="Of .rec files, only the records that their .idx files list."),
        click.option("--names", metavar="1=NAME,...", help="Names of classes, where labels are numbers."),
        click.option("--unit", type=click.Choice(("pixel", "fraction")), help="Of boxes in text. [told from them]"),
        click.option("--separator", metavar="TEXT", help="Between the fields of boxes in text, or between labels."),
        click.option("--columns", metavar="'x1 y1 x2 y2 class'", help="Fields of boxes in text (--format boxes)."),
        click.option(
            "--label-format", type=click.Choice(("multi-hot", "class-id")), help="Lists of numbers in a manifest."
        ),
        click.option("--label-attribute", metavar="NAME", help="Attribute of a manifest that holds the label."),
        click.option("--labels", metavar="A,B,...", help="Columns of a CSV file with 0 or 1, one for each class."),
        click.option("--label-column", metavar="NAME", help="Column of a CSV file that holds the label."),
        click.option("--file-column", metavar="NAME", help="Column of a CSV file that holds the picture's path."),
        click.option("--root", type=PATH, help="Folder of the pictures that a list or table names."),
        click.option("--test", type=PATH, help="Test data, when it lies elsewhere."),
        click.option("--validation", type=PATH, help="Validation data, when it lies elsewhere."),
        click.option("--format", "form", type=click.Choice(FORMS), help="Form of the data, instead of recognising it."),
    ):
        decorated = option(decorated)
    return decorated


_READING = ("labels", "label_attribute", "label_format", "columns", "separator", "unit", "names", "idx")


def read_texts(
    labels: str | None,
    label_attribute: str | None,
    label_format: Literal["multi-hot", "class-id"] | None,
    columns: str | None,
    separator: str | None,
    unit: Literal["pixel", "fraction"] | None,
    names: str | None,
    idx: bool = False,
) -> Reading:
    """What the options say of the text of labels. Raises UserError for names that are not of the form 1=open."""
    from foveal.records import Reading

    return Reading(
        labels=_listed(labels, "labels"),
        label_attribute=label_attribute,
        label_format=label_format,
        columns=tuple((columns or "").replace(",", " ").split()),
        separator="\t" if separator == "\\t" else separator,
        unit=unit,
        names=_numbered(names or ""),
        idx=idx,
    )


def _listed(text: str | None, option: str) -> tuple[str, ...]:
    names = tuple(part.strip() for part in (text or "").split(",")) if text else ()
    if "" in names:
        raise UserError(f"{text!r} names nothing between two commas", option, "Write a,b,c.", setting=option)
    return names


def _numbered(text: str) -> dict[int, str]:
    names: dict[int, str] = {}
    for part in text.split(",") if text else ():
        number, equals, name = part.partition("=")
        if not equals or not number.strip().isdecimal() or not name.strip():
            raise UserError(f"{part.strip()!r} is not of the form 1=open", "names", "Write 1=open,2=short.", "names")
        if names.setdefault(int(number), name.strip()) != name.strip():
            raise UserError(f"class {int(number)} has two names", "names", "Give each class one name.", "names")
    return names


def threads_option(command: C) -> C:
    """``threads``: how many read and encode pictures."""
    return click.option(
        "--threads", "--num-thread", type=click.IntRange(1, 256), default=os.cpu_count() or 1,
        help="Threads that read and encode. [one a core]",
    )(command)  # fmt: skip


def say_lines(lines: Iterable[str]) -> None:
    """Decisions and their reasons, on standard error, so that standard output stays data."""
    for line in lines:
        click.echo(plain(line), err=True)


def say_warning(line: str) -> None:
    click.echo(f"Warning: {plain(line)}", err=True)


def say_error(text: str) -> None:
    """What is wrong and what to do, a line each."""
    click.echo("Error: " + "\n".join(map(plain, text.split("\n"))), err=True)
