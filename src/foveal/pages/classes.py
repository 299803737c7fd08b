"""The page about a classifier, of one label a picture or of several."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from foveal.algorithms.classification import Answers, probabilities
from foveal.evaluation import Judged
from foveal.metrics.calibration import reliability_curve
from foveal.metrics.classification import confusion_cells, confusion_matrix, predictions
from foveal.pages.album import Album, picture_sizes
from foveal.pages.parts import (
    class_table,
    curves_section,
    figures_section,
    reliability_section,
    single_groups,
    sizes_chart,
)
from foveal.predictor import Predictor
from foveal.records import Source
from foveal.report.charts import MATRIX_CLASSES, PICTURE_CLASSES, Line, matrix_chart, matrix_picture
from foveal.report.page import Drawing, Section, Shown, Table, inside

MISTAKES = 24
POINTS = 100  # of a curve
ONE = {"precision": "precision", "recall": "recall", "f1": "F1", "support": "pictures"}
SEVERAL = {
    "average_precision": "AP",
    "threshold": "threshold",
    "precision": "precision",
    "recall": "recall",
    "f1": "F1",
    "support": "pictures",
    "predicted": "told",
}


def sections_of(judged: Judged, model: Predictor) -> tuple[Section, ...]:
    """What a classifier is worth, class by class, and where it fails."""
    answers = judged.answers
    assert isinstance(answers, Answers)
    given = probabilities(answers.logits, model.several, model.temperature)
    figures, album = figures_section(judged.verdict.figures), Album(judged.pictures)
    details = judged.verdict.details
    if model.several:
        least = model.least(None)
        return (figures, *_several(given, answers, least, model.class_names, details, album))
    return (figures, *_single(given, answers, model.class_names, details, album))


def _single(
    given: NDArray[np.float32], answers: Answers, names: tuple[str, ...], details: Mapping[str, Any], album: Album
) -> tuple[Section, ...]:
    predicted = predictions(given)
    right = predicted == answers.labels
    sure = given[np.arange(len(given)), predicted]
    table, more = class_table(details["per_class"], ONE, "f1")
    return (
        _confusion(predicted, answers.labels, names, details["mixed_up"]),
        Section("Classes", f"The worst by F1 first.{more}", tables=(table,)),
        reliability_section(
            reliability_curve(sure, right),
            "share that is right",
            "Points on the dashed line are answers that are as often right as they are sure; below it they are too"
            " sure. The bars tell what share of the answers is that sure.",
        ),
        _sizes(album.pictures, answers.rows, right),
        _mistakes(given, predicted, sure, answers, names, album),
    )


def _confusion(
    predicted: NDArray[np.int64], labels: NDArray[np.int64], names: tuple[str, ...], mixed_up: list[dict[str, Any]]
) -> Section:
    """The matrix as far as it can be read, and the pairs that are mixed up most."""
    cells = confusion_cells(predicted, labels, len(names))
    charts: tuple[Drawing, ...] = ()
    wide = None
    text = "A row is a label, a column what was answered; the darker, the larger the share of its row."
    if len(names) <= MATRIX_CLASSES:
        charts = (Drawing(matrix_chart(confusion_matrix(cells, len(names)), names), large=True),)
    elif len(names) <= PICTURE_CLASSES:
        picture = matrix_picture(confusion_matrix(cells, len(names)))
        wide = Shown(inside(picture, lossless=True), f"confusion matrix of {len(names)} classes")
        text += " Blue is right, red is wrong; the classes are in the order of their numbers, from the upper left."
    else:
        text = f"The matrix of {len(names):,} classes is too large to be looked at."
    pairs = tuple((each["label"], each["predicted"], each["count"]) for each in mixed_up)
    tables = (Table(("label", "taken for", "times"), pairs),) if pairs else ()
    text += " The table has the pairs that are mixed up most." if pairs else " Nothing was mixed up."
    return Section("What is taken for what", text, charts=charts, wide=wide, tables=tables)


def _sizes(pictures: Source, rows: NDArray[np.int64], right: NDArray[np.bool_]) -> Section:
    places, sizes = picture_sizes(pictures, rows)
    shorter = sizes.min(axis=1)
    chart = sizes_chart(shorter, right[places], "shorter side, pixels", "share that is right")
    title = "Sizes of pictures"
    if chart is None:
        least, most = (int(shorter.min()), int(shorter.max())) if len(shorter) else (0, 0)
        text = f"{least}" if least == most else f"{least} to {most}"
        return Section(title, f"All pictures are about as large: their shorter sides have {text} pixels.")
    return Section(title, "How often answers are right, by the picture's size.", charts=(Drawing(chart),))


def _mistakes(
    given: NDArray[np.float32],
    predicted: NDArray[np.int64],
    sure: NDArray[np.float32],
    answers: Answers,
    names: tuple[str, ...],
    album: Album,
) -> Section:
    wrong = np.flatnonzero(predicted != answers.labels)
    worst = wrong[np.argsort(-sure[wrong], kind="stable")][:MISTAKES]
    shown = []
    for i in worst.tolist():
        label = int(answers.labels[i])
        caption = f"{names[predicted[i]]} {sure[i]:.1%}, labelled {names[label]} ({given[i, label]:.1%})"
        shown.append(album.whole(int(answers.rows[i]), caption))
    groups = single_groups(shown)
    text = "No answer is wrong." if not len(wrong) else (
        f"{len(groups)} of {len(wrong):,} wrong answers, the most confident first. Where the picture agrees with the"
        " answer, the label may be the mistake."
    )  # fmt: skip
    return Section("The worst mistakes", text, groups=groups)


def _several(
    given: NDArray[np.float32],
    answers: Answers,
    least: NDArray[np.float64],
    names: tuple[str, ...],
    details: Mapping[str, Any],
    album: Album,
) -> tuple[Section, ...]:
    there = answers.labels > 0
    table, more = class_table(details["per_class"], SEVERAL, "average_precision")
    told = given >= least
    lines = []
    for i, row in enumerate(details["per_class"]):
        precision = row["average_precision"]
        name = names[i] if precision is None else f"{names[i]} {precision:.2f}"
        lines.append(_curve(name, given[:, i], there[:, i]))
    return (
        curves_section(
            names, lines, there.sum(axis=0).tolist(), "Of each class, its average precision beside its name."
        ),
        Section("Classes", f"The worst by average precision first, counted at each class's threshold.{more}",
                tables=(table,)),
        reliability_section(
            reliability_curve(given.reshape(-1), there.reshape(-1)),
            "share that is there",
            "Of all decisions, one a class and picture: points on the dashed line are classes that are there as often"
            " as the model says.",
        ),
        _sizes_of_several(album.pictures, answers.rows, told, there),
        _mistakes_of_several(given, told, there, answers, names, album),
    )  # fmt: skip


def _curve(name: str, scores: NDArray[np.float32], there: NDArray[np.bool_]) -> Line:
    """Precision over recall of a class, of at most ``POINTS`` points."""
    if not there.any():
        return Line(name, (), ())
    order = np.argsort(-scores, kind="stable")
    hits = np.cumsum(there[order])
    last = np.flatnonzero(np.diff(scores[order], append=-np.inf))  # of equal scores
    last = last[np.diff(hits[last], prepend=0) > 0]
    last = last[np.unique(np.linspace(0, len(last) - 1, min(POINTS, len(last))).astype(np.int64))]
    return Line(name, (hits[last] / hits[-1]).tolist(), (hits[last] / (last + 1)).tolist())


def _sizes_of_several(
    pictures: Source, rows: NDArray[np.int64], told: NDArray[np.bool_], there: NDArray[np.bool_]
) -> Section:
    return _sizes(pictures, rows, (told == there).all(axis=1))


def _mistakes_of_several(
    given: NDArray[np.float32],
    told: NDArray[np.bool_],
    there: NDArray[np.bool_],
    answers: Answers,
    names: tuple[str, ...],
    album: Album,
) -> Section:
    """Pictures with the surest wrong decision each."""
    wrong = told != there
    surprise = np.where(wrong, np.where(told, given, 1 - given), 0.0)
    rows = np.flatnonzero(wrong.any(axis=1))
    worst = rows[np.argsort(-surprise[rows].max(axis=1), kind="stable")][:MISTAKES]
    shown = []
    for i in worst.tolist():
        false = [f"{names[c]} {given[i, c]:.0%}" for c in np.flatnonzero(told[i] & ~there[i])]
        missed = [f"{names[c]} {given[i, c]:.0%}" for c in np.flatnonzero(~told[i] & there[i])]
        parts = [f"{word} {', '.join(each)}" for word, each in (("wrongly told", false), ("missed", missed)) if each]
        shown.append(album.whole(int(answers.rows[i]), "; ".join(parts)))
    groups = single_groups(shown)
    text = f"{len(groups)} of {len(rows):,} pictures with a wrong class, the most confident mistakes first."
    return Section("The worst mistakes", text if len(rows) else "No class of any picture is wrong.", groups=groups)
