"""From what was found in the tiles of a picture to what is in the picture: every object once.

Each tile's boxes have been suppressed among themselves. Where tiles overlap an object is found more than once, and a
tile whose edge cuts it finds a part. So among boxes of one class, of different tiles, one goes for a better one

- when they overlap by ``nms_threshold``, as within a tile; or
- when it is cut by its tile's edge, and at least half of it lies within the better one.

Better is the higher score, a cut box counting with a quarter of its score: of an object that a tile shows whole, that
tile's box is kept. An object that no tile shows whole keeps the boxes of its parts, or the best where they overlap, so
tiles should overlap by the size of an object.

Who goes is settled from the best box down, as in ``suppression``. Only boxes of tiles that overlap are compared, so the
cost grows with the number of tiles, not with its square.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from foveal.models.suppression import PAIRS, Rule
from foveal.records import Detections

EDGE = 0.02  # of a tile's side: a box that comes so near to the edge, within the picture, is taken to be cut by it
WITHIN = 0.5  # of a cut box's area
CUT_COUNTS = 0.25  # of its score

Rows = NDArray[np.float32]
Doubles = NDArray[np.float64]


def merge(
    rows: Sequence[Rows], affines: Sequence[Doubles], shape: tuple[int, int], size: tuple[int, int], rule: Rule
) -> Detections:
    """What the tiles of one picture show together.

    Args:
        rows: of each tile float32 [n, 6], class, score, xmin, ymin, xmax, ymax as fractions of the network's input, as
            ``suppression.detect`` gives them; class -1 marks a row that does not count.
        affines: of each tile float64 [2, 3], from the network's pixels to the upright picture's (``views.View``).
        shape: height, width of the network's input.
        size: width, height of the upright picture.
        rule: what each tile was suppressed by.

    Returns:
        The boxes that stay, by falling score, cut to the picture. ``nms_topk`` counts in each tile, not here.
    """
    tiles = np.array([_moved(np.array([[0.0, 0.0, 1.0, 1.0]]), affine, shape)[0] for affine in affines])
    tiles = tiles.reshape(-1, 4)
    kept = [each[each[:, 0] >= 0] for each in rows]
    found = np.concatenate([np.zeros((0, 6), np.float32), *kept]).astype(np.float64)
    tile = np.repeat(np.arange(len(kept)), [len(each) for each in kept])
    parts = [_moved(each[:, 2:].astype(np.float64), affine, shape) for each, affine in zip(kept, affines, strict=True)]
    limit = np.array([*size, *size], dtype=np.float64)
    boxes = np.clip(np.concatenate([np.zeros((0, 4)), *parts]), 0, limit)
    real = (boxes[:, 2] > boxes[:, 0]) & (boxes[:, 3] > boxes[:, 1])
    found, tile, boxes = found[real], tile[real], boxes[real]
    cut = _cut(boxes, tiles[tile], limit)
    worth = np.where(cut, CUT_COUNTS, 1.0) * found[:, 1]
    stays = np.ones(len(found), dtype=np.bool_)
    if rule.suppresses:
        stays = _settled(found[:, 0], boxes, tile, tiles, cut, worth, rule)
    order = np.flatnonzero(stays)[np.argsort(-found[stays, 1], kind="stable")]
    values = (boxes[order] / limit).astype(np.float32)
    return Detections(values, found[order, 0].astype(np.int64), found[order, 1].astype(np.float32), size)


def _moved(fractions: Doubles, affine: Doubles, shape: tuple[int, int]) -> Doubles:
    """Boxes [n, 4] as fractions of the network's input in pixels of the picture; the affine only scales and shifts."""
    height, width = shape
    scale = np.array([affine[0, 0] * width, affine[1, 1] * height] * 2)
    moved: Doubles = fractions * scale + np.array([affine[0, 2], affine[1, 2]] * 2)
    return moved


def _cut(boxes: Doubles, tiles: Doubles, limit: Doubles) -> NDArray[np.bool_]:
    """Which boxes [n, 4] touch an edge of their tile [n, 4] that is not the picture's: bool [n]."""
    near = EDGE * np.minimum(tiles[:, 2] - tiles[:, 0], tiles[:, 3] - tiles[:, 1])[:, None]
    low = (boxes[:, :2] <= tiles[:, :2] + near) & (tiles[:, :2] > 0)
    high = (boxes[:, 2:] >= tiles[:, 2:] - near) & (tiles[:, 2:] < limit[2:])
    touched: NDArray[np.bool_] = np.any(low | high, axis=1)
    return touched


def _settled(
    classes: Doubles,
    boxes: Doubles,
    tile: NDArray[np.int64],
    tiles: Doubles,
    cut: NDArray[np.bool_],
    worth: Doubles,
    rule: Rule,
) -> NDArray[np.bool_]:
    """Which of the boxes stay: bool [n]. ``tile`` is the number of each box's tile, in rising order."""
    better, worse = [np.zeros(0, np.int64)], [np.zeros(0, np.int64)]
    for one, other in _meeting(tile, tiles):
        a, b = boxes[one, None], boxes[None, other]
        wide = np.minimum(a[..., 2], b[..., 2]) - np.maximum(a[..., 0], b[..., 0])
        high = np.minimum(a[..., 3], b[..., 3]) - np.maximum(a[..., 1], b[..., 1])
        shared = np.maximum(wide, 0) * np.maximum(high, 0)
        of_a, of_b = ((each[..., 2] - each[..., 0]) * (each[..., 3] - each[..., 1]) for each in (a, b))
        first = worth[one, None] >= worth[None, other]
        worse_is_cut = np.where(first, cut[None, other], cut[one, None])
        near = shared >= rule.nms_threshold * (of_a + of_b - shared)
        near |= worse_is_cut & (shared >= WITHIN * np.where(first, of_b, of_a))
        if not rule.across_classes:
            near &= classes[one, None] == classes[None, other]
        left, right = np.nonzero(near)
        ahead = first[left, right]
        better.append(np.where(ahead, one.start + left, other.start + right))
        worse.append(np.where(ahead, other.start + right, one.start + left))
    beats, beaten = np.concatenate(better), np.concatenate(worse)
    stays = np.ones(len(boxes), dtype=np.bool_)
    while True:
        before, stays = stays, np.ones(len(boxes), dtype=np.bool_)
        stays[beaten[before[beats]]] = False
        if (before == stays).all():
            return stays


def _meeting(tile: NDArray[np.int64], tiles: Doubles) -> Iterator[tuple[slice, slice]]:
    """The boxes of each two tiles that overlap, as runs of at most ``PAIRS`` pairs."""
    used, starts = np.unique(tile, return_index=True)
    ends = np.append(starts[1:], len(tile))
    left, top, right, bottom = tiles[used].T
    for number in range(len(used)):
        meets = (left < right[number]) & (right > left[number]) & (top < bottom[number]) & (bottom > top[number])
        for other in (np.flatnonzero(meets[number + 1 :]) + number + 1).tolist():
            step = max(1, PAIRS // int(ends[other] - starts[other]))
            for start in range(int(starts[number]), int(ends[number]), step):
                yield slice(start, min(start + step, int(ends[number]))), slice(int(starts[other]), int(ends[other]))
