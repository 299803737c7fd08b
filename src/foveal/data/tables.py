"""Opening a table, whatever its rows carry: a class, several, or boxes. What was chosen is said in a line."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from foveal.data.locate import TEACH_BOXES, Options
from foveal.data.unpack import pictures_beside
from foveal.errors import UserError
from foveal.formats.boxtable import BoxTable, box_table_source, has_boxes, read_box_table
from foveal.formats.table import Columns, Table, read_table, table_source
from foveal.records import BadRecord, Source, TaskName

AnyTable = Table | BoxTable


def open_table(path: Path, options: Options, said: list[str]) -> AnyTable:
    """Read a table for what is asked for; None asks for boxes where it has columns of them.

    Raises UserError where boxes are asked for and it has none, and as the readers do.
    """
    reading, root = options.reading, options.root or pictures_beside(path, said)
    columns = options.file_column, options.label_column
    if options.task == "boxes" or (options.task is None and not reading.labels and has_boxes(path)):
        if not has_boxes(path):
            raise UserError("it has no columns of boxes", str(path), TEACH_BOXES)
        _refuse(path, labels=reading.labels, separator=reading.separator)
        boxes = read_box_table(
            path,
            root=root,
            file_column=columns[0],
            label_column=columns[1],
            unit=reading.unit,
            group_column=reading.group_column,
        )
        said.append(_box_line(boxes))
        return boxes
    table = read_table(
        path,
        root=root,
        file_column=columns[0],
        label_column=columns[1],
        labels=reading.labels,
        separator=reading.separator,
        several={"multi-label": True, "classes": False}.get(options.task or ""),
        group_column=reading.group_column,
    )
    _refuse(path, unit=reading.unit, separator=reading.separator if table.columns.classes else None)
    said.append(_line(table))
    return table


def _refuse(path: Path, **unused: object) -> None:
    """Raises UserError for what is given and has no meaning for what this table carries."""
    for name, value in unused.items():
        if value:
            told = f"{name} is given, and has no meaning for what this table carries"
            raise UserError(told, str(path), "Leave it out.", name)


def carried(table: AnyTable) -> TaskName:
    """What the pictures of a table carry."""
    if isinstance(table, BoxTable):
        return "boxes"
    return "classes" if table.sets is None else "multi-label"


def train_rows(table: AnyTable) -> NDArray[np.int64]:
    """The rows that are trained on. Raises UserError when a column of splits marks none so."""
    rows = table.rows("train")
    if not len(rows):
        told = f"no row of it is marked train in the column {table.columns.split}"
        raise UserError(told, str(table.path), "Mark those to train on, or name another file for training.")
    return rows


def source_of(
    table: AnyTable,
    rows: NDArray[np.int64],
    names: tuple[str, ...] | None,
    origin: str,
    bad: Sequence[BadRecord],
) -> Source:
    """Some rows as a source, with the classes ``names``; None: those of these rows."""
    names = names or table.class_names(rows.tolist())
    if isinstance(table, BoxTable):
        return box_table_source(table, rows, names, origin, bad)
    return table_source(table, rows, names, origin, bad)


def _line(table: Table) -> str:
    columns = table.columns
    if columns.classes:
        labels = f"labels by {len(columns.classes)} columns of 0 and 1"
        labels += "; each picture has one class" if table.sets is None else ""
    else:
        labels = f"labels by {columns.label}" + (", which lists classes" if table.sets is not None else "")
    return _told(table.path, table.root, columns, labels)


def _box_line(table: BoxTable) -> str:
    unit = "pixels" if table.unit == "pixel" else "fractions"
    corners = ", ".join(table.boxes.corners)
    return _told(
        table.path, table.root, table.columns, f"boxes by {corners} in {unit}, classes by {table.columns.label}"
    )


def _told(path: Path, root: Path, columns: Columns, labels: str) -> str:
    line = f"{path.name}: pictures by the column {columns.file}, {labels}"
    line += f", splits by {columns.split}" if columns.split else ""
    line += f", groups by {columns.group}" if columns.group else ""
    return line + (f"; pictures in {root}" if root != path.parent else "")
