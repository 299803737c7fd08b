"""The per-image JSON of SageMaker's object detection.

    train/a/1.jpg   train_annotation/a/1.json         and so for validation

    {"file": "a/1.jpg", "image_size": [{"width": 500, "height": 400, "depth": 3}],
     "annotations": [{"class_id": 0, "left": 111, "top": 134, "width": 61, "height": 128}],
     "categories": [{"class_id": 0, "name": "dog"}]}

``file`` is relative to the folder of pictures; boxes are pixels from the upper left corner (reference 3.5). Classes are
numbered as ``class_id`` says; ``categories`` may name them, in any of the files.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from foveal.errors import BadPicture, UserError
from foveal.formats.boxfiles import (
    Annotation,
    BoxFileSource,
    Gathered,
    Object,
    Place,
    as_name,
    as_number,
    as_whole,
    find_picture,
    folders_by_name,
    match_classes,
    nothing_usable,
    read_annotation,
    read_json,
    stated_size,
    without_annotation,
)
from foveal.formats.pictures import (
    LONGEST_PATH,
    Listing,
    in_natural_order,
    is_hidden,
    refuse_one_name,
    short,
    shown,
    tidy_path,
    walk_files,
)
from foveal.formats.splits import SPLITS
from foveal.records import BadRecord, Line

SUFFIX = "_annotation"
_LARGEST_CLASS = 100_000  # beyond it no names are made up
_NUMBERS = ("left", "top", "width", "height")


def find_sagemaker_json(folder: Path) -> dict[str, Place]:
    """The splits in a folder, or ``all`` for a channel's folder or for pictures and JSON side by side; else {}."""
    inner = folders_by_name(folder)
    found: dict[str, Place] = {}
    for name, pictures in inner.items():
        annotations = inner.get(name + SUFFIX)
        if name in SPLITS and annotations is not None and _holds_json(annotations):
            found[SPLITS[name]] = Place("sagemaker-json", annotations, (pictures,))
    if found:
        return found
    beside = folder.absolute().with_name(folder.absolute().name + SUFFIX)
    for annotations in (beside, inner.get("annotations"), inner.get("annotation"), folder):
        if annotations is not None and annotations.is_dir() and _holds_json(annotations, deep=annotations != folder):
            pictures = inner.get("images", folder) if annotations != beside else folder
            return {"all": Place("sagemaker-json", annotations, (pictures,))}
    return {}


def read_sagemaker_json(
    place: Place, *, origin: str = "", class_names: tuple[str, ...] | None = None
) -> tuple[BoxFileSource, tuple[Line, ...]]:
    """Read the JSON files of one split.

    Args:
        class_names: names in label order; left out, the ``categories`` tell them, if any file has them.

    Returns:
        The source, and lines that tell what was left out without being broken.

    Files that can't be read or whose picture isn't there are left out and named in ``bad``.

    Raises:
        UserError: when none can be used, when files name one class differently, and for a class that is not among
            ``class_names``.
    """
    root = place.pictures[0]
    listing = Listing(root)
    files: list[str] = []
    notes: list[str] = []
    bad: list[BadRecord] = []
    names: dict[int, str] = {}
    gathered = Gathered()
    for name in in_natural_order(each for each in walk_files(place.annotations) if each.lower().endswith(".json")):
        path = place.annotations / name
        where = shown(str(path))
        try:
            data = read_json(read_annotation(path, where), where)
            annotation = parse_sagemaker_json(data, where)
        except BadPicture as error:
            bad.append(BadRecord(error.where, error.what))
            continue
        _collect_names(data, names, where)
        stem = name[: -len(".json")]
        picture = find_picture(listing, (annotation.file, stem, annotation.file.rpartition("/")[2]))
        if picture is None:
            told = f"its picture {short(annotation.file or stem, LONGEST_PATH)} isn't in {root}"
            bad.append(BadRecord(where, shown(told)))
            continue
        files.append(picture)
        notes.append(name)
        gathered.add(annotation)
    if not files:
        raise nothing_usable(place.annotations, len(bad), bad, "annotations")
    said = without_annotation(walk_files(root), files, root)
    numbers = {kind: kind for kind in gathered.kinds if isinstance(kind, int)}
    objects = gathered.table(numbers, "pixel")
    source = BoxFileSource(
        "sagemaker-json", origin or str(place.annotations), root, files, notes, objects,
        class_names=_in_label_order(names, max([*numbers, *names, 0]), str(place.annotations)), bad=bad,
    )  # fmt: skip
    return match_classes(source, class_names), said


def parse_sagemaker_json(data: object, where: str) -> Annotation:
    """Take the parsed JSON of one picture apart. Raises BadPicture that names the key at fault."""
    if not isinstance(data, dict):
        raise BadPicture("isn't a JSON object", where)
    file = data.get("file", "")
    if not isinstance(file, str):
        raise BadPicture(f"file is {short(repr(file))}, no path", where)
    sizes = data.get("image_size")
    if not (isinstance(sizes, list) and len(sizes) == 1 and isinstance(sizes[0], dict)):
        raise BadPicture(f"image_size is {short(repr(sizes))}, not a list of one object", where)
    size = stated_size(sizes[0].get("width"), sizes[0].get("height"))
    if size is None:
        raise BadPicture(f"image_size is {short(repr(sizes))}, without a width and height in pixels", where)
    entries = data.get("annotations")
    if not isinstance(entries, list):
        raise BadPicture(f"annotations is {short(repr(entries))}, no list", where)
    objects = tuple(_object(entry, number, where) for number, entry in enumerate(entries, start=1))
    return Annotation(objects, size, tidy_path(file))


def _object(entry: object, number: int, where: str) -> Object:
    if not isinstance(entry, dict):
        raise BadPicture(f"annotation {number} is {short(repr(entry))}, no object", where)
    kind = as_whole(entry.get("class_id"))
    if kind is None or kind < 0:
        told = f"annotation {number}: class_id is {short(repr(entry.get('class_id')))}, no whole number from 0"
        raise BadPicture(told, where)
    numbers = [as_number(entry.get(key)) for key in _NUMBERS]
    for key, value in zip(_NUMBERS, numbers, strict=True):
        if value is None:
            raise BadPicture(f"annotation {number}: {key} is {short(repr(entry.get(key)))}, no number", where)
    left, top, width, height = (float(value or 0) for value in numbers)
    return Object(kind, left, top, left + width, top + height)


def _collect_names(data: Mapping[str, Any], names: dict[int, str], where: str) -> None:
    """Note the ``categories`` of a file. Raises UserError when another file names a class differently."""
    entries = data.get("categories", [])
    for entry in entries if isinstance(entries, list) else []:
        if not isinstance(entry, dict):
            continue
        kind, name = as_whole(entry.get("class_id")), as_name(entry.get("name"))
        if kind is None or not 0 <= kind <= _LARGEST_CLASS or name is None:
            continue
        before = names.setdefault(kind, name)
        if before != name:
            raise UserError(
                f"categories names class {kind} {short(name)!r}, and an earlier file {short(before)!r}",
                where,
                "Give each class one name in all files.",
            )


def _in_label_order(names: Mapping[int, str], largest: int, where: str) -> tuple[str, ...] | None:
    """A name for each class number; its number where no file names it. None where no file names any.

    Raises UserError where two have one name.
    """
    if not names or largest > _LARGEST_CLASS:
        return None
    found = tuple(names.get(number, str(number)) for number in range(largest + 1))
    refuse_one_name(found, where, "Give each its own name in categories, or one class_id.")
    return found


def _holds_json(folder: Path, *, deep: bool = True) -> bool:
    """Whether the first JSON files of a folder (``deep``: and below) are such."""
    try:
        there = walk_files(folder) if deep else (each.name for each in folder.iterdir() if not is_hidden(each.name))
        found = [name for name, _ in zip((n for n in there if n.lower().endswith(".json")), range(5), strict=False)]
    except OSError:
        return False
    return any(_looks_right(folder / name) for name in found)


def _looks_right(path: Path) -> bool:
    try:
        data = json.loads(read_annotation(path, ""))
    except (BadPicture, ValueError, RecursionError):
        return False
    return isinstance(data, dict) and isinstance(data.get("annotations"), list) and "image_size" in data
