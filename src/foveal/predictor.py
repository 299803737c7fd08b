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
from foveal.algorithms.classification import probabilities
from foveal.algorithms.detection import ASKING_BATCH as DETECTED_TOGETHER
from foveal.algorithms.detection import NAME as DETECTION
from foveal.algorithms.detection import detections, suppression_of
from foveal.artifact import Artifact, check_fit, expect_algorithm, open_artifact
from foveal.data.given import decode_given
from foveal.data.views import Preprocessing, views
from foveal.errors import BadPicture, UserError
from foveal.models.detector import Detector, DetectorSpec, build_detector
from foveal.models.device import choose_device, place
from foveal.models.network import ClassificationNetwork, NetworkSpec, build
from foveal.records import Detections

UNKNOWN_THRESHOLD = 0.5  # confidence from which a class is told that had no objects to find its best one by


@dataclass(frozen=True)
class Prediction:
    """The answer of a classifier for one picture.

    Attributes:
        picture: its path, or ``picture 3`` for one that was not given by a path.
        label: the class name of the highest score, or None when no score reaches ``min_score``.
        index: that class's index, or None.
        score: its probability, 0..1, also when it is below ``min_score``.
        top: the best classes with their probabilities, highest first.
        probabilities: float32 [num_classes], in the order of the model's ``class_names``.
    """

    picture: str
    label: str | None
    index: int | None
    score: float
    top: tuple[tuple[str, float], ...]
    probabilities: NDArray[np.float32]


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
        """What the network sees of a picture: uint8 [h, w, channels], after the artifact's preprocessing rule."""
        return self._seen(image, name)[0]

    def _seen(self, image: Any, name: str) -> tuple[NDArray[np.uint8], tuple[int, int]]:
        decoded = decode_given(image, self.rule.channels, name)
        return views(self.rule, decoded)[0].pixels, (decoded.shape[1], decoded.shape[0])

    def _batches(self, images: Iterable[Any], batch_size: int) -> Iterator[_Batch]:
        numbered = enumerate(images)
        while chunk := list(islice(numbered, batch_size)):
            names, pixels, sizes, problems = [], [], [], []
            for number, image in chunk:
                names.append(str(image) if isinstance(image, str | Path) else f"picture {number}")
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
        artifact: what the model is and what came of its training.
    """

    network: ClassificationNetwork

    def predict(self, images: Any, *, top_k: int = 5, min_score: float = 0.0) -> list[Prediction]:
        """Classify pictures.

        Args:
            images: one picture or a sequence of them: a path, encoded bytes, a PIL image, or an array uint8
                [H, W, 3], [H, W, 1] or [H, W] (RGB or grey, upright).
            top_k: how many classes ``Prediction.top`` holds.
            min_score: below it ``label`` and ``index`` are None.

        Raises:
            UserError: for what is no picture; BadPicture for one that cannot be read.
        """
        return _readable(self.stream(_listed(images), top_k=top_k, min_score=min_score))

    def stream(
        self, images: Iterable[Any], *, top_k: int = 5, min_score: float = 0.0, batch_size: int = CLASSIFIED_TOGETHER
    ) -> Iterator[Prediction | Unreadable]:
        """Like ``predict`` for any number of pictures in bounded memory; unreadable ones are named and passed over."""
        for batch in self._batches(images, batch_size):
            ready = iter(probabilities(self.network, batch.pixels).numpy())
            for name, problem in zip(batch.names, batch.problems, strict=True):
                yield Unreadable(name, problem) if problem else self._answer(name, next(ready), top_k, min_score)

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

    def _answer(self, name: str, scores: NDArray[np.float32], top_k: int, min_score: float) -> Prediction:
        best = np.argsort(-scores, kind="stable")[:top_k]
        first = int(best[0])
        sure = float(scores[first]) >= min_score
        return Prediction(
            picture=name,
            label=self.class_names[first] if sure else None,
            index=first if sure else None,
            score=float(scores[first]),
            top=tuple((self.class_names[each], float(scores[each])) for each in best.tolist()),
            probabilities=scores,
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
                that the network gives, up to ``nms_topk`` a picture.
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
    ) -> Iterator[Detected | Unreadable]:
        """Like ``predict`` for any number of pictures in bounded memory; unreadable ones are named and passed over."""
        least = self.least(min_score, classes)
        for batch in self._batches(images, batch_size):
            ready = iter(detections(self.network, batch.pixels, batch.sizes, self.suppression))
            for name, problem in zip(batch.names, batch.problems, strict=True):
                yield Unreadable(name, problem) if problem else self._answer(name, next(ready), least)

    def least(self, min_score: float | None, classes: Collection[str] | None) -> NDArray[np.float64]:
        """The confidence from which each class is told: float64 [num_classes]; above 1 for classes not looked for."""
        classes = (classes,) if isinstance(classes, str) else classes
        unknown = sorted(set(classes or ()) - set(self.class_names))
        if unknown:
            raise UserError(
                f"the model has no class {', '.join(map(repr, unknown[:5]))}",
                "classes",
                f"It knows {', '.join(self.class_names[:20])}{', ...' if len(self.class_names) > 20 else ''}.",
            )
        each = [self.thresholds.get(name, UNKNOWN_THRESHOLD) if min_score is None else min_score
                for name in self.class_names]  # fmt: skip
        wanted = [classes is None or name in classes for name in self.class_names]
        return np.where(wanted, each, np.inf)

    def _answer(self, name: str, found: Detections, least: NDArray[np.float64]) -> Detected:
        kept = found.scores >= least[found.cls]
        found = Detections(found.values[kept], found.cls[kept], found.scores[kept], found.size)
        rows = zip(found.cls.tolist(), found.scores.tolist(), found.pixels.tolist(), found.values.tolist(), strict=True)
        objects = tuple(
            Detection(self.class_names[cls], cls, score, tuple(box), tuple(fractions))
            for cls, score, box, fractions in rows
        )
        return Detected(name, found.size, objects, found)


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
