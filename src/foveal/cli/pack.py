"""``foveal pack``: labelled pictures of any form into RecordIO."""

from __future__ import annotations

from pathlib import Path

import click

from foveal.cli.shared import PATH, data_options, say_lines


@click.command("pack", epilog="RecordIO is one file of any number of pictures: quick to copy, to shuffle and to read.")
@click.argument("data", type=PATH)
@click.argument("out", type=PATH)
@data_options
@click.option("--resize", type=click.IntRange(1, 10_000), help="Resize the shorter side to this many pixels.")
@click.option("--quality", type=click.IntRange(1, 100), default=95, show_default=True, help="Of JPEG, after --resize.")
@click.option("--seed", type=int, default=0, show_default=True, help="Seed of the order in which pictures are packed.")
@click.option("--no-shuffle", is_flag=True, help="Keep the order of the data.")
@click.option("--size-header", is_flag=True, help="Put width and height into the header of labels with boxes.")
@click.option("--overwrite", is_flag=True, help="Replace .rec files that are there already.")
def command(
    data: Path,
    out: Path,
    form: str | None,
    validation: Path | None,
    test: Path | None,
    file_column: str | None,
    label_column: str | None,
    root: Path | None,
    resize: int | None,
    quality: int,
    seed: int,
    no_shuffle: bool,
    size_header: bool,
    overwrite: bool,
) -> None:
    """Pack DATA into OUT/train.rec (and val.rec, test.rec), with .idx files and classes.txt.

    \b
    foveal pack photos/ packed/                a folder with a subfolder per class, or train/val/test of such
    foveal pack list.lst packed/               an im2rec list; pictures lie beside it
    foveal pack table.csv packed/ --label-column species
    foveal pack coco/ packed/                  boxes: Pascal VOC, COCO, YOLO, SageMaker's JSON
    foveal pack photos/ packed/ --resize 256   smaller pictures: smaller file, quicker training
    """
    from foveal.data.pack import pack
    from foveal.data.recognise import open_data

    dataset = open_data(
        data, task=None, form=form, validation=validation, test=test,
        file_column=file_column, label_column=label_column, root=root,
    )  # fmt: skip
    say_lines(dataset.said)
    report = pack(
        dataset, out, resize=resize, quality=quality, shuffle_seed=None if no_shuffle else seed,
        size_header=size_header, overwrite=overwrite,
    )  # fmt: skip
    say_lines(report.said)
    click.echo(f"Train on it: foveal train {out}")
