"""Writes tables in CSV (``formats/table.py`` and ``formats/boxtable.py`` read them).

    file,label                                        one class a picture
    file,cat,dog                                      several: a column of 0 and 1 for each class
    file,xmin,ymin,xmax,ymax,class,difficult,crowd    boxes in pixels: a row for each object, and one with empty
                                                      fields for a picture without objects

A column ``group`` follows where the data knows which pictures belong together.
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
    grouped = first.group is not None
    with text_file(root / f"{base}.csv") as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow(["file", *_columns(first, names)] + ["group"] * grouped)
        for entry in chain([first], entries):
            group = [entry.group or ""] * grouped
            table.writerows([f"{pictures}/{entry.file}", *fields, *group] for fields in _rows(entry, names))


def _columns(first: Entry, names: Sequence[str]) -> Sequence[str]:
    if isinstance(first.label, Boxes):
        return ("xmin", "ymin", "xmax", "ymax", "class", "difficult", "crowd")
    return names if isinstance(first.label, np.ndarray) else ("label",)


def _rows(entry: Entry, names: Sequence[str]) -> Iterator[list[str]]:
    label = entry.label
    if isinstance(label, Boxes):
        boxes = boxes_in(entry, "pixel")
        marks = zip(boxes.cls, corners(boxes), boxes.difficult, boxes.crowd, strict=True)
        for kind, box, difficult, crowd in marks:
            yield [*map(number_text, box), names[kind], str(int(difficult)), str(int(crowd))]
        if not len(boxes.cls):
            yield [""] * 7
    elif isinstance(label, np.ndarray):
        yield [str(int(value)) for value in label]
    else:
        yield [names[label]]
