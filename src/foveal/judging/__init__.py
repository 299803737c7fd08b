"""Predictions + labels -> what they are worth. Training, ``evaluate`` and tuning all judge here."""

from __future__ import annotations

from foveal.judging.classification import ClassificationJudgement, classification_figures, judge_classification
from foveal.judging.detection import DetectionJudgement, detection_figures, judge_detection
from foveal.judging.multilabel import MultiLabelJudgement, judge_multi_label, multi_label_figures
from foveal.metrics.coco import LEFT_OUT as COCO_LEFT_OUT
from foveal.metrics.coco import available as coco_available

__all__ = [
    "COCO_LEFT_OUT",
    "ClassificationJudgement",
    "DetectionJudgement",
    "MultiLabelJudgement",
    "coco_available",
    "figures",
    "judge_classification",
    "judge_detection",
    "judge_multi_label",
]


def figures(
    judgement: ClassificationJudgement | MultiLabelJudgement | DetectionJudgement, prefix: str = ""
) -> dict[str, float]:
    """The single numbers by name, such as ``accuracy`` or ``mAP``; with a prefix ``validation:accuracy``.

    Figures that are undefined, as a mAP without any object, are left out.
    """
    if isinstance(judgement, DetectionJudgement):
        found = detection_figures(judgement)
    elif isinstance(judgement, MultiLabelJudgement):
        found = multi_label_figures(judgement)
    else:
        found = classification_figures(judgement)
    return {f"{prefix}:{name}" if prefix else name: value for name, value in found.items()}
