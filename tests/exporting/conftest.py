"""Small models as artifacts, and pictures as people have them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from foveal.algorithms.classification import NAME as CLASSIFICATION
from foveal.algorithms.detection import NAME as DETECTION
from foveal.artifact import Artifact, write_artifact
from foveal.data.views import Preprocessing
from foveal.models.detector import DetectorSpec, build_detector
from foveal.models.network import NetworkSpec, build

NAMES = ("disc", "square", "triangle")
NORMAL: Any = {"mean": (120.0, 115.0, 100.0), "std": (58.0, 57.0, 59.0)}
SUPPRESSION = {"nms_threshold": 0.45, "nms_topk": 100}


def write_classifier(folder: Path, spec: NetworkSpec, rule: Preprocessing | None = None, **more: Any) -> Path:
    """An artifact with random weights; ``more`` are fields of its description."""
    channels, height, width = spec.image_shape
    torch.manual_seed(1)
    network = build(spec)
    rule = rule or Preprocessing("crop", channels, height, width, height + 4)
    fields = {"settings": {}} | more
    write_artifact(
        folder, Artifact(CLASSIFICATION, spec.as_dict(), NAMES, rule.to_dict(), **fields), network.state_dict()
    )
    return folder


def write_detector(folder: Path, spec: DetectorSpec, sharper: float = 1.0, **settings: Any) -> Path:
    """An artifact with random weights; ``sharper`` multiplies the last filters of the classes, and sets
    their scores further apart."""
    torch.manual_seed(1)
    network = build_detector(spec)
    tensors = {
        name: tensor * sharper if name in network.prediction_names and name.endswith("weight") else tensor
        for name, tensor in network.state_dict().items()
    }
    rule = Preprocessing("squeeze", *spec.image_shape)
    fields = {"settings": SUPPRESSION | settings, "thresholds": {"disc": 0.4, "square": 0.3}}
    write_artifact(folder, Artifact(DETECTION, spec.as_dict(), NAMES, rule.to_dict(), **fields), tensors)
    return folder


def write_mixed(folder: Path, count: int, longest: int = 200) -> list[Path]:
    """Pictures of sides from 20 to ``longest``, JPEG and PNG, turned by EXIF, grey, CMYK, with alpha or a palette."""
    rng = np.random.default_rng(3)
    folder.mkdir(parents=True, exist_ok=True)
    files = []
    for number in range(count):
        height, width = rng.integers(20, longest, size=2)
        small = rng.integers(0, 256, (height // 4 + 1, width // 4 + 1, 3), dtype=np.uint8)
        mode = {1: "L", 2: "CMYK", 3: "RGBA", 4: "P"}.get(number % 7, "RGB")
        image = Image.fromarray(small).resize((int(width), int(height))).convert(mode)
        exif = Image.Exif()
        exif[0x0112] = 1 + number % 8  # orientation
        files.append(folder / f"{number:04d}.{'png' if mode in ('RGBA', 'P') else 'jpg'}")
        image.save(files[-1], exif=exif.tobytes())
    return files


@pytest.fixture(scope="session")
def classifier_of() -> Callable[..., Path]:
    return write_classifier


@pytest.fixture(scope="session")
def detector_of() -> Callable[..., Path]:
    return write_detector


@pytest.fixture(scope="session")
def mixed_of() -> Callable[..., list[Path]]:
    return write_mixed


@pytest.fixture(scope="session")
def mixed(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """56 pictures: each kind with each orientation."""
    return write_mixed(tmp_path_factory.mktemp("mixed"), 56)


@pytest.fixture(scope="session")
def classifier(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The model's folder, in a run's folder, of a ResNet-20 for 28 x 28 pixels."""
    spec = NetworkSpec("resnet", 3, (3, 28, 28), 20, "pre", **NORMAL)
    return write_classifier(tmp_path_factory.mktemp("classifier") / "run" / "model", spec)
