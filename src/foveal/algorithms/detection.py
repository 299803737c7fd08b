"""Object detection: what it teaches, what it counts, and how it is asked.

As in classification, asking happens in one place, ``ask``: validation during training, ``evaluate`` and ``predict``
all go through ``detections``, which is why their figures agree.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
from numpy.random import Generator, Philox
from numpy.typing import NDArray
from torch import Tensor, nn

from foveal.algorithms.algorithm import Algorithm, Loss, Verdict
from foveal.algorithms.asking import ask_each, run_network
from foveal.algorithms.tiling import ask_in_tiles
from foveal.data.boxaugment import augment_boxes, collate_boxes
from foveal.data.loader import Batch, Decoder, Prepare, Prepared
from foveal.data.mosaic import with_mosaics
from foveal.data.order import picture_generator
from foveal.data.views import Preprocessing
from foveal.errors import UserError
from foveal.judging import figures, judge_detection
from foveal.metrics.detection import ApForm
from foveal.models.alignment import align, pyramid_loss
from foveal.models.detector import Detector, Head, Outputs, found
from foveal.models.matching import match_anchors, ssd_loss
from foveal.models.pyramid import boxes_around
from foveal.models.suppression import Rule
from foveal.models.suppression import detections as found_in
from foveal.records import BadRecord, Boxes, Detections, Label

NAME = "object-detection"
SIDE_STEP = 32  # pixels between two sides that steps are taken at: the coarsest stride of the maps
_SIDE = 0x73696465  # key of the counter-based generator
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


@dataclass(frozen=True)
class Teaching:
    """How training pictures are varied and what answers cost.

    Attributes:
        head: of the network.
        augmentation: level of ``augment_boxes``. flip: whether it may mirror.
        negatives_per_empty_picture: SSD's anchors that learn background where there are no objects.
        weights: float32 [C], by which objects of each class count; None: 1.
        mosaic: share of the training pictures that become mosaics, in passes before ``mosaic_until``.
        sides: of the network's input, in pixels, of which each step takes one; empty: the rule's.
    """

    head: Head = "ssd"
    augmentation: str = "ssd"
    flip: bool = True
    negatives_per_empty_picture: int = 0
    weights: Tensor | None = None
    mosaic: float = 0.0
    mosaic_until: int = 0
    sides: tuple[int, ...] = ()


def detection(rule: Preprocessing, teaching: Teaching, suppression: Rule, judging: Judging, workers: int) -> Algorithm:
    """The functions of object detection for one preprocessing rule."""

    def prepare(image: NDArray[np.uint8], label: Label, rng: np.random.Generator) -> tuple[NDArray[np.uint8], Any]:
        assert isinstance(label, Boxes)
        return augment_boxes(image, label, rule, rng, teaching.augmentation, teaching.flip)

    def answers(network: nn.Module, pictures: Decoder, rows: range) -> Answers:
        assert isinstance(network, Detector)
        return collect(ask(network, pictures, rule, suppression, workers, rows))

    def judge(parts: Sequence[Answers]) -> Verdict:
        return verdict(together(parts), judging)

    terms = ("cross_entropy", "smooth_l1") if teaching.head == "ssd" else ("class_loss", "box_loss")
    return Algorithm(
        name=NAME,
        prepare=prepare,
        collate=collate_boxes,
        loss=lambda outputs, targets: loss(teaching, outputs, targets),
        counted=(*terms, "targets"),
        figures=train_figures,
        ask=answers,
        judge=judge,
        terms=2,
        preparing=(lambda *at: preparing(rule, teaching, *at)) if teaching.mosaic or teaching.sides else None,
    )


def preparing(rule: Preprocessing, teaching: Teaching, pictures: Decoder, seed: int, step: int) -> Prepare:
    """What prepares the pictures of a step: at the step's side, and some as mosaics."""
    if teaching.sides:
        side = teaching.sides[int(Generator(Philox(key=[seed, _SIDE], counter=step)).integers(len(teaching.sides)))]
        rule = replace(rule, height=side, width=side)

    def prepare(image: NDArray[np.uint8], label: Label, row: int, number: int) -> Prepared:
        assert isinstance(label, Boxes)
        rng = picture_generator(seed, number, row)
        return augment_boxes(image, label, rule, rng, teaching.augmentation, teaching.flip)

    some = with_mosaics(prepare, pictures, rule, teaching.mosaic, teaching.flip, seed)

    def prepare_in_time(image: NDArray[np.uint8], label: Label, row: int, number: int) -> Prepared:
        return (some if number < teaching.mosaic_until else prepare)(image, label, row, number)

    return prepare_in_time


def sides_around(side: int, reach: float, least: int) -> tuple[int, ...]:
    """Sides of pictures, in pixels, in steps of ``SIDE_STEP`` around ``side``, up to ``reach`` of it smaller or larger.

    Args:
        least: the smallest that the network takes.
    """
    steps = int(side * reach / SIDE_STEP + 1e-9)
    return tuple(each for k in range(-steps, steps + 1) if (each := side + k * SIDE_STEP) >= least)


def loss(teaching: Teaching, outputs: Outputs, labels: Tensor) -> Loss:
    """The two terms of a batch, for classes and for boxes: SSD's (reference 6.4, 6.5), or the pyramid's.

    In a pyramid every place of every picture learns, also where there are no objects.

    Args:
        outputs: of the network.
        labels: float32 [B, M, 6], rows (class, xmin, ymin, xmax, ymax, difficult) as fractions, padded with -1.
    """
    logits, offsets, anchors = outputs
    weights = None if teaching.weights is None else teaching.weights.to(logits.device)
    if teaching.head == "pyramid":
        boxes = boxes_around(anchors, offsets)
        targets = align(anchors, logits.detach(), boxes.detach(), labels)
        return Loss(*pyramid_loss(logits, boxes, targets, weights))
    matched = match_anchors(
        anchors, labels, logits.detach(), negatives_per_empty_picture=teaching.negatives_per_empty_picture
    )
    return Loss(*ssd_loss(logits, offsets, matched, weights))


def train_figures(sums: Mapping[str, float], pictures: int) -> dict[str, float]:
    """The two losses as figures, each divided by the number of ``targets``: with SSD the anchors that count, as the
    original does (reference 2.5)."""
    targets = max(1.0, sums["targets"])
    return {name: value / targets for name, value in sums.items() if name != "targets"}


def ask(
    network: Detector,
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

    if rule.kind == "tiles":
        tile_rows = partial(rows_of, network, suppression=suppression)
        return ask_in_tiles(pictures, rule, suppression, workers, rows, batch_size, tile_rows)
    return ask_each(pictures, rule, workers, rows, batch_size, list, answer)


def detections(
    network: Detector, pixels: Tensor, sizes: Sequence[tuple[int, int]], suppression: Rule
) -> list[Detections]:
    """What is found in each picture of a batch.

    Args:
        network: put into evaluation mode here.
        pixels: uint8 [B, H, W, 3] at the network's size; B may be 0.
        sizes: (width, height) of each upright picture, in pixels.
    """
    if not len(pixels):
        return []
    rows = rows_of(network, pixels, suppression)
    return [found_in(each, size) for each, size in zip(rows, sizes, strict=True)]


def rows_of(network: Detector, pixels: Tensor, suppression: Rule) -> Tensor:
    """The rows of ``models.suppression.detect`` for a batch, uint8 [B, H, W, 3] with B > 0, on the CPU."""
    return run_network(network, pixels, lambda outputs: found(network.spec.head, outputs, suppression).cpu())


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
