"""A table of pictures: CSV or TSV with a header, a column of files and a column of labels.

    file,label,split,patient
    images/001.png,benign,train,A17

Columns are found by their usual names, or named by the user. Labels are class names, also where they are numbers.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from foveal.errors import UserError
from foveal.formats.pictures import (
    LONGEST_PATH,
    FileSource,
    Listing,
    find_root,
    is_picture_name,
    short,
    shown,
    single_labels,
    tidy_path,
)
from foveal.formats.splits import SPLITS
from foveal.records import BadRecord

# Usual names of columns, the more telling ones first. Compared in lower case, with _ for blanks and hyphens.
FILE_COLUMNS = (
    "file", "filename", "file_name", "filepath", "file_path", "path", "image_path", "image_file", "image_name", "image",
    "img_path", "img", "picture", "photo", "image_id", "id_code", "id",
)  # fmt: skip
LABEL_COLUMNS = (
    "class_name", "classname", "label_name", "category_name", "label", "class", "category", "target", "species",
    "diagnosis", "dx", "breed", "grade", "severity", "kind", "type", "y",
)  # fmt: skip
WEAK_LABEL_COLUMNS = ("person", "identity", "name")  # a label only where nothing better is there
SPLIT_COLUMNS = ("split", "subset", "partition", "set")
GROUP_COLUMNS = (
    "group", "group_id", "patient", "patient_id", "subject", "subject_id", "case_id", "video", "video_id", "part_id",
    "lesion_id",
)  # fmt: skip


@dataclass(frozen=True)
class Columns:
    """Names of the columns as the header writes them."""

    file: str
    label: str
    split: str | None
    group: str | None


@dataclass(frozen=True)
class Table:
    """The rows of a table that can be used, as text.

    Attributes:
        files, labels: of each row. splits: ``train``, ``validation`` or ``test`` of each, when a column tells.
        groups: of each row, when a column tells.
        lines: int64 [n], where each row begins in the file, from 1.
        bad: rows left out.
    """

    path: Path
    root: Path
    columns: Columns
    files: tuple[str, ...]
    labels: tuple[str, ...]
    splits: tuple[str, ...] | None
    groups: tuple[str, ...] | None
    lines: NDArray[np.int64]
    bad: tuple[BadRecord, ...]

    def rows(self, split: str | None) -> NDArray[np.int64]:
        """Row numbers of a split, int64; all rows for None."""
        if split is None or self.splits is None:
            return np.arange(len(self.files), dtype=np.int64)
        return np.flatnonzero([each == split for each in self.splits])


def read_table(
    path: Path,
    *,
    root: Path | None = None,
    file_column: str | None = None,
    label_column: str | None = None,
) -> Table:
    """Read a table.

    Args:
        root: the folder of the pictures; left out, the table's own folder, or one beside it that has them.
        file_column, label_column: names of columns, where they are not the usual ones.

    Rows without file or label, and pictures that are not there, are left out and named in ``bad``.

    Raises:
        UserError: when columns can't be found, a row has another number of fields, a split's name is unknown, or none
            of the pictures is there.
    """
    header, rows = _read_rows(path)
    columns = find_columns(path, header, file_column, label_column)
    place = {name: header.index(name) for name in (columns.file, columns.label, columns.split, columns.group) if name}
    if columns.label.lower() in WEAK_LABEL_COLUMNS and not label_column:
        _refuse_many_hot(path, columns.label, [row[place[columns.label]] for _, row in rows])
    names = [tidy_path(row[place[columns.file]]) for _, row in rows]
    root = root or find_root(path.parent, path.stem, names[:20])
    listing = Listing(root)
    files, kept, bad = [], [], []
    for (line, row), name in zip(rows, names, strict=True):
        found = listing.find(name)
        if not name:
            bad.append(BadRecord(f"{path.name}, line {line}", f"the column {columns.file} is empty"))
        elif not row[place[columns.label]].strip():
            bad.append(BadRecord(f"{path.name}, line {line}", f"{name} has no label (column {columns.label})"))
        elif found is None:
            reason = f"the picture {short(name, LONGEST_PATH)} isn't in {root}"
            bad.append(BadRecord(f"{path.name}, line {line}", shown(reason)))
        else:
            files.append(found)
            kept.append((line, row))
    if not files:
        raise UserError(
            f"none of its {len(rows):,} rows can be used; the first: {bad[0].reason}",
            str(path),
            "Paths are relative to the table's folder. Put it there, or give the pictures' folder with --root.",
        )
    groups = tuple(row[place[columns.group]].strip() for _, row in kept) if columns.group else None
    return Table(
        path=path,
        root=root,
        columns=columns,
        files=tuple(files),
        labels=_tidy_labels([row[place[columns.label]].strip() for _, row in kept]),
        splits=_splits(path, kept, columns.split, place[columns.split]) if columns.split else None,
        groups=groups,
        lines=np.array([line for line, _ in kept], dtype=np.int64),
        bad=tuple(bad),
    )


def table_source(
    table: Table, rows: NDArray[np.int64], class_names: tuple[str, ...], origin: str = "", bad: Sequence[BadRecord] = ()
) -> FileSource:
    """Some rows of a table as a source.

    Raises:
        UserError: for a label that is not among ``class_names``; where all labels are numbers and the names are not, a
            number counts as a position in ``class_names``, from 0.
    """
    index = {name: number for number, name in enumerate(class_names)}
    labels = [table.labels[row] for row in rows]
    if all(label.isdecimal() for label in labels) and not any(label in index for label in labels):
        index = {str(number): number for number in range(len(class_names))}
    for row, label in zip(rows.tolist(), labels, strict=True):
        if label not in index:
            known = ", ".join(class_names[:10]) + (", ..." if len(class_names) > 10 else "")
            raise UserError(
                f"the class {short(label)} is not among the known classes ({known})",
                f"{table.path}, line {table.lines[row]}",
                "The classes are those of the training rows, or of a classes.txt beside the table.",
            )
    return FileSource(
        "csv",
        origin or str(table.path),
        table.root,
        [table.files[row] for row in rows],
        single_labels(index[label] for label in labels),
        class_names=class_names,
        groups=None if table.groups is None else tuple(table.groups[row] for row in rows),
        bad=bad,
        listing=table.path.name,
        lines=table.lines[rows],
    )


def find_columns(path: Path, header: Sequence[str], file_column: str | None, label_column: str | None) -> Columns:
    """Choose the columns. Raises UserError that lists the header when file or label can't be told."""
    usual = {re.sub(r"[\s-]+", "_", name.strip().lower()): name for name in reversed(header)}

    def first(names: Sequence[str], taken: Sequence[str | None] = ()) -> str | None:
        return next((usual[name] for name in names if name in usual and usual[name] not in taken), None)

    for wanted in (file_column, label_column):
        if wanted is not None and wanted not in header:
            raise UserError(f"it has no column {wanted!r}", str(path), f"Its columns: {', '.join(header)}.")
    file = file_column or first(FILE_COLUMNS, [label_column])
    label = label_column or first([*LABEL_COLUMNS, *WEAK_LABEL_COLUMNS], [file])
    for found, kind, option in ((file, "pictures' files", "file_column"), (label, "labels", "label_column")):
        if found is None:
            raise UserError(
                f"no column of {kind} found among: {', '.join(header)}",
                str(path),
                f"Name it with {option} (--{option.replace('_', '-')}).",
                setting=option,
            )
    assert file is not None and label is not None
    return Columns(file, label, first(SPLIT_COLUMNS, [file, label]), first(GROUP_COLUMNS, [file, label]))


def is_picture_table(path: Path, file_column: str | None, label_column: str | None) -> bool:
    """Whether a file reads as a table with a column of files and one of labels; only its beginning is looked at."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            text = "".join(line for line, _ in zip(file, range(20), strict=False))
        header, rows = _parse(path, text)
        columns = find_columns(path, header, file_column, label_column)
    except (OSError, UnicodeDecodeError, UserError):
        return False
    place = header.index(columns.file)
    return file_column is not None or any(len(row) > place and is_picture_name(row[place].strip()) for _, row in rows)


def _read_rows(path: Path) -> tuple[list[str], list[tuple[int, list[str]]]]:
    try:
        text = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise UserError(
            f"can't be opened: {error.strerror}", str(path), "Check the path and who may read it."
        ) from error
    except UnicodeDecodeError as error:
        raise UserError(f"isn't UTF-8 text: {error}", str(path), "Store it as CSV in UTF-8.") from error
    return _parse(path, text)


def _parse(path: Path, text: str) -> tuple[list[str], list[tuple[int, list[str]]]]:
    """Header, and (line number, fields) of each row that isn't blank; empty fields beyond the header do no harm."""
    first = text.lstrip("\r\n").split("\n", 1)[0]
    delimiter = "\t" if path.suffix.lower() == ".tsv" else max(",;\t|", key=first.count)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, skipinitialspace=True, strict=True)
    header: list[str] = []
    rows: list[tuple[int, list[str]]] = []
    line = 1
    try:
        for fields in reader:
            begins, line = line, reader.line_num + 1
            if not any(field.strip() for field in fields):
                continue
            if not header:
                header = [field.strip() for field in fields]
                continue
            if len(fields) < len(header) or any(field.strip() for field in fields[len(header) :]):
                raise UserError(
                    f"{len(fields)} fields, the header has {len(header)}: {short(delimiter.join(fields))!r}",
                    f"{path}, line {begins}",
                    f"Separate the fields by {delimiter!r}, and put those that contain it into double quotes.",
                )
            rows.append((begins, fields))
    except csv.Error as error:
        raise UserError(
            f"can't be read as a table: {error}", f"{path}, line {reader.line_num}", "Mend the line."
        ) from error
    if not header or not rows:
        raise UserError("holds no rows", str(path), "It needs a header line and a row for each picture.")
    return header, rows


def _splits(path: Path, rows: Sequence[tuple[int, list[str]]], name: str, place: int) -> tuple[str, ...]:
    found = []
    for line, row in rows:
        split = SPLITS.get(row[place].strip().lower())
        if split is None:
            raise UserError(
                f"{short(row[place])!r} in the column {name} is no split",
                f"{path}, line {line}",
                f"Known are {', '.join(SPLITS)}; rename the column if it means something else.",
            )
        found.append(split)
    return tuple(found)


def _tidy_labels(labels: list[str]) -> tuple[str, ...]:
    """Whole numbers that a spreadsheet wrote as ``3.0`` become ``3``, where all labels are such."""
    if all(re.fullmatch(r"\d+\.0+", label) for label in labels):
        return tuple(label.split(".")[0] for label in labels)
    return tuple(labels)


def _refuse_many_hot(path: Path, column: str, values: Sequence[str]) -> None:
    if {value.strip() for value in values} <= {"0", "1"}:
        raise UserError(
            f"no column of labels found: {column} holds only 0 and 1, as in a table with a column per class",
            str(path),
            "One label a picture is needed; name its column with label_column (--label-column).",
            setting="label_column",
        )
