"""Object detection: what it teaches, what it counts, and how it is asked.

As in classification, asking happens in one place, ``ask``: validation during training, ``evaluate`` and ``predict``
all go through ``detections``, which is why their figures agree.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from foveal.algorithms.algorithm import Algorithm, Loss, Verdict
from foveal.algorithms.asking import ask_each, run_network
from foveal.data.boxaugment import augment_boxes, collate_boxes
from foveal.data.loader import Batch, Decoder
from foveal.data.views import Preprocessing
from foveal.errors import UserError
from foveal.judging import figures, judge_detection
from foveal.metrics.detection import ApForm
from foveal.models.matching import match_anchors, ssd_loss
from foveal.models.suppression import Rule, detect
from foveal.models.suppression import detections as found_in
from foveal.records import BadRecord, Boxes, Detections, Label

NAME = "object-detection"
ASKING_BATCH = 8  # pictures a batch when asking; rows do not depend on it beyond rounding


def suppression_of(settings: Mapping[str, Any]) -> Rule:
    """Which boxes count, as a model was trained; ``settings`` are those of its artifact."""
    return Rule(float(settings["nms_threshold"]), int(settings["nms_topk"]))


@dataclass(frozen=True)
class Judging:
    """How answers are judged.

    Attributes:
        class_names: in label order.
        overlap_threshold: IoU above which a box is right.
        ap_form: average precision as ``area``, or by ``11-point``.
        confidence: class name -> from where its boxes count for recall, precision and false alarms; None: its best on
            the pictures judged.
        coco: count COCO's figures too; None: where their package is installed.
    """

    class_names: tuple[str, ...]
    overlap_threshold: float = 0.5
    ap_form: ApForm = "area"
    confidence: Mapping[str, float] | None = None
    coco: bool | None = None


@dataclass(frozen=True)
class Answers:
    """What the network says of pictures.

    Attributes:
        rows: int64 [n], rows of the source.
        truths: the boxes that they carry, in pixels of the upright picture.
        found: what was found in each.
        bad: the pictures that could not be read; they are not in ``rows``.
    """

    rows: NDArray[np.int64]
    truths: tuple[Boxes, ...]
    found: tuple[Detections, ...]
    bad: tuple[BadRecord, ...]


def detection(
    rule: Preprocessing,
    augmentation: str,
    flip: bool,
    negatives_per_empty_picture: int,
    suppression: Rule,
    judging: Judging,
    workers: int,
) -> Algorithm:
    """The functions of object detection for one preprocessing rule and augmentation level."""

    def prepare(image: NDArray[np.uint8], label: Label, rng: np.random.Generator) -> tuple[NDArray[np.uint8], Any]:
        assert isinstance(label, Boxes)
        return augment_boxes(image, label, rule, rng, augmentation, flip)

    def answers(network: nn.Module, pictures: Decoder, rows: range) -> Answers:
        return collect(ask(network, pictures, rule, suppression, workers, rows))

    def judge(parts: Sequence[Answers]) -> Verdict:
        return verdict(together(parts), judging)

    return Algorithm(
        name=NAME,
        prepare=prepare,
        collate=collate_boxes,
        loss=lambda outputs, targets: loss(outputs, targets, negatives_per_empty_picture),
        counted=("cross_entropy", "smooth_l1", "targets"),
        figures=train_figures,
        ask=answers,
        judge=judge,
    )


def loss(outputs: tuple[Tensor, Tensor, Tensor], labels: Tensor, negatives_per_empty_picture: int) -> Loss:
    """The two terms of SSD (reference 6.4, 6.5) for a batch.

    Args:
        outputs: logits [B, A, classes + 1], offsets [B, A, 4] and anchors [A, 4] of the network.
        labels: float32 [B, M, 6], rows (class, xmin, ymin, xmax, ymax, difficult) as fractions, padded with -1.
    """
    logits, offsets, anchors = outputs
    targets = match_anchors(anchors, labels, logits.detach(), negatives_per_empty_picture=negatives_per_empty_picture)
    return Loss(*ssd_loss(logits, offsets, targets))


def train_figures(sums: Mapping[str, float], pictures: int) -> dict[str, float]:
    """The original's two losses (reference 2.5): both divided by the number of anchors that count."""
    targets = max(1.0, sums["targets"])
    return {name: sums[name] / targets for name in ("cross_entropy", "smooth_l1")}


def ask(
    network: nn.Module,
    pictures: Decoder,
    rule: Preprocessing,
    suppression: Rule,
    workers: int,
    rows: range | None = None,
    batch_size: int = ASKING_BATCH,
) -> Iterator[tuple[Batch, list[Detections]]]:
    """Each picture of ``rows`` (None: of the source) once: batches, whose targets are ``Boxes``, and what was found."""

    def answer(pixels: Tensor, truths: list[Boxes]) -> list[Detections]:
        return detections(network, pixels, [truth.size or (1, 1) for truth in truths], suppression)

    return ask_each(pictures, rule, workers, rows, batch_size, list, answer)


def detections(
    network: nn.Module, pixels: Tensor, sizes: Sequence[tuple[int, int]], suppression: Rule
) -> list[Detections]:
    """What is found in each picture of a batch.

    Args:
        network: takes uint8 [B, H, W, 3], gives logits, offsets and anchors; put into evaluation mode here.
        pixels: uint8 [B, H, W, 3] at the network's size; B may be 0.
        sizes: (width, height) of each upright picture, in pixels.
    """
    if not len(pixels):
        return []

    def rows_of(outputs: tuple[Tensor, Tensor, Tensor]) -> Tensor:
        logits, offsets, anchors = outputs
        return detect(logits.softmax(dim=2), offsets, anchors, rule=suppression).cpu()

    rows = run_network(network, pixels, rows_of)
    return [found_in(each, size) for each, size in zip(rows, sizes, strict=True)]


def collect(asked: Iterator[tuple[Batch, list[Detections]]]) -> Answers:
    """All answers of ``ask`` in one place."""
    rows: list[NDArray[np.int64]] = [np.zeros(0, np.int64)]
    truths: list[Boxes] = []
    found: list[Detections] = []
    bad: list[BadRecord] = []
    for batch, answers in asked:
        bad += batch.bad
        rows.append(batch.rows)
        truths += batch.targets
        found += answers
    return Answers(np.concatenate(rows), tuple(truths), tuple(found), tuple(bad))


def together(parts: Sequence[Answers]) -> Answers:
    """Answers for parts of a source as those for the whole, in the order of its rows."""
    rows = np.concatenate([part.rows for part in parts])
    truths = [truth for part in parts for truth in part.truths]
    found = [each for part in parts for each in part.found]
    order = rows.argsort(kind="stable")
    return Answers(
        rows[order],
        tuple(truths[each] for each in order.tolist()),
        tuple(found[each] for each in order.tolist()),
        tuple(record for part in parts for record in part.bad),
    )


def verdict(answers: Answers, judging: Judging) -> Verdict:
    """Judge answers by their boxes. Raises UserError when not one picture could be judged."""
    if not len(answers.rows):
        first = f"; the first: {answers.bad[0].where}: {answers.bad[0].reason}" if answers.bad else ""
        raise UserError(f"not one picture can be judged{first}", "", "Give validation data with readable pictures.")
    judgement = judge_detection(
        answers.truths,
        answers.found,
        judging.class_names,
        overlap_threshold=judging.overlap_threshold,
        ap_form=judging.ap_form,
        coco=judging.coco,
        confidence=judging.confidence,
    )
    return Verdict(
        judgement.objective, figures(judgement), judgement.to_dict(), answers.bad, dict(judgement.thresholds)
    )
