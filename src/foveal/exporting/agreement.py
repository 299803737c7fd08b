"""Whether two engines say the same of pictures.

Labels are equal and probabilities within ``TOLERANCE``. Detections are equal as sets: to each box belongs one of the
same class, with score and sides within ``TOLERANCE``. Engines add numbers up in another order, so their last digits
differ; where a decision hangs on these (two classes or two overlapping boxes of equal score, an overlap at the
threshold, a score at the least one) either answer is right. Such boxes are counted, and only few may be so.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from foveal.models.boxcoding import overlap_matrix
from foveal.models.suppression import Rule

TOLERANCE = 1e-4  # of probabilities, scores, and fractions of a picture's sides
SLACK = 1e-6  # of probabilities: closer ones count as equal when the most probable is chosen
OVERLAP_SLACK = 1e-3  # of an IoU: what TOLERANCE in the sides of a small box makes of it
MOST_TIED, ALWAYS_TIED = 0.05, 10  # share and number of the boxes whose fate may hang on last digits

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Agreement:
    """What a comparison found.

    Attributes:
        pictures: how many were compared.
        wrong: (number of the picture, what is wrong) of each on which the engines do not agree.
        difference: the largest of all probabilities; or of scores and sides of the boxes that belong together.
        boxes: of a detector, how many were compared. tied: how many of them hang on last digits.
    """

    pictures: int
    wrong: tuple[tuple[int, str], ...]
    difference: float
    boxes: int = 0
    tied: int = 0


def compare_probabilities(expected: Floats, found: Floats, least: NDArray[np.float64] | None = None) -> Agreement:
    """Compare answers of classifiers.

    Args:
        expected, found: float32 [n, C].
        least: float64 [C], of a model with several labels: the probability from which each class is told.
    """
    apart = np.abs(expected - found).max(axis=1, initial=0)
    if least is None:
        chosen = found.argmax(axis=1)
        others = expected[np.arange(len(expected)), chosen] < expected.max(axis=1) - SLACK
    else:
        others = (((expected >= least) != (found >= least)) & (np.abs(expected - least) > SLACK)).any(axis=1)
    wrong = []
    for number in range(len(expected)):
        if not np.isfinite(apart[number]):
            wrong.append((number, "the answers are not finite"))
        elif others[number]:
            wrong.append((number, "the labels differ"))
        elif apart[number] > TOLERANCE:
            wrong.append((number, f"the probabilities differ by {apart[number]:.2g}"))
    return Agreement(len(expected), tuple(wrong), float(apart.max(initial=0)))


def compare_rows(expected: Floats, found: Floats, rule: Rule) -> Agreement:
    """Compare answers of detectors: float32 [n, N, 6] each, as ``suppression.detect_fixed`` gives them; boxes that do
    not count have class -1, and their score and box are still there."""
    wrong: list[tuple[int, str]] = []
    difference, boxes, tied = 0.0, 0, 0
    for number, (ours, theirs) in enumerate(zip(expected, found, strict=True)):
        pairs = matched(kept(ours), kept(theirs))
        apart = np.abs(kept(ours)[pairs[:, 0]] - kept(theirs)[pairs[:, 1]])
        difference = max(difference, float(apart.max(initial=0)))
        boxes += len(kept(ours))
        lost = np.delete(kept(ours), pairs[:, 0], axis=0)
        new = np.delete(kept(theirs), pairs[:, 1], axis=0)
        unexplained = [row for row in lost if not hangs(row, ours, theirs, new, rule)]
        unexplained += [row for row in new if not hangs(row, theirs, ours, lost, rule)]
        tied += len(lost) + len(new) - len(unexplained)
        if not np.isfinite(theirs).all():
            wrong.append((number, "the answers are not finite"))
        elif unexplained:
            wrong.append((number, f"{len(unexplained)} of {len(kept(ours)) + len(kept(theirs))} boxes differ"))
    if tied > max(ALWAYS_TIED, MOST_TIED * boxes) and not wrong:
        wrong.append((0, f"{tied} of {boxes} boxes hang on last digits"))
    return Agreement(len(expected), tuple(wrong), difference, boxes, tied)


def kept(rows: Floats) -> Floats:
    """The rows that count."""
    return rows[rows[:, 0] >= 0]


def matched(ours: Floats, theirs: Floats) -> NDArray[np.int64]:
    """Pairs int64 [k, 2] of rows of the same class, with score and box within ``TOLERANCE``; each row once."""
    near = _near(ours, theirs, same_class=True)
    pairs = []
    for row in range(len(ours)):
        candidates = np.flatnonzero(near[row])
        if len(candidates):
            pairs.append((row, candidates[0]))
            near[:, candidates[0]] = False
    return np.array(pairs, dtype=np.int64).reshape(-1, 2)


def hangs(row: Floats, mine: Floats, others: Floats, strange: Floats, rule: Rule) -> bool:
    """Whether the fate of a box that only one engine keeps hangs on last digits.

    Args:
        row: float32 [6].
        mine: all rows of the engine that keeps it. others: all rows of the other one.
        strange: the boxes that only the other one keeps.
    """
    scored = mine[mine[:, 1] >= 0]
    full = len(scored) == len(mine)  # then a box with a better score may have taken the last row
    if row[1] <= (scored[:, 1].min() if full else rule.score_threshold) + TOLERANCE:
        return True
    same = _near(row[None], others, same_class=False)[0]
    if not same.any():
        return False
    if (others[same, 0] >= 0).any():  # two classes with the same score
        return True
    rivals = kept(others)
    if not rule.across_classes:
        rivals = rivals[rivals[:, 0] == row[0]]
    overlap = overlap_matrix(torch.from_numpy(row[None, 2:]), torch.from_numpy(rivals[:, 2:]))[0].numpy()
    near = np.abs(overlap - rule.nms_threshold) <= OVERLAP_SLACK
    equal = np.abs(rivals[:, 1] - row[1]) <= TOLERANCE
    alone = _near(rivals, strange, same_class=True).any(axis=1)
    return bool(((overlap >= rule.nms_threshold - OVERLAP_SLACK) & (near | equal | alone)).any())


def _near(ours: Floats, theirs: Floats, same_class: bool) -> NDArray[np.bool_]:
    """Which rows are equal within ``TOLERANCE``, bool [n, m]."""
    most = np.full(6, TOLERANCE)
    most[0] = 0 if same_class else np.inf
    near: NDArray[np.bool_] = np.abs(ours[:, None].astype(np.float64) - theirs[None]) <= most
    return np.logical_and.reduce(near, axis=2)  # type: ignore[no-any-return]
