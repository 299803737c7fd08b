"""Boxes in a table (CSV or TSV with a header): a row for each object.

    file,xmin,ymin,xmax,ymax,class
    images/001.png,12,30,80,95,cat
    images/002.png,,,,,                a picture without objects

Corners may be called ``x1``, ``x_min``, ``left``, ... and may be ``x, y, w, h`` or ``left, top, width, height``.
Coordinates are pixels from the upper left corner, or fractions of the picture's sides (as Open Images has them). Beside
corners, ``width`` and ``height`` are the picture's size. Objects are gathered by picture, in the order of the rows.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from foveal.errors import UserError
from foveal.formats.boxfiles import Annotation, BoxFileSource, Gathered, Object, stated_size
from foveal.formats.pictures import LONGEST_PATH, Listing, find_root, listed, short, shown, sort_class_names, tidy_path
from foveal.formats.table import (
    Columns,
    Row,
    beginning,
    find_columns,
    nothing_there,
    read_rows,
    row_splits,
    unknown_class,
    usual_name,
)
from foveal.records import BadRecord

Unit = Literal["pixel", "fraction"]
_CORNERS = (
    ("xmin", "x_min", "x1", "x0", "left", "bbox_xmin", "bbox_x1"),
    ("ymin", "y_min", "y1", "y0", "top", "bbox_ymin", "bbox_y1"),
    ("xmax", "x_max", "x2", "right", "bbox_xmax", "bbox_x2"),
    ("ymax", "y_max", "y2", "bottom", "bbox_ymax", "bbox_y2"),
)
_CORNERS_FROM_0 = (("x0",), ("y0",), ("x1",), ("y1",))
_SIDES = (
    ("x", "left", "xmin", "x_min", "bbox_x"),
    ("y", "top", "ymin", "y_min", "bbox_y"),
    ("w", "width", "box_width", "bbox_width", "bbox_w"),
    ("h", "height", "box_height", "bbox_height", "bbox_h"),
)
_SIZE = (("width", "image_width", "img_width", "imagewidth"), ("height", "image_height", "img_height", "imageheight"))
_DIFFICULT = ("difficult", "isdifficult", "is_difficult")
_CROWD = ("iscrowd", "is_crowd", "crowd", "isgroupof", "is_group_of")
_NEAR = (-0.5, 1.5)  # fractions of boxes that reach beyond their picture lie in here as well


class BoxColumns(NamedTuple):
    """Names of the columns of a box as the header writes them; ``sides``: the last two are width and height."""

    corners: tuple[str, str, str, str]
    sides: bool
    size: tuple[str, str] | None
    difficult: str | None
    crowd: str | None


@dataclass(frozen=True)
class BoxTable:
    """The pictures of a table, each with its objects.

    Attributes:
        files, annotations: of each picture. splits, groups: of each, when a column tells.
        lines: the line of each picture's first row, from 1.
        bad: what was left out.
    """

    path: Path
    root: Path
    columns: Columns
    boxes: BoxColumns
    unit: Unit
    files: tuple[str, ...]
    annotations: tuple[Annotation, ...]
    splits: tuple[str, ...] | None
    groups: tuple[str, ...] | None
    lines: tuple[int, ...]
    bad: tuple[BadRecord, ...]

    def class_names(self, rows: Iterable[int]) -> tuple[str, ...]:
        """The classes of the objects of some pictures, sorted."""
        return sort_class_names(str(each.kind) for row in rows for each in self.annotations[row].objects)

    def rows(self, split: str | None) -> NDArray[np.int64]:
        """Numbers of the pictures of a split, int64; all for None."""
        if split is None or self.splits is None:
            return np.arange(len(self.files), dtype=np.int64)
        return np.flatnonzero([each == split for each in self.splits])


def box_columns(header: Sequence[str]) -> BoxColumns | None:
    """The columns of boxes, by their usual names; None where a table has none."""
    usual = {usual_name(name): name for name in reversed(header)}

    def named(names: Sequence[str]) -> str | None:
        return next((usual[name] for name in names if name in usual), None)

    size = named(_SIZE[0]), named(_SIZE[1])
    marks = named(_DIFFICULT), named(_CROWD)
    for sides, wanted in ((False, _CORNERS_FROM_0), (False, _CORNERS), (True, _SIDES)):
        x, y, right, bottom = map(named, wanted)
        if x is None or y is None or right is None or bottom is None:
            continue
        stated = None if sides or None in size else (str(size[0]), str(size[1]))
        return BoxColumns((x, y, right, bottom), sides, stated, *marks)
    return None


def has_boxes(path: Path) -> bool:
    """Whether a file reads as a table whose header names columns of boxes; only its beginning is looked at."""
    there = beginning(path)
    return there is not None and box_columns(there[0]) is not None


def read_box_table(
    path: Path,
    *,
    root: Path | None = None,
    file_column: str | None = None,
    label_column: str | None = None,
    unit: Unit | None = None,
    group_column: str | None = None,
) -> BoxTable:
    """Read a table of boxes.

    Args:
        root: the folder of the pictures; left out, the table's own folder, or one beside it that has them.
        file_column, label_column, group_column: names of columns, where they are not the usual ones.
        unit: of the coordinates. Left out, fractions where all lie within 0 and 1 (or a little beyond), else pixels.

    A picture that isn't there is left out, with all its rows, and named in ``bad``; so are rows without a file.

    Raises:
        UserError: when columns can't be found, a row has another number of fields, a coordinate that is no number, or
            a box without class, one picture lies in two splits, and when none of the pictures is there.
    """
    header, rows = read_rows(path)
    boxes = box_columns(header)
    if boxes is None:
        told = f"no columns of boxes found among: {listed(header)}"
        raise UserError(told, str(path), "Call them xmin, ymin, xmax and ymax, or x, y, w and h.")
    rest = [name for name in header if name not in boxes.corners]
    columns = find_columns(path, rest, file_column, label_column, group_column=group_column)
    file_place = header.index(columns.file)
    names = [tidy_path(row[file_place]) for _, row in rows]
    root = root or find_root(path.parent, path.stem, list(dict.fromkeys(names))[:20])
    by_file: dict[str, list[Row]] = {}
    bad: list[BadRecord] = []
    for (line, row), name in zip(rows, names, strict=True):
        if name:
            by_file.setdefault(name, []).append((line, row))
        else:
            bad.append(BadRecord(f"{path.name}, line {line}", f"the column {columns.file} is empty"))
    listing = Listing(root)
    files: list[str] = []
    kept: list[list[Row]] = []
    for name, its_rows in by_file.items():
        found = listing.find(name)
        if found is None:
            reason = shown(f"the picture {short(name, LONGEST_PATH)} isn't in {root}")
            bad.append(BadRecord(f"{path.name}, line {its_rows[0][0]}", reason))
        else:
            files.append(found)
            kept.append(its_rows)
    if not files:
        raise nothing_there(path, len(rows), bad)
    place = {name: number for number, name in reversed(list(enumerate(header)))}
    annotations = [_annotation(path, its_rows, columns, boxes, place) for its_rows in kept]
    return BoxTable(
        path=path,
        root=root,
        columns=columns,
        boxes=boxes,
        unit=unit or told_unit(annotations),
        files=tuple(files),
        annotations=tuple(annotations),
        splits=_splits(path, kept, columns, place),
        groups=tuple(its_rows[0][1][place[columns.group]].strip() for its_rows in kept) if columns.group else None,
        lines=tuple(its_rows[0][0] for its_rows in kept),
        bad=tuple(bad),
    )


def box_table_source(
    table: BoxTable,
    rows: NDArray[np.int64],
    class_names: tuple[str, ...],
    origin: str = "",
    bad: Sequence[BadRecord] = (),
) -> BoxFileSource:
    """Some pictures of a table as a source. Raises UserError for a class that is not among ``class_names``."""
    gathered = Gathered()
    numbers = rows.tolist()
    index = {name: number for number, name in enumerate(class_names)}
    for row in numbers:
        for each in table.annotations[row].objects:
            if each.kind not in index:
                raise unknown_class(str(each.kind), class_names, f"{table.path}, line {table.lines[row]}")
        gathered.add(table.annotations[row])
    return BoxFileSource(
        "csv",
        origin or str(table.path),
        table.root,
        [table.files[row] for row in numbers],
        [f"{table.path.name}, line {table.lines[row]}" for row in numbers],
        gathered.table(index, table.unit),
        class_names=class_names,
        groups=None if table.groups is None else [table.groups[row] for row in numbers],
        bad=bad,
    )


def told_unit(annotations: Iterable[Annotation]) -> Unit:
    """``fraction`` where all coordinates lie within 0 and 1, or a little beyond, else ``pixel``."""
    low, high = _NEAR
    some = False
    for annotation in annotations:
        for each in annotation.objects:
            some = True
            if not (low <= each.xmin and low <= each.ymin and each.xmax <= high and each.ymax <= high):
                return "pixel"
    return "fraction" if some else "pixel"


def _annotation(
    path: Path, rows: Sequence[Row], columns: Columns, boxes: BoxColumns, place: dict[str, int]
) -> Annotation:
    """The objects of one picture. Raises UserError that names line and column."""
    objects = []
    for line, fields in rows:
        texts = [fields[place[name]].strip() for name in boxes.corners]
        if not any(texts):
            continue
        x, y, right, bottom = (_number(path, line, *each) for each in zip(boxes.corners, texts, strict=True))
        if boxes.sides:
            right, bottom = x + right, y + bottom
        kind = fields[place[columns.label]].strip()
        if not kind:
            raise UserError(
                f"a box without class: the column {columns.label} is empty",
                f"{path}, line {line}",
                "Name its class, or leave its coordinates empty as well: that means a picture without objects.",
            )
        marks = (_is_set(fields[place[name]]) if name else False for name in (boxes.difficult, boxes.crowd))
        objects.append(Object(kind, x, y, right, bottom, *marks))
    size = None
    if boxes.size is not None:
        sides = (rows[0][1][place[name]].strip() for name in boxes.size)
        size = stated_size(*(int(float(side)) if side.replace(".", "", 1).isdecimal() else 0 for side in sides))
    return Annotation(tuple(objects), size)


def _number(path: Path, line: int, name: str, text: str) -> float:
    try:
        value = float(text)
        finite = math.isfinite(value)
    except ValueError:
        finite = False
    if not finite:
        told = f"{short(text)!r} in the column {name} is no number" if text else f"the column {name} is empty"
        raise UserError(told, f"{path}, line {line}", "A box has four numbers, and a picture without objects has none.")
    return value


def _is_set(text: str) -> bool:
    return text.strip().lower() in ("1", "1.0", "true", "yes")


def _splits(
    path: Path, kept: Sequence[Sequence[Row]], columns: Columns, place: dict[str, int]
) -> tuple[str, ...] | None:
    """The split of each picture. Raises UserError where its rows name two."""
    if columns.split is None:
        return None
    found = []
    for rows in kept:
        splits = row_splits(path, rows, columns.split, place[columns.split])
        other = next((number for number, split in enumerate(splits) if split != splits[0]), None)
        if other is not None:
            raise UserError(
                f"this picture is {splits[other]} data here, and {splits[0]} data in line {rows[0][0]}",
                f"{path}, line {rows[other][0]}",
                "A picture belongs to one split.",
            )
        found.append(splits[0])
    return tuple(found)
