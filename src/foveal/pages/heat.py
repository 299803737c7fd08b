"""Heat maps laid over a picture, for people: the picture itself, then a panel for each label or box."""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from foveal.draw import PAPER, draw_boxes, draw_label, thumbnail
from foveal.explain import Explained
from foveal.records import Detections

SIDE = 400  # pixels of a panel's picture
COLUMNS = 4
GAP = 10  # pixels between panels
RAMP = np.array([(20, 10, 60), (120, 30, 110), (210, 70, 60), (250, 160, 30), (252, 250, 160)], np.float64)
"""Colours of heat from 0 to 1, in even steps, each lighter than the one before: so they read without colour too."""

STRENGTH = 0.75  # of the colour where heat is 1


def heat_sheet(image: NDArray[np.uint8], explained: Sequence[Explained]) -> Image.Image:
    """The picture, and for each answer the picture with its heat.

    Args:
        image: uint8 [H, W, 3], upright. explained: of this picture; their heat may be smaller.
    """
    height, width = image.shape[:2]
    panels = [draw_label(np.asarray(thumbnail(image, SIDE)), [f"{width} x {height} pixels"], smallest=SIDE)]
    for each in explained:
        warm = overlay(image, each.heat)
        if each.box is not None:
            sides = np.array([width, height, width, height], dtype=np.float32)
            box = np.array([each.box], dtype=np.float32) / sides
            score = np.array([each.score], np.float32)
            alone = Detections(box, np.array([each.index]), score, (warm.width, warm.height))
            warm = draw_boxes(np.asarray(warm), alone, (), smallest=1, named=False)
        panels.append(draw_label(np.asarray(warm), [f"{each.label}\t{each.score:.1%}"], smallest=SIDE))
    columns = min(COLUMNS, len(panels))
    wide, high = max(each.width for each in panels) + GAP, max(each.height for each in panels) + GAP
    sheet = Image.new("RGB", (GAP + columns * wide, GAP + ceil(len(panels) / columns) * high), PAPER)
    for i, panel in enumerate(panels):
        sheet.paste(panel, (GAP + i % columns * wide, GAP + i // columns * high))
    return sheet


def overlay(image: NDArray[np.uint8], heat: NDArray[np.float32]) -> Image.Image:
    """The picture in grey under its heat (float32 [h, w], 0..1), whole within ``SIDE`` pixels."""
    picture = thumbnail(image, SIDE)
    grey = np.asarray(picture.convert("L"), np.float64)[..., None]
    warmth = np.asarray(Image.fromarray(heat).resize(picture.size, Image.Resampling.BILINEAR), np.float64)
    place = np.clip(warmth, 0, 1) * (len(RAMP) - 1)
    low = np.minimum(place.astype(np.int64), len(RAMP) - 2)
    colour = RAMP[low] + (RAMP[low + 1] - RAMP[low]) * (place - low)[..., None]
    share = STRENGTH * np.clip(warmth, 0, 1)[..., None] ** 0.7
    return Image.fromarray((grey * (1 - share) + colour * share).round().astype(np.uint8))
