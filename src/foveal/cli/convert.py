"""``foveal convert``: labelled pictures of one form into another."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from foveal.cli.shared import NEW_PATH, PATH, data_options, say_lines, threads_option
from foveal.errors import UserError

if TYPE_CHECKING:
    from foveal.records import Reading

TO = ("recordio", "lst", "folder", "csv", "coco", "voc", "yolo", "sagemaker-json", "manifest", "webdataset")


@click.command("convert", epilog="Interrupted, the same command goes on where it was. Nothing is overwritten.")
@click.argument("data", metavar="SRC", type=PATH)
@click.argument("out", metavar="DST", type=NEW_PATH)
@data_options
@click.option("--to", type=click.Choice(TO), help="Form to write. [told from DST: .rec .lst .csv .json .manifest .tar]")
@click.option("--split", "shares", metavar="0.8,0.1,0.1", help="Divide the training pictures: train, val, test.")
@click.option("--group-by", metavar="COLUMN|REGEX", help="Keep pictures together in splits: by a CSV column, or path.")
@click.option("--sample", type=click.IntRange(1), help="At most so many pictures of each split.")
@click.option("--classes", metavar="A,B,...", help="Keep these classes only, in this order.")
@click.option("--map", "renamed", metavar="OLD=NEW", multiple=True, help="Rename a class, or join it with another.")
@click.option("--drop", metavar="NAME|FILE", multiple=True, help="Leave out a picture, or those a file lists.")
@click.option("--resize", type=click.IntRange(1, 10_000), help="Resize the shorter side to this many pixels.")
@click.option("--quality", type=click.IntRange(1, 100), help="Encode anew, JPEG in this quality. [95 with --resize]")
@click.option("--prefix", default="", metavar="ADDRESS", help="Where pictures will be: s3://bucket/photos/ (manifest).")
@click.option("--seed", type=int, default=0, show_default=True, help="Of splits and sample.")
@click.option(
    "--bad-records-limit", type=click.FloatRange(0, 1), default=0.05, show_default=True,
    help="Share of the pictures that may be unreadable.",
)  # fmt: skip
@threads_option
def command(
    data: Path,
    out: Path,
    form: str | None,
    validation: Path | None,
    test: Path | None,
    file_column: str | None,
    label_column: str | None,
    root: Path | None,
    reading: Reading,
    to: str | None,
    shares: str | None,
    group_by: str | None,
    sample: int | None,
    classes: str | None,
    renamed: tuple[str, ...],
    drop: tuple[str, ...],
    resize: int | None,
    quality: int | None,
    prefix: str,
    seed: int,
    bad_records_limit: float,
    threads: int,
) -> None:
    """Write SRC, labelled pictures of any form, as DST in another one.

    \b
    foveal convert coco/ yolo/ --to yolo               boxes: coco, voc, yolo, sagemaker-json, manifest, csv, ...
    foveal convert photos/ photos.rec                  the form told from the name
    foveal convert packed/train.rec photos/ --to folder
    foveal convert photos/ split/ --to folder --split 0.8,0.1,0.1
    foveal convert voc/ small/ --to voc --resize 300 --classes cat,dog --map kitten=cat --sample 1000

    The bytes of pictures stay as they are unless --resize or --quality is given. What the form can't express is told.
    """
    from foveal.converting.convert import convert
    from foveal.converting.reencode import Encoding
    from foveal.converting.selection import Choice, read_drop
    from foveal.data.recognise import open_data

    if group_by is not None and _is_column(data, group_by):
        reading, group_by = replace(reading, group_column=group_by), None
    dataset = open_data(
        data, task=None, form=form, validation=validation, test=test,
        file_column=file_column, label_column=label_column, root=root, reading=reading,
    )  # fmt: skip
    say_lines(dataset.said)
    choice = Choice(
        shares=_shares(shares), group_by=group_by, sample=sample, classes=_listed(classes), renamed=_renamed(renamed),
        drop=read_drop(drop), seed=seed,
    )  # fmt: skip
    encoding = None if resize is None and quality is None else Encoding(shorter=resize, quality=quality or 95)
    report = convert(
        dataset, out, to, choice=choice, encoding=encoding, bad_records_limit=bad_records_limit, threads=threads,
        prefix=prefix,
    )  # fmt: skip
    say_lines(report.said)


def _is_column(data: Path, name: str) -> bool:
    """Whether the data's tables, if it has some, have a column of that name."""
    from foveal.formats.table import read_rows

    tables = [data] if data.is_file() else sorted(data.glob("*")) if data.is_dir() else []
    return any(name in read_rows(path)[0] for path in tables if path.suffix.lower() in (".csv", ".tsv"))


def _shares(text: str | None) -> tuple[float, ...]:
    if text is None:
        return ()
    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError:
        raise UserError(f"{text!r} are no shares", "", "Write 0.8,0.1,0.1 (train, val, test).", "split") from None


def _listed(text: str | None) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.split(",")) if text is not None else ()


def _renamed(texts: tuple[str, ...]) -> dict[str, str]:
    found: dict[str, str] = {}
    for text in texts:
        old, equals, new = text.partition("=")
        if not equals or not old.strip() or not new.strip():
            raise UserError(f"{text!r} is not of the form OLD=NEW", "", "Write --map kitten=cat.", "map")
        if found.setdefault(old.strip(), new.strip()) != new.strip():
            raise UserError(f"the class {old.strip()!r} is given two names", "", "Give it one.", "map")
    return found
