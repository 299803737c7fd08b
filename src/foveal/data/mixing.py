"""Training pictures mixed with one another: blended (mixup), or a part of one pasted into another (cutmix).

    mixup    pixels and labels are l a + (1 - l) b (Zhang et al., 2018)
    cutmix   a rectangle of b in a; l is the share of a that is left (Yun et al., 2019)

l is drawn from Beta(alpha, alpha) for each picture, and so is the partner b: any training picture, as it is varied in
the same pass. All of it follows from (seed, pass, row) by a counter-based generator of its own. So a picture comes out
the same whatever batch it is in, and whatever the number of workers and ranks: a rank never needs a picture that
another one has, but reads the partner itself. That is the price: for a mixed picture two are decoded and varied, though
the memory of decoded pictures (``Decoder``) saves most of the decoding.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import sqrt

import numpy as np
from numpy.random import Generator, Philox
from numpy.typing import NDArray

from foveal.data.loader import Decoder, Prepare, Prepared
from foveal.errors import BadPicture
from foveal.records import Label

_MIX = 0x6D6978  # key of the counter-based generator, so that mixing shares no numbers with order and augmentation


@dataclass(frozen=True)
class Mixing:
    """How pictures are mixed.

    Attributes:
        mixup, cutmix: alpha of each, 0 where it is off; where both are on, each picture gets one of them by a coin.
        vector: target of a picture -> its labels as float32 [C], which can be mixed.
    """

    mixup: float
    cutmix: float
    vector: Callable[[Label], NDArray[np.float32]]


def mixed(prepare: Prepare, pictures: Decoder, mixing: Mixing, seed: int) -> Prepare:
    """``prepare``, and then mixing; the target is float32 [C].

    A picture whose partner can't be read stays as it is: the partner is named when its own turn comes.
    """

    def prepare_mixed(image: NDArray[np.uint8], label: Label, row: int, number: int) -> Prepared:
        pixels, target = prepare(image, label, row, number)
        rng = Generator(Philox(key=[seed, _MIX], counter=[0, row, number, 0]))
        partner = int(rng.integers(len(pictures.source)))
        try:
            other = prepare(*pictures(partner), partner, number)
        except BadPicture:
            return pixels, mixing.vector(target)
        return mix((pixels, mixing.vector(target)), (other[0], mixing.vector(other[1])), mixing, rng)

    return prepare_mixed


def mix(
    one: tuple[NDArray[np.uint8], NDArray[np.float32]],
    other: tuple[NDArray[np.uint8], NDArray[np.float32]],
    mixing: Mixing,
    rng: Generator,
) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    """Two pictures of one size (uint8 [h, w, c]) with their labels (float32 [C]) as one; both stay as they are."""
    cuts = rng.random() < 0.5 if mixing.mixup and mixing.cutmix else bool(mixing.cutmix)
    alpha = mixing.cutmix if cuts else mixing.mixup
    share = rng.beta(alpha, alpha)
    (mine, label), (theirs, other_label) = one, other
    if cuts:
        rows, columns = _rectangle(share, mine.shape[0], mine.shape[1], rng)
        pixels = mine.copy()
        pixels[rows, columns] = theirs[rows, columns]
        share = 1 - (rows.stop - rows.start) * (columns.stop - columns.start) / (mine.shape[0] * mine.shape[1])
    else:
        blend = np.float32(share) * mine + np.float32(1 - share) * theirs
        pixels = np.rint(blend).astype(np.uint8)
    return pixels, (np.float32(share) * label + np.float32(1 - share) * other_label).astype(np.float32)


def _rectangle(share: float, height: int, width: int, rng: Generator) -> tuple[slice, slice]:
    """Rows and columns of a rectangle of 1 - share of the picture, of its aspect, cut off where it reaches beyond."""
    h, w = height * sqrt(1 - share), width * sqrt(1 - share)
    y, x = rng.random(2) * (height, width)
    top, left = max(0, round(y - h / 2)), max(0, round(x - w / 2))
    return slice(top, min(height, round(y + h / 2))), slice(left, min(width, round(x + w / 2)))
