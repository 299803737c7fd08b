"""Options and lines that several commands share."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, TypeVar

import click

from foveal.progress import plain

C = TypeVar("C", bound=Callable[..., Any])

FORMS = ("recordio", "lst", "folder", "csv", "coco", "voc", "yolo", "sagemaker-json")
DEVICES = ("auto", "cpu", "cuda", "mps")


class _Path(click.Path):
    """A path; an empty text, as of a shell's unset variable, is not taken for the folder one is in."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if value == "":
            self.fail("the path is empty", param, ctx)
        return super().convert(value, param, ctx)


PATH = _Path(path_type=Path)


def data_options(command: C) -> C:
    """How labelled pictures are given: form, further splits, columns of a table."""
    for option in (
        click.option("--label-column", metavar="NAME", help="Column of a CSV file that holds the label."),
        click.option("--file-column", metavar="NAME", help="Column of a CSV file that holds the picture's path."),
        click.option("--root", type=PATH, help="Folder of the pictures that a list or table names."),
        click.option("--test", type=PATH, help="Test data, when it lies elsewhere."),
        click.option("--validation", type=PATH, help="Validation data, when it lies elsewhere."),
        click.option("--format", "form", type=click.Choice(FORMS), help="Form of the data, instead of recognising it."),
    ):
        command = option(command)
    return command


def say_lines(lines: Iterable[str]) -> None:
    """Decisions and their reasons, on standard error, so that standard output stays data."""
    for line in lines:
        click.echo(plain(line), err=True)


def say_warning(line: str) -> None:
    click.echo(f"Warning: {plain(line)}", err=True)


def say_error(text: str) -> None:
    """What is wrong and what to do, a line each."""
    click.echo("Error: " + "\n".join(map(plain, text.split("\n"))), err=True)
