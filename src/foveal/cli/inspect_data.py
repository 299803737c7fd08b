"""What ``foveal inspect`` tells of labelled pictures: a summary, one JSON object, a JSON line a picture, a sheet."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from foveal.errors import UserError
from foveal.progress import plain
from foveal.storage.cache import named

if TYPE_CHECKING:
    from foveal.data.facts import BoxFacts, Facts
    from foveal.records import BadRecord, Dataset, Source

_SHEETS = (".jpg", ".jpeg", ".png", ".webp")


def tell_data(path: Path, dataset: Dataset, as_json: bool) -> None:
    """Print what the data holds."""
    from foveal.checking.examine import sources_of
    from foveal.data.facts import look_at_boxes, look_at_pictures
    from foveal.records import BoxSource

    sources = sources_of(dataset)
    names = dataset.class_names if dataset.named else None
    counts = {name: _counts(source, names, len(dataset.class_names)) for name, source in sources.items()}
    facts = look_at_pictures(dataset.train)
    boxes = {name: look_at_boxes(source) for name, source in sources.items() if isinstance(source, BoxSource)}
    bad = [record for source in sources.values() for record in source.bad]
    if as_json:
        click.echo(json.dumps(_fields(dataset, sources, counts, facts, boxes, bad), allow_nan=False))
        return
    click.echo(f"{named(str(path))} is data")
    for line in dataset.said:
        click.echo(plain(line))
    size = f"all {facts.width} x {facts.height}" if facts.same else f"about {facts.width} x {facts.height}"
    click.echo(f"pictures: {size}{', grey' if facts.grey else ''} ({facts.looked} looked at)")
    if facts.unread:
        click.echo(plain(f"{facts.unread} of them can't be read; the first: {facts.first_unread}"))
    for name, each in boxes.items():
        click.echo(_box_line(name, len(sources[name]), each))
    listed = [plain(name) for name in dataset.class_names]
    width = max(map(len, [*listed, "class"]))
    click.echo(f"{'class':<{width}}" + "".join(f"{name:>12}" for name in counts) + ("  (boxes)" if boxes else ""))
    for number, name in enumerate(listed):
        click.echo(f"{name:<{width}}" + "".join(f"{each[number]:>12,}" for each in counts.values()))
    for record in bad:
        click.echo(plain(f"left out: {record.where}: {record.reason}"))


def tell_pictures(dataset: Dataset) -> None:
    """Print a JSON line for each picture: its split, row and place, and its label as stored."""
    from foveal.checking.examine import sources_of
    from foveal.checking.sheet import label_texts
    from foveal.errors import BadPicture
    from foveal.records import BoxSource

    for split, source in sources_of(dataset).items():
        labels, text = source.labels(), label_texts(source, dataset.class_names)
        for row in range(len(source)):
            line: dict[str, object] = {"split": split, "row": row, "where": source.where(row)}
            if isinstance(source, BoxSource):
                try:
                    line |= _box_fields(source, row, dataset.class_names)
                except BadPicture as error:
                    line |= {"error": error.what}
            else:
                values = labels.values[labels.offsets[row] : labels.offsets[row + 1]].tolist()
                line |= {"label": [value if abs(value) < 1e38 else str(value) for value in values]}
                line |= {"class": text(row)}
            click.echo(json.dumps(line))


def write_sheet(dataset: Dataset, sheet: Path) -> None:
    """Draw some training pictures with their labels into a picture file. Raises UserError."""
    from foveal.checking.sheet import draw_sheet
    from foveal.files import write_aside

    if sheet.suffix.lower() not in _SHEETS:
        told = f"{sheet.suffix!r} is no form that a sheet is written in"
        raise UserError(told, str(sheet), f"Name a file that ends in {', '.join(_SHEETS)}.", "sheet")
    if sheet.exists():
        raise UserError("it is there already, and is not written over", str(sheet), "Name another file.", "sheet")
    kind = {".jpg": "JPEG", ".jpeg": "JPEG", ".png": "PNG", ".webp": "WEBP"}[sheet.suffix.lower()]
    drawn = draw_sheet(dataset)
    sheet.parent.mkdir(parents=True, exist_ok=True)
    write_aside(sheet, lambda aside: drawn.save(aside, kind, quality=90))


def _fields(
    dataset: Dataset,
    sources: Mapping[str, Source],
    counts: Mapping[str, list[int]],
    facts: Facts,
    boxes: Mapping[str, BoxFacts],
    bad: list[BadRecord],
) -> dict[str, object]:
    fields: dict[str, object] = {"kind": "data", "form": dataset.train.form, "task": dataset.task}
    fields |= {"classes": dataset.class_names, "named": dataset.named, "counts": counts}
    fields |= {
        "splits": {
            name: {"pictures": len(source), "left_out": len(source.bad), "fingerprint": source.fingerprint()}
            for name, source in sources.items()
        }
    }
    fields |= {"median_size": [facts.width, facts.height], "grey": facts.grey, "unreadable": facts.unread}
    fields |= {"boxes": {name: asdict(each) for name, each in boxes.items()}} if boxes else {}
    return fields | {"said": dataset.said, "bad": [[record.where, record.reason] for record in bad]}


def _box_fields(source: Source, row: int, class_names: tuple[str, ...]) -> dict[str, object]:
    from foveal.records import BoxSource

    assert isinstance(source, BoxSource)
    boxes = source.boxes(row)
    numbers = boxes.cls.tolist()
    return {
        "size": boxes.size,
        "unit": boxes.unit,
        "boxes": [
            {
                "class": class_names[number] if 0 <= number < len(class_names) else str(number),
                "number": number,
                "corners": [float(f"{value:.9g}") if abs(value) < 1e38 else str(value) for value in corners],
                "difficult": bool(difficult),
                "crowd": bool(crowd),
            }
            for number, corners, difficult, crowd in zip(
                numbers, boxes.values.tolist(), boxes.difficult, boxes.crowd, strict=True
            )
        ],
    }


def _counts(source: Source, names: tuple[str, ...] | None, classes: int) -> list[int]:
    """Pictures of each class, or boxes where there are some; every label is checked on the way."""
    import numpy as np

    from foveal.data.check import check_objects, class_indices, class_sets
    from foveal.formats.multihot import looks_multi_hot
    from foveal.records import BoxSource

    if isinstance(source, BoxSource):
        numbers = check_objects(source, None, names, gaps_allowed=True).classes
    elif looks_multi_hot(source.labels()):
        numbers = np.nonzero(class_sets(source, None, names)[0])[1]
    else:
        numbers, _ = class_indices(source, None, names, gaps_allowed=True)
    counts: list[int] = np.bincount(numbers, minlength=classes).tolist()
    return counts


def _box_line(split: str, pictures: int, facts: BoxFacts) -> str:
    line = f"{split}: {facts.boxes:,} boxes, {facts.median:,} a picture (median), {facts.most:,} at most; "
    line += f"{facts.empty:,} of {pictures:,} pictures without"
    if facts.sides is None:
        return line
    low, middle, high = facts.sides
    return line + f"; a box's side is {middle:.0%} of its picture's (median), nine of ten {low:.0%} to {high:.0%}"
