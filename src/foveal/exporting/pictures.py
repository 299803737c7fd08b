"""The pictures on which an exported graph is compared with its model: real ones, or made ones where none are given."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from foveal.data.recognise import open_data
from foveal.data.resize import resize
from foveal.data.views import Preprocessing
from foveal.errors import BadPicture, UserError
from foveal.predictor import DetectionPredictor, Predictor

COUNT = 100  # pictures that are compared
SEED = 0
SHAPES = 8  # most rectangles in a made picture


def real_pictures(model: Predictor | DetectionPredictor, data: str | Path) -> NDArray[np.uint8]:
    """Up to ``COUNT`` pictures of a data set, evenly from all its splits, as the network sees them.

    Returns:
        uint8 [n, H, W, C], n at least 1; pictures that can't be read are passed over.

    Raises:
        UserError: when the data can't be opened, or none of these pictures can be read.
    """
    dataset = open_data(data, task="boxes" if isinstance(model, DetectionPredictor) else "classes")
    parts = [part for part in (dataset.train, dataset.validation, dataset.test) if part is not None]
    rows = [(part, row) for part in parts for row in range(len(part))]
    found, problem = [], "it holds none"
    for number in sorted({len(rows) * step // COUNT for step in range(COUNT)} if rows else ()):
        part, row = rows[number]
        try:
            found.append(model.pixels(part.read(row).picture, part.where(row)))
        except BadPicture as error:
            problem = str(error).splitlines()[0]
    if not found:
        raise UserError(f"no picture to compare on: {problem}", str(data), "Name other data with --data.")
    return np.stack(found)


def made_pictures(rule: Preprocessing) -> NDArray[np.uint8]:
    """``COUNT`` pictures, always the same: clouds of a few colours, with rectangles before them and noise over all.

    Returns:
        uint8 [COUNT, H, W, C].
    """
    rng = np.random.default_rng(SEED)
    return np.stack([_made(rule, rng) for _ in range(COUNT)])


def _made(rule: Preprocessing, rng: np.random.Generator) -> NDArray[np.uint8]:
    height, width, channels = rule.height, rule.width, rule.channels
    colours = rng.integers(0, 256, (*rng.integers(2, 12, 2), channels), dtype=np.uint8)
    picture = resize(colours, height, width, antialias=False).astype(np.int64)
    for _ in range(rng.integers(0, SHAPES + 1)):
        y, x = np.sort(rng.integers(0, height + 1, 2)), np.sort(rng.integers(0, width + 1, 2))
        picture[y[0] : y[1], x[0] : x[1]] = rng.integers(0, 256, channels)
    noise = rng.normal(0, rng.uniform(0, 30), picture.shape)
    return np.clip(picture + noise, 0, 255).astype(np.uint8)
