"""The page of an evaluation."""

from __future__ import annotations

from foveal.evaluation import Judged
from foveal.pages import boxes, classes
from foveal.predictor import DetectionPredictor, Predictor
from foveal.report.page import Page, Section

BAD = 50  # pictures that could not be judged, listed


def page_of(judged: Judged, model: Predictor | DetectionPredictor, about: str, data: str) -> Page:
    """What a model is worth on labelled pictures, and where it fails.

    Args:
        about: where the model lies. data: where the pictures lie.
    """
    if isinstance(model, DetectionPredictor):
        sections = boxes.sections_of(judged, model)
    else:
        sections = classes.sections_of(judged, model)
    bad = judged.verdict.bad
    if bad:
        lines = tuple(f"{each.where}: {each.reason}" for each in bad[:BAD])
        more = f" The first {BAD} are listed." if len(bad) > BAD else ""
        sections += (Section(f"{len(bad):,} pictures could not be judged", more.strip(), "warning", lines),)
    facts = (
        f"{model.network.spec.label}, {len(model.class_names):,} classes, epoch {model.artifact.epoch}",
        f"{judged.verdict.details['count']:,} pictures of {data} ({judged.split})",
        *judged.said,
    )
    return Page(f"Evaluation of {about}", facts, sections)
