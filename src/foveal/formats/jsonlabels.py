"""What a JSON object says of one picture: its label, or its objects. Shared by ``webdataset`` and ``imagefolder``.

    {"label": 3}   {"label": "cat"}   {"label": 3, "class_name": "cat"}            one class
    {"labels": ["cat", "dog"]}   {"label": [0, 1, 1]}                              any number of them
    {"objects": {"bbox": [[x, y, width, height], ...], "categories": [0, ...]}}    boxes, as Hugging Face lays them out
    {"annotations": [{"bbox": [x, y, width, height], "category_id": 0}, ...]}      and as COCO does

Boxes are pixels from the upper left corner. Lists of nothing but 0 and 1, all of one length, have a number for each
class; other lists of numbers name the classes that the picture has.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from foveal.errors import BadPicture, UserError
from foveal.formats.boxfiles import UNKNOWN_CLASS, Annotation, Object, as_name, as_number, as_whole, stated_size
from foveal.formats.multihot import looks_multi_hot, multi_hot
from foveal.formats.pictures import listed, short, sort_class_names
from foveal.records import Labels

LABEL_KEYS = ("label", "labels", "cls", "class", "class_id", "category", "category_id", "target")
NAME_KEYS = ("class_name", "label_name", "category_name", "classname", "label_text")
OBJECT_KEYS = ("objects", "annotations")
_BOX_KEYS = ("bbox", "bboxes", "boxes")
_KIND_KEYS = ("category", "categories", "category_id", "label", "labels", "class", "classes", "class_id")
_LARGEST_CLASS = 100_000  # beyond it a number in a list is no class, and no row is made that long

Label = int | float | str | tuple[int | float | str, ...]


def label_key(record: Mapping[str, Any]) -> str | None:
    """The key of an object's label, a number or list before a name."""
    return next((key for key in (*LABEL_KEYS, *NAME_KEYS) if record.get(key) is not None), None)


def label_of(value: object, where: str) -> Label:
    """A label as JSON has it.

    Raises:
        UserError: for what is no number, no text, and no list of these.
    """
    return tuple(_single(part, where) for part in value) if isinstance(value, list) else _single(value, where)


def _single(value: object, where: str) -> int | float | str:
    name, number = as_name(value), as_number(value)
    if name is not None:
        return name
    if number is None:
        raise UserError(f"the label {short(repr(value))} is neither a number nor a name", where, _LABEL)
    return int(number) if number.is_integer() else number


_LABEL = "A label is a class number from 0, a class name, or a list of these."


def number_labels(
    labels: Sequence[Label], where: Callable[[int], str], known: tuple[str, ...] | None
) -> tuple[Labels, tuple[str, ...] | None]:
    """The labels of a source as numbers, and the names of the classes in label order, where there are some.

    Args:
        labels: at least one.
        where: the place of a label, by its position.
        known: names in label order; names are matched with them, numbers are positions in them.

    Raises:
        UserError: where some labels are numbers and others names, or one class and others several; for a name that is
            not among ``known``, and a number in a list that can't be a class.
    """
    for row, label in enumerate(labels):
        if isinstance(label, tuple) != isinstance(labels[0], tuple):
            kinds = ("a list", "those before are none") if isinstance(label, tuple) else ("no list", "those before are")
            raise UserError(f"the label is {kinds[0]}, and {kinds[1]}", where(row), "Give all labels the same form.")
    parts = [label if isinstance(label, tuple) else (label,) for label in labels]
    named = _are_names(parts, where)
    names = known
    if named:
        names = known if known is not None else sort_class_names(str(part) for each in parts for part in each)
        parts = _positions(parts, names, where)
    rows = _as_rows(parts)
    if not isinstance(labels[0], tuple) or (not named and looks_multi_hot(rows)):
        return rows, names
    sets = [[_class_number(part, where, row) for part in each] for row, each in enumerate(parts)]
    classes = len(names) if names is not None else max((max(each, default=-1) for each in sets), default=-1) + 1
    if classes < 2:
        told = "all lists of labels are empty" if not any(sets) else "the lists of labels name one class only"
        raise UserError(told, where(0), "Several labels a picture are of two classes at least.")
    for row, each in enumerate(sets):
        if max(each, default=0) >= classes:
            told = f"class id {max(each)} is outside 0..{classes - 1} (the data names {classes} classes)"
            raise UserError(told, where(row), "Ids count from 0: renumber them, or add the missing names.")
    return multi_hot(sets, classes), names


class ToldNames:
    """Names of the classes 0, 1, ..., told beside the numbers of pictures."""

    def __init__(self) -> None:
        self._found: dict[Label, str] | None = {}

    def add(self, number: Label, text: str | None) -> None:
        """Take what stands beside one picture's number; None where nothing does."""
        if self._found is not None and (text is None or self._found.setdefault(number, text) != text):
            self._found = None  # a caption, not a name

    def names(self) -> tuple[str, ...] | None:
        """The names, where each number has one text beside it, no two the same, and no number is missing."""
        found = self._found
        if not found or len(set(found.values())) < len(found) or set(found) != set(range(len(found))):
            return None
        return tuple(found[number] for number in range(len(found)))


def name_beside(record: Mapping[str, Any], key: str) -> str | None:
    """The name of a class that stands beside its number, whose key is ``key``."""
    return next((as_name(record[each]) for each in NAME_KEYS if each != key and as_name(record.get(each))), None)


def has_objects(record: Mapping[str, Any]) -> bool:
    return any(record.get(key) is not None for key in OBJECT_KEYS)


def annotation_of(record: Mapping[str, Any], where: str) -> Annotation | None:
    """The objects of a picture; None when none are spoken of.

    Raises:
        BadPicture: for objects without four numbers or a class.
    """
    value = next((record[key] for key in OBJECT_KEYS if record.get(key) is not None), None)
    if value is None:
        return None
    if isinstance(value, dict):
        boxes, kinds = _first(value, _BOX_KEYS), _first(value, _KIND_KEYS)
        if not isinstance(boxes, list) or not isinstance(kinds, list) or len(boxes) != len(kinds):
            counts = [str(len(each)) if isinstance(each, list) else "no" for each in (boxes, kinds)]
            raise BadPicture(f"its objects have {counts[0]} boxes (bbox) and {counts[1]} classes (categories)", where)
        told = [(box, kind, False) for box, kind in zip(boxes, kinds, strict=True)]
    elif isinstance(value, list):
        dicts = [each if isinstance(each, dict) else {} for each in value]
        told = [(_first(each, _BOX_KEYS), _first(each, _KIND_KEYS), each.get("iscrowd") == 1) for each in dicts]
    else:
        raise BadPicture(f"its objects are {short(repr(value))}, no list", where)
    objects = tuple(_object(*each, f"object {number}", where) for number, each in enumerate(told, start=1))
    return Annotation(objects, stated_size(record.get("width"), record.get("height")))


def _first(record: Mapping[str, Any], keys: Sequence[str]) -> Any:
    return next((record[key] for key in keys if record.get(key) is not None), None)


def _object(box: object, kind: object, crowd: bool, which: str, where: str) -> Object:
    values = [as_number(each) for each in box] if isinstance(box, list) else []
    if len(values) != 4 or None in values:
        told = f"{which}: its bbox is {short(repr(box))}, not x, y, width, height"
        raise BadPicture(told, where)
    x, y, width, height = (float(each or 0) for each in values)
    name = as_name(kind) if isinstance(kind, str) else as_whole(kind)
    if name is None:
        raise BadPicture(f"{which}: its class is {short(repr(kind))}, neither a number nor a name", where)
    return Object(name, x, y, x + width, y + height, crowd=crowd)


def kind_numbers(kinds: Sequence[str | int], origin: str) -> tuple[dict[str | int, int], tuple[str, ...] | None]:
    """Class numbers of the kinds of objects, and their names where they have some.

    Raises UserError where some have names and others numbers.
    """
    names = [kind for kind in kinds if isinstance(kind, str)]
    if names and len(names) < len(kinds):
        number = next(kind for kind in kinds if not isinstance(kind, str))
        told = f"some objects have names of classes ({short(names[0])}), others numbers ({number})"
        raise UserError(told, origin, "Use either everywhere.")
    if not names:
        return {kind: int(kind) for kind in kinds}, None
    ordered = sort_class_names(names)
    return {name: number for number, name in enumerate(ordered)}, ordered


def _are_names(parts: Sequence[tuple[int | float | str, ...]], where: Callable[[int], str]) -> bool:
    first: int | float | str | None = None
    for row, each in enumerate(parts):
        for part in each:
            first = part if first is None else first
            if isinstance(part, str) != isinstance(first, str):
                kinds = ("name", "number") if isinstance(part, str) else ("number", "name")
                told = f"the label {short(str(part))} is a {kinds[0]}, and {short(str(first))} before it a {kinds[1]}"
                raise UserError(told, where(row), "Give all labels the same form.")
    return isinstance(first, str)


def _positions(
    parts: Sequence[tuple[int | float | str, ...]], names: tuple[str, ...], where: Callable[[int], str]
) -> list[tuple[int | float | str, ...]]:
    index = {name: number for number, name in enumerate(names)}
    used = {str(part) for each in parts for part in each}
    if all(name.isdecimal() for name in used) and not used & set(index):
        index = {str(number): number for number in range(len(names))}
    for row, each in enumerate(parts):
        for part in each:
            if part not in index:
                told = f"the class {short(str(part))} is not among the known classes ({listed(names, 10)})"
                raise UserError(told, where(row), UNKNOWN_CLASS)
    return [tuple(index[str(part)] for part in each) for each in parts]


def _as_rows(numbers: Sequence[tuple[int | float | str, ...]]) -> Labels:
    offsets: NDArray[np.int64] = np.concatenate([[0], np.cumsum([len(each) for each in numbers])]).astype(np.int64)
    with np.errstate(over="ignore"):  # what is too large becomes infinite, and is refused as no class number
        return Labels(np.array([part for each in numbers for part in each], dtype=np.float32), offsets)


def _class_number(part: int | float | str, where: Callable[[int], str], row: int) -> int:
    if not isinstance(part, int) or not 0 <= part < _LARGEST_CLASS:
        raise UserError(f"the label {part} is no class number", where(row), "Class numbers count from 0.")
    return part
