"""A rectangle of a training picture is replaced by noise, so that a network does not lean on one part of what it sees.

Zhong et al., "Random erasing data augmentation" (2017), with its ranges.
"""

from __future__ import annotations

from math import exp, log, sqrt

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

AREA = (0.02, 1 / 3)  # of the picture that goes
ASPECT = (0.3, 1 / 0.3)  # height by width of what goes
_TRIES = 10  # rectangles drawn until one fits; else nothing goes


def erase(image: NDArray[np.uint8], share: float, rng: Generator) -> NDArray[np.uint8]:
    """The picture, or with probability ``share`` a copy in which the pixels of a rectangle are uniform noise.

    Args:
        image: uint8 [H, W, C]. It is not changed.
        share: 0..1.
        rng: the picture's own generator.
    """
    if rng.random() >= share:
        return image
    height, width, channels = image.shape
    for area, aspect, y, x in rng.random((_TRIES, 4)).tolist():
        pixels = height * width * (AREA[0] + area * (AREA[1] - AREA[0]))
        ratio = exp(log(ASPECT[0]) + aspect * log(ASPECT[1] / ASPECT[0]))
        h, w = round(sqrt(pixels * ratio)), round(sqrt(pixels / ratio))
        if 1 <= h <= height and 1 <= w <= width:
            top, left = int(y * (height - h + 1)), int(x * (width - w + 1))
            erased = image.copy()
            erased[top : top + h, left : left + w] = rng.integers(0, 256, (h, w, channels), dtype=np.uint8)
            return erased
    return image
