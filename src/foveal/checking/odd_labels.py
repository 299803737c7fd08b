"""What is odd in labels and boxes as they are stored; no picture is needed for it."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from foveal.checking.finding import KEPT, Finding, Severity, Suspect, finding, plural
from foveal.data.check import check_objects, class_indices, class_sets
from foveal.errors import UserError
from foveal.formats.boxfiles import ObjectTable, object_table
from foveal.records import BoxSource, Dataset, Source

RARE = 10  # training pictures (or boxes) of a class below which it is told
UNEVEN = 10  # times that the largest class has more than the smallest

_BOXES: dict[str, tuple[Severity, str, str]] = {
    "box-without-area": ("warning", "{box has|boxes have} no area and {is|are} left out", "Mend or remove them."),
    "box-corners-swapped": (
        "warning",
        "{box has|boxes have} xmax < xmin or ymax < ymin and {is|are} left out",
        "Exchange the corners; are they perhaps x, y, width, height?",
    ),
    "box-beyond": (
        "note",
        "{box reaches|boxes reach} beyond the picture and {is|are} cut to it",
        "Nothing has to be done, if they are meant so.",
    ),
    "box-twice": ("note", "{box is|boxes are} given twice in a picture", "Remove one of each."),
    "crowd": (
        "note",
        "{box covers|boxes cover} a crowd of objects",
        "They are trained on like any other; leave them out if the objects in them can't be told apart.",
    ),
}
"""Code -> severity, what is told after the number, and the remedy."""


@dataclass(frozen=True)
class LabelCheck:
    """``counts``: split -> int64 [C], pictures (boxes) of each class, of the splits whose labels are right."""

    counts: dict[str, NDArray[np.int64]]
    findings: tuple[Finding, ...]


def check_labels(dataset: Dataset, parts: Mapping[str, Source]) -> LabelCheck:
    """Count the classes of every split; what training would refuse becomes an error that goes with its split."""
    counts: dict[str, NDArray[np.int64]] = {}
    refused: list[Finding] = []
    for split, source in parts.items():
        try:
            counts[split] = _counts(dataset, split, source)
        except UserError as error:
            where = error.where or source.origin
            refused.append(Finding("label", "error", f"{split}: {error.what}", error.remedy, 1, (Suspect((where,)),)))
    if "train" in counts:
        counts = {split: _wide(numbers, len(counts["train"])) for split, numbers in counts.items()}
        for split, numbers in counts.items():
            if len(numbers) > len(counts["train"]):
                known = len(counts["train"]) - 1
                beyond = f"{split}: class {len(numbers) - 1} is used, the training data has only 0..{known}"
                remedy = "Mend the label, or add training pictures of that class."
                refused.append(Finding("label", "error", beyond, remedy, 1, (Suspect((parts[split].origin,)),)))
    return LabelCheck(counts, tuple(refused))


def odd_counts(counts: NDArray[np.int64], class_names: Sequence[str], unit: str) -> tuple[Finding, ...]:
    """Classes that have very few training pictures (or boxes), or far fewer than others.

    Args:
        counts: int64 [C], of the training data. unit: ``picture`` or ``box``.
    """
    units = unit + ("es" if unit == "box" else "s")
    names = [class_names[row] if row < len(class_names) else str(row) for row in range(len(counts))]
    rare = np.flatnonzero((counts > 0) & (counts < RARE)).tolist()
    found = finding(
        "class-rare", "note", f"train: {plural(len(rare), 'class has', 'classes have')} fewer than {RARE} {units}",
        f"Add {units} of them: so few teach little, and figures on them are chance.",
        [Suspect((), f"{names[row]}: {plural(int(counts[row]), unit, units)}") for row in rare],
    )  # fmt: skip
    some = counts[counts > 0]
    if not len(some) or some.max() < UNEVEN * some.min():
        return found
    most, least = int(counts.argmax()), int(np.where(counts > 0, counts, counts.max()).argmin())
    what = f"train: classes are uneven: {counts[most]:,} {units} of {names[most]}, {counts[least]:,} of {names[least]}"
    remedy = "Look at the figures of each class, not only at accuracy."
    return (*found, Finding("class-uneven", "note", what, remedy, 1))


def odd_boxes(parts: Mapping[str, BoxSource], sizes: Mapping[str, NDArray[np.int32]]) -> tuple[Finding, ...]:
    """Boxes without area, with swapped corners, reaching beyond their picture, given twice; crowds.

    Args:
        sizes: split -> int32 [n, 2], width and height of the pictures, for labels that state none; 0 where not known.
    """
    found: dict[str, list[Suspect]] = {kind: [] for kind in _BOXES}
    count = dict.fromkeys(_BOXES, 0)
    for split, source in parts.items():
        table = object_table(source)
        real = table.ids >= 0  # those below 0 are padding
        x0, y0, x1, y1 = table.values.T
        swapped = ((x1 < x0) | (y1 < y0)) & real
        masks = {
            "box-without-area": ~table.sound() & ~swapped & real,
            "box-corners-swapped": swapped,
            "box-beyond": _beyond(table, sizes[split]) & table.sound(),
            "box-twice": _twice(table) & table.sound(),
            "crowd": table.crowd,
        }
        for kind, mask in masks.items():
            numbers = np.flatnonzero(mask)
            count[kind] += len(numbers)
            found[kind] += [_box(split, source, table, number) for number in numbers[:KEPT].tolist()]
    return tuple(
        each
        for kind, (severity, what, remedy) in _BOXES.items()
        for each in finding(kind, severity, _told(what, count[kind]), remedy, found[kind], count[kind])
    )


def _told(what: str, count: int) -> str:
    """``2 boxes have no area`` of ``{box has|boxes have} no area``."""
    return f"{count:,} " + re.sub(r"\{(.*?)\|(.*?)\}", r"\1" if count == 1 else r"\2", what)


def _counts(dataset: Dataset, split: str, source: Source) -> NDArray[np.int64]:
    """int64 [C] or longer. Raises UserError for labels that training refuses."""
    names = dataset.class_names if dataset.named else None
    gaps = split != "train"
    if isinstance(source, BoxSource):
        return np.bincount(check_objects(source, None, names, gaps_allowed=gaps).classes, minlength=len(names or ()))
    if dataset.task == "multi-label":
        rows, _ = class_sets(source, None, names)
        several: NDArray[np.int64] = rows.sum(axis=0).astype(np.int64)
        return several
    return np.bincount(class_indices(source, None, names, gaps_allowed=gaps)[0], minlength=len(names or ()))


def _wide(numbers: NDArray[np.int64], classes: int) -> NDArray[np.int64]:
    return np.pad(numbers, (0, max(0, classes - len(numbers))))


def _beyond(table: ObjectTable, sizes: NDArray[np.int32]) -> NDArray[np.bool_]:
    """bool [m], which boxes reach beyond the picture, whose size the label states, or else ``sizes`` (int32 [n, 2])."""
    stated = np.where((table.sizes > 0).all(axis=1, keepdims=True), table.sizes, sizes)
    limit = (np.ones((len(stated), 2)) if table.unit == "fraction" else stated)[table.rows()]
    slack = 1e-6 if table.unit == "fraction" else 0.5  # fractions are rounded; some count pixels from 1
    over = (table.values[:, :2] < -slack).any(axis=1)
    over |= (limit[:, 0] > 0) & (table.values[:, 2:] > limit + slack).any(axis=1)
    return np.asarray(over, dtype=np.bool_)


def _twice(table: ObjectTable) -> NDArray[np.bool_]:
    """bool [m], which boxes have been given before in the same picture, with the same class."""
    rows = np.column_stack([table.rows().astype(np.float64), table.ids, table.values])
    twice = np.ones(len(rows), dtype=np.bool_)
    twice[np.unique(rows, axis=0, return_index=True)[1]] = False
    return twice


def _box(split: str, source: Source, table: ObjectTable, number: int) -> Suspect:
    row = int(np.searchsorted(table.offsets, number, side="right")) - 1
    place = f"{source.where(row)}, object {number - int(table.offsets[row]) + 1}"
    corners = ", ".join(f"{value:g}" for value in table.values[number].tolist())
    return Suspect((place,), corners, ((split, row),))
