"""``foveal predict``: what a model says of pictures."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from glob import glob
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from foveal.cli.shared import DEVICES, PATH, say_warning
from foveal.errors import UserError
from foveal.progress import plain

if TYPE_CHECKING:
    from foveal.predictor import Prediction, Predictor


@click.command("predict")
@click.argument("model", type=PATH)
@click.argument("pictures", nargs=-1, required=True)
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line, for programs.")
@click.option("--embed", is_flag=True, help="JSON lines with the picture's features (length 1) instead of classes.")
@click.option("--top-k", type=click.IntRange(1), default=3, show_default=True, help="How many classes to show.")
@click.option(
    "--min-score",
    type=click.FloatRange(0, 1),
    default=0.0,
    help='Answer "none" below this probability.',
)
@click.option("--draw", type=PATH, help="Write pictures with their labels drawn into this folder.")
@click.option("--epoch", type=click.IntRange(1), help="Ask a stored epoch (checkpoint_frequency), not the best.")
@click.option("--device", type=click.Choice(DEVICES), default="auto", show_default=True, help="Where to compute.")
def command(
    model: Path,
    pictures: tuple[str, ...],
    as_json: bool,
    embed: bool,
    top_k: int,
    min_score: float,
    draw: Path | None,
    epoch: int | None,
    device: str,
) -> None:
    """Ask MODEL about PICTURES: files, folders, patterns, or - for a picture on standard input.

    \b
    foveal predict foveal-runs/photos new.jpg
    foveal predict model.tar.gz folder/ 'more/*.png' --json > answers.jsonl
    foveal predict model.tar.gz folder/ --min-score 0.8 --draw drawn/
    curl -s https://example.org/cat.jpg | foveal predict model.tar.gz -

    A picture that cannot be read is named on standard error; the exit status is then 1.
    """
    from foveal.predictor import Unreadable, load

    files = find_pictures(pictures)
    predictor = load(model, device=device, epoch=epoch)
    if draw is not None:
        try:
            draw.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UserError(f"can't be made: {error.strerror}", str(draw), "Name another folder for --draw.") from error
    unreadable = 0
    if embed:
        for name, features in predictor.embed(_given(files)):
            if isinstance(features, Unreadable):
                unreadable += 1
                say_warning(f"{_name(name, files)}: {features.reason}")
            else:
                click.echo(
                    json.dumps({"picture": _name(name, files), "features": [round(v, 7) for v in features.tolist()]})
                )
        sys.exit(1 if unreadable else 0)
    width = max(len(plain(_name(file, files))) for file in files)
    answers = predictor.stream(_progress(files), top_k=top_k, min_score=min_score)
    for file, answer in zip(files, answers, strict=True):
        name = _name(file, files)
        if isinstance(answer, Unreadable):
            unreadable += 1
            say_warning(f"{name}: {answer.reason}")
            continue
        click.echo(json.dumps(_fields(name, answer)) if as_json else plain(_row(plain(name), answer, min(width, 60))))
        if draw is not None:
            _draw(predictor, file, answer, draw)
    if unreadable:
        say_warning(f"{unreadable} of {len(files)} pictures could not be read")
        sys.exit(1)


def find_pictures(given: tuple[str, ...]) -> list[str]:
    """Files in the order given; folders and patterns in order of name. Raises UserError for what is not there."""
    from foveal.formats.pictures import picture_files

    files: list[str] = []
    for each in given:
        path = Path(each)
        if each == "-" or path.is_file():
            files.append(each)
        elif each and path.is_dir():
            found = picture_files(path)
            if not found:
                raise UserError(
                    "no pictures in this folder", each, "Pictures are told by their endings: .jpg, .png, ..."
                )
            files += map(str, found)
        elif matches := [match for match in sorted(glob(each, recursive=True)) if Path(match).is_file()]:
            files += matches
        else:
            raise UserError("there is no such picture, folder or match of a pattern", each, "Check the path.")
    return files


def _given(files: list[str]) -> Iterator[Any]:
    for file in files:
        yield sys.stdin.buffer.read() if file == "-" else file


def _progress(files: list[str]) -> Iterator[Any]:
    from foveal.progress import track

    return track(_given(files), len(files), "predicting", quiet=len(files) < 100 or sys.stdout.isatty())


def _name(name: str, files: list[str]) -> str:
    if name == "-":
        return "standard input"
    return "standard input" if name.startswith("picture ") and "-" in files else name


def _fields(name: str, answer: Prediction) -> dict[str, Any]:
    return {
        "picture": name,
        "label": answer.label if answer.label is not None else "none",
        "index": answer.index,
        "score": round(answer.score, 7),
        "top": [{"label": label, "score": round(score, 7)} for label, score in answer.top],
    }


def _row(name: str, answer: Prediction, width: int) -> str:
    label = answer.label if answer.label is not None else "none"
    others = "   ".join(f"{label} {score:.1%}" for label, score in answer.top[0 if answer.label is None else 1 :])
    return f"{name:<{width}}  {label}  {answer.score:.1%}" + (f"   ({others})" if others else "")


def _draw(predictor: Predictor, file: str, answer: Prediction, folder: Path) -> None:
    from foveal.data.decode import decode
    from foveal.draw import draw_label

    if file == "-":
        return
    label = answer.label if answer.label is not None else "none"
    image = decode(Path(file).read_bytes(), 3, file)
    target = folder / f"{Path(file).stem}.png"
    number = 1
    while target.exists():
        number += 1
        target = folder / f"{Path(file).stem}-{number}.png"
    draw_label(image, [f"{label}\t{answer.score:.1%}"]).save(target)
