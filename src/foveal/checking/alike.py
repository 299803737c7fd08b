"""Which pictures look alike: the same shot twice, resized, encoded anew, cut a little, or lit in another way.

Two measures have to agree, so that false pairs are few: a difference hash of 256 bits (whether each of 16 x 16 places
is darker than its right neighbour), and the correlation of the pictures at 16 x 16 pixels. Neither minds brightness or
contrast; both mind mirroring, turning and larger cuts, which are not looked for.

The bounds were set on small public sets whose near-identical pairs are known: of 400 portraits of 40 people (1,800
pairs of one person each) they give the four pairs that are nearly the same shot.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

SIDE = 16
BITS_APART = 24
"""Bits of 256 in which the hashes of pictures that look alike differ at most."""
CORRELATION = 0.985
"""Of their pixels at 16 x 16, at least."""
ASPECT = 1.05
"""How many times longer, for its height, one may be than the other."""
FLAT = 3.0
"""Standard deviation, in grey levels at 16 x 16, below which a picture shows too little to be compared."""
MOST_PAIRS = 100_000
"""Found pairs after which the search ends: so many are of one film or one camera."""

_EXACT = 4096  # pictures up to which each is compared with each
_WINDOW, _TURNS = 24, 24  # above: neighbours in an order, and how many orders there are
_BLOCK = 8192  # pairs whose correlation is computed at a time


@dataclass(frozen=True)
class Look:
    """What is kept of a picture to compare it: ``bits`` uint64 [4], ``small`` uint8 [256]."""

    bits: NDArray[np.uint64]
    small: NDArray[np.uint8]


@dataclass(frozen=True)
class AlikePairs:
    """Pairs of pictures that look alike, the closest first.

    Attributes:
        rows: int64 [m, 2], the smaller row first.
        correlation: float32 [m], 0..1.
        complete: False when the search ended at ``MOST_PAIRS``.
    """

    rows: NDArray[np.int64]
    correlation: NDArray[np.float32]
    complete: bool


def look_of(grey: NDArray[np.uint8]) -> Look:
    """The look of a picture (uint8 [H, W])."""
    image = Image.fromarray(grey)
    wide = np.asarray(image.resize((SIDE + 1, SIDE), Image.Resampling.BICUBIC))
    bits = np.packbits(wide[:, 1:] > wide[:, :-1]).view(np.uint64)
    return Look(bits, np.asarray(image.resize((SIDE, SIDE), Image.Resampling.BOX)).reshape(-1))


def find_alike(
    bits: NDArray[np.uint64], small: NDArray[np.uint8], aspect: NDArray[np.float64], seed: int = 0
) -> AlikePairs:
    """Find the pairs that look alike.

    Up to 4,096 pictures each is compared with each. More are sorted by their hashes, 24 times with the bits in another
    order, and each compared with its 24 neighbours: pairs that differ in few bits stand side by side in one of these
    orders nearly always. So the time is that of sorting, not of comparing all with all.

    Args:
        bits: uint64 [n, 4]. small: uint8 [n, 256]. aspect: float64 [n], width / height.
        seed: of the orders.
    """
    seen = np.flatnonzero(small.std(axis=1, dtype=np.float32) >= FLAT)
    count = len(seen)
    window, turns = (count - 1, 1) if count <= _EXACT else (_WINDOW, _TURNS)
    generator = np.random.default_rng(seed)
    found: dict[tuple[int, int], float] = {}
    for _ in range(turns):
        order = seen[np.argsort(_shuffled(bits[seen], generator), kind="stable")]
        hashes = bits[order]
        for gap in range(1, window + 1):
            apart = np.bitwise_count(hashes[gap:] ^ hashes[:-gap]).sum(axis=1, dtype=np.int32)
            near = np.flatnonzero(apart <= BITS_APART)
            if len(near):
                _keep(found, np.sort(np.stack([order[near], order[near + gap]], axis=1)), small, aspect)
            if len(found) >= MOST_PAIRS:
                return _sorted(found, complete=False)
    return _sorted(found, complete=True)


def _shuffled(bits: NDArray[np.uint64], generator: np.random.Generator) -> NDArray[np.uint64]:
    """uint64 [n]: 64 bits of each hash, drawn and put in an order of their own."""
    keys = np.zeros(len(bits), dtype=np.uint64)
    for place in generator.permutation(bits.shape[1] * 64)[:64].tolist():
        word, shift = divmod(place, 64)
        keys = (keys << np.uint64(1)) | ((bits[:, word] >> np.uint64(shift)) & np.uint64(1))
    return keys


def _keep(
    found: dict[tuple[int, int], float],
    pairs: NDArray[np.int64],
    small: NDArray[np.uint8],
    aspect: NDArray[np.float64],
) -> None:
    """Add the pairs (int64 [k, 2]) that are alike by the other measures too."""
    ratio = aspect[pairs[:, 0]] / aspect[pairs[:, 1]]
    pairs = pairs[(ratio <= ASPECT) & (ratio >= 1 / ASPECT)]
    for start in range(0, len(pairs), _BLOCK):
        block = pairs[start : start + _BLOCK]
        alike = _correlation(small[block[:, 0]], small[block[:, 1]])
        for pair, value in zip(block[alike >= CORRELATION].tolist(), alike[alike >= CORRELATION].tolist(), strict=True):
            found[pair[0], pair[1]] = value


def _correlation(a: NDArray[np.uint8], b: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Of each row of uint8 [k, 256] with that of the other, neither of them flat: float32 [k]."""
    x = a.astype(np.float32) - a.mean(axis=1, dtype=np.float32, keepdims=True)
    y = b.astype(np.float32) - b.mean(axis=1, dtype=np.float32, keepdims=True)
    alike: NDArray[np.float32] = (x * y).sum(axis=1) / np.sqrt((x * x).sum(axis=1) * (y * y).sum(axis=1))
    return alike


def _sorted(found: dict[tuple[int, int], float], complete: bool) -> AlikePairs:
    closest = sorted(found.items(), key=lambda item: (-item[1], item[0]))
    return AlikePairs(
        rows=np.array([pair for pair, _ in closest], dtype=np.int64).reshape(-1, 2),
        correlation=np.array([value for _, value in closest], dtype=np.float32),
        complete=complete,
    )
