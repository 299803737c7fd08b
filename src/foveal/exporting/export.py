"""``foveal.export``: a trained model as an ONNX or OpenVINO graph, written only when it says what the model says."""

from __future__ import annotations

import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain, repeat
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray

from foveal.algorithms.asking import run_network
from foveal.algorithms.classification import answer_logits, probabilities
from foveal.errors import UserError
from foveal.exporting.agreement import TOLERANCE, Agreement, compare_probabilities, compare_rows
from foveal.exporting.engines import Engine, check_installed, engine_name, open_graph
from foveal.exporting.graph import write_onnx, write_openvino
from foveal.exporting.pictures import made_pictures, real_pictures
from foveal.files import sync
from foveal.models.detector import Outputs, found
from foveal.predictor import DetectionPredictor, Predictor, load
from foveal.storage.address import as_written, is_address

Form = Literal["onnx", "openvino"]
SUFFIXES: dict[str, Form] = {".onnx": "onnx", ".xml": "openvino"}
FIRST_BATCHES = (1, 3)  # pictures; the batch is dynamic, and is compared as such
BATCH = 8  # pictures of the batches that follow


@dataclass(frozen=True)
class Exported:
    """What was written.

    Attributes:
        files: the graph, and with OpenVINO the file of its weights.
        agreement: how it compares with the model.
        said: what a person should know, a line each.
    """

    files: tuple[Path, ...]
    agreement: Agreement
    said: tuple[str, ...]


def export(
    model: str | Path,
    output: str | Path | None = None,
    *,
    format: Form | None = None,
    data: str | Path | None = None,
    epoch: int | None = None,
) -> Exported:
    """Write a model as a graph that other engines run (see docs/export.md).

    The graph is asked about 100 pictures by the engine that it is for, and kept only when it agrees with the model.

    Args:
        model: ``model.tar.gz``, its folder, or the folder of a training run.
        output: the file to write, ``.onnx`` or ``.xml``; None: ``model.onnx`` or ``model.xml`` beside the model.
        format: None: told from ``output``, or else ``onnx``.
        data: labelled pictures to compare on; None: made ones.
        epoch: one of the epochs stored with ``checkpoint_frequency`` (from 1), instead of the best.

    Raises:
        UserError: when there is such a file already, a package is missing, the network can't be exported, or the graph
            does not agree with the model; nothing is written then.
    """
    target, form = _target(model, output, format)
    check_installed(form)
    asked = load(model, device="cpu", epoch=epoch)
    if data is None:
        pictures, told = made_pictures(asked.rule), "100 made pictures (real ones say more: --data)"
    else:
        pictures = real_pictures(asked, data)
        told = f"{len(pictures)} pictures of {data}"
    with _staged(target) as aside:
        _write(asked, aside, form, str(model))
        agreement = compare(asked, open_graph(aside, form), pictures)
        if agreement.wrong:
            number, reason = agreement.wrong[0]
            raise UserError(
                f"the graph disagrees with the model on {len(agreement.wrong)} of {told}: picture {number}: {reason}",
                str(model),
                "Nothing was written. Install the versions of constraints.txt, or try the other --format.",
            )
        files = _move(aside, target)
    return Exported(files, agreement, tuple(_said(asked, agreement, form, told)))


def compare(model: Predictor | DetectionPredictor, engine: Engine, pictures: NDArray[np.uint8]) -> Agreement:
    """Ask a model, as ``predict`` does, and an engine about the same pictures, uint8 [n, H, W, C]."""
    expected, answered = [], []
    start = 0
    for size in chain(FIRST_BATCHES, repeat(BATCH)):
        if start >= len(pictures):
            break
        batch = np.ascontiguousarray(pictures[start : start + size])
        expected.append(_ask(model, torch.from_numpy(batch)))
        answered.append(engine(batch))
        start += size
    ours, theirs = np.concatenate(expected), np.concatenate(answered)
    if isinstance(model, DetectionPredictor):
        return compare_rows(ours, theirs, model.suppression)
    return compare_probabilities(ours, theirs, model.least(None) if model.several else None)


def _ask(model: Predictor | DetectionPredictor, pixels: torch.Tensor) -> NDArray[np.float32]:
    if isinstance(model, DetectionPredictor):
        rule, head = model.suppression, model.network.spec.head

        def rows(outputs: Outputs) -> NDArray[np.float32]:
            answers: NDArray[np.float32] = found(head, outputs, rule, fixed=True).numpy()
            return answers

        return run_network(model.network, pixels, rows)
    return probabilities(answer_logits(model.network, pixels, model.rule).numpy(), model.several, model.temperature)


def _write(model: Predictor | DetectionPredictor, path: Path, form: Form, where: str) -> None:
    if form == "onnx":
        write_onnx(model, path, where)
        return
    onnx = path.with_name("between.onnx")
    write_onnx(model, onnx, where)
    write_openvino(onnx, path)
    onnx.unlink()


def _said(model: Predictor | DetectionPredictor, agreement: Agreement, form: Form, told: str) -> Iterator[str]:
    yield f"compared with the model on {told}, asked by {engine_name(form)} in float32"
    within = f"within {agreement.difference:.1g} (at most {TOLERANCE:g} is allowed)"
    if isinstance(model, Predictor):
        yield f"all labels are equal, probabilities {within}"
    elif agreement.boxes:
        yield f"{agreement.boxes:,} boxes, scores and sides {within}"
    else:
        yield "no box was found in any of them, so that this says little: name pictures with --data"
    if agreement.tied:
        yield f"{agreement.tied} boxes are kept by one of both only: scores or overlaps are equal but for last digits"
    if form == "openvino":
        yield (
            "on processors with bfloat16 OpenVINO computes in it unless told otherwise, and answers differ then: "
            'compile with {"INFERENCE_PRECISION_HINT": "f32"}'
        )


def _target(model: str | Path, output: str | Path | None, form: Form | None) -> tuple[Path, Form]:
    """The file to write and its form. Raises UserError for a name that fits neither, and for a file that is there."""
    if output is None:
        if is_address(model):
            where = as_written(model)
            raise UserError("the model is at an address, and the graph goes on a disk", where, "Name a --output.")
        form = form or "onnx"
        place = _beside(Path(model))
        target = place.with_name(place.name + {of: suffix for suffix, of in SUFFIXES.items()}[form])
    else:
        target = Path(output)
        fitting = SUFFIXES.get(target.suffix)
        if fitting is None or form not in (None, fitting):
            endings = ", ".join(suffix for suffix, of in SUFFIXES.items() if form in (None, of))
            raise UserError(
                f"the name does not end in {endings.replace(', ', ' or ')}",
                str(output),
                "onnx writes .onnx, openvino .xml (and .bin beside it).",
                "output",
            )
        form = fitting
    for path in _files(target):
        if path.exists():
            raise UserError("is there already", str(path), "Move it away, or name another file with --output.")
    return target, form


def _beside(model: Path) -> Path:
    """A place without an ending beside the model's folder or archive: ``photos/model`` for all three of ``photos``,
    ``photos/model`` and ``photos/model.tar.gz``."""
    if (model / "model").is_dir():
        return model / "model"
    model = model if model.name else model.resolve()
    return model if model.is_dir() else model.with_name(re.sub(r"(\.tar(\.gz)?|\.tgz)$", "", model.name))


def _files(target: Path) -> tuple[Path, ...]:
    return (target,) if target.suffix == ".onnx" else (target.with_suffix(".bin"), target)


@contextmanager
def _staged(target: Path) -> Iterator[Path]:
    """A file of the same name in a folder of its own beside ``target``, which is gone afterwards."""
    target.parent.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix=f".{target.name}.", suffix=".part", dir=target.parent))
    try:
        yield folder / target.name
    finally:
        shutil.rmtree(folder)


def _move(aside: Path, target: Path) -> tuple[Path, ...]:
    """Give the staged files their places, the graph last. Returns the files, the graph first."""
    for path, place in zip(_files(aside), _files(target), strict=True):
        sync(path)
        os.replace(path, place)
    sync(target.parent)
    return _files(target)[::-1]
