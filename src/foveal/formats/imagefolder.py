"""A folder of pictures with a ``metadata.jsonl`` or ``metadata.csv``, as Hugging Face's ``imagefolder`` has it.

    train/metadata.jsonl     {"file_name": "0001.png", "label": "cat"}
                             {"file_name": "0002.png", "objects": {"bbox": [[302, 109, 73, 52]], "categories": [0]}}
    train/0001.png           validation/ and test/ have their own, or one file beside the folders names train/0001.png

``file_name`` is relative to the metadata's folder. What a row says of its picture: ``jsonlabels``.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from foveal.errors import BadPicture, UserError
from foveal.formats.boxfiles import (
    Annotation,
    BoxFileSource,
    Gathered,
    Place,
    folders_by_name,
    match_classes,
    nothing_usable,
    read_json,
)
from foveal.formats.jsonlabels import (
    Label,
    ToldNames,
    annotation_of,
    has_objects,
    kind_numbers,
    label_key,
    label_of,
    name_beside,
    number_labels,
)
from foveal.formats.pictures import LONGEST_PATH, FileSource, Listing, short, shown, tidy_path
from foveal.formats.splits import SPLITS
from foveal.records import BadRecord, TaskName

METADATA = ("metadata.jsonl", "metadata.csv")
_LONGEST_LINE = 16_000_000  # bytes of a row
_LOOKED_AT = 20  # rows
Row = tuple[int, Mapping[str, Any]]


def find_imagefolder(folder: Path) -> dict[str, Place]:
    """The splits that the metadata in a folder speaks of, or ``all``; {} where there is none with ``file_name``."""
    for name in METADATA:
        path = folder / name
        if not path.is_file():
            continue
        try:
            rows = [row for row in islice(_rows(path), _LOOKED_AT) if not isinstance(row, BadRecord)]
        except UserError:  # a table of something else
            continue
        firsts = {_file(row).partition("/")[0].lower() for _, row in rows}
        if not any(firsts):
            continue
        inner = folders_by_name(folder)
        splits = {SPLITS[each]: inner[each] for each in inner if each in SPLITS}
        if firsts <= set(SPLITS) and "train" in splits:
            return {split: Place("imagefolder", path, (each,)) for split, each in splits.items()}
        return {"all": Place("imagefolder", path, (folder,))}
    return {}


def read_imagefolder(
    place: Place,
    *,
    origin: str = "",
    class_names: tuple[str, ...] | None = None,
    task: TaskName | None = None,
    label_column: str | None = None,
) -> FileSource | BoxFileSource:
    """Read the rows of one split.

    Args:
        class_names: names in label order. Left out, the labels' own, sorted; none where they are numbers.
        task: what the pictures are to carry. Left out, boxes where the first row that has either has objects.
        label_column: key of the label, where it is none of the usual ones.

    Rows that can't be read, without file or label, and pictures that aren't there are left out and named in ``bad``.

    Raises:
        UserError: when no row can be used, and for labels that can't be meant, and classes not among ``class_names``.
    """
    bad: list[BadRecord] = []
    rows = _usable(place, bad)
    spoken = next((row for _, _, row in rows if label_column or has_objects(row) or label_key(row)), {})
    boxes = task == "boxes" or (task is None and label_column is None and has_objects(spoken))
    if boxes and not any(has_objects(row) for _, _, row in rows) and rows:
        raise UserError("no row of it has objects, and boxes are asked for", str(place.annotations), _OBJECTS)
    key = label_column or label_key(spoken)
    if not boxes and key is None and rows:
        told = "its rows have objects, and classes are asked for" if has_objects(spoken) else "its rows have no label"
        raise UserError(told, str(place.annotations), _LABELS, setting="label_column")
    read = _read_boxes if boxes else _read_labels
    return read(place, origin, class_names, rows, key or "", bad)


_OBJECTS = 'A row has "objects": {"bbox": [[x, y, width, height], ...], "categories": [0, ...]}.'
_LABELS = "A row has a label, a number or a name; another column is named with label_column (--label-column)."
Usable = Sequence[tuple[int, str, Mapping[str, Any]]]


def _usable(place: Place, bad: list[BadRecord]) -> Usable:
    """Line, picture and content of each row that can be used; those of other splits are passed over."""
    base, folder = place.annotations.parent, place.pictures[0]
    prefix = folder.relative_to(base).as_posix() + "/" if folder != base and folder.is_relative_to(base) else ""
    root = base if prefix else folder
    listing = Listing(root)
    found: list[tuple[int, str, Mapping[str, Any]]] = []
    for row in _rows(place.annotations):
        if isinstance(row, BadRecord):
            bad.append(row)
            continue
        line, content = row
        name = _file(content)
        where = f"{place.annotations.name}, line {line}"
        if not name:
            bad.append(BadRecord(where, "it has no file_name"))
        elif not name.startswith(prefix):
            if name.partition("/")[0].lower() not in SPLITS:
                bad.append(BadRecord(where, shown(f"{short(name, LONGEST_PATH)} lies in no folder of a split")))
        else:
            picture = listing.find(name)
            if picture is None:
                bad.append(BadRecord(where, shown(f"the picture {short(name, LONGEST_PATH)} isn't in {root}")))
            else:
                found.append((line, picture, content))
    return found


def _read_labels(
    place: Place, origin: str, known: tuple[str, ...] | None, rows: Usable, key: str, bad: list[BadRecord]
) -> FileSource:
    name = place.annotations.name
    files, lines = [], []
    labels: list[Label] = []
    told = ToldNames()
    for line, picture, row in rows:
        if row.get(key) in (None, ""):
            bad.append(BadRecord(f"{name}, line {line}", shown(f"{short(picture, LONGEST_PATH)} has no label ({key})")))
            continue
        labels.append(label_of(row[key], f"{place.annotations}, line {line}"))
        told.add(labels[-1], name_beside(row, key))
        files.append(picture)
        lines.append(line)
    if not files:
        raise nothing_usable(place.annotations, len(bad), bad, "rows")
    known = known if known is not None else told.names()
    numbers, names = number_labels(labels, lambda row: f"{place.annotations}, line {lines[row]}", known)
    return FileSource(
        "imagefolder",
        origin or str(place.annotations),
        _root(place),
        files,
        numbers,
        class_names=names,
        bad=bad,
        listing=name,
        lines=np.array(lines, dtype=np.int64),
    )


def _read_boxes(
    place: Place, origin: str, known: tuple[str, ...] | None, rows: Usable, _: str, bad: list[BadRecord]
) -> BoxFileSource:
    name = place.annotations.name
    files, notes = [], []
    gathered = Gathered()
    for line, picture, row in rows:
        try:
            annotation = annotation_of(row, f"{name}, line {line}")
        except BadPicture as error:
            bad.append(BadRecord(error.where, error.what))
            continue
        gathered.add(annotation or Annotation(()))
        files.append(picture)
        notes.append(f"{name}, line {line}")
    if not files:
        raise nothing_usable(place.annotations, len(bad), bad, "rows")
    numbers, names = kind_numbers(list(gathered.kinds), str(place.annotations))
    source = BoxFileSource(
        "imagefolder",
        origin or str(place.annotations),
        _root(place),
        files,
        notes,
        gathered.table(numbers, "pixel"),
        class_names=names,
        bad=bad,
    )
    return match_classes(source, known)


def _root(place: Place) -> Path:
    base, folder = place.annotations.parent, place.pictures[0]
    return base if folder.is_relative_to(base) else folder


def _file(row: Mapping[str, Any]) -> str:
    name = row.get("file_name")
    return tidy_path(name) if isinstance(name, str) else ""


def _rows(path: Path) -> Iterator[Row | BadRecord]:
    """Line number and content of each row."""
    try:
        if path.suffix == ".csv":
            yield from _csv_rows(path)
        else:
            yield from _json_rows(path)
    except OSError as error:
        raise UserError(
            f"can't be opened: {error.strerror}", str(path), "Check the path and who may read it."
        ) from error


def _json_rows(path: Path) -> Iterator[Row | BadRecord]:
    with path.open("rb") as file:
        number = 0
        while line := file.readline(_LONGEST_LINE + 1):
            number += 1
            where = f"{path.name}, line {number}"
            if len(line) > _LONGEST_LINE:
                raise UserError(f"a row of more than {_LONGEST_LINE:,} bytes", where, "Put one picture into a line.")
            if not line.strip(b"\xef\xbb\xbf \t\r\n"):
                continue
            try:
                content = read_json(line.lstrip(b"\xef\xbb\xbf"), where)
            except BadPicture as error:
                yield BadRecord(where, error.what)
                continue
            yield (number, content) if isinstance(content, dict) else BadRecord(where, "the row is no JSON object")


def _csv_rows(path: Path) -> Iterator[Row | BadRecord]:
    line = 2  # where the row begins that is read
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file, strict=True)
            for row in reader:
                begins, line = line, reader.line_num + 1
                if None in row or None in row.values():
                    yield BadRecord(f"{path.name}, line {begins}", "it has another number of fields than the header")
                else:
                    yield begins, row
    except csv.Error as error:
        raise UserError(f"can't be read as a table: {error}", f"{path}, line {line}", "Mend the line.") from error
    except UnicodeDecodeError as error:
        raise UserError(f"isn't UTF-8 text: {error}", str(path), "Store it as CSV in UTF-8.") from error
