"""The engines that run exported graphs, each as a function from pictures to answers."""

from __future__ import annotations

from collections.abc import Callable
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from foveal.errors import UserError
from foveal.exporting.graph import INPUT

Engine = Callable[[NDArray[np.uint8]], NDArray[np.float32]]
"""uint8 [B, H, W, C] -> the graph's output, float32 [B, ...]."""

NEEDED = {"onnx": ("onnx", "onnxscript", "onnxruntime"), "openvino": ("onnx", "onnxscript", "openvino")}
"""What writing a form of graph and asking it takes; each form is the name of an extra of Foveal's too."""
EXTRAS = {"onnx": "export", "openvino": "openvino"}
ASKED_BY = {"onnx": "onnxruntime", "openvino": "openvino"}
PRECISION = {"INFERENCE_PRECISION_HINT": "f32"}


def check_installed(form: str) -> None:
    """Raises UserError, naming the extra, unless all that a form of graph needs is installed."""
    missing = [name for name in NEEDED[form] if find_spec(name) is None]
    if missing:
        raise UserError(
            f"exporting to {form} needs {' and '.join(missing)}, which is not installed",
            "",
            f'Install it: pip install "foveal[{EXTRAS[form]}]"',
        )


def open_graph(path: Path, form: str) -> Engine:
    """Let an engine read a graph. It computes on the CPU, in float32, with as many threads as torch."""
    return _onnxruntime(path) if form == "onnx" else _openvino(path)


def engine_name(form: str) -> str:
    """The engine of a form with its version, for people."""
    return f"{ASKED_BY[form]} {version(ASKED_BY[form])}"


def _onnxruntime(path: Path) -> Engine:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])

    def ask(pictures: NDArray[np.uint8]) -> NDArray[np.float32]:
        found: NDArray[np.float32] = session.run(None, {INPUT: pictures})[0]
        return found

    return ask


def _openvino(path: Path) -> Engine:
    import openvino

    settings = {**PRECISION, "INFERENCE_NUM_THREADS": torch.get_num_threads()}
    compiled = openvino.Core().compile_model(path, "CPU", settings)

    def ask(pictures: NDArray[np.uint8]) -> NDArray[np.float32]:
        found: NDArray[np.float32] = compiled(pictures)[0].copy()  # the engine uses its memory again
        return found

    return ask
