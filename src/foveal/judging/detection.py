"""Boxes found + boxes that are there -> what a detector is worth."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from foveal.errors import UserError
from foveal.metrics.coco import available, coco_by_class, coco_figures
from foveal.metrics.detection import (
    ApForm,
    ClassCounts,
    Curve,
    Found,
    Objects,
    average_precisions,
    best_confidences,
    counts_at,
    curves,
    false_alarms,
    match,
    mean_over_seen,
)
from foveal.records import Boxes, Detections

DEFAULT_CONFIDENCE = 0.5  # of a class for which the data gives none
CURVE_POINTS = 50  # of a class's precision over recall
CURVE_CLASSES = 200  # with more classes ``to_dict`` leaves the curves out


@dataclass(frozen=True)
class DetectionJudgement:
    """How well a detector did. What is undefined is NaN here, None in ``to_dict`` and left out of ``figures``.

    Attributes:
        count: pictures judged, at least 1. empty: those without any object.
        class_names: in order of the class index; C of them.
        overlap_threshold: intersection over union that a hit exceeds. ap_form: of ``mean_ap``.
        mean_ap: the original's mAP. NaN without any object or detection that it counts.
        mean_ap_other: the same in the other form.
        mean_ap_all_pictures: ``mean_ap`` with detections in pictures without objects counted as false.
        average_precision: float64 [C], NaN for a class never seen; ``mean_ap`` is their mean.
        best_confidence: float64 [C], of highest F1 on these pictures; NaN where they give none.
        confidence: float64 [C], at which ``classes`` and ``false_alarms_per_empty_picture`` are counted.
        classes: found, missed and false of each class, in all pictures.
        false_alarms_per_empty_picture: mean number of detections in pictures without objects; NaN without such.
        curves: precision over recall of each class.
        coco: float64 [C, 12], COCO's figures of each class, see ``foveal.metrics.coco``; None when not counted.
    """

    count: int
    empty: int
    class_names: tuple[str, ...]
    overlap_threshold: float
    ap_form: ApForm
    mean_ap: float
    mean_ap_other: float
    mean_ap_all_pictures: float
    average_precision: NDArray[np.float64]
    best_confidence: NDArray[np.float64]
    confidence: NDArray[np.float64]
    classes: ClassCounts
    false_alarms_per_empty_picture: float
    curves: tuple[Curve, ...]
    coco: NDArray[np.float64] | None

    @property
    def objective(self) -> float:
        """The number by which detectors are compared: ``mean_ap``, 0 where it is undefined."""
        return 0.0 if math.isnan(self.mean_ap) else self.mean_ap

    @property
    def thresholds(self) -> dict[str, float]:
        """Class name -> confidence of highest F1; 0.5 for a class without objects or of which none was found."""
        given = np.where(np.isnan(self.best_confidence), DEFAULT_CONFIDENCE, self.best_confidence)
        return dict(zip(self.class_names, given.tolist(), strict=True))

    def to_dict(self) -> dict[str, Any]:
        """All of it as plain numbers, texts, lists and dicts (JSON without NaN).

        ``precision_recall`` holds [confidence, precision, recall] of up to 50 points a class; None with more than 200
        classes.
        """
        small = len(self.class_names) <= CURVE_CLASSES
        return {
            "count": self.count,
            "empty_pictures": self.empty,
            "overlap_threshold": self.overlap_threshold,
            "ap_form": self.ap_form,
            **{name: _plain(value) for name, value in _named(self).items()},
            "thresholds": self.thresholds,
            "per_class": _class_rows(self),
            "precision_recall": _curve_rows(self) if small else None,
        }


def judge_detection(
    truths: Sequence[Boxes],
    found: Sequence[Detections],
    class_names: Sequence[str],
    overlap_threshold: float = 0.5,
    ap_form: ApForm = "area",
    coco: bool | None = None,
    confidence: float | Mapping[str, float] | None = None,
) -> DetectionJudgement:
    """Judge detections by the objects that are there.

    Overlaps are those of fractions of the picture, in float64 from float32. Objects that are difficult or a crowd are
    to be ignored (see ``foveal.metrics.detection``); for COCO's figures both are crowds.

    Args:
        truths: of each picture, in pixels of the upright picture, with its size.
        found: of each picture, by falling score.
        class_names: C names in order of the class index.
        overlap_threshold: intersection over union that a hit exceeds, in (0, 1].
        ap_form: form of the mAP: area under precision over recall, or VOC 2007's 11 points.
        coco: count COCO's figures; None does when faster-coco-eval is installed.
        confidence: lowest score that counts for precision, recall and false alarms, for all classes or by name (0.5
            for names left out). None takes each class's best on these very pictures.

    Raises:
        UserError: no picture, a class outside 0..C-1, a detection that is not finite, or ``coco`` without its package.
    """
    assert len(truths) == len(found), (len(truths), len(found))
    names = tuple(class_names)
    _check(truths, found, len(names))
    objects, detected = all_objects(truths), all_found(found)
    matches = match(objects, detected, overlap_threshold, len(names))
    precisions = average_precisions(matches, ap_form)
    in_other_form = average_precisions(matches, "11-point" if ap_form == "area" else "area")
    in_all = average_precisions(matches, ap_form, empty_pictures=True)
    best = best_confidences(matches)
    chosen = _confidences(confidence, best, names)
    return DetectionJudgement(
        count=len(truths),
        empty=sum(not len(each.cls) for each in truths),
        class_names=names,
        overlap_threshold=overlap_threshold,
        ap_form=ap_form,
        mean_ap=mean_over_seen(precisions),
        mean_ap_other=mean_over_seen(in_other_form),
        mean_ap_all_pictures=mean_over_seen(in_all),
        average_precision=precisions,
        best_confidence=best,
        confidence=chosen,
        classes=counts_at(matches, chosen),
        false_alarms_per_empty_picture=false_alarms(matches, chosen, len(truths)),
        curves=curves(matches, CURVE_POINTS),
        coco=_coco(truths, found, len(names)) if coco or (coco is None and available()) else None,
    )


def detection_figures(judgement: DetectionJudgement) -> dict[str, float]:
    """The single numbers that are defined, by name: ``mAP``, ``recall``, ``false_alarms_per_empty_picture``, ..."""
    return {name: value for name, value in _named(judgement).items() if not math.isnan(value)}


def _named(judgement: DetectionJudgement) -> dict[str, float]:
    classes = judgement.classes
    right, there, false = (int(column.sum()) for column in (classes.found, classes.objects, classes.false))
    return {
        "mAP": judgement.mean_ap,
        "mAP_11_point" if judgement.ap_form == "area" else "mAP_area": judgement.mean_ap_other,
        "mAP_all_pictures": judgement.mean_ap_all_pictures,
        "recall": right / there if there else math.nan,
        "precision": right / (right + false) if right + false else math.nan,
        "false_alarms_per_empty_picture": judgement.false_alarms_per_empty_picture,
        **({} if judgement.coco is None else coco_figures(judgement.coco)),
    }


def _confidences(
    given: float | Mapping[str, float] | None, best: NDArray[np.float64], names: tuple[str, ...]
) -> NDArray[np.float64]:
    if given is None:
        return np.where(np.isnan(best), DEFAULT_CONFIDENCE, best)
    if isinstance(given, Mapping):
        return np.array([given.get(name, DEFAULT_CONFIDENCE) for name in names], np.float64)
    return np.full(len(names), given, np.float64)


def _coco(truths: Sequence[Boxes], found: Sequence[Detections], num_classes: int) -> NDArray[np.float64]:
    in_pixels = all_found(found, [truth.size for truth in truths])
    return coco_by_class(all_objects(truths, pixels=True), in_pixels, num_classes)


def all_objects(truths: Sequence[Boxes], pixels: bool = False) -> Objects:
    """All objects, boxes as fractions or in pixels."""
    assert all(each.unit == "pixel" and each.of == "upright" and each.size for each in truths)
    counts = [len(each.cls) for each in truths]
    boxes = np.concatenate([each.values for each in truths]).reshape(-1, 4)
    if not pixels:
        boxes = boxes / np.repeat(_sides([each.size for each in truths]), counts, axis=0)
    return Objects(
        picture=np.repeat(np.arange(len(truths)), counts),
        cls=np.concatenate([each.cls for each in truths]),
        boxes=boxes.astype(np.float64),
        ignored=np.concatenate([each.difficult | each.crowd for each in truths]),
    )


def all_found(found: Sequence[Detections], sizes: Sequence[tuple[int, int] | None] | None = None) -> Found:
    """All detections, boxes as fractions, or in pixels of pictures of these ``sizes``."""
    counts = [len(each.cls) for each in found]
    boxes = np.concatenate([each.values for each in found]).reshape(-1, 4).astype(np.float64)
    if sizes is not None:
        boxes = boxes * np.repeat(_sides(sizes), counts, axis=0)
    return Found(
        picture=np.repeat(np.arange(len(found)), counts),
        cls=np.concatenate([each.cls for each in found]),
        boxes=boxes,
        scores=np.concatenate([each.scores for each in found]).astype(np.float64),
    )


def _sides(sizes: Sequence[tuple[int, int] | None]) -> NDArray[np.float32]:
    """[pictures, 4]: width, height, width, height."""
    return np.tile(np.array(sizes, np.float32).reshape(-1, 2), 2)


def _check(truths: Sequence[Boxes], found: Sequence[Detections], num_classes: int) -> None:
    if not truths:
        raise UserError("there is no picture to judge", "", "Give data with at least one readable, labelled picture.")
    for number, (truth, each) in enumerate(zip(truths, found, strict=True)):
        outside = truth.cls[(truth.cls < 0) | (truth.cls >= num_classes)]
        if len(outside):
            raise UserError(
                f"class id {outside[0]} is outside 0..{num_classes - 1} (picture {number} of {len(truths)})",
                "",
                "Judge with data of the classes that the model was trained on; ids count from 0.",
            )
        assert not len(each.cls) or (each.cls.min() >= 0 and each.cls.max() < num_classes), number
        broken = ~(np.isfinite(each.scores) & np.isfinite(each.values).all(axis=1))
        if broken.any():
            row = int(np.argmax(broken))
            raise UserError(
                f"the network answers score {each.scores[row]} and box {each.values[row].tolist()}"
                f" (picture {number} of {len(truths)})",
                "",
                "Its weights are broken, as after training with too high a learning_rate: train anew with a lower one.",
            )


def _plain(value: float) -> float | None:
    return None if math.isnan(value) else float(value)


def _class_rows(judgement: DetectionJudgement) -> list[dict[str, Any]]:
    classes = judgement.classes
    columns = {
        "average_precision": judgement.average_precision,
        "recall": classes.recall,
        "precision": classes.precision,
        "f1": classes.f1,
        "confidence": judgement.confidence,
        "best_confidence": judgement.best_confidence,
        **({} if judgement.coco is None else {"average_precision_50_95": judgement.coco[:, 0]}),
    }
    return [
        {
            "class": name,
            "objects": int(classes.objects[row]),
            "found": int(classes.found[row]),
            "missed": int(classes.objects[row] - classes.found[row]),
            "false": int(classes.false[row]),
            **{key: _plain(column[row]) for key, column in columns.items()},
        }
        for row, name in enumerate(judgement.class_names)
    ]


def _curve_rows(judgement: DetectionJudgement) -> list[dict[str, Any]]:
    return [
        {
            "class": name,
            "points": np.stack([curve.confidence, curve.precision, curve.recall], axis=1).tolist(),
        }
        for name, curve in zip(judgement.class_names, judgement.curves, strict=True)
    ]
