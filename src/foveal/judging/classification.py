"""Class probabilities + labels -> what they are worth."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from foveal.errors import UserError
from foveal.metrics.calibration import ReliabilityCurve, calibration_error, reliability_curve
from foveal.metrics.classification import (
    ClassScores,
    accuracy,
    class_scores,
    confusion_cells,
    confusion_matrix,
    log_loss,
    macro_f1,
    predictions,
    top_k_accuracy,
)

MATRIX_CLASSES = 200  # with more classes ``to_dict`` leaves the whole confusion matrix out: it grows with C squared
MIXED_UP = 20  # pairs of classes listed as most often mixed up


@dataclass(frozen=True)
class ClassificationJudgement:
    """How well a single-label classifier did.

    Attributes:
        count: pictures judged, at least 1.
        class_names: in label order; C of them.
        accuracy, log_loss, calibration_error, macro_f1: see ``foveal.metrics``.
        top_k: the k asked for, and top_k_accuracy; both None when not asked for.
        classes: precision, recall, F1 and support of each class.
        calibration_error_before: the same without the temperature; None where there is none.
        confusion: int64 [m, 3], the cells of the confusion matrix that are not 0: (label, predicted, count).
        reliability: how often it was right, by how sure it was.
    """

    count: int
    class_names: tuple[str, ...]
    accuracy: float
    top_k: int | None
    top_k_accuracy: float | None
    log_loss: float
    calibration_error: float
    calibration_error_before: float | None
    macro_f1: float
    classes: ClassScores
    confusion: NDArray[np.int64]
    reliability: ReliabilityCurve

    def matrix(self) -> NDArray[np.int64]:
        """The confusion matrix, int64 [C, C]: row = label, column = predicted."""
        return confusion_matrix(self.confusion, len(self.class_names))

    def mixed_up(self) -> list[tuple[str, str, int]]:
        """The pairs most often mixed up: (name of the label, name predicted, count), most frequent first."""
        wrong = self.confusion[self.confusion[:, 0] != self.confusion[:, 1]]
        most = wrong[np.argsort(-wrong[:, 2], kind="stable")][:MIXED_UP]
        return [(self.class_names[label], self.class_names[given], int(count)) for label, given, count in most]

    def to_dict(self) -> dict[str, Any]:
        """All of it as plain numbers, texts, lists and dicts (JSON without NaN).

        ``confusion_matrix`` is None with more than 200 classes.
        """
        small = len(self.class_names) <= MATRIX_CLASSES
        return {
            "count": self.count,
            **classification_figures(self),
            "per_class": _class_rows(self.class_names, self.classes),
            "confusion_matrix": self.matrix().tolist() if small else None,
            "mixed_up": [
                {"label": label, "predicted": given, "count": count} for label, given, count in self.mixed_up()
            ],
            "reliability": reliability_rows(self.reliability),
        }


def judge_classification(
    probabilities: NDArray[np.float32],
    labels: NDArray[np.int64],
    class_names: Sequence[str],
    top_k: int | None = None,
    before: NDArray[np.float32] | None = None,
) -> ClassificationJudgement:
    """Judge single-label predictions.

    Args:
        probabilities: float32 [n, C], rows sum to 1; only read.
        labels: int64 [n], 0..C-1.
        class_names: C names in label order.
        top_k: also find the share of labels among the k most probable classes.
        before: float32 [n, C], the probabilities without a temperature, to compare.

    Raises:
        UserError: no picture, a label outside 0..C-1, or a probability that is not finite.
    """
    num_classes = len(class_names)
    assert probabilities.shape == (len(labels), num_classes), (probabilities.shape, labels.shape, num_classes)
    _check(labels, num_classes)
    predicted = predictions(probabilities)
    check_finite(probabilities[np.arange(len(labels)), predicted])  # argmax takes the first NaN of a row
    classes = class_scores(predicted, labels, num_classes)
    curve = _curve(probabilities, labels)
    return ClassificationJudgement(
        count=len(labels),
        class_names=tuple(class_names),
        accuracy=accuracy(predicted, labels),
        top_k=top_k,
        top_k_accuracy=None if top_k is None else top_k_accuracy(probabilities, labels, top_k),
        log_loss=log_loss(probabilities, labels),
        calibration_error=calibration_error(curve),
        calibration_error_before=None if before is None else calibration_error(_curve(before, labels)),
        macro_f1=macro_f1(classes),
        classes=classes,
        confusion=confusion_cells(predicted, labels, num_classes),
        reliability=curve,
    )


def classification_figures(judgement: ClassificationJudgement) -> dict[str, float]:
    """The single numbers by name: ``accuracy``, ``top_k_accuracy_5``, ..."""
    found = {"accuracy": judgement.accuracy}
    if judgement.top_k_accuracy is not None:
        found[f"top_k_accuracy_{judgement.top_k}"] = judgement.top_k_accuracy
    found["macro_f1"] = judgement.macro_f1
    found["log_loss"] = judgement.log_loss
    found["calibration_error"] = judgement.calibration_error
    if judgement.calibration_error_before is not None:
        found["calibration_error_before"] = judgement.calibration_error_before
    return found


def _curve(probabilities: NDArray[np.float32], labels: NDArray[np.int64]) -> ReliabilityCurve:
    predicted = predictions(probabilities)
    return reliability_curve(probabilities[np.arange(len(labels)), predicted], predicted == labels)


def _check(labels: NDArray[np.int64], num_classes: int) -> None:
    if not len(labels):
        raise UserError("there is no picture to judge", "", "Give data with at least one readable, labelled picture.")
    outside = np.flatnonzero((labels < 0) | (labels >= num_classes))
    if len(outside):
        raise UserError(
            f"class id {labels[outside[0]]} is outside 0..{num_classes - 1} (picture {outside[0]} of {len(labels)},"
            f" {len(outside)} such in all)",
            "",
            "Judge with data of the classes that the model was trained on; ids count from 0.",
        )


def check_finite(confidence: NDArray[np.float32]) -> None:
    """Raises UserError where the highest probability of a picture (float32 [n]) is not finite: NaN is the highest."""
    broken = np.flatnonzero(~np.isfinite(confidence))
    if len(broken):
        raise UserError(
            f"the network answers {confidence[broken[0]]} instead of a probability"
            f" (picture {broken[0]} of {len(confidence)}, {len(broken)} such in all)",
            "",
            "Its weights are broken, as after training with too high a learning_rate: train anew with a lower one.",
        )


def _class_rows(names: Sequence[str], classes: ClassScores) -> list[dict[str, Any]]:
    columns = (classes.precision, classes.recall, classes.f1, classes.support)
    return [
        {"class": name, "precision": precision, "recall": recall, "f1": f1, "support": support}
        for name, precision, recall, f1, support in zip(names, *(column.tolist() for column in columns), strict=True)
    ]


def reliability_rows(curve: ReliabilityCurve) -> list[dict[str, Any]]:
    """The curve as rows: filled bins only, as an empty one has no mean."""
    columns = (curve.upper, curve.confidence, curve.accuracy, curve.count)
    return [
        {"up_to": upper, "confidence": confidence, "accuracy": right, "count": count}
        for upper, confidence, right, count in zip(*(column.tolist() for column in columns), strict=True)
        if count
    ]
