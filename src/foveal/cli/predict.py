"""``foveal predict``: what a model says of pictures."""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from glob import glob
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from foveal.cli.shared import DEVICES, NEW_PATH, PATH, say_warning
from foveal.errors import UserError
from foveal.progress import plain

if TYPE_CHECKING:
    from PIL.Image import Image

    from foveal.explain import Explained
    from foveal.predictor import Detected, DetectionPredictor, Prediction, Predictor


@click.command("predict")
@click.argument("model", type=PATH)
@click.argument("pictures", nargs=-1, required=True)
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line, for programs.")
@click.option("--draw", type=NEW_PATH, help="Write pictures with their labels or boxes drawn into this folder.")
@click.option("--explain", type=NEW_PATH, metavar="DIR", help="Write heat maps: where each label or box comes from.")
@click.option(
    "--min-score",
    type=click.FloatRange(0, 1),
    help='Classifier: answer "none" below this probability. Several labels a picture, or a detector: those of at least'
    " this probability; left out: each class's best by F1, as found in training; 0: all.",
)
@click.option("--top-k", type=click.IntRange(1), help="Classifier: how many classes to show. [3]")
@click.option("--embed", is_flag=True, help="Classifier: JSON lines with the picture's features (length 1) instead.")
@click.option("--class", "classes", multiple=True, metavar="NAME", help="Detector: only objects of this class.")
@click.option("--coco", type=NEW_PATH, help="Detector: write COCO results (a JSON file) too.")
@click.option("--coco-ids", type=PATH, help="Take ids of pictures and classes for --coco from this COCO file, by name.")
@click.option("--epoch", type=click.IntRange(1), help="Ask a stored epoch (checkpoint_frequency), not the best.")
@click.option("--device", type=click.Choice(DEVICES), default="auto", show_default=True, help="Where to compute.")
def command(
    model: Path,
    pictures: tuple[str, ...],
    as_json: bool,
    draw: Path | None,
    explain: Path | None,
    min_score: float | None,
    top_k: int | None,
    embed: bool,
    classes: tuple[str, ...],
    coco: Path | None,
    coco_ids: Path | None,
    epoch: int | None,
    device: str,
) -> None:
    """Ask MODEL about PICTURES: files, folders, patterns, addresses (s3://bucket/photos/), or - for a picture on
    standard input.

    \b
    foveal predict foveal-runs/photos new.jpg
    foveal predict model.tar.gz folder/ 'more/*.png' --json > answers.jsonl
    foveal predict model.tar.gz folder/ --min-score 0.8 --draw drawn/
    foveal predict detector.tar.gz folder/ --class person --draw drawn/ --explain heat/
    foveal predict detector.tar.gz folder/ --min-score 0 --coco results.json
    curl -s https://example.org/cat.jpg | foveal predict model.tar.gz -

    A classifier's JSON has label, score and top, and labels where a picture may have several; a detector's has
    prediction, a list of [class, score, xmin, ymin, xmax, ymax] with fractions of the picture's sides. A picture that
    cannot be read is named on standard error; the exit status is then 1.
    """
    from foveal.predictor import Predictor, load

    files = find_pictures(pictures)
    if explain is not None and "-" in files:
        raise UserError("standard input has no name to write heat maps by", "--explain", "Give the picture as a file.")
    predictor = load(model, device=device, epoch=epoch)
    _refuse(model, isinstance(predictor, Predictor), coco, top_k=top_k, embed=embed, classes=classes, coco_ids=coco_ids)
    for folder, option in ((draw, "--draw"), (explain, "--explain"), (coco and coco.parent, "--coco")):
        _make(folder, option)
    if isinstance(predictor, Predictor):
        if embed:
            unreadable = _embed(predictor, files)
        else:
            unreadable = _classify(predictor, files, as_json, draw, min_score, top_k or 3)
    else:
        unreadable = _detect(predictor, files, as_json, draw, min_score, classes, coco, coco_ids)
    if explain is not None:
        _explain(predictor, files, explain, min_score, classes)
    if unreadable:
        say_warning(f"{unreadable} of {len(files)} pictures could not be read")
        sys.exit(1)


def _explain(
    predictor: Predictor | DetectionPredictor,
    files: list[str],
    folder: Path,
    min_score: float | None,
    classes: tuple[str, ...],
) -> None:
    """Write a sheet of heat maps for each picture that can be read."""
    from foveal.errors import BadPicture
    from foveal.pages.heat import SIDE
    from foveal.predictor import Predictor
    from foveal.progress import track

    for file in track(files, len(files), "explaining"):
        try:
            if isinstance(predictor, Predictor):
                explained = predictor.explain(file, min_score=min_score, longest=SIDE)
            else:
                explained = predictor.explain(file, min_score=min_score, classes=classes or None, longest=SIDE)
        except BadPicture:
            continue  # named already
        _draw(file, partial(_sheet, explained), folder)


def _sheet(explained: list[Explained], image: Any) -> Image:
    from foveal.pages.heat import heat_sheet

    return heat_sheet(image, explained)


def _make(folder: Path | None, option: str) -> None:
    """Make a folder that is written into, before there is anything to write. Raises UserError."""
    if folder is None:
        return
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(
            f"can't be made: {error.strerror}", str(folder), f"Name another folder for {option}."
        ) from error


def _refuse(
    model: Path,
    classifier: bool,
    coco: Path | None,
    *,
    top_k: int | None,
    embed: bool,
    classes: tuple[str, ...],
    coco_ids: Path | None,
) -> None:
    """Raises UserError for options of the other kind of model."""
    for_classifiers = [name for name, used in (("--top-k", top_k is not None), ("--embed", embed)) if used]
    for_detectors = [name for name, used in (("--class", classes), ("--coco", coco), ("--coco-ids", coco_ids)) if used]
    wrong = for_detectors if classifier else for_classifiers
    if wrong:
        kinds = ("detector", "classifier") if classifier else ("classifier", "detector")
        raise UserError(
            f"{wrong[0]} is for a {kinds[0]}, and this is a {kinds[1]}", str(model), f"Leave {wrong[0]} out."
        )
    if coco_ids is not None and coco is None:
        raise UserError("--coco-ids is used by --coco, which is not given", "--coco-ids", "Add --coco FILE.")


def _embed(predictor: Predictor, files: list[str]) -> int:
    from foveal.predictor import Unreadable

    unreadable = 0
    for name, features in predictor.embed(_given(files)):
        if isinstance(features, Unreadable):
            unreadable += 1
            say_warning(f"{_name(name, files)}: {features.reason}")
        else:
            numbers = [round(v, 7) for v in features.tolist()]
            click.echo(json.dumps({"picture": _name(name, files), "features": numbers}))
    return unreadable


def _classify(
    predictor: Predictor, files: list[str], as_json: bool, draw: Path | None, min_score: float | None, top_k: int
) -> int:
    names = predictor.class_names

    def drawn(answer: Prediction, image: Any) -> Image:
        from foveal.draw import draw_label

        return draw_label(image, [f"{label}\t{score:.1%}" for label, score in _told(answer, names)])

    def fields(name: str, answer: Prediction) -> dict[str, Any]:
        return _fields(name, answer) | (
            {"labels": _scored(_told(answer, names)) if answer.labels else []} if predictor.several else {}
        )

    def row(name: str, answer: Prediction, width: int) -> str:
        return _labels_row(name, answer, width, names) if predictor.several else _row(name, answer, width)

    answers = predictor.stream(_progress(files), top_k=top_k, min_score=min_score)
    return _tell(files, answers, fields if as_json else None, row, draw, drawn)


def _detect(
    predictor: DetectionPredictor,
    files: list[str],
    as_json: bool,
    draw: Path | None,
    min_score: float | None,
    classes: tuple[str, ...],
    coco: Path | None,
    coco_ids: Path | None,
) -> int:
    from foveal.files import write_json
    from foveal.formats.coco_results import coco_results
    from foveal.predictor import Detected

    found: list[tuple[str, Any]] = []

    def drawn(answer: Detected, image: Any) -> Image:
        from foveal.draw import draw_boxes

        return draw_boxes(image, answer.found, predictor.class_names)

    def answers() -> Iterator[Any]:
        shown = predictor.stream(_progress(files), min_score=min_score, classes=classes or None, watch=_tiles)
        for answer in shown:
            if coco is not None and isinstance(answer, Detected):
                found.append((answer.picture, answer.found))
            yield answer

    unreadable = _tell(files, answers(), _boxes_fields if as_json else None, _boxes_row, draw, drawn)
    if coco is not None:
        write_json(coco, coco_results(found, predictor.class_names, coco_ids))
    return unreadable


def _tell(
    files: list[str],
    answers: Iterator[Any],
    fields: Callable[[str, Any], dict[str, Any]] | None,
    row: Callable[[str, Any, int], str],
    draw: Path | None,
    drawn: Callable[[Any, Any], Image],
) -> int:
    """Print each answer as JSON (``fields``) or as a line, and draw it; gives the number of unreadable pictures."""
    from foveal.predictor import Unreadable

    unreadable = 0
    width = min(60, max(len(plain(_name(file, files))) for file in files))
    for file, answer in zip(files, answers, strict=True):
        name = _name(file, files)
        if isinstance(answer, Unreadable):
            unreadable += 1
            say_warning(f"{name}: {answer.reason}")
            continue
        click.echo(json.dumps(fields(name, answer)) if fields else plain(row(plain(name), answer, width)))
        if draw is not None and file != "-":
            _draw(file, partial(drawn, answer), draw)
    return unreadable


def find_pictures(given: tuple[str, ...]) -> list[str]:
    """Files in the order given; folders and patterns in order of name. Raises UserError for what is not there."""
    from foveal.data.remote import picture_addresses
    from foveal.formats.pictures import picture_files
    from foveal.storage.address import is_address

    files: list[str] = []
    for each in given:
        path = Path(each)
        if each == "-" or path.is_file():
            files.append(each)
        elif is_address(each):
            files += picture_addresses(each)
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
    from foveal.storage.cache import ahead

    for file in ahead(files):
        yield sys.stdin.buffer.read() if file == "-" else file


def _progress(files: list[str]) -> Iterator[Any]:
    from foveal.progress import track

    return track(_given(files), len(files), "predicting", quiet=len(files) < 100 or sys.stdout.isatty())


def _tiles(name: str, tiles: list[Any]) -> Iterator[Any]:
    """The tiles of a picture, and how far they are where it is a large one."""
    from foveal.progress import track

    few = len(tiles) < 100
    return track(tiles, len(tiles), f"tiles of {plain(name)}", quiet=few or sys.stdout.isatty())


def _name(name: str, files: list[str]) -> str:
    if name == "-":
        return "standard input"
    return "standard input" if name.startswith("picture ") and "-" in files else name


def _told(answer: Prediction, names: tuple[str, ...]) -> list[tuple[str, float]]:
    """The labels of an answer with their probabilities, or ``none`` with that of the likeliest class."""
    told = [(label, float(answer.probabilities[names.index(label)])) for label in answer.labels]
    return told or [("none", answer.score)]


def _fields(name: str, answer: Prediction) -> dict[str, Any]:
    return {
        "picture": name,
        "label": answer.label if answer.label is not None else "none",
        "index": answer.index,
        "score": round(answer.score, 7),
        "top": _scored(answer.top),
    }


def _scored(labels: Iterable[tuple[str, float]]) -> list[dict[str, Any]]:
    return [{"label": label, "score": round(score, 7)} for label, score in labels]


def _row(name: str, answer: Prediction, width: int) -> str:
    label = answer.label if answer.label is not None else "none"
    others = "   ".join(f"{label} {score:.1%}" for label, score in answer.top[0 if answer.label is None else 1 :])
    return f"{name:<{width}}  {label}  {answer.score:.1%}" + (f"   ({others})" if others else "")


def _labels_row(name: str, answer: Prediction, width: int, names: tuple[str, ...]) -> str:
    told = "   ".join(f"{label} {score:.1%}" for label, score in _told(answer, names))
    others = "   ".join(f"{label} {score:.1%}" for label, score in answer.top if label not in answer.labels)
    return f"{name:<{width}}  {told}" + (f"   ({others})" if others else "")


def _boxes_fields(name: str, answer: Detected) -> dict[str, Any]:
    """The original's rows, every digit kept, so that what is computed from them is what ``evaluate`` computes."""
    rows = [[float(each.index), each.score, *each.fractions] for each in answer.objects]
    labels = [each.label for each in answer.objects]
    return {"picture": name, "size": list(answer.size), "prediction": rows, "labels": labels}


def _boxes_row(name: str, answer: Detected, width: int) -> str:
    if not answer.objects:
        return f"{name:<{width}}  nothing"
    counts = Counter(each.label for each in answer.objects)
    best = {each.label: each.score for each in reversed(answer.objects)}
    told = "   ".join(f"{count} x {label} (best {best[label]:.1%})" for label, count in counts.most_common())
    return f"{name:<{width}}  {told}"


def _draw(file: str, drawn: Callable[[Any], Image], folder: Path) -> None:
    from foveal.data.decode import decode
    from foveal.data.given import read_given

    target = folder / f"{Path(file).stem}.png"
    number = 1
    while target.exists():
        number += 1
        target = folder / f"{Path(file).stem}-{number}.png"
    drawn(decode(read_given(file, file), 3, file)).save(target)
