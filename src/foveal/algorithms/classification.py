"""Image classification: what it teaches, what it counts, and how it is asked.

Asking happens in one place, ``ask``: validation during training, ``evaluate`` and ``predict`` all go through it,
which is why their figures agree.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from foveal.algorithms.algorithm import Algorithm, Loss, Verdict
from foveal.algorithms.asking import ask_each, run_network
from foveal.data.augment import augment
from foveal.data.loader import Batch, Decoder
from foveal.data.views import Preprocessing
from foveal.errors import UserError
from foveal.judging import ClassificationJudgement, figures, judge_classification
from foveal.records import BadRecord, Label

NAME = "image-classification"
ASKING_BATCH = 64  # pictures a batch when asking; the answers do not depend on it beyond rounding (1e-6)


@dataclass(frozen=True)
class Answers:
    """What the network says of pictures.

    Attributes:
        rows: int64 [n], rows of the source.
        labels: int64 [n], the labels they carry (-1 where they carry none).
        probabilities: float32 [n, C].
        bad: the pictures that could not be read; they are not in ``rows``.
    """

    rows: NDArray[np.int64]
    labels: NDArray[np.int64]
    probabilities: NDArray[np.float32]
    bad: tuple[BadRecord, ...]


def classification(
    rule: Preprocessing,
    augmentation: str | None,
    flip: bool,
    class_names: tuple[str, ...],
    top_k: int | None,
    workers: int,
) -> Algorithm:
    """The functions of single-label classification for one preprocessing rule and augmentation level."""

    def prepare(image: NDArray[np.uint8], label: Label, rng: np.random.Generator) -> tuple[NDArray[np.uint8], Label]:
        return augment(image, augmentation, rule, rng, flip=flip), label

    def loss(logits: Tensor, targets: Tensor) -> Loss:
        ranked = logits.detach().topk(min(top_k or 1, logits.shape[1]), dim=1).indices == targets[:, None]
        hits = torch.stack([ranked[:, 0].sum(), ranked.any(dim=1).sum()]).float()
        return cross_entropy(logits, targets, hits if top_k else hits[:1])

    def train_figures(sums: Mapping[str, float], pictures: int) -> dict[str, float]:
        return {name: value / max(1, pictures) for name, value in sums.items()}

    def answers(network: nn.Module, pictures: Decoder, rows: range) -> Answers:
        return collect(ask(network, pictures, rule, workers, rows), len(class_names))

    def judge(parts: Sequence[Answers]) -> Verdict:
        return verdict(together(parts), class_names, top_k)

    return Algorithm(
        name=NAME,
        prepare=prepare,
        collate=collate,
        loss=loss,
        counted=("accuracy", f"top_k_accuracy_{top_k}") if top_k else ("accuracy",),
        figures=train_figures,
        ask=answers,
        judge=judge,
    )


def cross_entropy(logits: Tensor, targets: Tensor, counts: Tensor) -> Loss:
    """Softmax cross entropy, a share a picture (SoftmaxOutput with its rescale of 1 / batch, reference 2.9)."""
    total = F.cross_entropy(logits.float(), targets, reduction="sum")
    return Loss(total[None], total.new_full((1,), len(targets)), counts)


def collate(labels: list[Any]) -> Tensor:
    """Class indices as int64 [B]; -1 for a picture without a label."""
    return torch.tensor([label if isinstance(label, int) else -1 for label in labels], dtype=torch.int64)


def ask(
    network: nn.Module,
    pictures: Decoder,
    rule: Preprocessing,
    workers: int,
    rows: range | None = None,
    batch_size: int = ASKING_BATCH,
) -> Iterator[tuple[Batch, Tensor]]:
    """Each picture of ``rows`` (None: of the source) once: batches and their probabilities (float32 [B, C], CPU)."""

    def answer(pixels: Tensor, labels: Tensor) -> Tensor:
        return probabilities(network, pixels)

    return ask_each(pictures, rule, workers, rows, batch_size, collate, answer)


def probabilities(network: nn.Module, pixels: Tensor) -> Tensor:
    """Class probabilities of a batch: float32 [B, C], on the CPU.

    Args:
        network: takes uint8 [B, H, W, channels], gives logits; put into evaluation mode here.
        pixels: uint8 [B, H, W, channels] at the network's size; B may be 0.
    """
    if not len(pixels):
        return torch.zeros((0, 0))

    def shares(logits: Tensor) -> Tensor:
        return logits.float().softmax(dim=1).cpu()

    return run_network(network, pixels, shares)


def collect(asked: Iterator[tuple[Batch, Tensor]], num_classes: int) -> Answers:
    """All answers of ``ask`` in one place."""
    rows, labels, scores = [], [], []
    bad: list[BadRecord] = []
    for batch, probability in asked:
        bad += batch.bad
        if len(batch.rows):
            rows.append(batch.rows)
            labels.append(batch.targets.numpy())
            scores.append(probability.numpy())
    return Answers(
        rows=np.concatenate(rows) if rows else np.zeros(0, np.int64),
        labels=np.concatenate(labels) if labels else np.zeros(0, np.int64),
        probabilities=np.concatenate(scores) if scores else np.zeros((0, num_classes), np.float32),
        bad=tuple(bad),
    )


def together(parts: Sequence[Answers]) -> Answers:
    """Answers for parts of a source as those for the whole, in the order of its rows."""
    rows = np.concatenate([part.rows for part in parts])
    order = rows.argsort(kind="stable")
    return Answers(
        rows=rows[order],
        labels=np.concatenate([part.labels for part in parts])[order],
        probabilities=np.concatenate([part.probabilities for part in parts])[order],
        bad=tuple(record for part in parts for record in part.bad),
    )


def verdict(answers: Answers, class_names: tuple[str, ...], top_k: int | None) -> Verdict:
    """Judge answers by their labels. Raises UserError when not one picture could be judged."""
    if not len(answers.rows):
        first = f"; the first: {answers.bad[0].where}: {answers.bad[0].reason}" if answers.bad else ""
        raise UserError(f"not one picture can be judged{first}", "", "Give validation data with readable pictures.")
    judgement: ClassificationJudgement = judge_classification(answers.probabilities, answers.labels, class_names, top_k)
    return Verdict(judgement.accuracy, figures(judgement), judgement.to_dict(), answers.bad)
