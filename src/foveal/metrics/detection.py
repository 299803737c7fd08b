"""Figures of object detection: arrays in, numbers out.

T objects and D detections of all pictures lie one after another, those of one picture in a row, pictures in order.
A detection belongs to the object of its picture and class that it overlaps most, whether that is taken or not; it is
right (a hit) when the overlap is **above** the threshold and no detection listed before it took the object. Listed
means the order of the rows, by falling score as a detector gives them. An object to ignore (difficult, crowd) is
neither asked for nor forbidden: detections that belong to it do not count.

``average_precisions`` counts as the metric of the original algorithm did, MXNet's ``MApMetric`` and
``VOC07MApMetric``; all else counts every picture, without that metric's oddities.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

ApForm = Literal["area", "11-point"]

HIT, FALSE, IGNORED = 1, 2, 0  # what becomes of a detection
NO_AREA = 1e-12  # a union below this is a broken box and overlaps nothing (as in MApMetric)
_PAIRS = 1 << 21  # pairs of a detection and an object compared at once, to bound memory


@dataclass(frozen=True)
class Objects:
    """What is there.

    Attributes:
        picture: int64 [T], 0.., never falling. cls: int64 [T], 0..C-1.
        boxes: float64 [T, 4], xmin, ymin, xmax, ymax in one unit, that of the detections.
        ignored: bool [T], difficult or a crowd.
    """

    picture: NDArray[np.int64]
    cls: NDArray[np.int64]
    boxes: NDArray[np.float64]
    ignored: NDArray[np.bool_]


@dataclass(frozen=True)
class Found:
    """What was detected.

    Attributes:
        picture: int64 [D], 0.., never falling. cls: int64 [D], 0..C-1.
        boxes: float64 [D, 4]. scores: float64 [D], 0..1.
    """

    picture: NDArray[np.int64]
    cls: NDArray[np.int64]
    boxes: NDArray[np.float64]
    scores: NDArray[np.float64]


@dataclass(frozen=True)
class Matches:
    """Detections held against objects, by ``match``.

    Attributes:
        objects, found: as given.
        outcome: int8 [D] of HIT, FALSE and IGNORED: what became of each detection.
        belongs: int64 [D], the row of ``objects`` that each detection lies on enough to belong to it, else -1.
        ranked: for each of C classes int64 [.], its rows of ``found`` by falling score; of equal scores those of later
            pictures first, within a picture as listed. (So comes out what MXNet 1.9.1 does, sorting twice and turning
            round twice, in short lists; in long ones its order of equal scores is left to chance.)
    """

    objects: Objects
    found: Found
    outcome: NDArray[np.int8]
    belongs: NDArray[np.int64]
    ranked: tuple[NDArray[np.int64], ...]

    @property
    def num_classes(self) -> int:
        """C, the number of classes."""
        return len(self.ranked)

    def asked_for(self) -> NDArray[np.int64]:
        """Objects of each class that are not to be ignored: int64 [C]."""
        return _per_class(self.objects.cls[~self.objects.ignored], self.num_classes)


@dataclass(frozen=True)
class ClassCounts:
    """One row a class, at some confidence.

    Attributes:
        objects: int64 [C], objects that are not to be ignored. found: int64 [C], those detected.
        false: int64 [C], detections that are wrong, a second one of the same object included.
        precision: float64 [C], found / (found + false); NaN without detections.
        recall: float64 [C], found / objects; NaN without objects.
        f1: float64 [C], their harmonic mean; NaN without either.
    """

    objects: NDArray[np.int64]
    found: NDArray[np.int64]
    false: NDArray[np.int64]
    precision: NDArray[np.float64]
    recall: NDArray[np.float64]
    f1: NDArray[np.float64]


@dataclass(frozen=True)
class Curve:
    """Precision and recall of a class at falling confidence: float64 [m] each; m is 0 without objects or detections."""

    confidence: NDArray[np.float64]
    precision: NDArray[np.float64]
    recall: NDArray[np.float64]


def overlaps(first: NDArray[np.float64], second: NDArray[np.float64]) -> NDArray[np.float64]:
    """Intersection over union of pairs of boxes: [k, 4] and [k, 4] -> float64 [k]; 0 where the union has no area."""
    sides = np.minimum(first[:, 2:], second[:, 2:]) - np.maximum(first[:, :2], second[:, :2])
    common = np.prod(np.maximum(sides, 0.0), axis=1)
    union = np.prod(first[:, 2:] - first[:, :2], axis=1) + np.prod(second[:, 2:] - second[:, :2], axis=1) - common
    return _divided(common, union, 0.0, union >= NO_AREA)


def match(objects: Objects, found: Found, overlap_threshold: float, num_classes: int) -> Matches:
    """Hold detections against objects.

    Args:
        overlap_threshold: intersection over union, above 0 and at most 1, that a hit must exceed.
    """
    overlap, nearest = _nearest(objects, found, num_classes)
    over = np.flatnonzero(overlap > overlap_threshold)
    to_ignore = objects.ignored[nearest[over]]
    right = over[~to_ignore]
    outcome = np.full(len(found.cls), FALSE, np.int8)
    outcome[over[to_ignore]] = IGNORED
    outcome[right[np.unique(nearest[right], return_index=True)[1]]] = HIT  # the first listed of each object
    belongs = np.where(overlap > overlap_threshold, nearest, -1)
    return Matches(objects, found, outcome, belongs, _ranked(found, num_classes))


def average_precisions(matches: Matches, form: ApForm = "area", empty_pictures: bool = False) -> NDArray[np.float64]:
    """Average precision of each class as the original's metric counts, float64 [C]; NaN for a class never seen.

    The mean over the classes that are not NaN is the original's mAP (``mean_over_seen``). Its ways, kept:

    - detections in pictures without any object do not count (they do with ``empty_pictures``);
    - a class that is only detected has 0 and enters the mean; a class neither there nor detected is left out;
    - objects to ignore are not counted, except in a picture where their class was not detected at all;
    - where all detections of a class in a picture were ignored, none of its objects in that picture count.

    Args:
        form: area under the falling envelope of precision over recall, or the mean of the envelope at recall 0, 0.1,
            ..., 1 (VOC 2007).
        empty_pictures: count detections in pictures without objects as false.
    """
    objects, found, num_classes = matches.objects, matches.found, matches.num_classes
    judged = np.ones(len(found.cls), bool) if empty_pictures else np.isin(found.picture, objects.picture)
    counted = judged & (matches.outcome != IGNORED)
    places, detected = _places(objects, num_classes), _places(found, num_classes)
    unanswered = ~np.isin(places, detected)
    asked = unanswered | (~objects.ignored & np.isin(places, detected[counted]))
    expected = _per_class(objects.cls[asked], num_classes)
    seen = _per_class(objects.cls[unanswered], num_classes) + _per_class(found.cls[counted], num_classes) > 0
    precisions = np.full(num_classes, np.nan)
    for number in np.flatnonzero(seen):
        rows = matches.ranked[number]
        hits = matches.outcome[rows[counted[rows]]] == HIT
        precisions[number] = average_precision(hits, int(expected[number]), form)
    return precisions


def average_precision(
    hits: NDArray[np.bool_], expected: int, form: ApForm = "area", times: NDArray[np.int64] | None = None
) -> float:
    """Average precision of ranked detections.

    Args:
        hits: bool [k], whether each detection is right, by falling score; k may be 0.
        expected: objects there are; without one the figure is 0.
        times: int64 [k], how often each detection counts, 0 or more; None: once.
    """
    if times is not None:
        hits, times = hits[times > 0], times[times > 0]
    if not len(hits) or not expected:
        return 0.0
    right = np.cumsum(hits if times is None else hits * times).astype(np.float64)
    recall = right / float(expected)
    precision = right / (np.arange(1.0, len(hits) + 1) if times is None else np.cumsum(times))
    envelope = np.maximum.accumulate(precision[::-1])[::-1]
    if form == "area":
        return float((np.diff(recall, prepend=0.0) * envelope).sum())
    # exactly these floats: a recall of 3 / 10 is below the third of them, in MXNet too
    reached = np.searchsorted(recall, np.arange(0.0, 1.1, 0.1), side="left")
    return float(np.append(envelope, 0.0)[reached].sum() / 11)


def mean_over_seen(values: NDArray[np.float64]) -> float:
    """The mean of what is not NaN; NaN without any."""
    seen = values[~np.isnan(values)]
    return float(seen.mean()) if len(seen) else float("nan")


def best_confidences(matches: Matches) -> NDArray[np.float64]:
    """The confidence of highest F1 for each class, float64 [C], each exact in float32.

    F1 changes only at scores; the confidence given lies halfway between the lowest score to keep and the highest to
    drop (0 when all are kept), so that rounding in the network moves no detection across it. Of equal F1 the highest
    confidence. NaN for a class without objects, or none of whose detections is right: there is nothing to choose by.
    """
    best = np.full(matches.num_classes, np.nan)
    for number, (scores, right, objects) in enumerate(_steps(matches)):
        hits, detections = right[:, 0], right[:, 1]
        if objects and len(hits) and hits[-1]:
            last = int(np.argmax(2 * hits / (objects + detections)))
            best[number] = _between(scores[last], scores[last + 1] if last + 1 < len(scores) else 0.0)
    return best


def counts_at(matches: Matches, confidence: NDArray[np.float64]) -> ClassCounts:
    """What is found, missed and false with detections of at least that confidence, in all pictures.

    Detections of a picture must have been listed by falling score: else one above the confidence may have lost its
    object to one below it.

    Args:
        confidence: float64 [C], the lowest score that counts, a class each.
    """
    found, num_classes = matches.found, matches.num_classes
    kept = found.scores >= confidence[found.cls]
    there = matches.asked_for()
    right = _per_class(found.cls[kept & (matches.outcome == HIT)], num_classes)
    false = _per_class(found.cls[kept & (matches.outcome == FALSE)], num_classes)
    return ClassCounts(
        objects=there,
        found=right,
        false=false,
        precision=_share(right, right + false),
        recall=_share(right, there),
        f1=_share(2 * right, there + right + false),
    )


def curves(matches: Matches, points: int) -> tuple[Curve, ...]:
    """Precision over recall of each class, thinned to at most ``points`` points at about even steps of recall.

    Points lie at scores where hits were added; the first and the last of them are always kept.
    """
    thinned = []
    for scores, right, objects in _steps(matches):
        kept = np.flatnonzero(np.diff(right[:, 0], prepend=0)) if objects else np.zeros(0, np.int64)
        hits = right[kept, 0]
        if len(kept) > points:
            kept = kept[np.unique(np.searchsorted(hits, np.linspace(hits[0], hits[-1], points)))]
            hits = right[kept, 0]
        thinned.append(Curve(scores[kept], hits / right[kept, 1], hits / max(1.0, objects)))
    return tuple(thinned)


def false_alarms(matches: Matches, confidence: NDArray[np.float64], pictures: int) -> float:
    """Mean number of detections of at least their class's confidence in a picture without objects.

    An object to ignore is an object here. NaN when every one of the ``pictures`` has objects.
    """
    found = matches.found
    empty = np.ones(pictures, bool)
    empty[matches.objects.picture] = False
    if not empty.any():
        return float("nan")
    return float(np.count_nonzero(empty[found.picture] & (found.scores >= confidence[found.cls])) / empty.sum())


def _steps(matches: Matches) -> Iterator[tuple[NDArray[np.float64], NDArray[np.int64], int]]:
    """For each class its different scores, falling; the hits and the counted detections of at least that score, int64
    [m, 2]; and its objects that are asked for."""
    for rows, objects in zip(matches.ranked, matches.asked_for(), strict=True):
        rows = rows[matches.outcome[rows] != IGNORED]
        scores = matches.found.scores[rows]
        last = np.flatnonzero(np.diff(scores, append=-np.inf))  # of equal scores
        hits = np.cumsum(matches.outcome[rows] == HIT)
        yield scores[last], np.stack([hits[last], last + 1], axis=1), int(objects)


def _places(each: Objects | Found, num_classes: int) -> NDArray[np.int64]:
    """A number for (picture, class)."""
    return each.picture * num_classes + each.cls


def _per_class(classes: NDArray[np.int64], num_classes: int) -> NDArray[np.int64]:
    return np.bincount(classes, minlength=num_classes).astype(np.int64)


def _ranked(found: Found, num_classes: int) -> tuple[NDArray[np.int64], ...]:
    rows = np.lexsort((-found.picture, -found.scores, found.cls))
    return tuple(np.split(rows, np.searchsorted(found.cls[rows], np.arange(1, num_classes))))


def _nearest(objects: Objects, found: Found, num_classes: int) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """The object of its picture and class that each detection overlaps most, among equals the first.

    Returns:
        float64 [D] overlaps (0 without such an object), int64 [D] rows of ``objects`` (-1 without).
    """
    places, wanted = _places(objects, num_classes), _places(found, num_classes)
    order = np.argsort(places, kind="stable")
    start = np.searchsorted(places[order], wanted, side="left")
    count = np.searchsorted(places[order], wanted, side="right") - start
    overlap, nearest = np.zeros(len(wanted)), np.full(len(wanted), -1, np.int64)
    for rows in _blocks(count):
        n = count[rows]
        begin = np.cumsum(n) - n  # of each detection's pairs
        which = np.repeat(np.arange(len(rows)), n)
        candidates = order[np.repeat(start[rows] - begin, n) + np.arange(len(which))]
        pairs = overlaps(found.boxes[rows[which]], objects.boxes[candidates])
        overlap[rows] = np.maximum.reduceat(pairs, begin)
        best = np.flatnonzero(pairs == overlap[rows[which]])
        first = best[np.diff(which[best], prepend=-1) > 0]
        nearest[rows] = candidates[first]
    return overlap, nearest


def _blocks(count: NDArray[np.int64]) -> Iterator[NDArray[np.int64]]:
    """The rows with a count above 0, in parts of a bounded sum of counts."""
    rows = np.flatnonzero(count)
    total = np.cumsum(count[rows])
    cuts = np.searchsorted(total, np.arange(_PAIRS, total.max(initial=0), _PAIRS))
    yield from (part for part in np.split(rows, cuts) if len(part))


def _between(kept: float, dropped: float) -> float:
    """A float32 above ``dropped`` and at most ``kept``, halfway where there is room."""
    middle = float(np.float32((kept + dropped) / 2))
    return middle if dropped < middle <= kept else float(kept)


def _share(part: NDArray[np.int64], whole: NDArray[np.int64]) -> NDArray[np.float64]:
    return _divided(part.astype(np.float64), whole.astype(np.float64), np.nan, whole > 0)


def _divided(
    part: NDArray[np.float64], whole: NDArray[np.float64], otherwise: float, where: NDArray[np.bool_]
) -> NDArray[np.float64]:
    shares = np.full(len(whole), otherwise)
    np.divide(part, whole, out=shares, where=where)
    return shares
