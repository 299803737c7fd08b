"""Judging a finished model on labelled pictures: the road that training's validation takes, from an artifact."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from foveal.algorithms.algorithm import Verdict
from foveal.algorithms.classification import ask, collect, verdict
from foveal.data.check import class_indices
from foveal.data.loader import Decoder, default_workers
from foveal.data.recognise import open_data
from foveal.data.split import stratified_split
from foveal.data.subset import Subset
from foveal.errors import UserError
from foveal.predictor import Predictor, load
from foveal.records import Dataset, Source


@dataclass(frozen=True)
class Judged:
    """``split`` is the part of the data that was judged on; ``said`` tells how it was chosen."""

    verdict: Verdict
    split: str
    said: tuple[str, ...]


def evaluate(
    predictor: Predictor | str | Path,
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
        top_k: also judge how often the label is among the k best; as in training when left out.
        workers: threads that decode.

    Raises:
        UserError: when the split is not there, a label is not a class of the model, or no picture can be read.
    """
    if not isinstance(predictor, Predictor):
        predictor = load(predictor)
    if not isinstance(dataset, Dataset):
        dataset = open_data(dataset)
    source, chosen, said = _pick(predictor, dataset, split)
    names = predictor.class_names
    indices, left_out = class_indices(source, None, dataset.class_names if dataset.named else None, gaps_allowed=True)
    if dataset.named and predictor.artifact.data.get("named", True):
        indices = _by_name(indices, dataset.class_names, names, source)
    elif len(indices) and int(indices.max()) >= len(names):
        raise UserError(
            f"the data has class {int(indices.max())}, the model only classes 0..{len(names) - 1}",
            source.origin,
            "Judge the model on data with the classes that it was trained on.",
        )
    pictures = Subset(source, np.arange(len(source), dtype=np.int64), indices.tolist())
    top_k = top_k or predictor.artifact.settings.get("top_k")
    asked = ask(
        predictor.network, Decoder(pictures, predictor.rule.channels), predictor.rule,
        default_workers() if workers is None else workers,
    )  # fmt: skip
    found = verdict(collect(asked, len(names)), names, top_k)
    bad = tuple(left_out) + tuple(found.bad)
    return Judged(Verdict(found.objective, found.figures, found.details, bad), chosen, tuple(said))


def _by_name(indices: np.ndarray, theirs: tuple[str, ...], mine: tuple[str, ...], source: Source) -> np.ndarray:
    unknown = [name for number, name in enumerate(theirs) if name not in mine and (indices == number).any()]
    if unknown:
        raise UserError(
            f"the data has classes that the model does not know: {', '.join(unknown[:5])}",
            source.origin,
            f"The model knows {', '.join(mine[:10])}{', ...' if len(mine) > 10 else ''}.",
        )
    table = np.asarray([mine.index(name) if name in mine else -1 for name in theirs], dtype=np.int64)
    return table[indices] if len(indices) else indices


def _pick(predictor: Predictor, dataset: Dataset, split: str | None) -> tuple[Source, str, list[str]]:
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
        names = dataset.class_names if dataset.named else None
        indices, _ = class_indices(dataset.train, None, names, gaps_allowed=True)
        rows = stratified_split(indices, data["validation_fraction"], data["seed"], dataset.train.groups)
        chosen = rows[1] if split == "validation" else rows[0]
        said.append(f"the {len(chosen):,} pictures that training {'set aside' if split == 'validation' else 'used'}")
        return Subset(dataset.train, chosen, indices[chosen].tolist()), split, said
    source = parts[split]
    if source is None:
        there = ", ".join(name for name, part in parts.items() if part is not None)
        raise UserError(
            f"there is no {split} split in it (found: {there})", dataset.train.origin, "Choose another --split."
        )
    return source, split, said
