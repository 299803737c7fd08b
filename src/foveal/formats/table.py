"""A table of pictures: CSV or TSV with a header, a column of files, and labels in one column or in several.

    file,label,split,patient           one class a picture
    images/001.png,benign,train,A17

    file,cat,dog,cow                   any number of classes a picture: a column of 0 and 1 for each class,
    images/001.png,1,0,1
    file,tags                          or one column that lists them
    images/001.png,cat;cow

Columns are found by their usual names, or named by the user. Labels are class names, also where they are numbers.
Boxes in tables: ``boxtable.py``.
"""

from __future__ import annotations

import csv
import io
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from foveal.errors import UserError
from foveal.formats.multihot import multi_hot
from foveal.formats.pictures import (
    LONGEST_PATH,
    FileSource,
    Listing,
    find_root,
    is_picture_name,
    listed,
    short,
    shown,
    single_labels,
    sort_class_names,
    tidy_path,
)
from foveal.formats.splits import SPLITS
from foveal.records import BadRecord

# Usual names of columns, the more telling ones first. Compared in lower case, with _ for blanks and hyphens.
FILE_COLUMNS = (
    "file", "filename", "file_name", "filepath", "file_path", "path", "image_path", "image_file", "image_name", "image",
    "img_path", "img", "picture", "photo", "image_id", "imageid", "image_index", "id_code",
    "id",
)  # fmt: skip
LABEL_COLUMNS = (
    "class_name", "classname", "label_name", "labelname", "category_name", "label", "class", "category", "target",
    "species", "diagnosis", "dx", "breed", "grade", "severity", "kind", "type", "y",
    "labels", "tags", "classes", "categories", "finding_labels", "findings",
)  # fmt: skip
WEAK_LABEL_COLUMNS = ("person", "identity", "name")  # a label only where nothing better is there
SPLIT_COLUMNS = ("split", "subset", "partition", "set")
GROUP_COLUMNS = (
    "group", "group_id", "patient", "patient_id", "subject", "subject_id", "case_id", "video", "video_id", "part_id",
    "lesion_id",
)  # fmt: skip


SEPARATORS = ";|"  # between the classes that one cell lists
_HOT = {"0": 0, "1": 1, "0.0": 0, "1.0": 1}
Row = tuple[int, list[str]]
"""Number of the line in which a row begins, and its fields."""


@dataclass(frozen=True)
class Columns:
    """Names of the columns as the header writes them.

    ``label``: empty where ``classes``, the columns of 0 and 1, are the labels.
    """

    file: str
    label: str
    split: str | None
    group: str | None
    classes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Table:
    """The rows of a table that can be used, as text.

    Attributes:
        files: of each row. labels: of each row; () where ``sets`` has any number of classes of each instead.
        splits: ``train``, ``validation`` or ``test`` of each, when a column tells.
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
    sets: tuple[tuple[str, ...], ...] | None = None

    def class_names(self, rows: Iterable[int]) -> tuple[str, ...]:
        """The classes of some rows: in the order of their columns, else sorted."""
        if self.columns.classes:
            return self.columns.classes
        if self.sets is None:
            return sort_class_names(self.labels[row] for row in rows)
        return sort_class_names(name for row in rows for name in self.sets[row])

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
    labels: Sequence[str] = (),
    separator: str | None = None,
    several: bool | None = None,
    group_column: str | None = None,
) -> Table:
    """Read a table.

    Args:
        root: the folder of the pictures; left out, the table's own folder, or one beside it that has them.
        file_column, label_column: names of columns, where they are not the usual ones.
        labels: columns of 0 and 1, one for each class; or the one column whose cells list classes.
        separator: between the classes that a cell lists; told from the cells when left out.
        several: whether a picture may have several classes. None, to tell it: columns of 0 and 1 where there is no
            column of labels, or cells that list classes. A table in which each picture has just one is always one of
            single labels, but for True.
        group_column: name of the column of groups, where it isn't a usual one.

    Rows without file or label, and pictures that are not there, are left out and named in ``bad``.

    Raises:
        UserError: when columns can't be found, a row has another number of fields, a split's name is unknown, a column
            of 0 and 1 holds something else, or none of the pictures is there.
    """
    header, rows = read_rows(path)
    columns = find_columns(path, header, file_column, label_column, labels, rows, group_column)
    place = {name: header.index(name) for name in (columns.file, columns.label, columns.split, columns.group) if name}
    names = [tidy_path(row[place[columns.file]]) for _, row in rows]
    between = None
    if columns.label:
        cells = [row[place[columns.label]] for _, row in rows]
        between = _separator(cells, separator, several, listed=bool(labels))
    wanted = columns.classes or ((columns.label,) if between is None else ())
    root = root or find_root(path.parent, path.stem, names[:20])
    files, kept, bad = _keep_what_is_there(path, root, columns.file, header, rows, names, wanted)
    if not files:
        raise nothing_there(path, len(rows), bad)
    sets: list[tuple[str, ...]] | None = None
    if columns.classes:
        sets = [_marked(path, row, columns.classes, header) for row in kept]
    elif between is not None:
        sets = [_split_cell(row[place[columns.label]], between) for _, row in kept]
    single = [] if sets is not None else [row[place[columns.label]].strip() for _, row in kept]
    if sets is not None and several is not True and all(len(each) == 1 for each in sets):
        single, sets = [each[0] for each in sets], None
    groups = tuple(row[place[columns.group]].strip() for _, row in kept) if columns.group else None
    return Table(
        path=path,
        root=root,
        columns=columns,
        files=tuple(files),
        labels=_tidy_labels(single),
        splits=row_splits(path, kept, columns.split, place[columns.split]) if columns.split else None,
        groups=groups,
        lines=np.array([line for line, _ in kept], dtype=np.int64),
        bad=tuple(bad),
        sets=None if sets is None else tuple(sets),
    )


def table_source(
    table: Table, rows: NDArray[np.int64], class_names: tuple[str, ...], origin: str = "", bad: Sequence[BadRecord] = ()
) -> FileSource:
    """Some rows of a table as a source; where a picture may have several classes, labels are multi-hot.

    Raises:
        UserError: for a label that is not among ``class_names``; where all labels are numbers and the names are not, a
            number counts as a position in ``class_names``, from 0.
    """
    numbers = rows.tolist()
    sets = [(table.labels[row],) if table.sets is None else table.sets[row] for row in numbers]
    index = {name: number for number, name in enumerate(class_names)}
    used = {name for names in sets for name in names}
    if all(name.isdecimal() for name in used) and not used & index.keys():
        index = {str(number): number for number in range(len(class_names))}
    for row, names in zip(numbers, sets, strict=True):
        for name in names:
            if name not in index:
                raise unknown_class(name, class_names, f"{table.path}, line {table.lines[row]}")
    indices = [[index[name] for name in names] for names in sets]
    return FileSource(
        "csv",
        origin or str(table.path),
        table.root,
        [table.files[row] for row in numbers],
        single_labels(each[0] for each in indices) if table.sets is None else multi_hot(indices, len(class_names)),
        class_names=class_names,
        groups=None if table.groups is None else tuple(table.groups[row] for row in numbers),
        bad=bad,
        listing=table.path.name,
        lines=table.lines[rows],
    )


def unknown_class(name: str, class_names: Sequence[str], where: str) -> UserError:
    return UserError(
        f"the class {short(name)} is not among the known classes ({listed(class_names, 10)})",
        where,
        "The classes are those of the training rows, or of a classes.txt beside the table.",
    )


def find_columns(
    path: Path,
    header: Sequence[str],
    file_column: str | None,
    label_column: str | None,
    labels: Sequence[str] = (),
    rows: Sequence[Row] = (),
    group_column: str | None = None,
) -> Columns:
    """Choose the columns; ``rows`` tell which hold only 0 and 1.

    Raises:
        UserError: that lists the header, when file or label can't be told, or a named column isn't there;
            and for a class that is there twice.
    """
    usual = {usual_name(name): name for name in reversed(header)}

    def first(names: Sequence[str], taken: Sequence[str | None] = ()) -> str | None:
        return next((usual[name] for name in names if name in usual and usual[name] not in taken), None)

    for wanted in (file_column, label_column, group_column, *labels):
        if wanted is not None and wanted not in header:
            raise UserError(f"it has no column {wanted!r}", str(path), f"Its columns: {listed(header)}.")
    file = file_column or first(FILE_COLUMNS, [label_column, *labels])
    if file is None:
        raise _not_found("pictures' files", "file_column", header, path)
    group = group_column or first(GROUP_COLUMNS, [file, label_column])
    beside = first(SPLIT_COLUMNS, [file, label_column, group_column]), group
    if len(labels) > 1:
        _refuse_twice(labels, header, path)
        return Columns(file, "", *beside, classes=tuple(labels))
    label = label_column or next(iter(labels), None) or first(LABEL_COLUMNS, [file, group_column])
    if label is None:
        hot = _hot_columns(header, rows, [file, *beside])
        if len(hot) > 1:
            _refuse_twice(hot, header, path)
            return Columns(file, "", *beside, classes=hot)
        label = first(WEAK_LABEL_COLUMNS, [file])
    if label is None:
        raise _not_found("labels", "label_column", header, path)
    split, group = (None if name == label else name for name in beside)
    return Columns(file, label, split, group)


def usual_name(name: str) -> str:
    """A column's name as it is compared: in lower case, with _ for blanks and hyphens."""
    return re.sub(r"[\s-]+", "_", name.strip().lower())


def _not_found(kind: str, option: str, header: Sequence[str], path: Path) -> UserError:
    return UserError(
        f"no column of {kind} found among: {listed(header)}",
        str(path),
        f"Name it with {option} (--{option.replace('_', '-')}).",
        setting=option,
    )


def _refuse_twice(classes: Sequence[str], header: Sequence[str], path: Path) -> None:
    """Raise UserError where a class is named twice, or two columns have its name."""
    for name in classes:
        if classes.count(name) > 1 or header.count(name) > 1:
            raise UserError(
                f"the column {short(name)}, one class, is there twice",
                str(path),
                "Name each class and its column once.",
            )


def _hot_columns(header: Sequence[str], rows: Sequence[Row], taken: Sequence[str | None]) -> tuple[str, ...]:
    """The columns that hold only 0 and 1."""
    return tuple(
        name
        for place, name in enumerate(header)
        if name and name not in taken and rows and all(row[place].strip() in _HOT for _, row in rows)
    )


def is_picture_table(
    path: Path, file_column: str | None, label_column: str | None, labels: Sequence[str] = (), *, marked: bool = True
) -> bool:
    """Whether a file reads as a table with a column of files and labels; only its beginning is looked at.

    ``marked``: columns of 0 and 1 that nobody named count as labels.
    """
    there = beginning(path)
    if there is None:
        return False
    header, rows = there
    try:
        columns = find_columns(path, header, file_column, label_column, labels, rows if marked else ())
    except UserError:
        return False
    place = header.index(columns.file)
    return file_column is not None or any(len(row) > place and is_picture_name(row[place].strip()) for _, row in rows)


def beginning(path: Path) -> tuple[list[str], list[Row]] | None:
    """Header and first rows of a table; None when a file isn't one."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            text = "".join(line for line, _ in zip(file, range(20), strict=False))
        return _parse(path, text)
    except (OSError, UnicodeDecodeError, UserError):
        return None


def read_rows(path: Path) -> tuple[list[str], list[Row]]:
    """Header and rows of a table, blank rows left out. Raises UserError that names line and column."""
    try:
        content = path.read_bytes()
        text = content.decode("utf-8-sig")
    except OSError as error:
        raise UserError(
            f"can't be opened: {error.strerror}", str(path), "Check the path and who may read it."
        ) from error
    except UnicodeDecodeError as error:
        before = content[: error.start]
        where = f"{path}, line {before.count(10) + 1}, column {error.start - before.rfind(10)}"
        raise UserError(f"isn't UTF-8 text: byte 0x{content[error.start]:02x}", where, "Store it in UTF-8.") from error
    return _parse(path, text)


def _parse(path: Path, text: str) -> tuple[list[str], list[Row]]:
    """Header, and (line number, fields) of each row that isn't blank; empty fields beyond the header do no harm."""
    first = text.lstrip("\r\n").split("\n", 1)[0]
    delimiter = "\t" if path.suffix.lower() == ".tsv" else max(",;\t|", key=first.count)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, skipinitialspace=True, strict=True)
    header: list[str] = []
    rows: list[Row] = []
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


def row_splits(path: Path, rows: Sequence[Row], name: str, place: int) -> tuple[str, ...]:
    """``train``, ``validation`` or ``test`` of each row. Raises UserError for what is no split's name."""
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


def _separator(cells: Sequence[str], given: str | None, several: bool | None, *, listed: bool) -> str | None:
    """What stands between the classes that a cell lists; None where a cell holds one class.

    Told from the cells: a separator counts when a class beside one occurs in another cell as well.
    """
    if listed or several:
        return given or next((mark for mark in SEPARATORS if any(mark in cell for cell in cells)), SEPARATORS[0])
    if several is False:
        return None
    for mark in (given,) if given else SEPARATORS:
        texts = {cell.strip() for cell in cells}
        parts = Counter(part for text in texts for part in set(_split_cell(text, mark)))
        if any(mark in text and any(parts[part] > 1 for part in _split_cell(text, mark)) for text in texts):
            return mark
    return None


def _split_cell(cell: str, separator: str) -> tuple[str, ...]:
    """The classes that a cell lists, each once; () for an empty cell."""
    return tuple(dict.fromkeys(part.strip() for part in cell.split(separator) if part.strip()))


def _marked(path: Path, row: Row, classes: Sequence[str], header: Sequence[str]) -> tuple[str, ...]:
    """The classes whose column is 1. Raises UserError for what is neither 0 nor 1."""
    line, fields = row
    marked = []
    for name in classes:
        cell = fields[header.index(name)].strip()
        if cell not in _HOT:
            raise UserError(
                f"{short(cell)!r} in the column {name} is neither 0 nor 1",
                f"{path}, line {line}",
                "Columns of classes hold 1 for the classes that a picture has, else 0: mend it, or leave it out of"
                " --labels.",
                setting="labels",
            )
        if _HOT[cell]:
            marked.append(name)
    return tuple(marked)


def _keep_what_is_there(
    path: Path,
    root: Path,
    file_column: str,
    header: Sequence[str],
    rows: Sequence[Row],
    names: Sequence[str],
    wanted: Sequence[str],
) -> tuple[list[str], list[Row], list[BadRecord]]:
    """Files and rows whose picture is there and whose ``wanted`` columns aren't empty, and what is left out."""
    listing = Listing(root)
    places = [(name, header.index(name)) for name in wanted]
    files: list[str] = []
    kept: list[Row] = []
    bad: list[BadRecord] = []
    for (line, row), name in zip(rows, names, strict=True):
        found = listing.find(name)
        empty = next((column for column, place in places if not row[place].strip()), None)
        if not name:
            bad.append(BadRecord(f"{path.name}, line {line}", f"the column {file_column} is empty"))
        elif empty is not None:
            bad.append(
                BadRecord(f"{path.name}, line {line}", f"{short(name, LONGEST_PATH)} has no label (column {empty})")
            )
        elif found is None:
            reason = f"the picture {short(name, LONGEST_PATH)} isn't in {root}"
            bad.append(BadRecord(f"{path.name}, line {line}", shown(reason)))
        else:
            files.append(found)
            kept.append((line, row))
    return files, kept, bad


def nothing_there(path: Path, count: int, bad: Sequence[BadRecord]) -> UserError:
    """For a table of which not one row is left."""
    return UserError(
        f"none of its {count:,} rows can be used; the first: {bad[0].reason}",
        str(path),
        "Paths are relative to the table's folder. Put it there, or give the pictures' folder with --root.",
    )
