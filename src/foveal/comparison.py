"""Two finished models on the same labelled pictures: by how much they differ, whether that may be chance, and where."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from foveal.algorithms import classification, detection
from foveal.data.recognise import open_data
from foveal.data.subset import Subset
from foveal.errors import UserError
from foveal.evaluation import evaluate
from foveal.judging.detection import all_found, all_objects
from foveal.metrics.classification import SMALLEST_PROBABILITY
from foveal.metrics.detection import match, mean_over_seen
from foveal.metrics.multilabel import average_precisions as label_precisions
from foveal.metrics.paired import (
    RESAMPLES,
    Difference,
    WeightedPrecisions,
    differences,
    mcnemar,
    weighted_macro_f1,
)
from foveal.predictor import DetectionPredictor, Predictor, load
from foveal.records import Dataset, Source

Kind = Literal["one label", "several labels", "boxes"]
Sides = tuple[int, int] | None
Figures = Callable[[NDArray[np.int64]], tuple[NDArray[np.float64], NDArray[np.float64]]]
"""(how often each picture counts) -> figures of both models: those of all pictures, then one a class."""


@dataclass(frozen=True)
class Comparison:
    """What two models, A and B, are worth beside each other; differences are B's minus A's.

    Attributes:
        kind: of the models. split: the part of the data. count: pictures that both judged.
        class_names: as A has them in order.
        figures: name -> difference; the first is what the models are compared by.
        per_class: class name -> difference in recall (one label) or average precision.
        only_a, only_b: pictures that only one of them has right; p_value: of McNemar's exact test. None for boxes.
        answers_a, answers_b: of the same rows of ``pictures``, both in ``class_names``.
        said: how the pictures were chosen. resamples, seed: of the intervals.
    """

    kind: Kind
    split: str
    count: int
    class_names: tuple[str, ...]
    figures: Mapping[str, Difference]
    per_class: Mapping[str, Difference]
    only_a: int | None
    only_b: int | None
    p_value: float | None
    answers_a: Any
    answers_b: Any
    pictures: Source
    said: tuple[str, ...]
    resamples: int
    seed: int

    @property
    def verdict(self) -> str:
        """Which is better, in a sentence."""
        name, found = next(iter(self.figures.items()))
        if np.isnan(found.difference):
            return f"there is nothing to compare by: {name} is undefined on these pictures"
        interval = f"{100 * found.difference:+.2f} points of {name}, {100 * found.low:+.2f} to {100 * found.high:+.2f}"
        if found.low > 0 or found.high < 0:
            return f"{'B' if found.difference > 0 else 'A'} is better: {interval}"
        return f"these pictures do not tell which is better: {interval}"

    def to_dict(self) -> dict[str, Any]:
        """The figures as plain numbers and texts (JSON without NaN)."""

        def rows(named: Mapping[str, Difference]) -> dict[str, Any]:
            return {name: {key: None if np.isnan(value) else value for key, value in vars(each).items()}
                    for name, each in named.items()}  # fmt: skip

        return {
            "kind": self.kind,
            "split": self.split,
            "count": self.count,
            "verdict": self.verdict,
            "figures": rows(self.figures),
            "per_class": rows(self.per_class),
            "only_first_right": self.only_a,
            "only_second_right": self.only_b,
            "mcnemar_p": self.p_value,
            "resamples": self.resamples,
            "seed": self.seed,
        }


def compare(
    first: Predictor | DetectionPredictor | str | Path,
    second: Predictor | DetectionPredictor | str | Path,
    dataset: Dataset | str | Path,
    *,
    split: str | None = None,
    resamples: int = RESAMPLES,
    seed: int = 0,
    workers: int | None = None,
) -> Comparison:
    """Judge two models on the same pictures.

    Args:
        first, second: from ``load``, or paths of artifacts. Both of one kind, with the same classes by name, in any
            order. Detectors are both judged by the first one's overlap and form of average precision.
        dataset, split, workers: as of ``evaluate``; the split that it takes for the first model is both's.
        resamples, seed: of the bootstrap that gives the intervals.

    Raises:
        UserError: when the models can't be compared on these pictures, and as ``evaluate``.
    """
    a, b = (load(each) if isinstance(each, str | Path) else each for each in (first, second))
    kind = _kind(a, b)
    if not isinstance(dataset, Dataset):
        dataset = open_data(dataset, task="boxes" if kind == "boxes" else "classes")
    order = _order(a.class_names, b.class_names)
    judged_a = evaluate(a, dataset, split=split, workers=workers)
    judged_b = evaluate(b, dataset, split=judged_a.split, workers=workers)
    if not np.array_equal(_base_rows(judged_a.pictures), _base_rows(judged_b.pictures)):
        raise UserError(
            f"the models set aside different pictures of it in training, so its {judged_a.split} split is not the same",
            judged_a.pictures.origin,
            "Compare on pictures that neither was trained on, given with --test, or with --split all.",
        )
    answers_a, answers_b = judged_a.answers, judged_b.answers
    assert np.array_equal(answers_a.rows, answers_b.rows), "pictures that one reads and the other doesn't"
    if isinstance(a, DetectionPredictor):
        assert isinstance(answers_a, detection.Answers) and isinstance(answers_b, detection.Answers)
        answers_b = _in_the_firsts_classes(answers_a, answers_b, order)
        figures, names, sides = _boxes(a, answers_a, answers_b)
    else:
        assert isinstance(b, Predictor)
        assert isinstance(answers_a, classification.Answers) and isinstance(answers_b, classification.Answers)
        answers_b = _reordered(answers_b, order)
        of = _single if kind == "one label" else _several
        figures, names, sides = of(a, b, answers_a, answers_b)
    count = len(answers_a.rows)
    found = differences(count, figures, seed, resamples)
    return Comparison(
        kind=kind,
        split=judged_a.split,
        count=count,
        class_names=a.class_names,
        figures=dict(zip(names, found, strict=False)),
        per_class=dict(zip(a.class_names, found[len(names) :], strict=True)),
        only_a=sides and sides[0],
        only_b=sides and sides[1],
        p_value=sides and mcnemar(*sides),
        answers_a=answers_a,
        answers_b=answers_b,
        pictures=judged_a.pictures,
        said=judged_a.said,
        resamples=resamples,
        seed=seed,
    )


def _kind(a: Predictor | DetectionPredictor, b: Predictor | DetectionPredictor) -> Kind:
    kinds: list[Kind] = [
        "boxes" if isinstance(each, DetectionPredictor) else "several labels" if each.several else "one label"
        for each in (a, b)
    ]
    if kinds[0] != kinds[1]:
        raise UserError(
            f"the first model gives {kinds[0]}, the second {kinds[1]}", "compare", "Compare models of one kind."
        )
    return kinds[0]


def _order(mine: tuple[str, ...], theirs: tuple[str, ...]) -> NDArray[np.int64]:
    """The second model's number of each class of the first. Raises UserError where their classes differ."""
    for missing, who in (
        ([n for n in mine if n not in theirs], "first"),
        ([n for n in theirs if n not in mine], "second"),
    ):
        if missing:
            names = ", ".join(missing[:5]) + (", ..." if len(missing) > 5 else "")
            raise UserError(
                f"only the {who} model knows the classes {names}",
                "compare",
                "Compare models that were trained on the same classes, under the same names.",
            )
    return np.array([theirs.index(name) for name in mine], np.int64)


def _base_rows(pictures: Source) -> NDArray[np.int64]:
    """Rows of the source that was opened."""
    if not isinstance(pictures, Subset):
        return np.arange(len(pictures), dtype=np.int64)
    return _base_rows(pictures.source)[pictures.rows]


def _in_the_firsts_classes(
    first: detection.Answers, second: detection.Answers, order: NDArray[np.int64]
) -> detection.Answers:
    back = np.argsort(order)  # the first model's number of each of the second's
    return replace(second, truths=first.truths, found=tuple(replace(each, cls=back[each.cls]) for each in second.found))


def _reordered(answers: classification.Answers, order: NDArray[np.int64]) -> classification.Answers:
    labels = answers.labels
    if labels.ndim == 1:
        back = np.argsort(order)
        labels = np.where(labels < 0, labels, back[labels])
    else:
        labels = labels[:, order]
    return replace(answers, labels=labels, logits=np.ascontiguousarray(answers.logits[:, order]))


def _given(model: Predictor, answers: classification.Answers) -> NDArray[np.float32]:
    return classification.probabilities(answers.logits, model.several, model.temperature)


def _single(
    a: Predictor, b: Predictor, answers_a: classification.Answers, answers_b: classification.Answers
) -> tuple[Figures, tuple[str, ...], Sides]:
    labels, count = answers_a.labels, len(a.class_names)
    given = [_given(a, answers_a), _given(b, answers_b)]
    predicted = [each.argmax(axis=1) for each in given]
    right = [each == labels for each in predicted]
    own = [np.clip(each[np.arange(len(labels)), labels], SMALLEST_PROBABILITY, 1).astype(np.float64) for each in given]

    def figures(weights: NDArray[np.int64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        total, there = weights.sum(), np.bincount(labels, weights, count)
        found = []
        for i in (0, 1):
            recall = np.bincount(labels, weights * right[i], count) / np.where(there > 0, there, np.nan)
            f1 = weighted_macro_f1(predicted[i], labels, count, weights)
            found.append(np.array([weights @ right[i] / total, f1, weights @ -np.log(own[i]) / total, *recall]))
        return found[0], found[1]

    return figures, ("accuracy", "macro_f1", "log_loss"), _sides(right)


def _several(
    a: Predictor,
    b: Predictor,
    answers_a: classification.Answers,
    answers_b: classification.Answers,
) -> tuple[Figures, tuple[str, ...], Sides]:
    there = answers_a.labels > 0
    given = [_given(a, answers_a), _given(b, answers_b)]
    told = [given[0] >= a.least(None), given[1] >= b.least(None)[_order(a.class_names, b.class_names)]]
    right = [(each == there).all(axis=1) for each in told]

    def figures(weights: NDArray[np.int64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        drawn = np.repeat(np.arange(len(weights)), weights)
        found = []
        for i in (0, 1):
            each = label_precisions(given[i][drawn], there[drawn])
            hits = weights @ (told[i] & there)
            both = weights @ told[i].astype(np.int64) + weights @ there.astype(np.int64)
            micro = 2 * hits.sum() / both.sum() if both.sum() else np.nan
            found.append(np.array([mean_over_seen(each), micro, weights @ right[i] / weights.sum(), *each]))
        return found[0], found[1]

    return figures, ("mAP", "micro_f1", "all_right"), _sides(right)


def _boxes(
    a: DetectionPredictor, answers_a: detection.Answers, answers_b: detection.Answers
) -> tuple[Figures, tuple[str, ...], Sides]:
    settings = a.artifact.settings
    weighted = [
        WeightedPrecisions(
            match(all_objects(answers_a.truths), all_found(found), settings["overlap_threshold"], len(a.class_names)),
            len(answers_a.rows),
            settings["ap_form"],
        )
        for found in (answers_a.found, answers_b.found)
    ]

    def figures(weights: NDArray[np.int64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        each = [of(weights) for of in weighted]
        return np.array([mean_over_seen(each[0]), *each[0]]), np.array([mean_over_seen(each[1]), *each[1]])

    return figures, ("mAP",), None


def _sides(right: Sequence[NDArray[np.bool_]]) -> Sides:
    """Pictures that only the first has right, and only the second."""
    return int((right[0] & ~right[1]).sum()), int((right[1] & ~right[0]).sum())
