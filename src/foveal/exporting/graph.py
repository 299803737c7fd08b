"""A model as one graph: uint8 pictures in, probabilities or boxes out; normalisation and suppression are in it.

    input   pictures         uint8   [batch, height, width, channels], at the network's size
    output  probabilities    float32 [batch, classes]                  of a classifier
    output  rows             float32 [batch, N, 6]                     of a detector: class, score, xmin, ymin, xmax,
                                                                       ymax as fractions; class -1: does not count

What a graph does not do, and what its numbers mean, stands in its metadata, as JSON under the name ``foveal``.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from foveal.algorithms.classification import shares
from foveal.errors import UserError
from foveal.models.detector import Detector, found
from foveal.models.network import ClassificationNetwork
from foveal.models.suppression import Rule
from foveal.predictor import DetectionPredictor, Predictor

FORMAT = 1  # of the metadata
METADATA = "foveal"
INPUT = "pictures"
OPSET = 20
MOST_ROWS = 2_000  # of a picture; all pairs of them are compared, in some 25 bytes each
LARGEST = 2_000_000_000  # bytes of weights; a file of protobuf holds 2 GiB


class Classifying(nn.Module):
    """uint8 [B, H, W, C] -> probabilities, float32 [B, classes], as ``Predictor`` tells them."""

    output = "probabilities"

    def __init__(self, network: ClassificationNetwork, flip: bool, several: bool, temperature: float | None) -> None:
        super().__init__()
        self.network = network
        self.flip = flip
        self.several = several
        self.temperature = temperature

    def forward(self, pictures: Tensor) -> Tensor:
        logits = self.network(pictures)
        if self.flip:
            logits = (logits + self.network(pictures.flip(2))) / 2
        return shares(logits, self.several, self.temperature)


class Detecting(nn.Module):
    """uint8 [B, S, S, C] -> rows, float32 [B, N, 6], as ``suppression.detect_fixed`` gives them."""

    output = "rows"

    def __init__(self, network: Detector, rule: Rule) -> None:
        super().__init__()
        self.network = network
        self.rule = rule

    def forward(self, pictures: Tensor) -> Tensor:
        return found(self.network.spec.head, self.network(pictures), self.rule, fixed=True)


def module_of(model: Predictor | DetectionPredictor) -> Classifying | Detecting:
    """What is exported of a model, in evaluation mode."""
    if isinstance(model, DetectionPredictor):
        return Detecting(model.network, model.suppression).eval()
    return Classifying(model.network, model.rule.tta_flip, model.several, model.temperature).eval()


def describe(model: Predictor | DetectionPredictor) -> dict[str, Any]:
    """The metadata of a model's graph; all of it is JSON."""
    fields: dict[str, Any] = {
        "format": FORMAT,
        "foveal": _version(),
        "algorithm": model.artifact.algorithm,
        "network": model.network.spec.label,
        "class_names": list(model.class_names),
        "preprocessing": {name: value for name, value in model.rule.to_dict().items() if name != "tta_flip"},
        "thresholds": dict(model.thresholds),
    }
    if isinstance(model, DetectionPredictor):
        kept = ("nms_threshold", "nms_topk", "score_threshold")
        return fields | {"suppression": {name: asdict(model.suppression)[name] for name in kept}}
    return fields | {
        "multi_label": model.several,
        "temperature": model.temperature,
        "tta_flip": model.rule.tta_flip,
    }


def write_onnx(model: Predictor | DetectionPredictor, path: Path, where: str) -> None:
    """Write a model as ``path``.

    Args:
        model: on the CPU.
        where: what the model is called in errors.

    Raises:
        UserError: for a network that torch can't export, or that no such file can hold, and for too many boxes.
    """
    module = module_of(model)
    if (
        isinstance(model, DetectionPredictor)
        and min(model.suppression.nms_topk, len(model.network.anchors)) > MOST_ROWS
    ):
        raise UserError(
            f"nms_topk is {model.suppression.nms_topk:,}, and a graph compares all pairs of a picture's surest boxes",
            where,
            f"Set it to at most {MOST_ROWS:,} in the settings of the model's foveal.json.",
        )
    size = sum(tensor.numel() * tensor.element_size() for tensor in module.state_dict().values())
    if size > LARGEST:
        raise UserError(f"its weights take {size / 1e9:.1f} GB, and an ONNX file holds 2", where, "Use it in Foveal.")
    rule = model.rule
    example = torch.zeros((2, rule.height, rule.width, rule.channels), dtype=torch.uint8)
    batch = torch.export.Dim("batch", min=1)
    try:
        with torch.no_grad(), _quietly():
            traced = torch.export.export(module, (example,), dynamic_shapes={INPUT: {0: batch}})
            program = torch.onnx.export(
                traced, dynamo=True, opset_version=OPSET, input_names=[INPUT], output_names=[module.output],
                external_data=False, verbose=False,
            )  # fmt: skip
    except RuntimeError as error:  # torch's kinds of it are private
        raise UserError(
            f"torch {torch.__version__} can't export {model.network.spec.label}: {str(error).strip().splitlines()[0]}",
            where,
            "Train another network, or update torch and onnxscript.",
        ) from error
    assert program is not None
    program.model.metadata_props[METADATA] = json.dumps(describe(model))
    program.save(path, external_data=False)


def write_openvino(onnx: Path, path: Path) -> None:
    """Write a graph that ``write_onnx`` wrote as OpenVINO's: ``path`` (.xml), and its weights in float32 beside it
    (.bin)."""
    import openvino
    from onnx import load

    graph = openvino.Core().read_model(onnx)
    (described,) = (each.value for each in load(onnx, load_external_data=False).metadata_props if each.key == METADATA)
    graph.set_rt_info(described, METADATA)
    openvino.save_model(graph, path, compress_to_fp16=False)


@contextmanager
def _quietly() -> Iterator[None]:
    """torch's exporter uses what torch itself deprecates, and warns of it."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def _version() -> str:
    try:
        return version("foveal")
    except PackageNotFoundError:  # a checkout that is not installed
        return ""
