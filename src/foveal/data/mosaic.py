"""Four training pictures in one (Bochkovskiy et al. 2020): more objects a picture, at about half their size.

    a | b     a is the picture whose turn it is; b, c and d are any training pictures. Where the four meet is drawn
    --+--     within the middle fifth of the sides. Each is varied on its own (colour, mirror, crop) and squeezed into
    c | d     its part, so that boxes move with their pictures exactly.

All of it follows from (seed, pass, row) by a counter-based generator of its own: a picture comes out the same whatever
the number of workers and ranks. Each of the four is decoded for its mosaic; the memory of decoded pictures
(``Decoder``) saves most of that.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.random import Generator, Philox
from numpy.typing import NDArray

from foveal.data.boxaugment import FILL, SSD, Bytes, Floats, apply, draw_change, move, targets_of
from foveal.data.loader import Decoder, Prepare, Prepared
from foveal.data.views import Preprocessing
from foveal.errors import BadPicture
from foveal.records import Boxes, Label

_MOSAIC = 0x6D6F73  # key of the counter-based generator, so that it shares no numbers with order and augmentation
TILE = replace(SSD, pad_chance=0.0)  # a mosaic shows its pictures smaller as it is
MIDDLE = 0.2  # of a side: where the four may meet


def with_mosaics(
    prepare: Prepare, pictures: Decoder, rule: Preprocessing, share: float, flip: bool, seed: int
) -> Prepare:
    """``prepare``, or for a share of the pictures a mosaic.

    Args:
        pictures: the training pictures, with boxes.
        rule: the preprocessing rule; its size counts here.
        flip: whether pictures may be mirrored.
    """

    def prepare_some(image: NDArray[np.uint8], label: Label, row: int, number: int) -> Prepared:
        rng = Generator(Philox(key=[seed, _MOSAIC], counter=[0, row, number, 0]))
        if rng.random() >= share:
            return prepare(image, label, row, number)
        assert isinstance(label, Boxes)
        return mosaic((image, label), pictures, rule, rng, flip)

    return prepare_some


def mosaic(
    first: tuple[Bytes, Boxes], pictures: Decoder, rule: Preprocessing, rng: Generator, flip: bool = True
) -> tuple[Bytes, Floats]:
    """A picture and three others in one.

    The place of one that can't be read stays grey: it is named when its own turn comes.

    Args:
        first: uint8 [H, W, C], upright, and its objects in pixels. It is not changed.
        pictures, rule, flip: as in ``with_mosaics``.

    Returns:
        uint8 [height, width, C] and float32 [n, 6], as ``boxaugment.augment_boxes`` gives them.
    """
    down, across = (round(side * (0.5 + MIDDLE * (rng.random() - 0.5))) for side in (rule.height, rule.width))
    others = rng.integers(len(pictures.source), size=3).tolist()
    pixels = np.full((rule.height, rule.width, rule.channels), FILL, dtype=np.uint8)
    targets = []
    for place, row in enumerate([None, *others]):
        top, bottom = ((0, down), (down, rule.height))[place // 2]
        left, right = ((0, across), (across, rule.width))[place % 2]
        try:
            image, label = first if row is None else pictures(row)
        except BadPicture:
            continue
        assert isinstance(label, Boxes)
        objects = targets_of(label)
        draw = draw_change(TILE, (image.shape[0], image.shape[1]), objects, rule.channels, rng, flip)
        size = replace(rule, height=bottom - top, width=right - left)
        pixels[top:bottom, left:right] = apply(image, draw, size)
        moved = move(objects, draw)
        scale = np.array([right - left, bottom - top] * 2) / np.array([rule.width, rule.height] * 2)
        corner = np.array([left, top] * 2) / np.array([rule.width, rule.height] * 2)
        moved[:, 1:5] = moved[:, 1:5] * scale + corner
        targets.append(moved)
    return pixels, np.concatenate(targets)
