"""Judging a finished model on labelled pictures: the road that training's validation takes, from an artifact."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from foveal.algorithms import classification, detection
from foveal.algorithms.algorithm import Verdict
from foveal.data.check import KeptBoxes, check_objects
from foveal.data.labels import class_labels, classes_of, labelled
from foveal.data.loader import Decoder, default_workers
from foveal.data.recognise import open_data
from foveal.data.split import split_labels, split_rows
from foveal.data.subset import BoxSubset
from foveal.errors import UserError
from foveal.predictor import DetectionPredictor, Predictor, load
from foveal.records import BoxSource, Dataset, Source


@dataclass(frozen=True)
class Judged:
    """What a model is worth, and what it answered.

    Attributes:
        verdict: the figures.
        answers: of each picture that could be read; their ``rows`` are those of ``pictures``.
        pictures: what was judged on, with labels in the model's classes.
        split: the part of the data that it is. said: how that was chosen.
    """

    verdict: Verdict
    answers: classification.Answers | detection.Answers
    pictures: Source
    split: str
    said: tuple[str, ...]


def evaluate(
    predictor: Predictor | DetectionPredictor | str | Path,
    dataset: Dataset | str | Path,
    *,
    split: str | None = None,
    top_k: int | None = None,
    workers: int | None = None,
) -> Judged:
    """Judge a model on one split of a data set.

    Args:
        predictor: from ``load``, or an artifact's path.
        dataset: a path, or from ``open_data``. Its classes are matched with the model's by name where both have names,
            else by index.
        split: ``test``, ``validation``, ``train`` or ``all``; None takes the first of test and validation that is
            there, else of the data that the model was trained on the pictures that training set aside, else all.
        top_k: of a classifier: also judge how often the label is among the k best; as in training when left out.
        workers: threads that decode.

    Raises:
        UserError: when the split is not there, a label is not a class of the model, or no picture can be read.
    """
    model = load(predictor) if isinstance(predictor, str | Path) else predictor
    boxes = isinstance(model, DetectionPredictor)
    if not isinstance(dataset, Dataset):
        dataset = open_data(dataset, task="boxes" if boxes else "classes")
    source, chosen, said = _pick(model, dataset, split)
    if not len(source):
        raise UserError(f"the {chosen} split holds no picture", source.origin, "Choose another --split.")
    workers = default_workers() if workers is None else workers
    if isinstance(model, DetectionPredictor):
        return Judged(*_judge_boxes(model, source, dataset, workers), chosen, tuple(said))
    return Judged(*_judge_classes(model, source, dataset, workers, top_k), chosen, tuple(said))


def _judge_classes(
    predictor: Predictor, source: Source, dataset: Dataset, workers: int, top_k: int | None
) -> tuple[Verdict, classification.Answers, Source]:
    """At the temperature and the thresholds that training found on its validation data."""
    names, several = predictor.class_names, predictor.several
    labels, left_out = class_labels(
        source, several, None, dataset.class_names if dataset.named else None, gaps_allowed=True
    )
    labels = _in_the_models_numbers(predictor, dataset, source, labels)
    pictures = labelled(source, np.arange(len(source), dtype=np.int64), labels)
    settings = predictor.artifact.settings
    if several and top_k is not None:
        raise UserError("top_k is for one label a picture, and this model gives several", "top_k", "Leave it out.")
    judging = classification.Judging(
        names,
        several,
        None if several else top_k or settings.get("top_k"),
        temperature=predictor.temperature,
        thresholds=predictor.thresholds if several else None,
        objective="mAP" if several and settings.get("recipe") == "modern" else "accuracy",
    )
    asked = classification.ask(predictor.network, Decoder(pictures, predictor.rule.channels), predictor.rule, workers)
    answers = classification.collect(asked, len(names), several)
    found = classification.verdict(answers, judging)
    return replace(found, bad=(*left_out, *found.bad)), answers, pictures


def _in_the_models_numbers(
    predictor: Predictor, dataset: Dataset, source: Source, labels: NDArray[Any]
) -> NDArray[Any]:
    """Labels of the data, one or several a picture, as those of the model. Raises UserError for unknown classes."""
    count = len(predictor.class_names)
    numbers = _numbers(predictor, dataset, source, np.unique(classes_of(labels)))
    if labels.ndim == 1:
        return labels if numbers is None else numbers[labels]
    numbers = np.arange(min(count, labels.shape[1])) if numbers is None else numbers
    known = np.flatnonzero(numbers >= 0)  # the others do not occur
    rows = np.zeros((len(labels), count), np.float32)
    rows[:, numbers[known]] = labels[:, known]
    return rows


def _judge_boxes(
    predictor: DetectionPredictor, source: Source, dataset: Dataset, workers: int
) -> tuple[Verdict, detection.Answers, Source]:
    """Precision, recall and false alarms are counted at the confidences that training chose on its validation data."""
    assert isinstance(source, BoxSource), "data opened for boxes"
    names = dataset.class_names if dataset.named else None
    numbers = _numbers(predictor, dataset, source, np.unique(source.labels().values).astype(np.int64))
    checked = check_objects(source, None, names, gaps_allowed=True, numbers=numbers)
    pictures = BoxSubset(source, np.arange(len(source), dtype=np.int64), checked.boxes)
    asked = detection.ask(
        predictor.network, Decoder(pictures, predictor.rule.channels), predictor.rule, predictor.suppression, workers
    )
    settings = predictor.artifact.settings
    chosen = predictor.thresholds or None
    judging = detection.Judging(predictor.class_names, settings["overlap_threshold"], settings["ap_form"], chosen)
    answers = detection.collect(asked)
    found = detection.verdict(answers, judging)
    return replace(found, bad=(*checked.left_out, *found.bad)), answers, pictures


def _numbers(
    model: Predictor | DetectionPredictor, dataset: Dataset, source: Source, used: NDArray[np.int64]
) -> NDArray[np.int64] | None:
    """The model's number of each class of the data, by name where both have names; None: they are the same.

    ``used`` are the classes that occur; the others need not be known to the model.
    """
    mine = model.class_names
    if not (dataset.named and model.artifact.data.get("named", True)):
        if len(used) and int(used.max()) >= len(mine):
            raise UserError(
                f"the data has class {int(used.max())}, the model only classes 0..{len(mine) - 1}",
                source.origin,
                "Judge the model on data with the classes that it was trained on.",
            )
        return None
    theirs = dataset.class_names
    unknown = [name for number, name in enumerate(theirs) if name not in mine and number in used]
    if unknown:
        raise UserError(
            f"the data has classes that the model does not know: {', '.join(unknown[:5])}",
            source.origin,
            f"The model knows {', '.join(mine[:10])}{', ...' if len(mine) > 10 else ''}.",
        )
    return np.asarray([mine.index(name) if name in mine else -1 for name in theirs], dtype=np.int64)


def _pick(
    predictor: Predictor | DetectionPredictor, dataset: Dataset, split: str | None
) -> tuple[Source, str, list[str]]:
    parts = {"test": dataset.test, "validation": dataset.validation, "train": dataset.train}
    data = predictor.artifact.data
    trained_on = dataset.train.fingerprint() == data.get("fingerprint")
    aside = "validation_fraction" in data and dataset.validation is None
    said: list[str] = []
    if split is None:
        split = next((name for name in ("test", "validation") if parts[name] is not None), "all")
        split = "validation" if split == "all" and trained_on and aside else split
        said.append(f"judging on the {split} split" if split != "all" else "judging on all pictures")
    if split == "all":
        if trained_on:
            said.append("these are the pictures that the model was trained on: new ones will do worse")
        return dataset.train, split, said
    if split in ("validation", "train") and aside:
        if not trained_on:
            raise UserError(
                f"there is no {split} split in it, and it is not the data that the model was trained on",
                dataset.train.origin,
                "Give the training data as it was, or --split all.",
            )
        several = isinstance(predictor, Predictor) and predictor.several
        part = _part(dataset, several, data["validation_fraction"], data["seed"], split)
        said.append(f"the {len(part):,} pictures that training {'set aside' if split == 'validation' else 'used'}")
        return part, split, said
    source = parts[split]
    if source is None:
        there = ", ".join(name for name, part in parts.items() if part is not None)
        raise UserError(
            f"there is no {split} split in it (found: {there})", dataset.train.origin, "Choose another --split."
        )
    return source, split, said


def _part(dataset: Dataset, several: bool, fraction: float, seed: int, split: str) -> Source:
    """The pictures that training set aside (split ``validation``), or those that it used."""
    train = dataset.train
    which = 1 if split == "validation" else 0
    names = dataset.class_names if dataset.named else None
    if isinstance(train, BoxSource):
        rows = split_rows(train, fraction, seed)[which]
        return BoxSubset(train, rows, KeptBoxes(train, rows))
    labels, _ = class_labels(train, several, None, names, gaps_allowed=True)
    return labelled(train, split_labels(labels, fraction, seed, train.groups)[which], labels)
