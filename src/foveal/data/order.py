"""The order in which pictures come: a global sequence that every rank and every restart agrees on.

Passes over the data follow each other without a gap: position k of the run is picture k % n of pass k // n.
A batch is a run of positions, so it may straddle two passes, and each picture comes exactly once a pass.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

_ORDER = 0x6F72646572  # keys of the counter-based generator, so that order and augmentation never share numbers
_AUGMENT = 0x617567


@dataclass(frozen=True)
class Order:
    """A sequence of rows of an indexed source of ``length`` pictures, shuffled anew each pass (or not)."""

    length: int
    seed: int
    shuffle: bool = True

    def rows(self, places: range) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Rows and pass numbers, both int64 [len(places)], of these positions of the run."""
        positions = np.arange(places.start, places.stop, places.step, dtype=np.int64)
        passes = positions // self.length
        rows = positions % self.length
        if self.shuffle:
            for number in np.unique(passes):
                here = passes == number
                rows[here] = _permutation(self.length, self.seed, int(number))[rows[here]]
        return rows, passes


@lru_cache(maxsize=4)
def _permutation(length: int, seed: int, number: int) -> NDArray[np.int64]:
    generator = np.random.Generator(np.random.Philox(key=[seed, _ORDER], counter=[0, 0, number, 0]))
    return generator.permutation(length)


def picture_generator(seed: int, number: int, row: int) -> np.random.Generator:
    """The generator of one picture in one pass: the same whatever the workers, ranks or restarts."""
    return np.random.Generator(np.random.Philox(key=[seed, _AUGMENT], counter=[0, row, number, 0]))
