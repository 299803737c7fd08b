"""A thousand pictures as people have them: training, evaluate, predict, onnxruntime and OpenVINO say the same."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import foveal
from foveal.exporting import engines
from foveal.exporting.agreement import TOLERANCE
from foveal.exporting.export import compare
from foveal.models.detector import DetectorSpec
from foveal.models.network import NetworkSpec
from foveal.predictor import DetectionPredictor, Predictor

pytestmark = pytest.mark.slow

COUNT = 1000
NORMAL: Any = {"mean": (120.0, 115.0, 100.0), "std": (58.0, 57.0, 59.0)}
CLASSIFIERS = {
    "ResNet-18 pre": NetworkSpec("resnet", 3, (3, 64, 64), 18, "pre", **NORMAL),
    "ResNet-18 post": NetworkSpec("resnet", 3, (3, 64, 64), 18, "post", **NORMAL),
    "ResNet-20 grey": NetworkSpec("resnet", 3, (1, 28, 28), 20, "pre", mean=(120.0,), std=(60.0,)),
    "VGG-16": NetworkSpec("vgg", 3, (3, 32, 32), 16, **NORMAL),
    "timm": NetworkSpec("timm", 3, (3, 96, 96), backbone="tf_efficientnet_lite0", **NORMAL),
}
DETECTORS = {
    "SSD VGG": DetectorSpec("vgg-16", 3, (3, 300, 300), width=0.25, **NORMAL),
    "SSD ResNet-50": DetectorSpec("resnet-50", 3, (3, 256, 256), "pre", width=0.25, **NORMAL),
    "SSD timm": DetectorSpec("mobilenetv3_small_050", 3, (3, 256, 256), **NORMAL),
    "pyramid timm": DetectorSpec("mobilenetv3_small_050", 3, (3, 256, 256), head="pyramid", **NORMAL),
}
SHARPER = {"SSD VGG": 20.0, "pyramid timm": 40.0}  # with random weights their scores hardly differ


@pytest.fixture(scope="module")
def thousand(tmp_path_factory: pytest.TempPathFactory, mixed_of: Callable[..., list[Path]]) -> list[Path]:
    if any(find_spec(package) is None for package in ("timm", "onnx", "onnxscript", "onnxruntime", "openvino")):
        pytest.skip("needs foveal[timm,export,openvino]")
    return mixed_of(tmp_path_factory.mktemp("thousand"), COUNT, 400)


def exported(model: Path, folder: Path) -> Iterator[engines.Engine]:
    """The model's graphs, in the engine of each."""
    for form in ("onnx", "openvino"):
        done = foveal.export(model, folder / f"graph{'.onnx' if form == 'onnx' else '.xml'}")
        yield engines.open_graph(done.files[0], form)


def seen(model: Predictor | DetectionPredictor, files: list[Path]) -> NDArray[np.uint8]:
    return np.stack([model.pixels(file) for file in files])


@pytest.mark.parametrize("name", CLASSIFIERS)
def test_classifiers(name: str, thousand: list[Path], classifier_of: Callable[..., Path], tmp_path: Path) -> None:
    folder = classifier_of(tmp_path / "model", CLASSIFIERS[name])
    model: Any = foveal.load(folder)
    expected = np.stack([answer.probabilities for answer in model.predict(thousand)])
    pixels = seen(model, thousand)
    for engine in exported(folder, tmp_path):
        found = np.concatenate([engine(pixels[start : start + 64]) for start in range(0, COUNT, 64)])
        assert np.abs(found - expected).max() <= TOLERANCE
        assert found.argmax(axis=1).tolist() == expected.argmax(axis=1).tolist()


@pytest.mark.parametrize("name", DETECTORS)
def test_detectors(name: str, thousand: list[Path], detector_of: Callable[..., Path], tmp_path: Path) -> None:
    folder = detector_of(tmp_path / "model", DETECTORS[name], SHARPER.get(name, 1.0))
    model: Any = foveal.load(folder)
    boxes = sum(len(answer.objects) for answer in model.stream(thousand, min_score=0))
    pixels = seen(model, thousand)
    for engine in exported(folder, tmp_path):
        agreement = compare(model, engine, pixels)
        assert agreement.wrong == ()
        assert agreement.boxes == boxes > 10 * COUNT
        assert agreement.difference <= TOLERANCE


def test_a_trained_classifier_from_its_last_validation_on(
    thousand: list[Path], shapes_folder: Path, tmp_path: Path
) -> None:
    settings = {"num_layers": 20, "image_shape": "3,32,32", "epochs": 4, "mini_batch_size": 8}
    result = foveal.train(shapes_folder, tmp_path / "run", use_pretrained_model=0, **settings)
    validated = foveal.evaluate(result.model, shapes_folder, split="validation").verdict.figures
    assert {name: validated[name] for name in result.figures} == result.figures
    names = ("disc", "square", "triangle")
    for number, file in enumerate(thousand):
        place = tmp_path / "data" / names[number % 3] / file.name
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(file.read_bytes())
    judged = foveal.evaluate(result.model, tmp_path / "data", split="all").verdict.figures
    model: Any = foveal.load(result.model)
    labels = np.arange(COUNT) % 3
    expected = np.stack([answer.probabilities for answer in model.predict(thousand)])
    assert judged["accuracy"] == (expected.argmax(axis=1) == labels).mean()
    pixels = seen(model, thousand)
    for engine in exported(Path(result.model), tmp_path):
        found = np.concatenate([engine(pixels[start : start + 64]) for start in range(0, COUNT, 64)])
        assert np.abs(found - expected).max() <= TOLERANCE
        assert found.argmax(axis=1).tolist() == expected.argmax(axis=1).tolist()
        assert judged["accuracy"] == (found.argmax(axis=1) == labels).mean()
