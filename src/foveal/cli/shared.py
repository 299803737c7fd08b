"""Options and lines that several commands share."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, TypeVar

import click

C = TypeVar("C", bound=Callable[..., Any])

FORMS = ("recordio", "lst", "folder", "csv")


def data_options(command: C) -> C:
    """How labelled pictures are given: form, further splits, columns of a table."""
    for option in (
        click.option("--label-column", metavar="NAME", help="Column of a CSV file that holds the label."),
        click.option("--file-column", metavar="NAME", help="Column of a CSV file that holds the picture's path."),
        click.option("--test", type=click.Path(path_type=Path), help="Test data, when it lies elsewhere."),
        click.option("--validation", type=click.Path(path_type=Path), help="Validation data, when it lies elsewhere."),
        click.option("--format", "form", type=click.Choice(FORMS), help="Form of the data, instead of recognising it."),
    ):
        command = option(command)
    return command


def say_lines(lines: Iterable[str]) -> None:
    """Decisions and their reasons, on standard error, so that standard output stays data."""
    for line in lines:
        click.echo(line, err=True)


def say_warning(line: str) -> None:
    click.echo(f"Warning: {line}", err=True)
