"""Labelled pictures in memory, models that are not asked, and answers made by hand."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from PIL import Image

from foveal.artifact import Artifact
from foveal.data.views import Preprocessing
from foveal.models.detector import DetectorSpec, build_detector
from foveal.models.network import NetworkSpec, build
from foveal.predictor import DetectionPredictor, Predictor
from foveal.records import Boxes, Detections, Sample


@dataclass(frozen=True)
class Pictures:
    """A source: grey pictures of these sizes (width, height), with these labels."""

    sizes: Sequence[tuple[int, int]]
    given: Sequence[Any]
    form: str = "memory"
    origin: str = "memory"

    def __len__(self) -> int:
        return len(self.given)

    def where(self, index: int) -> str:
        return f"picture <{index}>.png"

    def read(self, index: int) -> Sample:
        kept = io.BytesIO()
        Image.new("RGB", self.sizes[index % len(self.sizes)], (90, 120, 90)).save(kept, "PNG")
        return Sample(str(index), kept.getvalue(), self.given[index])


def classifier(names: tuple[str, ...], several: bool = False, temperature: float | None = None) -> Predictor:
    spec = NetworkSpec("resnet", len(names), (3, 28, 28), 20, "pre", width=0.5)
    artifact = Artifact(
        "image-classification", spec.as_dict(), names, {}, {"multi_label": several}, epoch=3,
        thresholds=dict.fromkeys(names, 0.4) if several else {},
        calibration={} if temperature is None else {"temperature": temperature},
    )  # fmt: skip
    return Predictor(build(spec), Preprocessing("crop", 3, 28, 28, 32), artifact)


def detector(names: tuple[str, ...]) -> DetectionPredictor:
    spec = DetectorSpec("resnet-50", len(names), (3, 64, 64), "post", width=0.125)
    settings = {"nms_threshold": 0.45, "nms_topk": 400, "overlap_threshold": 0.5, "ap_form": "area"}
    artifact = Artifact("object-detection", spec.as_dict(), names, {}, settings, thresholds=dict.fromkeys(names, 0.5))
    return DetectionPredictor(build_detector(spec), Preprocessing("squeeze", 3, 64, 64), artifact)


def truth(size: tuple[int, int], *rows: tuple[int, tuple[float, float, float, float]]) -> Boxes:
    """(class, box in pixels) each."""
    nothing = np.zeros(len(rows), bool)
    return Boxes(
        np.array([box for _, box in rows], np.float32).reshape(-1, 4), np.array([cls for cls, _ in rows], np.int64),
        "pixel", "upright", nothing, nothing, np.zeros((len(rows), 0), np.float32), size,
    )  # fmt: skip


def found(size: tuple[int, int], *rows: tuple[int, float, tuple[float, float, float, float]]) -> Detections:
    """(class, score, box in pixels) each, by falling score."""
    boxes = np.array([box for _, _, box in rows], np.float32).reshape(-1, 4)
    return Detections(
        boxes / np.array([*size, *size], np.float32), np.array([cls for cls, _, _ in rows], np.int64),
        np.array([score for _, score, _ in rows], np.float32), size,
    )  # fmt: skip


@dataclass(frozen=True)
class Kit:
    """What the tests here build with."""

    pictures: Callable[..., Any] = Pictures
    classifier: Callable[..., Predictor] = classifier
    detector: Callable[..., DetectionPredictor] = detector
    truth: Callable[..., Boxes] = truth
    found: Callable[..., Detections] = found


@pytest.fixture(scope="session")
def kit() -> Kit:
    return Kit()
