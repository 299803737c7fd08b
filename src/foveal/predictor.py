"""Asking a trained model: pictures in, names and scores or boxes out.

>>> model = foveal.load("model.tar.gz")
>>> model.predict("cat.jpg")[0].label
'cat'
>>> detector = foveal.load("detector/model.tar.gz")
>>> detector.predict("street.jpg")[0].objects[0].box
(17.0, 40.5, 210.2, 301.9)
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from foveal.algorithms.asking import exact_float32
from foveal.algorithms.classification import ASKING_BATCH as CLASSIFIED_TOGETHER
from foveal.algorithms.classification import NAME as CLASSIFICATION
from foveal.algorithms.classification import answer_logits, probabilities
from foveal.algorithms.detection import ASKING_BATCH as DETECTED_TOGETHER
from foveal.algorithms.detection import NAME as DETECTION
from foveal.algorithms.detection import detections, rows_of, suppression_of
from foveal.algorithms.tiling import Watch, detect_in_tiles
from foveal.artifact import Artifact, check_fit, expect_algorithm, open_artifact
from foveal.data.given import decode_given
from foveal.data.views import Preprocessing, View, tile_view, tiles, views
from foveal.errors import BadPicture, UserError
from foveal.explain import Explained, Maps, box_maps, label_maps, spread_out
from foveal.models.detector import Detector, DetectorSpec, build_detector
from foveal.models.device import choose_device, place
from foveal.models.network import ClassificationNetwork, NetworkSpec, build
from foveal.records import Detections

EXPLAINED = 10  # boxes of a picture that are explained when nothing else is asked for
UNKNOWN_THRESHOLD = 0.5  # from where a class is told that had nothing in the validation data to find its best by


@dataclass(frozen=True)
class Prediction:
    """The answer of a classifier for one picture.

    Attributes:
        picture: its path, or ``picture 3`` for one that was not given by a path.
        label: the class name of the highest score, or None when no score reaches ``min_score``. Of a model that gives
            any number of labels, the first of ``labels``.
        index: that class's index, or None.
        score: its probability, 0..1; where ``label`` is None, the highest of all.
        top: the best classes with their probabilities, highest first.
        probabilities: float32 [num_classes], in the order of the model's ``class_names``.
        labels: names of the classes that are told, the most probable first: ``label`` alone or none; of a model that
            gives any number of labels, each that reaches its threshold.
    """

    picture: str
    label: str | None
    index: int | None
    score: float
    top: tuple[tuple[str, float], ...]
    probabilities: NDArray[np.float32]
    labels: tuple[str, ...] = ()


@dataclass(frozen=True)
class Detection:
    """One object that a detector found.

    Attributes:
        label, index: its class. score: the confidence, 0..1.
        box: xmin, ymin, xmax, ymax in pixels of the upright picture.
        fractions: the same as fractions of its sides, 0..1.
    """

    label: str
    index: int
    score: float
    box: tuple[float, float, float, float]
    fractions: tuple[float, float, float, float]


@dataclass(frozen=True)
class Detected:
    """The answer of a detector for one picture.

    Attributes:
        picture: its path, or ``picture 3`` for one that was not given by a path.
        size: (width, height) of the upright picture in pixels.
        objects: what was found, the most confident first.
        found: the same as arrays.
    """

    picture: str
    size: tuple[int, int]
    objects: tuple[Detection, ...]
    found: Detections


@dataclass(frozen=True)
class Unreadable:
    """A picture that could not be read, and why."""

    picture: str
    reason: str


class _Asking:
    """What both kinds of model share: pictures of any kind, in bounded memory.

    Attributes:
        class_names: names in label order.
        artifact: what the model is and what came of its training.
    """

    def __init__(self, network: nn.Module, rule: Preprocessing, artifact: Artifact) -> None:
        self.network = network
        self.rule = rule
        self.artifact = artifact
        self.class_names = artifact.class_names

    def pixels(self, image: Any, name: str = "picture") -> NDArray[np.uint8]:
        """What the network sees of a picture: uint8 [h, w, channels], after the artifact's preprocessing rule; of a
        rule of tiles the first one."""
        return self._seen(image, name)[0]

    def _seen(self, image: Any, name: str) -> tuple[NDArray[np.uint8], tuple[int, int]]:
        view, size = self._viewed(image, name)
        return view.pixels, size

    def _viewed(self, image: Any, name: str) -> tuple[View, tuple[int, int]]:
        decoded = decode_given(image, self.rule.channels, name)
        return views(self.rule, decoded)[0], (decoded.shape[1], decoded.shape[0])

    def _spread(
        self, maps: Iterable[Maps], view: View, size: tuple[int, int], longest: int | None
    ) -> Iterator[NDArray[np.float32]]:
        """Heat over a picture of ``size`` (width, height), with its longer side at most ``longest``."""
        width, height = size
        share = min(1.0, (longest or max(size)) / max(size))
        seen = (max(1, round(height * share)), max(1, round(width * share)))
        for each in maps:
            yield spread_out(each, view.affine, (self.rule.height, self.rule.width), (height, width), seen)

    def _batches(self, images: Iterable[Any], batch_size: int) -> Iterator[_Batch]:
        numbered = enumerate(images)
        while chunk := list(islice(numbered, batch_size)):
            names, pixels, sizes, problems = [], [], [], []
            for number, image in chunk:
                names.append(_name_of(image, number))
                try:
                    seen, size = self._seen(image, names[-1])
                except BadPicture as error:
                    problems.append(error.what)
                else:
                    pixels.append(seen)
                    sizes.append(size)
                    problems.append("")
            shape = (0, self.rule.height, self.rule.width, self.rule.channels)
            stacked = torch.from_numpy(np.stack(pixels)) if pixels else torch.zeros(shape, dtype=torch.uint8)
            yield _Batch(names, stacked, sizes, problems)


@dataclass(frozen=True)
class _Batch:
    """Names of pictures, the pixels and sizes of those that can be read, and what is wrong with each ("": nothing)."""

    names: list[str]
    pixels: torch.Tensor
    sizes: list[tuple[int, int]]
    problems: list[str]


def _name_of(image: Any, number: int) -> str:
    return str(image) if isinstance(image, str | Path) else f"picture {number}"


def _listed(images: Any) -> Sequence[Any]:
    return images if isinstance(images, Sequence) and not isinstance(images, str | bytes) else [images]


A = TypeVar("A")


def _readable(answers: Iterator[A | Unreadable]) -> list[A]:
    """All answers; raises BadPicture for the first picture that cannot be read."""
    found: list[A] = []
    for answer in answers:
        if isinstance(answer, Unreadable):
            raise BadPicture(answer.reason, answer.picture)
        found.append(answer)
    return found


class Predictor(_Asking):
    """A classifier ready to answer. Made by ``load``; its methods may be called from several threads.

    Attributes:
        class_names: names in label order.
        several: whether it gives any number of labels a picture.
        temperature: what logits are divided by; None: nothing.
        thresholds: where it gives several labels, class name -> the probability that is best by F1 on the validation
            pictures.
        artifact: what the model is and what came of its training.
    """

    network: ClassificationNetwork

    def __init__(self, network: ClassificationNetwork, rule: Preprocessing, artifact: Artifact) -> None:
        super().__init__(network, rule, artifact)
        self.several = bool(artifact.settings.get("multi_label"))
        self.temperature: float | None = artifact.calibration.get("temperature")
        self.thresholds: Mapping[str, float] = artifact.thresholds

    def predict(self, images: Any, *, top_k: int = 5, min_score: float | None = None) -> list[Prediction]:
        """Classify pictures.

        Args:
            images: one picture or a sequence of them: a path, encoded bytes, a PIL image, or an array uint8
                [H, W, 3], [H, W, 1] or [H, W] (RGB or grey, upright).
            top_k: how many classes ``Prediction.top`` holds.
            min_score: classes of at least this probability are told; None: any, or where the model gives several
                labels, each class from its own in ``thresholds`` on.

        Raises:
            UserError: for what is no picture; BadPicture for one that cannot be read.
        """
        return _readable(self.stream(_listed(images), top_k=top_k, min_score=min_score))

    def stream(
        self,
        images: Iterable[Any],
        *,
        top_k: int = 5,
        min_score: float | None = None,
        batch_size: int = CLASSIFIED_TOGETHER,
    ) -> Iterator[Prediction | Unreadable]:
        """Like ``predict`` for any number of pictures in bounded memory; unreadable ones are named and passed over."""
        least = self.least(min_score)
        for batch in self._batches(images, batch_size):
            logits = answer_logits(self.network, batch.pixels, self.rule).numpy()
            ready = iter(probabilities(logits, self.several, self.temperature))
            for name, problem in zip(batch.names, batch.problems, strict=True):
                yield Unreadable(name, problem) if problem else self._answer(name, next(ready), top_k, least)

    def least(self, min_score: float | None) -> NDArray[np.float64]:
        """The probability from which each class is told: float64 [num_classes]."""
        if min_score is not None or not self.several:
            return np.full(len(self.class_names), min_score or 0.0)
        return np.array([self.thresholds.get(name, UNKNOWN_THRESHOLD) for name in self.class_names])

    def embed(
        self, images: Iterable[Any], *, batch_size: int = CLASSIFIED_TOGETHER
    ) -> Iterator[tuple[str, NDArray[np.float32] | Unreadable]]:
        """The penultimate features of each picture: (name, float32 [F] of length 1), or (name, Unreadable)."""
        device = next(self.network.parameters()).device
        for batch in self._batches(images, batch_size):
            self.network.eval()
            with torch.inference_mode(), exact_float32():
                features = torch.zeros((0, 1))
                if len(batch.pixels):
                    features = self.network.embed(batch.pixels.to(device)).float().cpu()
            ready = iter(torch.nn.functional.normalize(features, dim=1).numpy())
            for name, problem in zip(batch.names, batch.problems, strict=True):
                yield name, Unreadable(name, problem) if problem else next(ready)

    def explain(
        self,
        image: Any,
        *,
        labels: Collection[str] | None = None,
        min_score: float | None = None,
        longest: int | None = None,
    ) -> list[Explained]:
        """Where in a picture its labels come from (see ``foveal.explain``).

        Args:
            image: one picture, as ``predict`` takes it.
            labels: names of the classes to explain; None: those that ``predict`` tells, or else the likeliest.
            min_score: as of ``predict``.
            longest: the longer side of the heat maps in pixels; None: the picture's.

        Raises:
            UserError: as ``predict`` does, for classes that the model does not know, and for a network without maps.
        """
        answer = self.predict(image, top_k=1, min_score=min_score)[0]
        wanted = (labels,) if isinstance(labels, str) else labels
        if wanted is None:
            wanted = answer.labels or (answer.top[0][0],)
        check_classes(wanted, self.class_names, "labels")
        numbers = [self.class_names.index(name) for name in wanted]
        view, size = self._viewed(image, "picture")
        maps = label_maps(self.network, view.pixels, numbers, self.several)
        return [
            Explained(self.class_names[number], number, float(answer.probabilities[number]), heat)
            for number, heat in zip(numbers, self._spread(maps, view, size, longest), strict=True)
        ]

    def _answer(self, name: str, scores: NDArray[np.float32], top_k: int, least: NDArray[np.float64]) -> Prediction:
        order = np.argsort(-scores, kind="stable")
        told = [each for each in order[: None if self.several else 1].tolist() if scores[each] >= least[each]]
        first = told[0] if told else None
        return Prediction(
            picture=name,
            label=None if first is None else self.class_names[first],
            index=first,
            score=float(scores[order[0] if first is None else first]),
            top=tuple((self.class_names[each], float(scores[each])) for each in order[:top_k].tolist()),
            probabilities=scores,
            labels=tuple(self.class_names[each] for each in told),
        )


class DetectionPredictor(_Asking):
    """A detector ready to answer. Made by ``load``; its methods may be called from several threads.

    Attributes:
        class_names: names in label order.
        thresholds: class name -> the confidence that is best by F1 on the validation pictures.
        artifact: what the model is and what came of its training.
    """

    network: Detector

    def __init__(self, network: Detector, rule: Preprocessing, artifact: Artifact) -> None:
        super().__init__(network, rule, artifact)
        self.suppression = suppression_of(artifact.settings)
        self.thresholds: Mapping[str, float] = artifact.thresholds

    def predict(
        self, images: Any, *, min_score: float | None = None, classes: Collection[str] | None = None
    ) -> list[Detected]:
        """Find objects in pictures.

        Args:
            images: one picture or a sequence of them: a path, encoded bytes, a PIL image, or an array uint8
                [H, W, 3], [H, W, 1] or [H, W] (RGB or grey, upright).
            min_score: objects of at least this confidence; None: of at least their class's in ``thresholds``; 0: all
                that the network gives, up to ``nms_topk`` a picture (or a tile, where the model has tiles).
            classes: names of the classes to look for; None: all.

        Raises:
            UserError: for what is no picture, and for classes that the model does not know; BadPicture for a picture
                that cannot be read.
        """
        return _readable(self.stream(_listed(images), min_score=min_score, classes=classes))

    def stream(
        self,
        images: Iterable[Any],
        *,
        min_score: float | None = None,
        classes: Collection[str] | None = None,
        batch_size: int = DETECTED_TOGETHER,
        watch: Watch[str] | None = None,
    ) -> Iterator[Detected | Unreadable]:
        """Like ``predict`` for any number of pictures in bounded memory; unreadable ones are named and passed over.

        ``watch`` gets each picture's name and tiles, where the model has tiles, and passes these on: to see how far a
        large picture is.
        """
        least = self.least(min_score, classes)
        if self.rule.kind == "tiles":
            yield from self._stream_tiles(images, least, batch_size, watch)
            return
        for batch in self._batches(images, batch_size):
            ready = iter(detections(self.network, batch.pixels, batch.sizes, self.suppression))
            for name, problem in zip(batch.names, batch.problems, strict=True):
                yield Unreadable(name, problem) if problem else self._answer(name, next(ready), least)

    def _stream_tiles(
        self, images: Iterable[Any], least: NDArray[np.float64], batch_size: int, watch: Watch[str] | None
    ) -> Iterator[Detected | Unreadable]:
        problems: dict[str, str] = {}

        def decoded() -> Iterator[tuple[str, NDArray[np.uint8] | None]]:
            for number, image in enumerate(images):
                name = _name_of(image, number)
                try:
                    yield name, decode_given(image, self.rule.channels, name)
                except BadPicture as error:
                    problems[name] = error.what
                    yield name, None

        answer = partial(rows_of, self.network, suppression=self.suppression)
        for name, found in detect_in_tiles(decoded(), self.rule, self.suppression, answer, batch_size, watch):
            yield Unreadable(name, problems[name]) if found is None else self._answer(name, found, least)

    def least(self, min_score: float | None, classes: Collection[str] | None) -> NDArray[np.float64]:
        """The confidence from which each class is told: float64 [num_classes]; above 1 for classes not looked for."""
        classes = (classes,) if isinstance(classes, str) else classes
        check_classes(classes or (), self.class_names, "classes")
        each = [self.thresholds.get(name, UNKNOWN_THRESHOLD) if min_score is None else min_score
                for name in self.class_names]  # fmt: skip
        wanted = [classes is None or name in classes for name in self.class_names]
        return np.where(wanted, each, np.inf)

    def explain(
        self,
        image: Any,
        *,
        min_score: float | None = None,
        classes: Collection[str] | None = None,
        most: int = EXPLAINED,
        longest: int | None = None,
    ) -> list[Explained]:
        """What made each box of a picture (see ``foveal.explain``).

        Args:
            image: one picture, as ``predict`` takes it.
            min_score, classes: as of ``predict``.
            most: boxes that are explained, the most confident first.
            longest: the longer side of the heat maps in pixels; None: the picture's.

        Raises:
            UserError: as ``predict`` does, and for a network without maps.
        """
        answer = self.predict(image, min_score=min_score, classes=classes)[0]
        found, objects = answer.found, answer.objects[:most]
        best = Detections(found.values[:most], found.cls[:most], found.scores[:most], found.size)
        if self.rule.kind == "tiles":
            heats = self._heat_of_tiles(image, best, longest)
        else:
            view, size = self._viewed(image, "picture")
            heats = self._spread(box_maps(self.network, view.pixels, best), view, size, longest)
        return [
            Explained(each.label, each.index, each.score, heat, each.box)
            for each, heat in zip(objects, heats, strict=True)
        ]

    def _heat_of_tiles(self, image: Any, found: Detections, longest: int | None) -> Iterator[NDArray[np.float32]]:
        """Heat of each box, in the tile whose middle is nearest to the box's."""
        assert self.rule.tile_size is not None
        decoded, side = decode_given(image, self.rule.channels, "picture"), self.rule.tile_size
        every = tiles(decoded.shape[0], decoded.shape[1], side, self.rule.tile_overlap)
        middles = np.array([[left, top] for left, top, *_ in every]) + side / 2
        for cls, score, box in zip(found.cls, found.scores, found.pixels, strict=True):
            tile = every[int(np.abs(middles - (box[:2] + box[2:]) / 2).max(axis=1).argmin())]
            values = ((box - [*tile[:2], *tile[:2]]) / side).astype(np.float32)
            view = tile_view(self.rule, decoded, tile)
            maps = box_maps(self.network, view.pixels, Detections(values[None], cls[None], score[None], found.size))
            yield from self._spread(maps, view, found.size, longest)

    def _answer(self, name: str, found: Detections, least: NDArray[np.float64]) -> Detected:
        kept = found.scores >= least[found.cls]
        found = Detections(found.values[kept], found.cls[kept], found.scores[kept], found.size)
        rows = zip(found.cls.tolist(), found.scores.tolist(), found.pixels.tolist(), found.values.tolist(), strict=True)
        objects = tuple(
            Detection(self.class_names[cls], cls, score, tuple(box), tuple(fractions))
            for cls, score, box, fractions in rows
        )
        return Detected(name, found.size, objects, found)


def check_classes(names: Collection[str], known: tuple[str, ...], setting: str) -> None:
    """Raises UserError for names that are no class of the model's."""
    unknown = sorted(set(names) - set(known))
    if unknown:
        raise UserError(
            f"the model has no class {', '.join(map(repr, unknown[:5]))}",
            setting,
            f"It knows {', '.join(known[:20])}{', ...' if len(known) > 20 else ''}.",
        )


def load(path: str | Path, *, device: str = "auto", epoch: int | None = None) -> Predictor | DetectionPredictor:
    """Open an artifact for asking.

    Args:
        path: ``model.tar.gz``, its folder, or the folder of a training run.
        device: ``auto``, ``cpu``, ``cuda`` or ``mps``.
        epoch: one of the epochs stored with ``checkpoint_frequency`` (from 1), instead of the best.

    Returns:
        A ``Predictor`` for a classifier, a ``DetectionPredictor`` for a detector.

    Raises:
        UserError: when it is no artifact of ours, or a damaged one.
    """
    artifact, tensors = open_artifact(path, epoch)
    rule = Preprocessing.from_dict(artifact.preprocessing, str(path))
    if artifact.algorithm == DETECTION:
        detector = build_detector(DetectorSpec.from_dict(artifact.network, str(path)))
        _ready(detector, detector.spec.image_shape, rule, tensors, path, device)
        return DetectionPredictor(detector, rule, artifact)
    expect_algorithm(artifact, CLASSIFICATION, str(path))
    network = build(NetworkSpec.from_dict(artifact.network, str(path)))
    _ready(network, network.spec.image_shape, rule, tensors, path, device)
    return Predictor(network, rule, artifact)


def _ready(
    network: nn.Module,
    shape: tuple[int, int, int],
    rule: Preprocessing,
    tensors: Mapping[str, torch.Tensor],
    path: str | Path,
    device: str,
) -> None:
    """The stored weights into the network, on its device. Raises UserError where they or the rule do not fit."""
    if (rule.channels, rule.height, rule.width) != shape:
        raise UserError(
            f"the network takes pictures of {_size(shape)}, "
            f"preprocessing gives {_size((rule.channels, rule.height, rule.width))}",
            str(path),
            "Copy the artifact again.",
        )
    check_fit(network.state_dict(), tensors, str(path))
    network.load_state_dict(tensors)
    place(network, choose_device(device).device).eval()


def _size(shape: tuple[int, int, int]) -> str:
    return f"{shape[1]} x {shape[2]} pixels in {shape[0]} channels"
