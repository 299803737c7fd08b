"""Asking a trained model: pictures in, names and scores out.

>>> model = foveal.load("model.tar.gz")
>>> model.predict("cat.jpg")[0].label
'cat'
"""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from foveal.algorithms.classification import ASKING_BATCH, NAME, exact_float32, probabilities
from foveal.artifact import Artifact, check_fit, expect_algorithm, open_artifact
from foveal.data.decode import decode
from foveal.data.views import Preprocessing, views
from foveal.errors import BadPicture, UserError
from foveal.models.device import choose_device, place
from foveal.models.network import ClassificationNetwork, NetworkSpec, build

if TYPE_CHECKING:
    pass

Picture = "str | Path | bytes | NDArray[np.uint8] | Image"


@dataclass(frozen=True)
class Prediction:
    """The answer for one picture.

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
class Unreadable:
    """A picture that could not be read, and why."""

    picture: str
    reason: str


class Predictor:
    """A model ready to answer. Made by ``load``; its methods may be called from several threads.

    Attributes:
        class_names: names in label order.
        artifact: what the model is and what came of its training.
    """

    def __init__(self, network: ClassificationNetwork, rule: Preprocessing, artifact: Artifact) -> None:
        self.network = network
        self.rule = rule
        self.artifact = artifact
        self.class_names = artifact.class_names

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
        pictures = images if isinstance(images, Sequence) and not isinstance(images, str | bytes) else [images]
        answers: list[Prediction] = []
        for answer in self.stream(pictures, top_k=top_k, min_score=min_score):
            if isinstance(answer, Unreadable):
                raise BadPicture(answer.reason, answer.picture)
            answers.append(answer)
        return answers

    def stream(
        self, images: Iterable[Any], *, top_k: int = 5, min_score: float = 0.0, batch_size: int = ASKING_BATCH
    ) -> Iterator[Prediction | Unreadable]:
        """Like ``predict`` for any number of pictures in bounded memory; unreadable ones are named and passed over."""
        for names, pixels, problems in self._batches(images, batch_size):
            scores = probabilities(self.network, pixels).numpy()
            ready = iter(self._answer(row, top_k, min_score) for row in scores)
            for name, problem in zip(names, problems, strict=True):
                yield Unreadable(name, problem) if problem else _named(name, next(ready))

    def embed(self, images: Iterable[Any], *, batch_size: int = ASKING_BATCH) -> Iterator[tuple[str, Any]]:
        """The penultimate features of each picture: (name, float32 [F] of length 1), or (name, Unreadable)."""
        device = next(self.network.parameters()).device
        for names, pixels, problems in self._batches(images, batch_size):
            self.network.eval()
            with torch.inference_mode(), exact_float32():
                features = self.network.embed(pixels.to(device)).float().cpu() if len(pixels) else torch.zeros((0, 1))
            ready = iter(torch.nn.functional.normalize(features, dim=1).numpy())
            for name, problem in zip(names, problems, strict=True):
                yield name, Unreadable(name, problem) if problem else next(ready)

    def pixels(self, image: Any, name: str = "picture") -> NDArray[np.uint8]:
        """What the network sees of a picture: uint8 [h, w, channels], after the artifact's preprocessing rule."""
        decoded = _decoded(image, self.rule.channels, name)
        return views(self.rule, decoded)[0].pixels

    def _batches(self, images: Iterable[Any], batch_size: int) -> Iterator[tuple[list[str], torch.Tensor, list[str]]]:
        numbered = enumerate(images)
        while chunk := list(islice(numbered, batch_size)):
            names, pixels, problems = [], [], []
            for number, image in chunk:
                names.append(str(image) if isinstance(image, str | Path) else f"picture {number}")
                try:
                    pixels.append(self.pixels(image, names[-1]))
                    problems.append("")
                except BadPicture as error:
                    problems.append(error.what)
            shape = (0, self.rule.height, self.rule.width, self.rule.channels)
            stacked = torch.from_numpy(np.stack(pixels)) if pixels else torch.zeros(shape, dtype=torch.uint8)
            yield names, stacked, problems

    def _answer(self, scores: NDArray[np.float32], top_k: int, min_score: float) -> Prediction:
        best = np.argsort(-scores, kind="stable")[:top_k]
        first = int(best[0])
        sure = float(scores[first]) >= min_score
        return Prediction(
            picture="",
            label=self.class_names[first] if sure else None,
            index=first if sure else None,
            score=float(scores[first]),
            top=tuple((self.class_names[each], float(scores[each])) for each in best.tolist()),
            probabilities=scores,
        )


def _named(name: str, prediction: Prediction) -> Prediction:
    return Prediction(
        name, prediction.label, prediction.index, prediction.score, prediction.top, prediction.probabilities
    )


def _decoded(image: Any, channels: int, name: str) -> NDArray[np.uint8]:
    if isinstance(image, str | Path):
        try:
            return decode(Path(image).read_bytes(), channels, name)
        except OSError as error:
            raise BadPicture(f"can't be opened: {error.strerror}", name) from error
    if isinstance(image, bytes):
        return decode(image, channels, name)
    if isinstance(image, np.ndarray):
        return _array(image, channels, name)
    if hasattr(image, "save") and hasattr(image, "convert"):  # a PIL image, without importing Pillow to ask
        kept = io.BytesIO()
        image.save(kept, "PNG" if image.mode in ("1", "L", "P", "RGB", "RGBA", "LA", "I;16") else "TIFF")
        return decode(kept.getvalue(), channels, name)
    raise UserError(
        f"a {type(image).__name__} is no picture", name, "Give a path, encoded bytes, a PIL image or a uint8 array."
    )


def _array(image: NDArray[Any], channels: int, name: str) -> NDArray[np.uint8]:
    if image.ndim == 2:
        image = image[:, :, None]
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] not in (1, 3) or not image.size:
        raise UserError(
            f"an array of {image.dtype} {list(image.shape)} is no picture",
            name,
            "Give uint8 [H, W, 3] (RGB), [H, W, 1] or [H, W] (grey), values 0..255.",
        )
    if image.shape[2] == channels:
        return np.ascontiguousarray(image)
    if channels == 3:
        return np.repeat(image, 3, axis=2)
    grey = (image @ np.array([0.299, 0.587, 0.114])).round().astype(np.uint8)  # ITU-R BT.601, as Pillow and OpenCV
    return np.ascontiguousarray(grey[:, :, None])


def load(path: str | Path, *, device: str = "auto", epoch: int | None = None) -> Predictor:
    """Open an artifact for asking.

    Args:
        path: ``model.tar.gz``, its folder, or the folder of a training run.
        device: ``auto``, ``cpu``, ``cuda`` or ``mps``.
        epoch: one of the epochs stored with ``checkpoint_frequency`` (from 1), instead of the best.

    Raises:
        UserError: when it is no artifact of ours, or a damaged one.
    """
    artifact, tensors = open_artifact(path, epoch)
    expect_algorithm(artifact, NAME, str(path))
    spec = NetworkSpec.from_dict(artifact.network, str(path))
    rule = Preprocessing.from_dict(artifact.preprocessing, str(path))
    if (rule.channels, rule.height, rule.width) != spec.image_shape:
        raise UserError(
            f"the network takes pictures of {_size(spec.image_shape)}, "
            f"preprocessing gives {_size((rule.channels, rule.height, rule.width))}",
            str(path),
            "Copy the artifact again.",
        )
    network = build(spec)
    check_fit(network.state_dict(), tensors, str(path))
    network.load_state_dict(tensors)
    place(network, choose_device(device).device).eval()
    return Predictor(network, rule, artifact)


def _size(shape: tuple[int, int, int]) -> str:
    return f"{shape[1]} x {shape[2]} pixels in {shape[0]} channels"
