"""Augmented manifests: a JSON object a line, as SageMaker takes and Ground Truth writes them (reference 3.6).

    {"source-ref": "s3://bucket/1.jpg", "species": "0", "species-metadata": {"class-name": "dog", ...}}
    {"source-ref": "photos/1.jpg", "tags": [0, 2], "tags-metadata": {"class-map": {"0": "cat", "2": "cow"}, ...}}
    {"source-ref": "photos/1.jpg", "box": {"image_size": [{"width": 500, "height": 400, "depth": 3}],
     "annotations": [{"class_id": 0, "left": 111, "top": 134, "width": 61, "height": 128}]}, "box-metadata": {...}}

A picture is named by ``source-ref``, or the first attribute that ends so: a path relative to the manifest, ``file://``,
or an address. A list of labels is multi-hot (a number for each class) or lists class ids; which of the two is told from
the lists and their class map. Classes are named by ``class-name`` and ``class-map`` of any line.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal
from urllib.parse import unquote, urlsplit

import numpy as np

from foveal.errors import BadPicture, UserError
from foveal.formats.boxfiles import (
    LARGEST_ANNOTATION,
    BoxFileSource,
    Gathered,
    as_name,
    match_classes,
    nothing_usable,
)
from foveal.formats.jsonlabels import Label, label_of, number_labels
from foveal.formats.multihot import multi_hot
from foveal.formats.pictures import LONGEST_PATH, FileSource, Listing, find_root, short, shown, tidy_path
from foveal.formats.sagemaker_json import parse_sagemaker_json
from foveal.records import BadRecord, Labels
from foveal.storage.address import is_address

SUFFIXES = (".manifest", ".jsonl", ".json")
LabelFormat = Literal["multi-hot", "class-id"]
_REF, _METADATA = "-ref", "-metadata"
_BEGINNING = 1_000_000  # bytes in which the first line ends
_LOOKED_AT = 100  # lines that tell which attribute is the label
_LARGEST_CLASS = 100_000  # beyond it an id is no class, and no names are made up
_TEACH = (
    'A line is {"source-ref": "photos/1.jpg", "class": 0}: a picture, and its label as number, name, list, or with'
    " boxes."
)


@dataclass(frozen=True)
class _Line:
    """A line that could be parsed: its number, the picture as it is named, all of it."""

    number: int
    picture: str
    data: Mapping[str, Any]


@dataclass
class _Kept:
    """The lines that can be used, and their pictures, relative to ``root``."""

    root: Path
    files: list[str] = field(default_factory=list)
    lines: list[_Line] = field(default_factory=list)
    bad: list[BadRecord] = field(default_factory=list)


def looks_like_manifest(path: Path) -> bool:
    """Whether the first line of a file is a JSON object that names a picture."""
    try:
        with path.open("rb") as file:
            first = file.readline(_BEGINNING).lstrip(b"\xef\xbb\xbf \t")
        data = json.loads(first) if first.startswith(b"{") else None
    except (OSError, ValueError, RecursionError):
        return False
    return isinstance(data, dict) and any(key.endswith(_REF) for key in data)


def read_manifest(
    path: Path,
    *,
    root: Path | None = None,
    origin: str = "",
    class_names: tuple[str, ...] | None = None,
    attribute: str | None = None,
    label_format: LabelFormat | None = None,
    names: Mapping[int, str] | None = None,
) -> tuple[FileSource | BoxFileSource, str]:
    """Read a manifest.

    Args:
        root: the folder of the pictures; left out, the manifest's own folder, or one beside it that has them. Given,
            pictures with an address are looked for there too, by the end of their address.
        class_names: names in label order, to which the manifest's own are matched.
        attribute: of the label, where a line has several that may be one.
        label_format: what lists of labels are; told from them when left out.
        names: class number -> name, instead of the metadata's.

    Returns:
        The source, and a line that tells how the manifest was read.

    Lines that are no JSON, lack an attribute or whose picture isn't there, and broken boxes, are left out and named in
    ``bad``. Whether an address leads to a picture is found when it is read.

    Raises:
        UserError: when no line can be used, the attribute of the label can't be told, a label is none, labels are of
            several kinds, a class has two names, and for a class that is not among ``class_names``.
    """
    lines, bad = _parse(path)
    if not lines:
        raise nothing_usable(path, len(bad), bad, "lines")
    attribute = attribute or _attribute(path, lines)
    kept = _keep_what_is_there(path, root, attribute, lines, bad)
    if not kept.lines:
        raise nothing_usable(path, len(kept.bad), kept.bad, "lines")
    told = _told_names(path, attribute, kept.lines) | dict(names or {})
    by = "given" if names else "named by the metadata"
    order = f"; classes {by}, in the order of their ids" if told else ""
    if isinstance(_value(kept.lines[0], attribute), dict):
        boxes = _boxes(path, origin, attribute, kept, told)
        return match_classes(boxes, class_names), f"{path.name}: boxes by the attribute {attribute}{order}"
    labels = _as_numbers([_label(line, attribute, path) for line in kept.lines])
    if isinstance(labels[0], tuple):
        label_format = label_format or _told_format(labels, attribute, kept.lines)
        kind = "multi-hot labels" if label_format == "multi-hot" else "lists of class ids"
        width = _check_hot(labels, kept.lines, path) if label_format == "multi-hot" else 0
        numbers, found = _several(labels, told, class_names, width, _places(path, kept))
    else:
        kind = "labels"
        numbers, found = _single(labels, told, class_names, _places(path, kept))
    source = FileSource(
        "manifest",
        origin or str(path),
        kept.root,
        kept.files,
        numbers,
        class_names=found,
        bad=kept.bad,
        listing=path.name,
        lines=np.array([line.number for line in kept.lines], dtype=np.int64),
    )
    return source, f"{path.name}: {kind} by the attribute {attribute}{order}"


def _parse(path: Path) -> tuple[list[_Line], list[BadRecord]]:
    lines: list[_Line] = []
    bad: list[BadRecord] = []
    for number, content in enumerate(_lines(path), start=1):
        where = f"{path.name}, line {number}"
        content = content.strip() if number > 1 else content.removeprefix(b"\xef\xbb\xbf").strip()
        if not content:
            continue
        try:
            data = json.loads(content)
        except json.JSONDecodeError as error:
            bad.append(BadRecord(where, f"is no JSON: {error.msg} (column {error.colno})"))
            continue
        except (ValueError, RecursionError) as error:  # other encodings, endless digits, endless nesting
            bad.append(BadRecord(where, f"is no JSON: {type(error).__name__}"))
            continue
        picture = _picture(data) if isinstance(data, dict) else None
        if picture is None:
            told = "names no picture: it has no source-ref" if isinstance(data, dict) else "isn't a JSON object"
            bad.append(BadRecord(where, told))
        else:
            lines.append(_Line(number, picture, data))
    return lines, bad


def _lines(path: Path) -> Iterator[bytes]:
    try:
        with path.open("rb") as file:
            number = 0
            while line := file.readline(LARGEST_ANNOTATION + 1):
                number += 1
                if len(line) > LARGEST_ANNOTATION:
                    told = f"more than {LARGEST_ANNOTATION:,} bytes are no line of a manifest"
                    raise UserError(told, f"{path}, line {number}", _TEACH)
                yield line
    except OSError as error:
        raise UserError(
            f"can't be opened: {error.strerror}", str(path), "Check the path and who may read it."
        ) from error


def _picture(data: Mapping[str, Any]) -> str | None:
    """The picture that a line names."""
    key = "source-ref" if "source-ref" in data else next((key for key in data if key.endswith(_REF)), "")
    return as_name(data.get(key))


def _attribute(path: Path, lines: Sequence[_Line]) -> str:
    """The attribute that holds the label. Raises UserError when there is none, or several may be it."""
    found: dict[str, None] = {}
    for line in lines[:_LOOKED_AT]:
        for key in line.data:
            if not key.endswith((_REF, _METADATA)) and key != "source":
                found[key] = None
    described = [key for key in found if any(key + _METADATA in line.data for line in lines[:_LOOKED_AT])]
    candidates = described or list(found)
    if len(candidates) == 1:
        return candidates[0]
    where = f"{path}, line {lines[0].number}"
    keys = ", ".join(lines[0].data)
    if candidates:
        told = f"several attributes may be the label: {', '.join(candidates)}"
        raise UserError(told, where, "Name it with --label-attribute.", "label_attribute")
    referring = [key for key in lines[0].data if key.endswith(_REF) and lines[0].data[key] != lines[0].picture]
    if referring:
        value = short(str(lines[0].data[referring[0]]), LONGEST_PATH)
        told = f"its label is a file, {referring[0]}: {value}, as Ground Truth writes for videos and segmentation"
        raise UserError(told, where, "Labels have to be in the manifest itself: classes, or boxes of single pictures.")
    raise UserError(f"no attribute of it is a label: {keys}", where, _TEACH)


def _keep_what_is_there(
    path: Path, root: Path | None, attribute: str, lines: Sequence[_Line], bad: Sequence[BadRecord]
) -> _Kept:
    local = [name for line in lines[:_LOOKED_AT] if not is_address(name := line.picture)]
    place = root or find_root(path.parent, path.stem, [tidy_path(name) for name in local[:20]])
    listing = Listing(place)
    kept = _Kept(place, bad=list(bad))
    for line in lines:
        found = _find(line.picture, listing, tails=root is not None)
        if _value(line, attribute) is None:
            reason = f"it has no attribute {attribute}"
        elif found is None:
            reason = f"the picture {short(line.picture, LONGEST_PATH)} isn't in {place}"
        else:
            kept.files.append(found)
            kept.lines.append(line)
            continue
        kept.bad.append(BadRecord(f"{path.name}, line {line.number}", shown(reason)))
    return kept


def _find(picture: str, listing: Listing, *, tails: bool) -> str | None:
    """The picture's path, or its address; ``tails``: an address counts by its end, as a path."""
    if picture.lower().startswith("file://"):
        return listing.find(unquote(urlsplit(picture).path))
    if not is_address(picture):
        return listing.find(tidy_path(picture))
    if not tails:
        return picture
    parts = urlsplit(picture).path.strip("/").split("/")
    return next((found for first in range(len(parts)) if (found := listing.find("/".join(parts[first:])))), None)


def _value(line: _Line, attribute: str) -> Any:
    """The label of a line; lists and objects may be written as text, as the platform passes them on."""
    value = line.data.get(attribute)
    if isinstance(value, str) and value.strip().startswith(("[", "{")):
        try:
            return json.loads(value)
        except (ValueError, RecursionError):
            return value
    return value


def _label(line: _Line, attribute: str, path: Path) -> Label:
    where = f"{path}, line {line.number}"
    value = _value(line, attribute)
    if isinstance(value, dict):
        told = f"{attribute} has boxes here, and a class in the lines before"
        raise UserError(told, where, "Give all lines the same kind of label.")
    return label_of(value, where)


def _as_numbers(labels: list[Label]) -> list[Label]:
    """Ground Truth writes class numbers as text: numbers, where all labels are such."""
    if all(isinstance(label, int) or (isinstance(label, str) and label.isdecimal()) for label in labels):
        return [int(label) for label in labels if not isinstance(label, tuple)]
    return labels


def _told_format(labels: Sequence[Label], attribute: str, lines: Sequence[_Line]) -> LabelFormat:
    """``multi-hot`` where all lists have one length and hold 0 and 1, and class maps don't say that these are ids."""
    lists = [label if isinstance(label, tuple) else () for label in labels]
    if len(set(map(len, lists))) != 1 or not all(part in (0, 1) for each in lists for part in each) or not lists[0]:
        return "class-id"
    maps = [_class_map(line, attribute) for line in lines]
    told = [set(map(str, each)) == set(found) for each, found in zip(lists, maps, strict=True) if found]
    unlike = any(len(set(each)) < len(each) for each in lists)
    return "class-id" if told and all(told) and not unlike else "multi-hot"


def _check_hot(labels: Sequence[Label], lines: Sequence[_Line], path: Path) -> int:
    """The length of multi-hot lists. Raises UserError for lists of several lengths, and what is neither 0 nor 1."""
    width = len(labels[0]) if isinstance(labels[0], tuple) else 0
    for label, line in zip(labels, lines, strict=True):
        where = f"{path}, line {line.number}"
        if not isinstance(label, tuple) or len(label) != width:
            given = f"a list of {len(label):,} numbers" if isinstance(label, tuple) else f"{short(str(label))}, no list"
            raise UserError(
                f"the label is {given}, and that of line {lines[0].number} has {width:,}",
                where,
                "A multi-hot list has a number for each class. For lists of class ids, --label-format class-id.",
                "label_format",
            )
        wrong = next((part for part in label if part not in (0, 1)), None)
        if wrong is not None:
            raise UserError(
                f"{short(str(wrong))} in a multi-hot list is neither 0 nor 1",
                where,
                "Mend the label. For lists of class ids, --label-format class-id.",
                "label_format",
            )
    return width


def _class_map(line: _Line, attribute: str) -> Mapping[str, Any]:
    metadata = line.data.get(attribute + _METADATA)
    found = metadata.get("class-map") if isinstance(metadata, dict) else None
    return found if isinstance(found, dict) else {}


def _told_names(path: Path, attribute: str, lines: Sequence[_Line]) -> dict[int, str]:
    """Class number -> name, from the metadata of all lines. Raises UserError for a class with two names."""
    names: dict[int, str] = {}
    for line in lines:
        metadata = line.data.get(attribute + _METADATA)
        told = dict(_class_map(line, attribute))
        value = line.data.get(attribute)
        if isinstance(metadata, dict) and isinstance(value, int | str):
            told.setdefault(str(value), metadata.get("class-name"))
        for key, text in told.items():
            name = as_name(text)
            if name is None or not key.isdecimal() or int(key) > _LARGEST_CLASS:
                continue
            before = names.setdefault(int(key), name)
            if before != name:
                raise UserError(
                    f"class {key} is called {short(name)!r} here, and {short(before)!r} in an earlier line",
                    f"{path}, line {line.number}",
                    "Give each class one name in all lines, or name them with --names.",
                    "names",
                )
    return names


def _in_order(told: Mapping[int, str], used: Sequence[int]) -> tuple[str, ...] | None:
    """A name for each class number, its number where none is told; None where no names are told."""
    largest = max([*told, *used, 0])
    if not told or largest > _LARGEST_CLASS:
        return None
    return tuple(told.get(number, str(number)) for number in range(largest + 1))


def _places(path: Path, kept: _Kept) -> Callable[[int], str]:
    return lambda row: f"{path}, line {kept.lines[row].number}"


def _single(
    labels: list[Label], told: Mapping[int, str], known: tuple[str, ...] | None, where: Callable[[int], str]
) -> tuple[Labels, tuple[str, ...] | None]:
    """Labels of one class a picture, and the names of the classes, where there are some."""
    ids = [label for label in labels if isinstance(label, int) and 0 <= label <= _LARGEST_CLASS]
    own = _in_order(told, ids)
    if own is None or len(ids) < len(labels):
        return number_labels(labels, where, known)
    return number_labels([own[number] for number in ids], where, known or own)


def _several(
    labels: list[Label],
    told: Mapping[int, str],
    known: tuple[str, ...] | None,
    width: int,
    where: Callable[[int], str],
) -> tuple[Labels, tuple[str, ...] | None]:
    """Labels of any number of classes a picture, and the names of the classes.

    Args:
        width: of multi-hot lists; 0 where lists hold class ids or names.
    """
    lists = [label if isinstance(label, tuple) else (label,) for label in labels]
    if any(isinstance(part, str) for each in lists for part in each):
        return number_labels(labels, where, known)
    sets = [tuple(np.flatnonzero(each).tolist()) if width else each for each in lists]
    for row, each in enumerate(sets):
        wrong = next((part for part in each if not (isinstance(part, int) and 0 <= part <= _LARGEST_CLASS)), None)
        if wrong is not None:
            raise UserError(f"the label {wrong} is no class number", where(row), "Class numbers count from 0.")
    ids = [int(part) for each in sets for part in each]
    own = _in_order(told, [*ids, width - 1])
    names = own or known or tuple(map(str, range(width or max([*ids, 0]) + 1)))
    if width and own is None and known is None:
        return multi_hot([[int(part) for part in each] for each in sets], width), None
    beyond = [int(part) for part in ids if part >= len(names)]
    if beyond or (width and own is None and len(names) != width):
        row = next((row for row, each in enumerate(sets) if set(each) & set(beyond)), 0)
        what = f"class id {beyond[0]} is outside 0..{len(names) - 1}" if beyond else f"the label has {width} numbers"
        raise UserError(
            f"{what} (the data names {len(names)} classes)", where(row), "Name all classes, or mend the label."
        )
    by_name: list[Label] = [tuple(names[int(part)] for part in each) for each in sets]
    if not any(by_name):
        return multi_hot([() for _ in sets], len(known or names)), known or names
    return number_labels(by_name, where, known or names)


def _boxes(path: Path, origin: str, attribute: str, kept: _Kept, told: Mapping[int, str]) -> BoxFileSource:
    """A source of boxes; lines whose boxes are broken are left out."""
    gathered = Gathered()
    files: list[str] = []
    notes: list[str] = []
    bad = list(kept.bad)
    for file, line in zip(kept.files, kept.lines, strict=True):
        note = f"{path.name}, line {line.number}"
        value = _value(line, attribute)
        if not isinstance(value, dict):
            raise UserError(
                f"{attribute} is {short(repr(value))} here, and has boxes in the lines before",
                f"{path}, line {line.number}",
                "Give all lines the same kind of label.",
            )
        try:
            annotation = parse_sagemaker_json(value, note)
        except BadPicture as error:
            bad.append(BadRecord(error.where, error.what))
            continue
        files.append(file)
        notes.append(note)
        gathered.add(annotation)
    if not files:
        raise nothing_usable(path, len(bad), bad, "lines")
    numbers = {kind: kind for kind in gathered.kinds if isinstance(kind, int)}
    names = _in_order(told, list(numbers.values()))
    objects = gathered.table(numbers, "pixel")
    return BoxFileSource("manifest", origin or str(path), kept.root, files, notes, objects, class_names=names, bad=bad)
