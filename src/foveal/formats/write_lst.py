"""Writes ``.lst`` lists: index, labels and path, separated by tabs (``formats/lst.py`` reads them).

Boxes are written as in records (``formats/boxlabels.py``).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from foveal.formats.writing import Entry, decimal, number_text, text_file
from foveal.records import Boxes


def write_lst(root: Path, base: str, pictures: str, entries: Iterable[Entry], names: Sequence[str]) -> None:
    """Write ``base.lst``; paths are relative to it."""
    with text_file(root / f"{base}.lst") as file:
        for entry in entries:
            file.write(lst_line(entry.number, label_numbers(entry), f"{pictures}/{entry.file}"))


def lst_line(number: int, values: NDArray[np.float32], path: str) -> str:
    labels = "\t".join(number_text(decimal(value)) for value in values)
    return f"{number}\t{labels}\t{path}\n"


def label_numbers(entry: Entry) -> NDArray[np.float32]:
    """The label of a picture as records and lists have it: float32 [1], [C] or [A + n * B]."""
    if isinstance(entry.label, Boxes):
        assert entry.stored is not None
        return entry.stored
    return np.atleast_1d(np.asarray(entry.label, dtype=np.float32))
