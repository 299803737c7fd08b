"""A part of a source: chosen rows, with labels that have been checked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from foveal.records import BadRecord, Boxes, BoxSource, Label, Labels, Sample, Source


class Subset:
    """The rows ``rows`` (int64 [m]) of ``source``, in that order; ``checked`` holds the label of each."""

    def __init__(self, source: Source, rows: NDArray[np.int64], checked: Sequence[Label]) -> None:
        assert len(rows) == len(checked)
        self.source = source
        self.rows = rows
        self.checked = checked

    @property
    def form(self) -> str:
        return self.source.form

    @property
    def origin(self) -> str:
        return self.source.origin

    @property
    def class_names(self) -> tuple[str, ...] | None:
        return self.source.class_names

    @property
    def groups(self) -> tuple[str, ...] | None:
        groups = self.source.groups
        return None if groups is None else tuple(groups[row] for row in self.rows)

    @property
    def bad(self) -> tuple[BadRecord, ...]:
        return self.source.bad

    def __len__(self) -> int:
        return len(self.rows)

    def labels(self) -> Labels:
        labels = self.source.labels()
        parts = [labels.values[labels.offsets[row] : labels.offsets[row + 1]] for row in self.rows]
        offsets = np.cumsum([0, *(len(part) for part in parts)], dtype=np.int64)
        return Labels(np.concatenate(parts) if parts else np.zeros(0, np.float32), offsets)

    def where(self, index: int) -> str:
        return self.source.where(int(self.rows[index]))

    def read(self, index: int) -> Sample:
        return replace(self.source.read(int(self.rows[index])), label=self.checked[index])

    def fingerprint(self) -> str:
        return self.source.fingerprint()


class BoxSubset(Subset):
    """A part of a source of boxes: ``checked`` holds the boxes of each of ``rows``; a ``BoxSource`` itself."""

    def __init__(self, source: BoxSource, rows: NDArray[np.int64], checked: Sequence[Boxes]) -> None:
        super().__init__(source, rows, checked)
        self._boxes = checked

    def boxes(self, index: int) -> Boxes:
        return self._boxes[index]

    def labels(self) -> Labels:
        """The classes of the checked boxes."""
        parts = [self._boxes[row].cls for row in range(len(self))]
        offsets = np.cumsum([0, *(len(part) for part in parts)], dtype=np.int64)
        return Labels(np.concatenate([np.zeros(0, np.int64), *parts]).astype(np.float32), offsets)
