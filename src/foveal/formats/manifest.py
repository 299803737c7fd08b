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
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import Any, Literal
from urllib.parse import unquote, urlsplit

import numpy as np

from foveal.errors import BadPicture, UserError
from foveal.formats.boxfiles import (
    LARGEST_ANNOTATION,
    UNKNOWN_CLASS,
    BoxFileSource,
    Gathered,
    as_name,
    match_classes,
    nothing_usable,
)
from foveal.formats.jsonlabels import Label, label_of, number_labels
from foveal.formats.multihot import multi_hot
from foveal.formats.pictures import (
    LONGEST_PATH,
    FileSource,
    Listing,
    find_root,
    listed,
    refuse_one_name,
    short,
    shown,
    tidy_path,
)
from foveal.formats.sagemaker_json import parse_sagemaker_json
from foveal.records import BadRecord, Labels
from foveal.storage.address import is_address

SUFFIXES = (".manifest", ".jsonl", ".json")
LabelFormat = Literal["multi-hot", "class-id"]
_REF, _METADATA = "-ref", "-metadata"
_BEGINNING = 1_000_000  # bytes in which the first line ends
_LOOKED_AT = 100  # lines that tell which attribute is the label
_LARGEST_CLASS = 100_000  # beyond it an id is no class, and no names are made up
_NUMBER = re.compile(r"[0-9]{1,9}")
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
    """What is kept of the lines that can be used.

    Attributes:
        path: the manifest. root: the folder that ``files`` are relative to.
        numbers: of the lines. labels: of each, where they are no boxes. boxes: of all, where they are.
        as_ids: whether the class map of a line has just the numbers of its label, for lines that have one.
        names: class number -> name, from the metadata.
    """

    path: Path
    root: Path
    files: list[str] = field(default_factory=list)
    numbers: list[int] = field(default_factory=list)
    labels: list[Label] = field(default_factory=list)
    boxes: Gathered | None = None
    as_ids: list[bool] = field(default_factory=list)
    names: dict[int, str] = field(default_factory=dict)
    bad: list[BadRecord] = field(default_factory=list)

    def where(self, row: int) -> str:
        return f"{self.path}, line {self.numbers[row]}"


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
    records = _records(path)
    beginning = _beginning(records)
    lines = [each for each in beginning if isinstance(each, _Line)]
    if not lines:
        bad = [each for each in beginning if isinstance(each, BadRecord)]
        raise nothing_usable(path, len(bad), bad, "lines")
    attribute = attribute or _attribute(path, lines)
    local = [tidy_path(line.picture) for line in lines if not is_address(line.picture)]
    kept = _Kept(path, root or find_root(path.parent, path.stem, local[:20]))
    listing = Listing(kept.root)
    for each in chain(beginning, records):
        if isinstance(each, BadRecord):
            kept.bad.append(each)
        else:
            _take(each, attribute, _find(each.picture, listing, tails=root is not None), kept, named=not names)
    if not kept.files:
        raise nothing_usable(path, len(kept.bad), kept.bad, "lines")
    names = names or {}
    own = bool(kept.names) and class_names is None
    order = "; classes named by the metadata, in the order of their ids" if own else ""
    if kept.boxes is not None:
        return _boxes(kept, origin, names, class_names), f"{path.name}: boxes by the attribute {attribute}{order}"
    labels = _as_numbers(kept.labels)
    if isinstance(labels[0], tuple):
        label_format = label_format or _told_format(labels, kept.as_ids)
        kind = "multi-hot labels" if label_format == "multi-hot" else "lists of class ids"
        width = _check_hot(labels, kept) if label_format == "multi-hot" else 0
        numbers, found = _several(labels, kept, names, class_names, width)
    else:
        kind = "labels"
        numbers, found = _single(labels, kept, names, class_names)
    source = FileSource(
        "manifest",
        origin or str(path),
        kept.root,
        kept.files,
        numbers,
        class_names=found,
        bad=kept.bad,
        listing=path.name,
        lines=np.array(kept.numbers, dtype=np.int64),
    )
    return source, f"{path.name}: {kind} by the attribute {attribute}{order}"


def _beginning(records: Iterator[_Line | BadRecord]) -> list[_Line | BadRecord]:
    """The first lines, up to one that can be used at least."""
    found: list[_Line | BadRecord] = []
    some = False
    for each in records:
        found.append(each)
        some = some or isinstance(each, _Line)
        if some and len(found) >= _LOOKED_AT:
            break
    return found


def _records(path: Path) -> Iterator[_Line | BadRecord]:
    for number, content in enumerate(_lines(path), start=1):
        where = f"{path.name}, line {number}"
        content = content.strip() if number > 1 else content.removeprefix(b"\xef\xbb\xbf").strip()
        if not content:
            continue
        try:
            data = json.loads(content)
        except json.JSONDecodeError as error:
            yield BadRecord(where, f"is no JSON: {error.msg} (column {error.colno})")
            continue
        except (ValueError, RecursionError) as error:  # other encodings, endless digits, endless nesting
            yield BadRecord(where, f"is no JSON: {type(error).__name__}")
            continue
        picture = _picture(data) if isinstance(data, dict) else None
        if picture is None:
            told = "names no picture: it has no source-ref" if isinstance(data, dict) else "isn't a JSON object"
            yield BadRecord(where, told)
        else:
            yield _Line(number, picture, data)


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
    for line in lines:
        for key in line.data:
            if not key.endswith((_REF, _METADATA)) and key != "source":
                found[key] = None
    described = [key for key in found if any(key + _METADATA in line.data for line in lines)]
    candidates = described or list(found)
    if len(candidates) == 1:
        return candidates[0]
    where = f"{path}, line {lines[0].number}"
    keys = listed(list(lines[0].data))
    if candidates:
        told = f"several attributes may be the label: {listed(candidates)}"
        raise UserError(told, where, "Name it with --label-attribute.", "label_attribute")
    referring = [key for key in lines[0].data if key.endswith(_REF) and lines[0].data[key] != lines[0].picture]
    if referring:
        value = short(str(lines[0].data[referring[0]]), LONGEST_PATH)
        told = f"its label is a file, {referring[0]}: {value}, as Ground Truth writes for videos and segmentation"
        raise UserError(told, where, "Labels have to be in the manifest itself: classes, or boxes of single pictures.")
    raise UserError(f"no attribute of it is a label: {keys}", where, _TEACH)


def _take(line: _Line, attribute: str, found: str | None, kept: _Kept, *, named: bool) -> None:
    """Keep what is needed of a line; ``named``: the metadata's names as well.

    Raises UserError for a label of another kind than those before, and for a class with two names.
    """
    value = _value(line, attribute)
    reason = ""
    if value is None:
        reason = f"it has no attribute {short(attribute)}"
    elif found is None:
        reason = f"the picture {short(line.picture, LONGEST_PATH)} isn't in {kept.root}"
    elif isinstance(value, dict):
        reason = _take_boxes(line, value, attribute, kept)
    else:
        _take_label(line, value, attribute, kept)
    if reason or found is None:
        kept.bad.append(BadRecord(f"{kept.path.name}, line {line.number}", shown(reason)))
        return
    kept.files.append(found)
    kept.numbers.append(line.number)
    if named:
        _take_names(line, attribute, kept)


def _take_boxes(line: _Line, value: Mapping[str, Any], attribute: str, kept: _Kept) -> str:
    """Returns what is wrong with the boxes, or an empty text."""
    if kept.labels:
        told = f"{attribute} has boxes here, and a class in the lines before"
        raise UserError(told, f"{kept.path}, line {line.number}", "Give all lines the same kind of label.")
    kept.boxes = kept.boxes or Gathered()
    try:
        kept.boxes.add(parse_sagemaker_json(value, ""))
    except BadPicture as error:
        return error.what
    return ""


def _take_label(line: _Line, value: object, attribute: str, kept: _Kept) -> None:
    where = f"{kept.path}, line {line.number}"
    if kept.boxes is not None:
        told = f"{attribute} is {short(repr(value))} here, and has boxes in the lines before"
        raise UserError(told, where, "Give all lines the same kind of label.")
    label = label_of(value, where)
    kept.labels.append(label)
    found = _class_map(line, attribute)
    if isinstance(label, tuple) and found:
        kept.as_ids.append(set(map(str, label)) == set(found))


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


def _as_numbers(labels: list[Label]) -> list[Label]:
    """Ground Truth writes class numbers as text: numbers, where all labels are such."""
    if all(isinstance(label, int) or (isinstance(label, str) and _NUMBER.fullmatch(label)) for label in labels):
        return [int(label) for label in labels if not isinstance(label, tuple)]
    return labels


def _told_format(labels: Sequence[Label], as_ids: Sequence[bool]) -> LabelFormat:
    """``multi-hot`` where all lists have one length and hold 0 and 1, and class maps don't say that these are ids."""
    lists = [label if isinstance(label, tuple) else () for label in labels]
    if len(set(map(len, lists))) != 1 or not all(part in (0, 1) for each in lists for part in each) or not lists[0]:
        return "class-id"
    repeated = any(len(set(each)) < len(each) for each in lists)
    return "class-id" if as_ids and all(as_ids) and not repeated else "multi-hot"


def _check_hot(labels: Sequence[Label], kept: _Kept) -> int:
    """The length of multi-hot lists. Raises UserError for lists of several lengths, and what is neither 0 nor 1."""
    width = len(labels[0]) if isinstance(labels[0], tuple) else 0
    for row, label in enumerate(labels):
        if not isinstance(label, tuple) or len(label) != width:
            given = f"a list of {len(label):,} numbers" if isinstance(label, tuple) else f"{short(str(label))}, no list"
            raise UserError(
                f"the label is {given}, and that of line {kept.numbers[0]} has {width:,}",
                kept.where(row),
                "A multi-hot list has a number for each class. For lists of class ids, --label-format class-id.",
                "label_format",
            )
        wrong = next((part for part in label if part not in (0, 1)), None)
        if wrong is not None:
            raise UserError(
                f"{short(str(wrong))} in a multi-hot list is neither 0 nor 1",
                kept.where(row),
                "Mend the label. For lists of class ids, --label-format class-id.",
                "label_format",
            )
    return width


def _class_map(line: _Line, attribute: str) -> Mapping[str, Any]:
    metadata = line.data.get(attribute + _METADATA)
    found = metadata.get("class-map") if isinstance(metadata, dict) else None
    return found if isinstance(found, dict) else {}


def _take_names(line: _Line, attribute: str, kept: _Kept) -> None:
    """Note the class names of a line's metadata. Raises UserError for a class with two names."""
    metadata = line.data.get(attribute + _METADATA)
    told = dict(_class_map(line, attribute))
    value = line.data.get(attribute)
    if isinstance(metadata, dict) and isinstance(value, int | str):
        told.setdefault(str(value), metadata.get("class-name"))
    for key, text in told.items():
        name = as_name(text)
        if name is None or not key.isdecimal() or len(key) > 6 or int(key) > _LARGEST_CLASS:
            continue
        before = kept.names.setdefault(int(key), name)
        if before != name:
            raise UserError(
                f"class {key} is called {short(name)!r} here, and {short(before)!r} in an earlier line",
                f"{kept.path}, line {line.number}",
                "Give each class one name in all lines, or name them with --names.",
                "names",
            )


def _names(
    kept: _Kept, given: Mapping[int, str], used: Iterable[int]
) -> tuple[Mapping[int, str], tuple[str, ...] | None]:
    """The name of each class number, and names in label order; None where nothing names them.

    Given names count in the order of their numbers; those of the metadata keep their numbers, and a number that has
    none there is its own name. Raises UserError where two of these have one name.
    """
    if given:
        return given, tuple(dict.fromkeys(given[number] for number in sorted(given)))
    told = kept.names
    largest = max([*told, *used, 0])
    if not told or largest > _LARGEST_CLASS:
        return {}, None
    names = tuple(told.get(number, str(number)) for number in range(largest + 1))
    refuse_one_name(names, str(kept.path), "Give each its own, or make them one class with --names.")
    return dict(enumerate(names)), names


def _name(names: Mapping[int, str], number: object, where: str) -> str:
    if not isinstance(number, int) or number not in names:
        listed = ",".join(f"{key}={names[key]}" for key in sorted(names)[:5]) + (",..." if len(names) > 5 else "")
        raise UserError(f"class {number} has no name ({listed})", where, "Name it, or mend the label.", "names")
    return names[number]


def _single(
    labels: list[Label], kept: _Kept, given: Mapping[int, str], known: tuple[str, ...] | None
) -> tuple[Labels, tuple[str, ...] | None]:
    """Labels of one class a picture, and the names of the classes, where there are some."""
    ids = [label for label in labels if isinstance(label, int)]
    names, order = _names(kept, given, ids)
    if order is None or len(ids) < len(labels):
        return number_labels(labels, kept.where, known)
    named: list[Label] = [_name(names, label, kept.where(row)) for row, label in enumerate(labels)]
    return number_labels(named, kept.where, known or order)


def _several(
    labels: list[Label], kept: _Kept, given: Mapping[int, str], known: tuple[str, ...] | None, width: int
) -> tuple[Labels, tuple[str, ...] | None]:
    """Labels of any number of classes a picture, and the names of the classes.

    Args:
        width: of multi-hot lists; 0 where lists hold class ids or names.
    """
    lists = [label if isinstance(label, tuple) else (label,) for label in labels]
    if any(isinstance(part, str) for each in lists for part in each):
        return number_labels(labels, kept.where, known)
    sets = [tuple(np.flatnonzero(each).tolist()) if width else each for each in lists]
    ids = [part for each in sets for part in each if isinstance(part, int) and 0 <= part <= _LARGEST_CLASS]
    names, order = _names(kept, given, [*ids, width - 1])
    if order is None and known is None and width:
        return multi_hot([[int(part) for part in each] for each in sets], width), None
    if order is None:
        order = known if known is not None else tuple(map(str, range(max([*ids, 0]) + 1)))
        names = dict(enumerate(order))
        if width and width != len(order):
            told_width = f"the label has {width:,} numbers, one a class, and {len(order):,} classes are named"
            raise UserError(told_width, kept.where(0), "Give a number for each class, in the order of the names.")
    index = {name: number for number, name in enumerate(known or order)}
    found = []
    for row, each in enumerate(sets):
        own = [_name(names, part, kept.where(row)) for part in each]
        beyond = next((name for name in own if name not in index), None)
        if beyond is not None:
            listed = ", ".join(list(index)[:10]) + (", ..." if len(index) > 10 else "")
            told_class = f"the class {short(beyond)} is not among the known classes ({listed})"
            raise UserError(told_class, kept.where(row), UNKNOWN_CLASS)
        found.append([index[name] for name in own])
    return multi_hot(found, len(index)), known or order


def _boxes(kept: _Kept, origin: str, given: Mapping[int, str], known: tuple[str, ...] | None) -> BoxFileSource:
    assert kept.boxes is not None
    kinds = [kind for kind in kept.boxes.kinds if isinstance(kind, int)]
    names, order = _names(kept, given, kinds)
    numbers = {kind: kind if order is None else order.index(_name(names, kind, str(kept.path))) for kind in kinds}
    notes = [f"{kept.path.name}, line {number}" for number in kept.numbers]
    objects = kept.boxes.table(numbers, "pixel")
    source = BoxFileSource(
        "manifest", origin or str(kept.path), kept.root, kept.files, notes, objects, class_names=order, bad=kept.bad
    )
    return match_classes(source, known)
