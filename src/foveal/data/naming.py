"""Classes that the user names by their numbers: ``--names 2=cat,5=dog``. They count in the order of these numbers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from foveal.errors import UserError
from foveal.formats.boxfiles import ObjectTable, object_table
from foveal.formats.boxlabels import BoxLabelSource
from foveal.formats.multihot import looks_multi_hot
from foveal.formats.pictures import short
from foveal.records import Boxes, BoxSource, Labels, Sample, Source, SourceAround


def with_names(source: Source, given: Mapping[int, str], known: tuple[str, ...] | None) -> Source:
    """A source of numbers, whose classes are numbered in the order of ``given`` and called so.

    Args:
        given: class number -> name. Two numbers of one name are one class.
        known: names in label order, where something else tells it; those of ``given`` are matched with them.

    Raises:
        UserError: for a number without a name, a name that is not among ``known``, and labels of several numbers that
            don't have one for each name.
    """
    if not given:
        return source
    names = known or tuple(dict.fromkeys(given[number] for number in sorted(given)))
    beyond = next((name for name in given.values() if name not in names), None)
    if beyond is not None:
        listed = ", ".join(names[:10]) + (", ..." if len(names) > 10 else "")
        told = f"the class {short(beyond)} is not among the known classes ({listed})"
        raise UserError(told, "names", "Mend the name, or add it to classes.txt.", "names")
    labels = source.labels()
    if looks_multi_hot(labels) and not isinstance(source, BoxSource):
        return _named_rows(source, labels, given, names)
    values = object_table(source).ids if isinstance(source, BoxSource) else labels.values
    numbers = {number: names.index(name) for number, name in given.items()}
    unnamed = ~np.isin(values, np.fromiter(numbers, dtype=np.float32))
    if unnamed.any():
        place = int(unnamed.argmax())
        row = int(np.searchsorted(labels.offsets, place, side="right")) - 1
        pairs = ",".join(f"{key}={given[key]}" for key in sorted(given)[:5]) + (",..." if len(given) > 5 else "")
        told = f"class {values[place]:g} has no name ({pairs})"
        raise UserError(told, source.where(row), "Name it with --names, or mend the label.", "names")
    table = np.zeros(max(numbers) + 1, dtype=np.int64)
    for number, position in numbers.items():
        table[number] = position
    return NamedBoxSource(source, table, names) if isinstance(source, BoxSource) else NamedSource(source, table, names)


def _named_rows(source: Source, labels: Labels, given: Mapping[int, str], names: tuple[str, ...]) -> Source:
    width = int(labels.offsets[1])
    if set(given) != set(range(width)) or len(names) != width:
        raise UserError(
            f"its labels have {width:,} numbers, one a class, and --names has {', '.join(map(str, sorted(given)))}",
            source.origin,
            f"Name the classes 0 to {width - 1}.",
            "names",
        )
    order = np.array([names.index(given[number]) for number in range(width)])
    return NamedSource(source, order, names)


def innermost(source: Source) -> Source:
    """The source as its form was read, without what was laid around it."""
    while isinstance(source, BoxLabelSource | NamedSource):
        source = source.source
    return source


class NamedSource(SourceAround):
    """A source whose classes have other numbers.

    Args:
        numbers: int64 [k], the class that each stored number counts as; of rows of 0 and 1, where each column goes.
        names: in the order of the new numbers.
    """

    def __init__(self, source: Source, numbers: NDArray[np.int64], names: tuple[str, ...]) -> None:
        self.source = source
        self.numbers = numbers
        self.class_names: tuple[str, ...] | None = names
        stored = source.labels()
        self._labels = Labels(self._mapped(stored), stored.offsets)

    def labels(self) -> Labels:
        return self._labels

    def where(self, index: int) -> str:
        return self.source.where(index)

    def read(self, index: int) -> Sample:
        values = self._labels.values[self._labels.offsets[index] : self._labels.offsets[index + 1]]
        return replace(self.source.read(index), label=int(values[0]) if len(values) == 1 else values)

    def fingerprint(self) -> str:
        return self.source.fingerprint()

    def _mapped(self, stored: Labels) -> NDArray[np.float32]:
        if not looks_multi_hot(stored):
            return self.numbers[stored.values.astype(np.int64)].astype(np.float32)
        rows = np.zeros((len(stored.offsets) - 1, len(self.numbers)), dtype=np.float32)
        rows[:, self.numbers] = stored.values.reshape(rows.shape)
        return rows.reshape(-1)


class NamedBoxSource(NamedSource):
    """The same of boxes."""

    def __init__(self, source: BoxSource, numbers: NDArray[np.int64], names: tuple[str, ...]) -> None:
        super().__init__(source, numbers, names)
        table = object_table(source)
        self._boxes = source
        self.objects: ObjectTable = replace(table, ids=numbers[table.ids.astype(np.int64)].astype(np.float32))

    def boxes(self, index: int) -> Boxes:
        boxes = self._boxes.boxes(index)
        return replace(boxes, cls=self.numbers[boxes.cls])

    def read(self, index: int) -> Sample:
        return replace(self.source.read(index), label=self.boxes(index))

    def _mapped(self, stored: Labels) -> NDArray[np.float32]:
        return self.numbers[stored.values.astype(np.int64)].astype(np.float32)
