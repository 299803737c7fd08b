"""``foveal pack``: labelled pictures of any form into RecordIO, as im2rec does it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from foveal.cli.shared import NEW_PATH, PATH, data_options, say_lines, threads_option
from foveal.errors import UserError

if TYPE_CHECKING:
    from foveal.converting.reencode import Encoding
    from foveal.records import Dataset, Reading


@click.command("pack", epilog="RecordIO is one file of any number of pictures: quick to copy, to shuffle and to read.")
@click.argument("data", type=PATH)
@click.argument("out", type=NEW_PATH)
@data_options
@click.option("--list", "only_list", is_flag=True, help="Write .lst lists only, which `foveal pack` takes as DATA.")
@click.option("--recursive", is_flag=True, help="Every folder with pictures, at any depth, is a class of its own.")
@click.option("--train-ratio", type=click.FloatRange(0, 1, min_open=True), help="Share for training; the rest: val.")
@click.option("--test-ratio", type=click.FloatRange(0, 1), default=0, help="Share for testing, with --train-ratio.")
@click.option("--chunks", type=click.IntRange(1), default=1, show_default=True, help="Files of each split.")
@click.option("--pass-through", is_flag=True, help="Keep the bytes of pictures. [unless an option changes them]")
@click.option("--resize", type=click.IntRange(1, 10_000), help="Resize the shorter side to this many pixels.")
@click.option("--center-crop", is_flag=True, help="Cut the longer side to the shorter one, before --resize.")
@click.option("--quality", type=click.IntRange(1, 100), help="Of JPEG that is encoded anew. [95]")
@click.option("--encoding", type=click.Choice((".jpg", ".png")), help="Of all pictures. [PNG stays, else JPEG]")
@click.option("--color", type=click.Choice(("0", "1")), help="0: all grey, 1: all in colour. [as they are]")
@click.option("--pack-label/--no-pack-label", default=True, help="All numbers of a label, or the first. [all]")
@click.option("--label-width", type=click.IntRange(1), help="Numbers that each label must have.")
@threads_option
@click.option("--seed", type=int, default=0, show_default=True, help="Of the order, and of splits.")
@click.option("--shuffle/--no-shuffle", default=True, help="Shuffle, or keep the order of the data. [shuffle]")
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
    reading: Reading,
    only_list: bool,
    recursive: bool,
    train_ratio: float | None,
    test_ratio: float,
    chunks: int,
    pass_through: bool,
    resize: int | None,
    center_crop: bool,
    quality: int | None,
    encoding: str | None,
    color: str | None,
    pack_label: bool,
    label_width: int | None,
    threads: int,
    seed: int,
    shuffle: bool,
    size_header: bool,
    overwrite: bool,
) -> None:
    """Pack DATA into OUT/train.rec (and val.rec, test.rec), with .idx files and classes.txt.

    \b
    foveal pack photos/ packed/                a folder with a subfolder per class, or train/val/test of such
    foveal pack list.lst packed/ --no-shuffle  an im2rec list; pictures lie beside it, or in --root
    foveal pack coco/ packed/                  boxes: Pascal VOC, COCO, YOLO, SageMaker's JSON
    foveal pack photos/ packed/ --resize 256 --num-thread 4
    foveal pack photos/ lists/ --list --train-ratio 0.8 --test-ratio 0.1
    """
    from foveal.converting.pack import Packing, list_pictures, pack
    from foveal.converting.selection import Choice, select
    from foveal.data.recognise import open_data

    changed = _encoding(pass_through, resize, center_crop, quality, encoding, color)
    if recursive:
        dataset = _deep(data)
    else:
        dataset = open_data(
            data, task=None, form=form, validation=validation, test=test,
            file_column=file_column, label_column=label_column, root=root, reading=reading,
        )  # fmt: skip
    say_lines(dataset.said)
    parts = None
    shares = _shares(train_ratio, test_ratio)
    if shares:
        parts, _, said = select(dataset, Choice(shares=shares, seed=seed))
        say_lines(said)
    packing = Packing(changed, seed if shuffle else None, chunks, pack_label, label_width, size_header, threads)
    if only_list:
        say_lines(list_pictures(dataset, out, packing, parts))
        return
    report = pack(dataset, out, packing, parts=parts, overwrite=overwrite)
    say_lines(report.said)
    click.echo(f"Train on it: foveal train {out}")


def _encoding(
    pass_through: bool,
    resize: int | None,
    center_crop: bool,
    quality: int | None,
    encoding: str | None,
    color: str | None,
) -> Encoding | None:
    """How pictures are encoded anew; None to keep their bytes."""
    changes = {
        "--resize": resize is not None, "--center-crop": center_crop, "--quality": quality is not None,
        "--encoding": encoding is not None, "--color": color is not None,
    }  # fmt: skip
    given = [name for name, there in changes.items() if there]
    if not given:
        return None
    if pass_through:
        told = f"pass_through keeps the bytes of pictures, and {', '.join(given)} would change them"
        raise UserError(told, "", "Leave one of them out.", "pass_through")
    if encoding == ".png" and quality is not None:
        raise UserError("PNG has no quality", "", "Leave --quality out, or encode as .jpg.", "quality")
    from foveal.converting.reencode import Encoding

    kind = {".jpg": "JPEG", ".png": "PNG"}[encoding] if encoding is not None else None
    grey = None if color is None else color == "0"
    return Encoding(resize, center_crop, quality or 95, "PNG" if kind == "PNG" else "JPEG" if kind else None, grey)


def _shares(train: float | None, test: float) -> tuple[float, ...]:
    """Shares of training, validation and test pictures; () where none are asked for."""
    if train is None and not test:
        return ()
    validation = 1 - test - (train or 0)
    if train is None or validation < -1e-9:
        told = "no share for training is given" if train is None else f"{train:g} and {test:g} are more than 1"
        raise UserError(told, "", "Give --train-ratio and --test-ratio that make 1 at most.", "train_ratio")
    if validation < 1e-9:  # nothing is left for validation
        return (train, 0.0, test) if test else ()
    return (train, validation, test) if test else (train, validation)


def _deep(data: Path) -> Dataset:
    from foveal.formats.folder import read_deep_folder
    from foveal.records import Dataset

    if not data.is_dir():
        raise UserError("--recursive takes a folder of pictures", str(data), "Leave it out.", "recursive")
    source = read_deep_folder(data)
    names = source.class_names or ()
    said = f"every folder is a class: {len(source):,} pictures, {len(names):,} classes"
    return Dataset(source, None, None, names, True, (said,))
