"""The page about a detector."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from foveal.algorithms.detection import Answers
from foveal.evaluation import Judged
from foveal.judging.detection import all_found, all_objects
from foveal.metrics.detection import FALSE, HIT, Matches, match, overlaps
from foveal.pages.album import Album
from foveal.pages.parts import class_table, curves_section, figures_section, single_groups, sizes_chart
from foveal.predictor import DetectionPredictor
from foveal.records import Boxes, Detections
from foveal.report.charts import Line
from foveal.report.page import Drawing, Section, Shown, Table

PICTURES = 18  # of misses, and of false alarms
OF_ONE = 2  # false alarms of one picture
NEAR = 0.1  # overlap from which a false box is a badly placed one
COLUMNS = {
    "average_precision": "AP",
    "recall": "recall",
    "precision": "precision",
    "f1": "F1",
    "confidence": "confidence",
    "objects": "objects",
    "missed": "missed",
    "false": "false",
}
KINDS = {
    "twice": "a second box of an object that is found already",
    "class": "an object of another class",
    "placed": "an object of the class, but badly placed",
    "nothing": "nothing is there",
}


@dataclass(frozen=True)
class Outcome:
    """What became of objects and boxes at some confidence.

    Attributes:
        matches: all boxes held against all objects.
        missed: int64 [m], rows of its objects. false: int64 [f], rows of its boxes, the most confident first.
        asked: bool [T], objects that are asked for.
    """

    matches: Matches
    missed: NDArray[np.int64]
    false: NDArray[np.int64]
    asked: NDArray[np.bool_]


def outcome_of(answers: Answers, confidence: NDArray[np.float64], overlap_threshold: float) -> Outcome:
    """Match what was found with what is there; boxes below ``confidence`` (float64 [C]) don't count."""
    matches = match(all_objects(answers.truths), all_found(answers.found), overlap_threshold, len(confidence))
    kept = matches.found.scores >= confidence[matches.found.cls]
    asked = ~matches.objects.ignored
    missed = asked.copy()
    missed[matches.belongs[kept & (matches.outcome == HIT)]] = False
    false = np.flatnonzero(kept & (matches.outcome == FALSE))
    false = false[np.argsort(-matches.found.scores[false], kind="stable")]
    return Outcome(matches, np.flatnonzero(missed), false, asked)


def sections_of(judged: Judged, model: DetectionPredictor) -> tuple[Section, ...]:
    """What a detector is worth, class by class, and where it fails."""
    answers, details, names = judged.answers, judged.verdict.details, model.class_names
    assert isinstance(answers, Answers)
    confidence = np.array([row["confidence"] for row in details["per_class"]], np.float64)
    outcome = outcome_of(answers, confidence, details["overlap_threshold"])
    table, more = class_table(details["per_class"], COLUMNS, "average_precision")
    album = Album(judged.pictures)
    at = "at the confidence that training chose for each class"
    curves = () if details["precision_recall"] is None else (_curves(details),)
    return (
        figures_section(judged.verdict.figures),
        *curves,
        Section("Classes", f"The worst by average precision first; recall and what follows {at}.{more}",
                tables=(table,)),
        _sizes(outcome, answers),
        _misses(outcome, answers, names, album),
        _false_alarms(outcome, answers, names, album),
    )  # fmt: skip


def _curves(details: Mapping[str, Any]) -> Section:
    rows, lines = details["precision_recall"], []
    for curve, row in zip(rows, details["per_class"], strict=True):
        precision, points = row["average_precision"], curve["points"]
        name = curve["class"] if precision is None else f"{curve['class']} {precision:.2f}"
        lines.append(Line(name, [recall for _, _, recall in points], [right for _, right, _ in points]))
    objects = [row["objects"] for row in details["per_class"]]
    text = f"Of each class, its average precision beside its name; overlap above {details['overlap_threshold']:g}."
    return curves_section([curve["class"] for curve in rows], lines, objects, text)


def _sizes(outcome: Outcome, answers: Answers) -> Section:
    boxes = all_objects(answers.truths, pixels=True).boxes
    sides = np.sqrt((boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1]))
    found = np.ones(len(sides), bool)
    found[outcome.missed] = False
    asked = outcome.asked
    chart = sizes_chart(sides[asked], found[asked], "side of the object, pixels", "share that is found")
    if chart is None:
        return Section("Sizes of objects", "All objects are about as large.")
    text = "A side is the square root of width times height, in pixels of the picture."
    return Section("Sizes of objects", text, charts=(Drawing(chart),))


def _misses(outcome: Outcome, answers: Answers, names: tuple[str, ...], album: Album) -> Section:
    objects = outcome.matches.objects
    title = "What is missed"
    if not len(outcome.missed):
        return Section(title, "No object is missed.")
    per_picture = np.bincount(objects.picture[outcome.missed], minlength=len(answers.truths))
    there = np.bincount(objects.picture[outcome.asked], minlength=len(answers.truths))
    first = np.searchsorted(objects.picture, np.arange(len(answers.truths)))
    shown = []
    for number in np.argsort(-per_picture, kind="stable")[:PICTURES].tolist():
        if not per_picture[number]:
            break
        rows = outcome.missed[objects.picture[outcome.missed] == number] - first[number]
        missed = only(answers.truths[number], rows)
        kinds = Counter(names[cls] for cls in missed.cls.tolist()).most_common()
        caption = f"{per_picture[number]} of {there[number]} missed ({_listed(kinds)})"
        around = missed.values[0] if len(rows) == 1 else None
        shown.append(album.boxed(int(answers.rows[number]), caption, names, missed, around=around))
    groups = single_groups(shown)
    text = f"{len(outcome.missed):,} of {int(outcome.asked.sum()):,} objects; the pictures with the most first."
    return Section(title, f"{text} Drawn is what is missed.", groups=groups, roomy=True)


def _false_alarms(outcome: Outcome, answers: Answers, names: tuple[str, ...], album: Album) -> Section:
    title, false, found = "False alarms", outcome.false, outcome.matches.found
    if not len(false):
        return Section(title, "Nothing is found wrongly.")
    first = np.searchsorted(found.picture, np.arange(len(answers.found)))
    kinds = [_kind(outcome.matches, row) for row in false.tolist()]
    counts = Counter(kinds)
    taken: Counter[int] = Counter()
    shown: list[Shown | None] = []
    for row, kind in zip(false.tolist(), kinds, strict=True):
        number = int(found.picture[row])
        if len(shown) == PICTURES or taken[number] == OF_ONE:
            continue
        taken[number] += 1
        each, place = answers.found[number], row - int(first[number])
        one = slice(place, place + 1)
        alone = Detections(each.values[one], each.cls[one], each.scores[one], each.size)
        caption = f"{names[found.cls[row]]} {found.scores[row]:.0%}, {KINDS[kind]}"
        shown.append(
            album.boxed(
                int(answers.rows[number]), caption, names, alone, answers.truths[number], around=alone.pixels[0]
            )
        )
    table = Table(("what is really there", "times"), tuple((KINDS[kind], counts[kind]) for kind in KINDS))
    text = f"{len(false):,} boxes, the most confident first. Dashed boxes are as labelled; where one is missing at what"
    return Section(
        title,
        f"{text} was found, the label may be the mistake.",
        tables=(table,),
        groups=single_groups(shown),
        roomy=True,
    )


def _kind(matches: Matches, row: int) -> str:
    """What a false box is, by what lies below it."""
    objects, found = matches.objects, matches.found
    if matches.belongs[row] >= 0:
        return "twice"
    here = slice(*np.searchsorted(objects.picture, [found.picture[row], found.picture[row] + 1]))
    boxes = objects.boxes[here]
    overlap = overlaps(np.repeat(found.boxes[row][None], len(boxes), axis=0), boxes)
    mine = objects.cls[here] == found.cls[row]
    if (overlap[~mine] > 0.5).any():
        return "class"
    return "placed" if (overlap[mine] > NEAR).any() else "nothing"


def only(boxes: Boxes, rows: NDArray[np.int64]) -> Boxes:
    """Some of a picture's boxes."""
    return Boxes(
        boxes.values[rows], boxes.cls[rows], boxes.unit, boxes.of, boxes.difficult[rows], boxes.crowd[rows],
        boxes.extra[rows], boxes.size,
    )  # fmt: skip


def _listed(kinds: list[tuple[str, int]]) -> str:
    told = [f"{count} {name}" for name, count in kinds[:4]]
    return ", ".join(told) + (", ..." if len(kinds) > 4 else "")
