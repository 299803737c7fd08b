"""Writes tables in CSV (``formats/table.py`` reads them).

file,label,group                              one class a picture; groups where they are known
file,cat,dog                                  several: a column of 0 and 1 for each class
file,xmin,ymin,xmax,ymax,class                boxes in pixels: a row for each object, and one with empty fields
                                              for a picture without objects
"""

from __future__ import annotations

import csv
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from pathlib import Path

import numpy as np

from foveal.formats.writing import Entry, boxes_in, corners, number_text, text_file
from foveal.records import Boxes


def write_table(root: Path, base: str, pictures: str, entries: Iterable[Entry], names: Sequence[str]) -> None:
    """Write ``base.csv``; paths are relative to it."""
    entries = iter(entries)
    first = next(entries)
    with text_file(root / f"{base}.csv") as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow(_header(first, names))
        for entry in chain([first], entries):
            table.writerows([f"{pictures}/{entry.file}", *fields] for fields in _rows(entry, first, names))


def _header(first: Entry, names: Sequence[str]) -> list[str]:
    if isinstance(first.label, Boxes):
        return ["file", "xmin", "ymin", "xmax", "ymax", "class"]
    if isinstance(first.label, np.ndarray):
        return ["file", *names]
    return ["file", "label"] + ["group"] * (first.group is not None)


def _rows(entry: Entry, first: Entry, names: Sequence[str]) -> Iterator[list[str]]:
    label = entry.label
    if isinstance(label, Boxes):
        boxes = boxes_in(entry, "pixel")
        for kind, box in zip(boxes.cls, corners(boxes), strict=True):
            yield [*map(number_text, box), names[kind]]
        if not len(boxes.cls):
            yield [""] * 5
    elif isinstance(label, np.ndarray):
        yield [str(int(value)) for value in label]
    else:
        yield [names[label]] + [entry.group or ""] * (first.group is not None)
