"""From a detector's answers to the boxes that count: MXNet's MultiBoxDetection (reference, section 6.6).

Each anchor gives at most one box, that of its likeliest class; the best of a picture are kept, and of two boxes of one
class that overlap the better one. There are two ways to the same rows. On a CPU only pairs within a class are looked
at, as lists. Elsewhere, and in exported graphs, shapes may not depend on what is found: all pairs of the kept boxes
are, as a matrix.

Both find what taking the boxes one by one would leave, without doing so. Who has no better overlapping box stays; who
overlaps one that stays goes; so "stay unless a better one that stays overlaps", repeated until nothing changes, is
settled from the best box down, each round at least one box deeper.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from foveal.models.boxcoding import VARIANCES, corners, decode, overlap_matrix, overlaps
from foveal.records import Detections

SLACK = 1e-3  # rows of probabilities sum to 1 within this
PAIRS = 2**21  # pairs of boxes that are compared at once: 8 MiB a number


@dataclass(frozen=True)
class Rule:
    """Which boxes count; the names in brackets are MultiBoxDetection's.

    Attributes:
        nms_threshold: of two boxes of a class whose IoU reaches it the one with the lower score goes. In (0, 1];
            otherwise nothing is sorted, left out or compared.
        nms_topk: boxes of a picture that are kept to be compared, best first; 0 or less: all.
        score_threshold: probability that an anchor's best class must reach (threshold).
        across_classes: boxes of other classes are compared too (force_suppress).
        clip: boxes are cut off at the picture's edges.
        variances: of the offsets.
    """

    nms_threshold: float = 0.45
    nms_topk: int = 400
    score_threshold: float = 0.01
    across_classes: bool = False
    clip: bool = True
    variances: tuple[float, float, float, float] = VARIANCES

    @property
    def suppresses(self) -> bool:
        return 0 < self.nms_threshold <= 1


def detect(
    probabilities: Tensor,
    offsets: Tensor,
    anchors: Tensor,
    nms_threshold: float = 0.45,
    nms_topk: int = 400,
    rule: Rule | None = None,
) -> Tensor:
    """The boxes found in each picture of a batch, best first; equal scores in the order of the anchors.

    Args:
        probabilities: float32 [B, A, C + 1], each row a softmax, background first.
        offsets: float32 [B, A, 4].
        anchors: float32 [A, 4], corner form, fractions.
        nms_threshold, nms_topk: as in ``Rule``, with its defaults for the rest.
        rule: instead of these two.

    Returns:
        float32 [B, N, 6], rows (class from 0, score, xmin, ymin, xmax, ymax); class -1 marks a row that does not count,
        whatever else it holds. N is the largest number of rows that any of the pictures needs.
    """
    rule = rule or Rule(nms_threshold, nms_topk)
    way = _detect_listed if probabilities.device.type == "cpu" else detect_fixed
    return way(probabilities.detach(), offsets.detach(), anchors, rule)


def detect_scored(scores: Tensor, boxes: Tensor, rule: Rule) -> Tensor:
    """``detect`` for boxes that are decoded already, and scores without background.

    Args:
        scores: float32 [B, A, C], 0 to 1. boxes: float32 [B, A, 4], corner form, fractions.
        rule: ``clip`` and ``variances`` have no meaning here.
    """
    way = _scored_listed if scores.device.type == "cpu" else detect_scored_fixed
    return way(scores.detach(), boxes.detach(), rule)


def detections(rows: Tensor, size: tuple[int, int]) -> Detections:
    """One picture's rows (float32 [N, 6], of ``detect``) as ``Detections``; ``size`` (width, height) in pixels."""
    found = rows.cpu().numpy()
    found = found[found[:, 0] >= 0]
    return Detections(found[:, 2:].copy(), found[:, 0].astype(np.int64), found[:, 1].copy(), size)


# As lists, for a CPU


def _detect_listed(probabilities: Tensor, offsets: Tensor, anchors: Tensor, rule: Rule) -> Tensor:
    pictures, per_picture, width = probabilities.shape
    flat = probabilities.reshape(-1, width)

    def boxes_of(cells: NDArray[np.int64]) -> Tensor:
        chosen = _taken(offsets.reshape(-1, 4), cells)
        return decode(_taken(anchors, cells % per_picture), chosen, rule.variances, rule.clip)

    scores = _scores(flat, rule.score_threshold).reshape(pictures, per_picture)
    return _listed(scores, lambda cells: _taken(flat, cells)[:, 1:], boxes_of, rule)


def _scored_listed(scores: Tensor, boxes: Tensor, rule: Rule) -> Tensor:
    each, every = scores.reshape(-1, scores.shape[2]), boxes.reshape(-1, 4)
    return _listed(
        scores.amax(dim=2).numpy(), lambda cells: _taken(each, cells), lambda cells: _taken(every, cells), rule
    )


def _listed(
    scores: NDArray[np.float32],
    classes_of: Callable[[NDArray[np.int64]], Tensor],
    boxes_of: Callable[[NDArray[np.int64]], Tensor],
    rule: Rule,
) -> Tensor:
    """Rows from the best score of each anchor [B, A]; the functions take positions in it to [n, C] and [n, 4]."""
    pictures, per_picture = scores.shape
    cells = _kept(scores, rule)
    each = classes_of(cells)
    classes = each.argmax(dim=1).numpy()
    picture = cells // per_picture
    boxes = boxes_of(cells)
    if rule.suppresses:
        groups = picture if rule.across_classes else picture * each.shape[1] + classes
        classes[_beaten(boxes, groups, rule.nms_threshold)] = -1
    counts = np.bincount(picture, minlength=pictures)
    parts = [classes[:, None], scores.reshape(-1)[cells][:, None], boxes.numpy()]
    rows = np.full((pictures, counts.max(initial=0), 6), -1, np.float32)
    rows[picture, _ranks(counts)] = np.concatenate(parts, axis=1, dtype=np.float32)
    return torch.from_numpy(rows)


def _taken(rows: Tensor, which: NDArray[np.int64]) -> Tensor:
    """Rows of a matrix: several times quicker than by indexing."""
    return torch.from_numpy(rows.numpy().take(which, axis=0))


def _ranks(counts: NDArray[np.int64]) -> NDArray[np.int64]:
    """0, 1, ... for each of the runs of these lengths, one after another."""
    return np.arange(counts.sum()) - np.repeat(counts.cumsum() - counts, counts)


def _scores(flat: Tensor, threshold: float) -> NDArray[np.float32]:
    """Probability of the best class in each row of [n, C + 1]; -1 where it cannot reach the threshold.

    In most pictures nearly all anchors are background, so that column is looked at first: a class can have no more
    than it leaves.
    """
    possible = np.flatnonzero(flat[:, 0].numpy() <= 1 - threshold + SLACK)
    if 2 * len(possible) > len(flat):
        return flat[:, 1:].amax(dim=1).numpy()
    scores = np.full(len(flat), -1, np.float32)
    scores[possible] = _taken(flat, possible)[:, 1:].amax(dim=1).numpy()
    return scores


def _kept(scores: NDArray[np.float32], rule: Rule) -> NDArray[np.int64]:
    """The boxes to be compared, of scores [B, A]: positions in them, picture by picture, best first, ties in order."""
    pictures, anchors = scores.shape
    over = scores >= np.float32(rule.score_threshold)
    if not rule.suppresses:
        return np.flatnonzero(over)
    topk = rule.nms_topk if rule.nms_topk > 0 else anchors
    if np.count_nonzero(over, axis=1).max(initial=0) > topk:  # sorting all would take longer than all the rest
        over &= scores >= np.partition(scores, anchors - topk, axis=1)[:, anchors - topk, None]
    cells = np.flatnonzero(over)
    picture = cells // anchors
    cells = cells[np.lexsort((-scores.reshape(-1)[cells], picture))]
    return cells[_ranks(np.bincount(picture, minlength=pictures)) < topk]


def _beaten(boxes: Tensor, groups: NDArray[np.int64], threshold: float) -> NDArray[np.int64]:
    """Positions of the boxes (float32 [n, 4], best first within each group) that go because a better one stays."""
    order = groups.argsort(kind="stable")
    sides = [side.numpy() for side in corners(_taken(boxes, order))]
    ends = np.searchsorted(groups[order], groups[order], side="right")
    later = ends - np.arange(len(order)) - 1  # boxes of the same group after each one
    first, second = [], []
    for rows in _chunks(later):
        counts = later[rows]
        one = np.repeat(np.arange(rows.start, rows.stop), counts)
        other = one + _ranks(counts) + 1
        ax0, ay0, ax1, ay1 = (torch.from_numpy(np.repeat(side[rows], counts)) for side in sides)
        bx0, by0, bx1, by1 = (torch.from_numpy(side.take(other)) for side in sides)
        overlap = overlaps((ax0, ay0, ax1, ay1), (bx0, by0, bx1, by1))
        near = np.flatnonzero(overlap.numpy() >= np.float32(threshold))
        first.append(one[near])
        second.append(other[near])
    better, worse = np.concatenate(first), np.concatenate(second)
    stays = np.ones(len(order), bool)
    while True:
        before, stays = stays, np.ones(len(order), bool)
        stays[worse[before[better]]] = False
        if (before == stays).all():
            return order[~stays]


def _chunks(later: NDArray[np.int64]) -> list[slice]:
    """Runs of boxes with about ``PAIRS`` pairs each: memory stays bounded where all boxes are of one class."""
    ends = later.cumsum()
    total = int(ends[-1]) if len(ends) else 0
    cuts = np.searchsorted(ends, np.arange(PAIRS, total, PAIRS), side="right")
    edges = np.unique(np.concatenate([[0], cuts, [len(later)]])).tolist()
    return [slice(start, stop) for start, stop in pairwise(edges)] or [slice(0, 0)]


# As a matrix, for other devices and exported graphs


def detect_fixed(probabilities: Tensor, offsets: Tensor, anchors: Tensor, rule: Rule = Rule()) -> Tensor:
    """``detect`` with shapes that depend on shapes alone: N is ``rule.nms_topk``, or A if that is smaller.

    Can be exported (torch.export, torch.onnx with dynamo); the batch may be dynamic.
    """

    def boxes_of(order: Tensor | None) -> Tensor:
        if order is None:
            return decode(anchors, offsets, rule.variances, rule.clip)
        return decode(anchors[order], _gathered(offsets, order), rule.variances, rule.clip)

    return _fixed(probabilities[..., 1:], boxes_of, rule)


def detect_scored_fixed(scores: Tensor, boxes: Tensor, rule: Rule) -> Tensor:
    """``detect_scored`` with shapes that depend on shapes alone, as ``detect_fixed``."""
    return _fixed(scores, lambda order: boxes if order is None else _gathered(boxes, order), rule)


def _fixed(each: Tensor, boxes_of: Callable[[Tensor | None], Tensor], rule: Rule) -> Tensor:
    """Rows from scores [B, A, C]; ``boxes_of`` gives the boxes of anchors int64 [B, K], or of all (None)."""
    scores, classes = each.max(dim=2)
    scores = torch.where(scores >= rule.score_threshold, scores, -1.0)
    if not rule.suppresses:
        return _rows(torch.where(scores >= 0, classes, -1), scores, boxes_of(None))
    keep = min(rule.nms_topk, scores.shape[1]) if rule.nms_topk > 0 else scores.shape[1]
    scores, order = _first(scores, keep)
    classes = classes.gather(1, order)
    boxes = boxes_of(order)
    beats = (overlap_matrix(boxes, boxes) >= rule.nms_threshold).triu(1)
    if not rule.across_classes:
        beats = beats & (classes[:, :, None] == classes[:, None, :])
    stays = _settle(scores >= 0, beats.to(scores.dtype))
    return _rows(torch.where(stays, classes, -1), scores, boxes)


def _gathered(rows: Tensor, order: Tensor) -> Tensor:
    """Rows [B, A, 4] of anchors int64 [B, K]: [B, K, 4]."""
    return rows.gather(1, order[..., None].expand(-1, -1, 4))


def _rows(classes: Tensor, scores: Tensor, boxes: Tensor) -> Tensor:
    filled = torch.where(scores[..., None] >= 0, boxes, -1.0)
    return torch.cat([classes.to(scores.dtype)[..., None], scores[..., None], filled], dim=2)


def _first(scores: Tensor, keep: int) -> tuple[Tensor, Tensor]:
    """The best scores of each picture and their anchors; of equal ones the first (ONNX's TopK promises that)."""
    if torch.compiler.is_exporting():
        return scores.topk(keep, dim=1)
    ranked = scores.sort(dim=1, descending=True, stable=True)
    return ranked.values[:, :keep], ranked.indices[:, :keep]


def _settle(real: Tensor, beats: Tensor) -> Tensor:
    """Which boxes stay: bool [B, K].

    Args:
        real: bool [B, K], rows that hold a box.
        beats: float [B, K, K], 1 where the first box, if it stays, drives the second one out.
    """

    # torch.while_loop wants a state of its own tensors: none that the functions know, and no argument as an answer
    def goes_on(stays: Tensor, changes: Tensor) -> Tensor:
        return changes > 0

    def once_more(stays: Tensor, changes: Tensor) -> tuple[Tensor, Tensor]:
        beaten = torch.matmul(stays.to(beats.dtype)[:, None], beats)[:, 0] > 0
        after = real & ~beaten
        return after, (after != stays).sum()

    state = (torch.ones_like(real), torch.ones((), dtype=torch.int64, device=real.device))
    if torch.compiler.is_exporting():
        state = torch.while_loop(goes_on, once_more, state)
    else:
        while goes_on(*state):
            state = once_more(*state)
    return state[0]
