"""Image classification, with one label a picture or any number: what it teaches, what it counts, and how it is asked.

Asking happens in one place, ``ask``: validation during training, ``evaluate`` and ``predict`` all go through it,
which is why their figures agree.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from foveal.algorithms.algorithm import Algorithm, Loss, Verdict
from foveal.algorithms.asking import ask_each, run_network
from foveal.algorithms.costs import binary_cross_entropy, cross_entropy
from foveal.data.augment import augment
from foveal.data.erasing import erase
from foveal.data.loader import Batch, Decoder, Prepare, Prepared
from foveal.data.mixing import Mixing, mixed
from foveal.data.order import picture_generator
from foveal.data.views import Preprocessing
from foveal.errors import UserError
from foveal.judging import figures, judge_classification, judge_multi_label
from foveal.metrics.calibration import sigmoid_temperature, softmax_temperature
from foveal.metrics.multilabel import HALF
from foveal.records import BadRecord, Label

NAME = "image-classification"
ASKING_BATCH = 64  # pictures a batch when asking; the answers do not depend on it beyond rounding (1e-6)


@dataclass(frozen=True)
class Teaching:
    """How training pictures are varied and what their answers cost.

    Attributes:
        augmentation: level of ``augment``. flip: whether it may mirror.
        erasing: share of the pictures that lose a rectangle.
        mixup, cutmix: alpha of each, 0 where it is off.
        smoothing: share of a label that is spread over all classes.
        weights: float32 [C]; with one label a picture what each class weighs, with several what a class weighs that is
            there, beside 1 for one that is not. None: all 1.
    """

    augmentation: str | None
    flip: bool
    erasing: float = 0.0
    mixup: float = 0.0
    cutmix: float = 0.0
    smoothing: float = 0.0
    weights: Tensor | None = None


@dataclass(frozen=True)
class Judging:
    """How answers are judged.

    Attributes:
        class_names: in label order.
        several: whether a picture has any number of labels.
        top_k: of one label a picture: also count whether it is among the k most probable.
        calibrate: fit a temperature on the answers judged.
        temperature: one that was fitted before; None: none.
        thresholds: of several labels, class name -> probability from which it is told; None: the best on the answers
            judged.
        objective: the figure by which epochs are compared.
    """

    class_names: tuple[str, ...]
    several: bool = False
    top_k: int | None = None
    calibrate: bool = False
    temperature: float | None = None
    thresholds: Mapping[str, float] | None = None
    objective: Literal["accuracy", "mAP"] = "accuracy"


@dataclass(frozen=True)
class Answers:
    """What the network says of pictures.

    Attributes:
        rows: int64 [n], rows of the source.
        labels: int64 [n], the labels they carry (-1 where they carry none); float32 [n, C] where they have several.
        logits: float32 [n, C], before temperature and softmax or sigmoid (``probabilities``).
        bad: the pictures that could not be read; they are not in ``rows``.
    """

    rows: NDArray[np.int64]
    labels: NDArray[Any]
    logits: NDArray[np.float32]
    bad: tuple[BadRecord, ...]


def classification(rule: Preprocessing, teaching: Teaching, judging: Judging, workers: int) -> Algorithm:
    """The functions of classification for one preprocessing rule."""
    classes, several, top_k = len(judging.class_names), judging.several, judging.top_k
    mixes = bool(teaching.mixup or teaching.cutmix)

    def prepare(image: NDArray[np.uint8], label: Label, rng: np.random.Generator) -> tuple[NDArray[np.uint8], Label]:
        pixels = augment(image, teaching.augmentation, rule, rng, flip=teaching.flip)
        return (erase(pixels, teaching.erasing, rng) if teaching.erasing else pixels), label

    def prepare_mixed(pictures: Decoder, seed: int, step: int) -> Prepare:
        def alone(image: NDArray[np.uint8], label: Label, row: int, number: int) -> Prepared:
            return prepare(image, label, picture_generator(seed, number, row))

        mixing = Mixing(teaching.mixup, teaching.cutmix, lambda label: label_vector(label, classes))
        return mixed(alone, pictures, mixing, seed)

    def loss(logits: Tensor, targets: Tensor) -> Loss:
        cost = binary_cross_entropy if several else cross_entropy
        return cost(logits, targets, hits(logits.detach(), targets), teaching.smoothing, teaching.weights)

    def hits(logits: Tensor, targets: Tensor) -> Tensor:
        if several:  # by the larger share of a label that is mixed, as below
            return ((logits >= 0) == (targets >= HALF)).float().mean(dim=1).sum()[None]
        labels = targets.argmax(dim=1) if targets.is_floating_point() else targets
        ranked = logits.topk(min(top_k or 1, logits.shape[1]), dim=1).indices == labels[:, None]
        counts = torch.stack([ranked[:, 0].sum(), ranked.any(dim=1).sum()]).float()
        return counts if top_k else counts[:1]

    def train_figures(sums: Mapping[str, float], pictures: int) -> dict[str, float]:
        return {name: value / max(1, pictures) for name, value in sums.items()}

    def answers(network: nn.Module, pictures: Decoder, rows: range) -> Answers:
        return collect(ask(network, pictures, rule, workers, rows), classes, several)

    def judge(parts: Sequence[Answers]) -> Verdict:
        return verdict(together(parts), judging)

    return Algorithm(
        name=NAME,
        prepare=prepare,
        collate=collate_vectors(classes) if several or mixes else collate,
        loss=loss,
        counted=("accuracy", f"top_k_accuracy_{top_k}") if top_k else ("accuracy",),
        figures=train_figures,
        ask=answers,
        judge=judge,
        preparing=prepare_mixed if mixes else None,
    )


def label_vector(label: Label, num_classes: int) -> NDArray[np.float32]:
    """A class index, or a row of numbers that is one already, as float32 [C]."""
    if isinstance(label, int):
        vector = np.zeros(num_classes, np.float32)
        vector[label] = 1
        return vector
    assert isinstance(label, np.ndarray)
    return label


def collate(labels: list[Any]) -> Tensor:
    """Labels as the source carries them: int64 [B], -1 for a picture without one; rows of numbers as float32 [B, C]."""
    if labels and isinstance(labels[0], np.ndarray):
        return torch.from_numpy(np.stack(labels))
    return torch.tensor([label if isinstance(label, int) else -1 for label in labels], dtype=torch.int64)


def collate_vectors(num_classes: int) -> Callable[[list[Any]], Tensor]:
    """What collates labels that are rows of numbers: float32 [B, C]; B may be 0."""

    def rows(labels: list[Any]) -> Tensor:
        return torch.from_numpy(np.stack(labels)) if labels else torch.zeros((0, num_classes))

    return rows


def ask(
    network: nn.Module,
    pictures: Decoder,
    rule: Preprocessing,
    workers: int,
    rows: range | None = None,
    batch_size: int = ASKING_BATCH,
) -> Iterator[tuple[Batch, Tensor]]:
    """Each picture of ``rows`` (None: of the source) once: batches and their logits (float32 [B, C], CPU)."""

    def answer(pixels: Tensor, labels: Tensor) -> Tensor:
        return answer_logits(network, pixels, rule)

    return ask_each(pictures, rule, workers, rows, batch_size, collate, answer)


def answer_logits(network: nn.Module, pixels: Tensor, rule: Preprocessing) -> Tensor:
    """Logits of a batch: float32 [B, C], on the CPU; with ``tta_flip`` the mean of those of both mirror images.

    Args:
        network: takes uint8 [B, H, W, channels], gives logits; put into evaluation mode here.
        pixels: uint8 [B, H, W, channels] at the network's size; B may be 0.
    """
    if not len(pixels):
        return torch.zeros((0, 0))

    def on_cpu(logits: Tensor) -> Tensor:
        return logits.float().cpu()

    found = run_network(network, pixels, on_cpu)
    return (found + run_network(network, pixels.flip(2), on_cpu)) / 2 if rule.tta_flip else found


def probabilities(logits: NDArray[np.float32], several: bool, temperature: float | None = None) -> NDArray[np.float32]:
    """``shares`` of arrays: float32 [n, C]; n may be 0."""
    found: NDArray[np.float32] = shares(torch.from_numpy(logits), several, temperature).numpy()
    return found


def shares(logits: Tensor, several: bool, temperature: float | None = None) -> Tensor:
    """Softmax, or where a picture has several labels the sigmoid, of logits [n, C] divided by the temperature."""
    cooled = logits if temperature is None else logits / temperature
    return cooled.sigmoid() if several else cooled.softmax(dim=1)


def collect(asked: Iterator[tuple[Batch, Tensor]], num_classes: int, several: bool = False) -> Answers:
    """All answers of ``ask`` in one place."""
    nothing = np.zeros((0, num_classes), np.float32)
    rows: list[NDArray[np.int64]] = [np.zeros(0, np.int64)]
    labels: list[NDArray[Any]] = [nothing if several else np.zeros(0, np.int64)]
    logits = [nothing]
    bad: list[BadRecord] = []
    for batch, answer in asked:
        bad += batch.bad
        if len(batch.rows):
            rows.append(batch.rows)
            labels.append(batch.targets.numpy())
            logits.append(answer.numpy())
    return Answers(np.concatenate(rows), np.concatenate(labels), np.concatenate(logits), tuple(bad))


def together(parts: Sequence[Answers]) -> Answers:
    """Answers for parts of a source as those for the whole, in the order of its rows."""
    rows = np.concatenate([part.rows for part in parts])
    order = rows.argsort(kind="stable")
    return Answers(
        rows=rows[order],
        labels=np.concatenate([part.labels for part in parts])[order],
        logits=np.concatenate([part.logits for part in parts])[order],
        bad=tuple(record for part in parts for record in part.bad),
    )


def verdict(answers: Answers, judging: Judging) -> Verdict:
    """Judge answers by their labels. Raises UserError when not one picture could be judged."""
    if not len(answers.rows):
        first = f"; the first: {answers.bad[0].where}: {answers.bad[0].reason}" if answers.bad else ""
        raise UserError(f"not one picture can be judged{first}", "", "Give validation data with readable pictures.")
    logits, labels, names, several = answers.logits, answers.labels, judging.class_names, judging.several
    temperature = judging.temperature
    if judging.calibrate and np.isfinite(logits).all():  # what is not is told below
        temperature = sigmoid_temperature(logits, labels) if several else softmax_temperature(logits, labels)
    given = probabilities(logits, several, temperature)
    before = None if temperature is None else probabilities(logits, several)
    calibration = {} if temperature is None else {"temperature": temperature}
    if several:
        judged = judge_multi_label(given, labels, names, judging.thresholds, before)
        found, thresholds = {**figures(judged), **calibration}, judged.named_thresholds
        details = judged.to_dict()
    else:
        single = judge_classification(given, labels, names, judging.top_k, before)
        found, thresholds = {**figures(single), **calibration}, {}
        details = single.to_dict()
    objective = found.get(judging.objective, 0.0)  # a mAP without any positive picture is undefined
    found = {judging.objective: objective} | found
    return Verdict(objective, found, {**details, **calibration}, answers.bad, thresholds, calibration)
