"""What every writer of a form is given: pictures that lie in their place already, with checked labels.

A writer is one function, ``write_x(root, base, pictures, entries, names)``:

    root      the folder that everything lies in
    base      what the split's file is called, without suffix: ``train``
    pictures  the folder of the split's pictures below ``root``: ``images/train``; for manifests maybe its address
    entries   the pictures, in order; read once, so that they need not fit into memory
    names     class names in label order
"""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TextIO

import numpy as np
from numpy.typing import NDArray

from foveal.formats.pictures import SUFFIXES, is_hidden
from foveal.records import Boxes, Label

LONGEST_STEM = 180  # bytes of UTF-8 of a picture's name without suffix; file systems take 255 with it
_SUFFIX_OF_KIND = {"JPEG": ".jpg", "MPO": ".jpg", "TIFF": ".tif", "JPEG2000": ".jp2", "SUN": ".ras"}


@dataclass(frozen=True)
class Entry:
    """One picture of a split.

    Attributes:
        number: in its split, from 0.
        file: name below the folder of the split's pictures.
        size: (width, height) of the upright picture in pixels. depth: its channels, 1 or 3.
        label: a class number, float32 [C] of 0 and 1, or boxes of the upright picture, cut to it.
        group: pictures of one group belong together; None where the data knows no groups.
        stored: float32, the label of boxes as records and lists have it, where it is for one of these.
    """

    number: int
    file: str
    size: tuple[int, int]
    depth: int
    label: Label
    group: str | None = None
    stored: NDArray[np.float32] | None = None


Write = Callable[[Path, str, str, Iterable[Entry], Sequence[str]], None]
"""A writer, as the head of this module describes it."""


def boxes_in(entry: Entry, unit: str) -> Boxes:
    """The boxes of an entry in ``pixel`` or ``fraction``, of the upright picture."""
    boxes = entry.label
    assert isinstance(boxes, Boxes) and boxes.of == "upright"
    if boxes.unit == unit:
        return boxes
    scale = np.array([*entry.size, *entry.size], dtype=np.float64)
    values = boxes.values * scale if unit == "pixel" else boxes.values / scale
    return replace(boxes, values=values.astype(np.float32), unit="pixel" if unit == "pixel" else "fraction")


def decimal(value: np.float32 | float) -> float:
    """A float32 as the shortest decimal that stands for it: 10.3 and not 10.300000190734863."""
    return float(str(np.float32(value)))


def number_text(value: float) -> str:
    """A number as text, whole ones without a point: 12, 12.25."""
    return str(int(value)) if value.is_integer() else repr(value)


def plain_number(value: float) -> int | float:
    """A number for JSON, whole ones without a point."""
    return int(value) if float(value).is_integer() else value


def corners(boxes: Boxes) -> list[list[float]]:
    """xmin, ymin, xmax, ymax of each box as shortest decimals."""
    return [[decimal(value) for value in row] for row in boxes.values]


def left_top_width_height(boxes: Boxes) -> list[list[int | float]]:
    """The boxes as decimals whose sums are the corners again, to float32's precision."""
    rows = corners(boxes)
    return [[plain_number(each) for each in (x0, y0, round(x1 - x0, 6), round(y1 - y0, 6))] for x0, y0, x1, y1 in rows]


@contextmanager
def text_file(path: Path) -> Iterator[TextIO]:
    """A new UTF-8 file with line feeds, in a folder that is made when missing."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8", newline="\n") as file:
        yield file


def suffix_of(kind: str) -> str:
    """The suffix of one of Pillow's kinds of pictures, ``.jpg`` for those that have none by which they are found."""
    suffix = _SUFFIX_OF_KIND.get(kind, "." + kind.lower())
    return suffix if suffix in SUFFIXES else ".jpg"


class Names:
    """Gives every picture a name that no other has, whatever the case of its letters and its suffix."""

    def __init__(self) -> None:
        self._taken: set[str] = set()
        self._next: dict[str, int] = {}

    def stem(self, wanted: str) -> str:
        """A name without suffix, like ``wanted`` and as every form and file system takes it."""
        stem = tidy_stem(wanted)
        count, name = self._next.get(stem.casefold(), 1), stem
        while (name := stem if count == 1 else f"{stem}_{count}").casefold() in self._taken:
            count += 1
        self._next[stem.casefold()] = count + 1
        self._taken.add(name.casefold())
        return name


def tidy_stem(path: str) -> str:
    """One name made of a path without its suffix: ``holiday/red cat.jpg`` becomes ``holiday_red cat``.

    What forms can't hold (tabs, line breaks, bytes that aren't UTF-8) and names that are passed over as hidden go too.
    """
    parts = [part for part in path.replace("\\", "/").split("/") if part not in ("", ".", "..")]
    stem = os.path.splitext("_".join(parts))[0]
    stem = "".join("_" if each in '<>:"|?*' or unicodedata.category(each) in _NOT_IN_NAMES else each for each in stem)
    while (shorter := stem.strip().strip(".")) != stem:
        stem = shorter
    while len(stem.encode()) > LONGEST_STEM:
        stem = stem[:-1]
    return f"_{stem}" if not stem or is_hidden(stem) else stem


_NOT_IN_NAMES = ("Cc", "Cs", "Zl", "Zp")  # control characters, bytes that aren't UTF-8, separators of lines
