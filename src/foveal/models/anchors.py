"""Anchors of SSD: the boxes that a detector's answers are offsets from. MXNet's MultiBoxPrior (reference, section 6.3).

All boxes are corner form, xmin, ymin, xmax, ymax, as fractions of the network's square input; they may reach outside of
it. Their order is row, column, anchor of the cell, and map after map.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

THREE = (1.0, 2.0, 0.5)
FIVE = (1.0, 2.0, 0.5, 3.0, 1 / 3)


@dataclass(frozen=True)
class AnchorLayout:
    """Shapes of the anchors of each source, in the order of the sources.

    Attributes:
        sizes: fractions of the input's side; the first one is combined with every ratio, the others with the first.
        ratios: width over height.
        steps: by side of the input in pixels: distance of two cells of each source, in pixels. For other sides the
            cells of a map divide the input evenly.
    """

    sizes: tuple[tuple[float, ...], ...]
    ratios: tuple[tuple[float, ...], ...]
    steps: tuple[tuple[int, tuple[int, ...]], ...] = ()

    @property
    def per_cell(self) -> tuple[int, ...]:
        """Anchors in each cell of each source: (4, 6, 6, 6, 4, 4)."""
        return tuple(len(s) + len(r) - 1 for s, r in zip(self.sizes, self.ratios, strict=True))


# The second sizes are geometric means with the next first one, rounded as the open code has them.
SIX_SIZES = ((0.1, 0.141), (0.2, 0.272), (0.37, 0.447), (0.54, 0.619), (0.71, 0.79), (0.88, 0.961))
SIX_RATIOS = (THREE, FIVE, FIVE, FIVE, THREE, THREE)
SIX = AnchorLayout(SIX_SIZES, SIX_RATIOS)
OURS = AnchorLayout(((0.06, 0.1), (0.14, 0.2), (0.28, 0.36), (0.45, 0.54), (0.63, 0.72), (0.81, 0.9)), SIX_RATIOS)
"""For timm's networks, which the original has not: from smaller anchors on, as small objects are many people's."""
VGG_SMALL = AnchorLayout(SIX_SIZES, SIX_RATIOS, ((300, (8, 16, 32, 64, 100, 300)),))
VGG_LARGE = AnchorLayout(
    ((0.07, 0.1025), (0.15, 0.2121), (0.3, 0.3674), (0.45, 0.5196), (0.6, 0.6708), (0.75, 0.8216), (0.9, 0.9721)),
    (THREE, FIVE, FIVE, FIVE, FIVE, THREE, THREE),
    ((512, (8, 16, 32, 64, 128, 256, 512)),),
)
"""With the last step of 512 three of the last map's four cells lie outside of the picture, as in the open code."""


def anchors_for(layout: AnchorLayout, maps: Sequence[tuple[int, int]], side: int) -> NDArray[np.float32]:
    """All anchors of a detector.

    Args:
        layout: of the network.
        maps: (height, width) of each source.
        side: of the network's input, in pixels.

    Returns:
        float32 [A, 4].
    """
    steps = dict(layout.steps).get(side)
    boxes = []
    for k, (map_size, sizes, ratios) in enumerate(zip(maps, layout.sizes, layout.ratios, strict=True)):
        step = (steps[k] / side,) * 2 if steps else None
        boxes.append(multibox_prior(map_size, sizes, ratios, step))
    return np.concatenate(boxes)


def multibox_prior(
    map_size: tuple[int, int],
    sizes: Sequence[float] = (1.0,),
    ratios: Sequence[float] = (1.0,),
    step: tuple[float, float] | None = None,
    offset: tuple[float, float] = (0.5, 0.5),
    clip: bool = False,
) -> NDArray[np.float32]:
    """The anchors of one map, by the arithmetic of MXNet's operator: in float32.

    Widths are multiplied by height / width of the map, so that boxes on a square picture have the stated ratio.

    Args:
        map_size: height, width of the map in cells.
        sizes, ratios: of the boxes; all sizes with the first ratio, then the other ratios with the first size.
        step: (y, x) distance of two cells, as fractions of the picture; None: 1 / height, 1 / width.
        offset: (y, x) of a box's centre in its cell.
        clip: cut boxes off at the picture's edges.

    Returns:
        float32 [height * width * (sizes + ratios - 1), 4].
    """
    height, width = map_size
    step_y, step_x = step if step is not None else (1 / height, 1 / width)
    one = np.float32
    root = np.sqrt(np.asarray(ratios, one))
    pairs = [(one(size), root[0]) for size in sizes] + [(one(sizes[0]), each) for each in root[1:]]
    half_w = np.array([size * one(height) / one(width) * r / one(2) for size, r in pairs], one)
    half_h = np.array([size / r / one(2) for size, r in pairs], one)
    y = ((np.arange(height, dtype=one) + one(offset[0])) * one(step_y))[:, None, None]
    x = ((np.arange(width, dtype=one) + one(offset[1])) * one(step_x))[None, :, None]
    boxes = np.empty((height, width, len(pairs), 4), one)
    boxes[..., 0], boxes[..., 1] = x - half_w, y - half_h
    boxes[..., 2], boxes[..., 3] = x + half_w, y + half_h
    if clip:
        np.clip(boxes, 0, 1, out=boxes)
    return boxes.reshape(-1, 4)
