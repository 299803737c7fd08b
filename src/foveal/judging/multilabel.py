"""Probabilities of classes that do not exclude each other + labels -> what they are worth."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from foveal.errors import UserError
from foveal.judging.classification import check_finite, reliability_rows
from foveal.metrics.calibration import ReliabilityCurve, calibration_error, reliability_curve
from foveal.metrics.classification import ClassScores, macro_f1
from foveal.metrics.multilabel import (
    HALF,
    all_right,
    average_precisions,
    best_thresholds,
    decision_accuracy,
    decision_log_loss,
    micro_f1,
    told_scores,
)


@dataclass(frozen=True)
class MultiLabelJudgement:
    """How well a classifier of any number of labels a picture did. What is undefined is NaN here, None in ``to_dict``.

    A decision is that of one class in one picture; n x C of them.

    Attributes:
        count: pictures judged, at least 1.
        class_names: in label order; C of them.
        accuracy: share of decisions that are right at 0.5, the original's.
        mean_ap: mean of ``average_precision`` over the classes that have some.
        average_precision: float64 [C], NaN for a class without a positive picture.
        thresholds: float64 [C], the probability from which each class is told; all below is counted at it.
        micro_f1, macro_f1, all_right: at ``thresholds``. micro_f1_at_half, macro_f1_at_half: the same at 0.5.
        log_loss: mean over decisions.
        calibration_error, reliability: of the probability of each decision, and how often the class is there.
        calibration_error_before: the same without the temperature; None where there is none.
        classes: precision, recall, F1 and support of each class.
    """

    count: int
    class_names: tuple[str, ...]
    accuracy: float
    mean_ap: float
    average_precision: NDArray[np.float64]
    thresholds: NDArray[np.float64]
    micro_f1: float
    macro_f1: float
    micro_f1_at_half: float
    macro_f1_at_half: float
    all_right: float
    log_loss: float
    calibration_error: float
    calibration_error_before: float | None
    classes: ClassScores
    reliability: ReliabilityCurve

    @property
    def named_thresholds(self) -> dict[str, float]:
        """Class name -> the probability from which it is told."""
        return dict(zip(self.class_names, self.thresholds.tolist(), strict=True))

    def to_dict(self) -> dict[str, Any]:
        """All of it as plain numbers, texts, lists and dicts (JSON without NaN)."""
        return {
            "count": self.count,
            "multi_label": True,
            **{name: None if math.isnan(value) else value for name, value in _named(self).items()},
            "thresholds": self.named_thresholds,
            "per_class": _class_rows(self),
            "reliability": reliability_rows(self.reliability),
        }


def judge_multi_label(
    probabilities: NDArray[np.float32],
    labels: NDArray[np.float32],
    class_names: Sequence[str],
    thresholds: Mapping[str, float] | None = None,
    before: NDArray[np.float32] | None = None,
) -> MultiLabelJudgement:
    """Judge answers for several labels a picture.

    Args:
        probabilities: float32 [n, C], 0..1; only read.
        labels: float32 [n, C], 1 for the classes that a picture has, else 0.
        class_names: C names in label order.
        thresholds: class name -> probability from which it is told (0.5 for names left out). None takes each class's
            best by F1 on these very pictures.
        before: float32 [n, C], the probabilities without a temperature, to compare.

    Raises:
        UserError: no picture, or a probability that is not finite.
    """
    names = tuple(class_names)
    assert probabilities.shape == labels.shape == (len(labels), len(names)), (probabilities.shape, labels.shape)
    if not len(labels):
        raise UserError("there is no picture to judge", "", "Give data with at least one readable, labelled picture.")
    check_finite(probabilities.max(axis=1))  # the largest is NaN where any is
    there = labels > 0
    chosen = best_thresholds(probabilities, there)
    if thresholds is not None:
        chosen = np.array([thresholds.get(name, HALF) for name in names], np.float64)
    told, at_half = probabilities >= chosen, probabilities >= HALF
    classes = told_scores(told, there)
    precisions = average_precisions(probabilities, there)
    curve = _curve(probabilities, there)
    return MultiLabelJudgement(
        count=len(labels),
        class_names=names,
        accuracy=decision_accuracy(at_half, there),
        mean_ap=float(np.nanmean(precisions)) if there.any() else math.nan,
        average_precision=precisions,
        thresholds=chosen,
        micro_f1=micro_f1(told, there),
        macro_f1=macro_f1(classes),
        micro_f1_at_half=micro_f1(at_half, there),
        macro_f1_at_half=macro_f1(told_scores(at_half, there)),
        all_right=all_right(told, there),
        log_loss=decision_log_loss(probabilities, there),
        calibration_error=calibration_error(curve),
        calibration_error_before=None if before is None else calibration_error(_curve(before, there)),
        classes=classes,
        reliability=curve,
    )


def multi_label_figures(judgement: MultiLabelJudgement) -> dict[str, float]:
    """The single numbers that are defined, by name: ``accuracy``, ``mAP``, ``micro_f1``, ..."""
    return {name: value for name, value in _named(judgement).items() if not math.isnan(value)}


def _named(judgement: MultiLabelJudgement) -> dict[str, float]:
    before = judgement.calibration_error_before
    return {
        "accuracy": judgement.accuracy,
        "mAP": judgement.mean_ap,
        "micro_f1": judgement.micro_f1,
        "macro_f1": judgement.macro_f1,
        "micro_f1_at_half": judgement.micro_f1_at_half,
        "macro_f1_at_half": judgement.macro_f1_at_half,
        "all_right": judgement.all_right,
        "log_loss": judgement.log_loss,
        "calibration_error": judgement.calibration_error,
        **({} if before is None else {"calibration_error_before": before}),
    }


def _curve(probabilities: NDArray[np.float32], there: NDArray[np.bool_]) -> ReliabilityCurve:
    return reliability_curve(probabilities.reshape(-1), there.reshape(-1))


def _class_rows(judgement: MultiLabelJudgement) -> list[dict[str, Any]]:
    classes = judgement.classes
    columns = {
        "average_precision": judgement.average_precision,
        "threshold": judgement.thresholds,
        "precision": classes.precision,
        "recall": classes.recall,
        "f1": classes.f1,
    }
    return [
        {
            "class": name,
            **{key: None if math.isnan(column[row]) else float(column[row]) for key, column in columns.items()},
            "support": int(classes.support[row]),
            "predicted": int(classes.predicted[row]),
        }
        for row, name in enumerate(judgement.class_names)
    ]
