"""The page of a comparison: figures with intervals, and the pictures on which the models disagree."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray

from foveal.algorithms.classification import probabilities
from foveal.comparison import Comparison
from foveal.metrics.paired import Difference
from foveal.pages.album import Album
from foveal.pages.boxes import Outcome, outcome_of
from foveal.pages.parts import CLASSES, MEANINGS, single_groups, told
from foveal.predictor import UNKNOWN_THRESHOLD, DetectionPredictor, Predictor
from foveal.records import Detections
from foveal.report.charts import differences_chart
from foveal.report.page import Drawing, Page, Section, Shown, Table

PICTURES = 18  # of a kind of disagreement
PAIRS = 18  # pictures with boxes, once for each model
CHARTED = 30  # classes in the chart of differences


def page_of(
    found: Comparison,
    first: Predictor | DetectionPredictor,
    second: Predictor | DetectionPredictor,
    about: tuple[str, str],
    data: str,
) -> Page:
    """What two models are worth beside each other.

    Args:
        about: where the models lie. data: where the pictures lie.
    """
    album = Album(found.pictures)
    if found.kind == "boxes":
        assert isinstance(first, DetectionPredictor) and isinstance(second, DetectionPredictor)
        disagreements: tuple[Section, ...] = (_boxes(found, first, second, album),)
    else:
        assert isinstance(first, Predictor) and isinstance(second, Predictor)
        of = _single if found.kind == "one label" else _several
        disagreements = of(found, first, second, album)
    facts = (
        f"A: {about[0]} ({first.network.spec.label})",
        f"B: {about[1]} ({second.network.spec.label})",
        f"{found.count:,} pictures of {data} ({found.split})",
        *found.said,
    )
    return Page("Comparison of A and B", facts, (_figures(found), _classes(found), *disagreements))


def figures_table(figures: Mapping[str, Difference], heading: str, meanings: bool = False) -> Table:
    """A, B, the difference and its interval, a row each."""
    rows: list[tuple[str | int | float, ...]] = []
    for name, each in figures.items():
        interval = "-" if np.isnan(each.low) else f"{each.low:+.4f} to {each.high:+.4f}"
        difference = "-" if np.isnan(each.difference) else f"{each.difference:+.4f}"
        cells = (name, told(each.first, 4), told(each.second, 4), difference, interval)
        rows.append((*cells, MEANINGS.get(name, "")) if meanings else cells)
    head = (heading, "A", "B", "B - A", "95 % interval", *(("meaning",) if meanings else ()))
    return Table(head, tuple(rows), prose=meanings)


def _figures(found: Comparison) -> Section:
    text = (
        f"{found.verdict[0].upper()}{found.verdict[1:]}. Intervals are of {found.resamples:,} resamples of the"
        " pictures, the same for both models; one that holds 0 may be chance."
    )
    if found.p_value is not None:
        text += (
            f" Only A has {found.only_a:,} pictures right, only B {found.only_b:,}: McNemar's exact test gives"
            f" p = {found.p_value:.3g}."
        )
    return Section("Figures", text, tables=(figures_table(found.figures, "figure", meanings=True),))


def _classes(found: Comparison) -> Section:
    figure = "recall" if found.kind == "one label" else "average precision"
    seen = {name: each for name, each in found.per_class.items() if not np.isnan(each.difference)}
    apart = sorted(seen, key=lambda name: -abs(seen[name].difference))
    charted = {name: seen[name] for name in apart[:CHARTED]}
    chart = differences_chart(
        list(charted),
        [each.difference for each in charted.values()],
        [each.low for each in charted.values()],
        [each.high for each in charted.values()],
        f"{figure}: points that B has more",
    )
    shown = {name: found.per_class[name] for name in [*apart, *(n for n in found.per_class if n not in seen)][:CLASSES]}
    text = f"By {figure}, the largest difference first."
    return Section(
        "Classes", text, tables=(figures_table(shown, "class"),), charts=(Drawing(chart),) if charted else ()
    )


def _single(found: Comparison, first: Predictor, second: Predictor, album: Album) -> tuple[Section, ...]:
    given = [_given(first, found.answers_a.logits), _given(second, found.answers_b.logits)]
    labels, names = found.answers_a.labels, found.class_names
    predicted = [each.argmax(axis=1) for each in given]
    sure = [each.max(axis=1) for each in given]
    right = [each == labels for each in predicted]

    def shown(rows: NDArray[np.int64]) -> list[Shown | None]:
        most = rows[np.argsort(-(sure[0] + sure[1])[rows], kind="stable")][:PICTURES]
        pictures = []
        for i in most.tolist():
            said = [f"{who}: {names[predicted[k][i]]} {sure[k][i]:.0%}" for k, who in enumerate("AB")]
            pictures.append(
                album.whole(int(found.answers_a.rows[i]), f"{', '.join(said)}, labelled {names[labels[i]]}")
            )
        return pictures

    kinds = {
        "Only A is right": right[0] & ~right[1],
        "Only B is right": right[1] & ~right[0],
        "Both are wrong, each in its own way": ~right[0] & ~right[1] & (predicted[0] != predicted[1]),
    }
    return tuple(_section(title, np.flatnonzero(which), shown) for title, which in kinds.items())


def _several(found: Comparison, first: Predictor, second: Predictor, album: Album) -> tuple[Section, ...]:
    order = [second.class_names.index(name) for name in found.class_names]
    given = [_given(first, found.answers_a.logits), _given(second, found.answers_b.logits)]
    there, names = found.answers_a.labels > 0, found.class_names
    told_by = [given[0] >= first.least(None), given[1] >= second.least(None)[order]]
    right = [(each == there).all(axis=1) for each in told_by]

    def listed(row: NDArray[np.bool_]) -> str:
        return ", ".join(names[c] for c in np.flatnonzero(row)) or "none"

    def shown(rows: NDArray[np.int64]) -> list[Shown | None]:
        apart = np.abs(given[0] - given[1]).max(axis=1)
        pictures = []
        for i in rows[np.argsort(-apart[rows], kind="stable")][:PICTURES].tolist():
            caption = f"A: {listed(told_by[0][i])}; B: {listed(told_by[1][i])}; labelled {listed(there[i])}"
            pictures.append(album.whole(int(found.answers_a.rows[i]), caption))
        return pictures

    kinds = {
        "Only A is all right": right[0] & ~right[1],
        "Only B is all right": right[1] & ~right[0],
        "Both are wrong, each in its own way": ~right[0] & ~right[1] & (told_by[0] != told_by[1]).any(axis=1),
    }
    return tuple(_section(title, np.flatnonzero(which), shown) for title, which in kinds.items())


def _section(title: str, rows: NDArray[np.int64], shown: Callable[[NDArray[np.int64]], list[Shown | None]]) -> Section:
    groups = single_groups(shown(rows))
    text = f"{len(groups)} of {len(rows):,} pictures, the most confident first." if len(rows) else "No picture."
    return Section(title, text, groups=groups)


def _boxes(found: Comparison, first: DetectionPredictor, second: DetectionPredictor, album: Album) -> Section:
    """Each picture twice, with the mistakes of either; those first where one makes the most more than the other."""
    names, threshold = found.class_names, float(first.artifact.settings["overlap_threshold"])
    sides = []
    for model, answers in ((first, found.answers_a), (second, found.answers_b)):
        confidence = np.array([model.thresholds.get(name, UNKNOWN_THRESHOLD) for name in names])
        sides.append((answers, confidence, outcome_of(answers, confidence, threshold)))
    mistakes = [_mistakes(outcome, found.count) for _, _, outcome in sides]
    apart = np.abs(mistakes[0].sum(axis=0) - mistakes[1].sum(axis=0))
    groups: list[tuple[Shown, ...]] = []
    for i in np.argsort(-apart, kind="stable")[:PAIRS].tolist():
        if not apart[i]:
            break
        pair = []
        for who, (answers, confidence, _), counts in zip("AB", sides, mistakes, strict=True):
            each = answers.found[i]
            kept = each.scores >= confidence[each.cls]
            drawn = Detections(each.values[kept], each.cls[kept], each.scores[kept], each.size)
            caption = f"{who}: {counts[0, i]} missed, {counts[1, i]} false"
            pair.append(album.boxed(int(answers.rows[i]), caption, names, drawn, answers.truths[i]))
        groups.append(tuple(each for each in pair if each is not None))
    text = (
        f"{len(groups)} of {int((apart > 0).sum()):,} pictures in which one makes more mistakes than the other, the"
        " largest difference first. Dashed boxes are as labelled."
    )
    return Section(
        "Where they disagree", text if groups else "Nowhere.", groups=tuple(filter(None, groups)), roomy=True
    )


def _mistakes(outcome: Outcome, count: int) -> NDArray[np.int64]:
    """Missed and false of each picture: int64 [2, count]."""
    missed = outcome.matches.objects.picture[outcome.missed]
    false = outcome.matches.found.picture[outcome.false]
    return np.stack([np.bincount(each, minlength=count) for each in (missed, false)])


def _given(model: Predictor, logits: NDArray[np.float32]) -> NDArray[np.float32]:
    return probabilities(logits, model.several, model.temperature)
