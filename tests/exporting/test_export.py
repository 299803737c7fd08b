"""Exported graphs say what the model says, and are written only then."""

from __future__ import annotations

import contextlib
import io
import json
import re
import sys
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

import foveal
from foveal.cli.main import main
from foveal.data.views import Preprocessing
from foveal.exporting import engines
from foveal.exporting import export as exporting
from foveal.exporting.agreement import kept, matched
from foveal.exporting.export import compare
from foveal.exporting.graph import module_of
from foveal.exporting.pictures import made_pictures, real_pictures
from foveal.models.detector import DetectorSpec
from foveal.models.network import NetworkSpec
from foveal.predictor import DetectionPredictor, Predictor

PAGE = Path(__file__).resolve().parents[2] / "docs" / "export.md"
NORMAL: Any = {"mean": (120.0, 115.0, 100.0), "std": (58.0, 57.0, 59.0)}


@dataclass(frozen=True)
class Ended:
    status: int
    out: str
    err: str


def command(*arguments: object) -> Ended:
    """``foveal`` with these arguments, in this process."""
    before, out, err, status = sys.argv, io.StringIO(), io.StringIO(), 0
    sys.argv = ["foveal", *map(str, arguments)]
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            main()
    except SystemExit as ended:
        status = int(ended.code or 0)
    finally:
        sys.argv = before
    return Ended(status, out.getvalue(), err.getvalue())


@pytest.fixture(scope="module")
def run(classifier: Path) -> Path:
    """A run's folder, with its model exported in both forms."""
    for package in ("onnx", "onnxscript", "onnxruntime", "openvino"):
        pytest.importorskip(package, reason="needs foveal[export,openvino]")
    done = command("export", classifier.parent)
    assert done.status == 0, done.err
    assert done.out == f"wrote {classifier.parent / 'model.onnx'}\n"
    assert re.fullmatch(
        r"compared with the model on 100 made pictures \(real ones say more: --data\), asked by onnxruntime [\d.]+ in "
        r"float32\nall labels are equal, probabilities within [\de.-]+ \(at most 0\.0001 is allowed\)\n",
        done.err,
    )
    ended = foveal.export(classifier, format="openvino")
    assert ended.files == (classifier.parent / "model.xml", classifier.parent / "model.bin")
    assert any('{"INFERENCE_PRECISION_HINT": "f32"}' in line for line in ended.said)
    return classifier.parent


def test_only_the_graphs_are_left_in_the_folder(run: Path) -> None:
    assert sorted(path.name for path in run.iterdir()) == ["model", "model.bin", "model.onnx", "model.xml"]


def test_both_engines_give_the_models_probabilities_for_any_batch(run: Path, mixed: list[Path]) -> None:
    model = foveal.load(run)
    answers = np.stack([answer.probabilities for answer in model.predict(mixed)])
    pixels = np.stack([model.pixels(path) for path in mixed])
    for file, form in (("model.onnx", "onnx"), ("model.xml", "openvino")):
        engine = engines.open_graph(run / file, form)
        for size in (1, 2, 56):
            found = np.concatenate([engine(pixels[start : start + size]) for start in range(0, len(pixels), size)])
            assert np.abs(found - answers).max() < 1e-5
            assert found.argmax(axis=1).tolist() == answers.argmax(axis=1).tolist()


def test_the_metadata_tells_the_rest(run: Path) -> None:
    import onnx
    import openvino

    (entry,) = onnx.load(run / "model.onnx").metadata_props
    told = json.loads(entry.value)
    assert entry.key == "foveal"
    assert told.pop("foveal") is not None
    assert told == {
        "format": 1,
        "algorithm": "image-classification",
        "network": "ResNet-20 (pre)",
        "class_names": ["disc", "square", "triangle"],
        "preprocessing": {
            "kind": "crop", "channels": 3, "height": 28, "width": 28, "resize": 32, "antialias": True,
        },
        "thresholds": {},
        "multi_label": False,
        "temperature": None,
        "tta_flip": False,
    }  # fmt: skip
    assert openvino.Core().read_model(run / "model.xml").get_rt_info("foveal").astype(str) == entry.value


def test_weights_are_kept_in_float32(run: Path) -> None:
    weights = sum(tensor.numel() for tensor in foveal.load(run).network.state_dict().values())
    assert (run / "model.bin").stat().st_size > 4 * 0.9 * weights


def blocks() -> list[str]:
    return re.findall(r"^```python\n(.*?)^```$", PAGE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize(
    "rule",
    [
        Preprocessing("crop", 3, 48, 40, 56),
        Preprocessing("crop", 3, 64, 64, 32, antialias=False),
        Preprocessing("crop", 3, 80, 90, None, antialias=False),
        Preprocessing("squeeze", 3, 50, 50),
        Preprocessing("squeeze", 1, 50, 50, antialias=False),
        Preprocessing("crop", 1, 28, 28, 28),
    ],
    ids=lambda rule: f"{rule.kind} {rule.channels} {rule.resize} {rule.antialias}",
)
def test_the_lines_of_the_docs_give_the_pixels_that_the_network_gets(
    rule: Preprocessing, mixed: list[Path], tmp_path: Path
) -> None:
    names: dict[str, Any] = {}
    exec(blocks()[0], names)  # noqa: S102
    Image.new("RGB", (1500, 9), (200, 30, 90)).save(tmp_path / "line.png")
    model = _Ruled(rule)
    for path in [*mixed, tmp_path / "line.png"]:
        mine = names["prepare"](path, rule.to_dict()).astype(int)
        apart = np.abs(mine - model.pixels(path)).max()
        with Image.open(path) as image:
            loose = image.mode == "CMYK" or (rule.channels == 1 and path.suffix == ".png")
            assert apart <= (2 if loose else 0), (path.name, image.mode)


class _Ruled(Predictor):
    """Only ``pixels`` is asked for."""

    def __init__(self, rule: Preprocessing) -> None:
        self.rule = rule


def test_the_lines_of_the_docs_ask_both_engines(
    run: Path, mixed: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("model.onnx", "model.xml", "model.bin"):
        (tmp_path / name).write_bytes((run / name).read_bytes())
    for name, path in (("a.jpg", mixed[0]), ("b.jpg", mixed[5])):
        (tmp_path / name).write_bytes(path.read_bytes())
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    answers = foveal.load(run).predict(["a.jpg", "b.jpg"])
    expected = np.stack([answer.probabilities for answer in answers])
    exec(blocks()[0] + blocks()[1], names)  # noqa: S102
    assert np.abs(names["probabilities"] - expected).max() < 1e-5
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()] == [each.label for each in answers]
    exec(blocks()[2], names)  # noqa: S102
    assert np.abs(names["probabilities"] - expected).max() < 1e-5


def test_of_a_calibrated_model_of_several_labels_mirrored_probabilities_are_exported(
    classifier_of: Callable[..., Path], tmp_path: Path
) -> None:
    rule = Preprocessing("crop", 3, 28, 28, 32, tta_flip=True)
    more: dict[str, Any] = {"settings": {"multi_label": 1}, "calibration": {"temperature": 1.7}}
    spec = NetworkSpec("resnet", 3, (3, 28, 28), 20, "pre", **NORMAL)
    model = foveal.load(classifier_of(tmp_path / "model", spec, rule, **more))
    pictures = list(made_pictures(rule)[:9])
    pixels = np.stack([model.pixels(picture) for picture in pictures])
    with torch.inference_mode():
        found = module_of(model)(torch.from_numpy(pixels)).numpy()
    answers = model.predict(pictures)
    assert np.abs(found - np.stack([each.probabilities for each in answers])).max() < 1e-6
    assert np.abs(found.sum(axis=1) - 1).max() > 0.01  # not softmax


def found_in(answer: Any) -> NDArray[np.float32]:
    found = answer.found
    return np.concatenate([found.cls[:, None], found.scores[:, None], found.values], axis=1).astype(np.float32)


@pytest.mark.parametrize(
    ("head", "form"), [("ssd", "onnx"), pytest.param("pyramid", "openvino", marks=pytest.mark.slow)]
)
def test_a_detectors_graph_finds_what_predict_finds(
    head: Any, form: Any, detector_of: Callable[..., Path], mixed: list[Path], tmp_path: Path
) -> None:
    if any(find_spec(package) is None for package in ("timm", *engines.NEEDED[form])):
        pytest.skip("needs foveal[timm,export,openvino]")
    spec = DetectorSpec("test_resnet", 3, (3, 160, 160), head=head, **NORMAL)
    folder = detector_of(tmp_path / "model", spec, 1.0 if head == "ssd" else 40.0)
    done = foveal.export(folder, format=form)
    assert done.agreement.boxes > 1000
    model = foveal.load(folder)
    assert isinstance(model, DetectionPredictor)
    answers = model.predict(mixed[:20], min_score=0)
    pixels = np.stack([model.pixels(path) for path in mixed[:20]])
    engine = engines.open_graph(done.files[0], form)
    assert engine(pixels[:1]).shape == (1, 100, 6)
    for answer, rows in zip(answers, engine(pixels), strict=True):
        ours, theirs = found_in(answer), kept(rows)
        assert len(ours) == len(theirs) == len(matched(ours, theirs)) > 5


def test_a_hundred_pictures_are_taken_from_all_splits_of_data(classifier: Path, shapes_folder: Path) -> None:
    model = foveal.load(classifier)
    found = real_pictures(model, shapes_folder)
    assert (found.shape, found.dtype) == ((100, 28, 28, 3), np.uint8)
    first = min((shapes_folder / "train").rglob("*.*"))
    assert np.array_equal(found[0], model.pixels(first))


# What is refused: whole texts, and nothing is written


def refused(folder: Path, *arguments: object) -> str:
    before = sorted(path.name for path in folder.iterdir())
    done = command("export", *arguments)
    assert done.status == 2
    assert sorted(path.name for path in folder.iterdir()) == before
    return done.err


def test_a_graph_that_says_something_else_is_not_kept(
    classifier: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = foveal.load(classifier)

    def other(pictures: NDArray[np.uint8]) -> NDArray[np.float32]:
        answers = model.predict(list(pictures))
        return np.stack([np.roll(answer.probabilities, 1) for answer in answers])

    monkeypatch.setattr(exporting, "_write", lambda model, path, form, where: path.write_bytes(b"graph"))
    monkeypatch.setattr(exporting, "open_graph", lambda path, form: other)
    assert refused(tmp_path, classifier, "-o", tmp_path / "a.onnx") == (
        f"Error: {classifier}: the graph disagrees with the model on 100 of 100 made pictures (real ones say more: "
        "--data): picture 0: the labels differ\n"
        "Nothing was written. Install the versions of constraints.txt, or try the other --format.\n"
    )


@pytest.mark.parametrize("form", ["onnx", "openvino"])
def test_a_missing_package_is_told_with_its_extra(
    form: str, classifier: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engines, "find_spec", lambda name: None if name == engines.ASKED_BY[form] else name)
    extra = {"onnx": "export", "openvino": "openvino"}[form]
    ending = {"onnx": ".onnx", "openvino": ".xml"}[form]
    assert refused(tmp_path, classifier, "-o", tmp_path / f"a{ending}") == (
        f"Error: exporting to {form} needs {engines.ASKED_BY[form]}, which is not installed\n"
        f'Install it: pip install "foveal[{extra}]"\n'
    )


def test_a_file_that_is_there_is_left_alone(classifier: Path, tmp_path: Path) -> None:
    (tmp_path / "a.bin").write_bytes(b"mine")
    assert refused(tmp_path, classifier, "-o", tmp_path / "a.xml") == (
        f"Error: {tmp_path / 'a.bin'}: is there already\nMove it away, or name another file with --output.\n"
    )
    assert (tmp_path / "a.bin").read_bytes() == b"mine"


def test_the_files_name_has_to_fit_the_form(classifier: Path, tmp_path: Path) -> None:
    remedy = "onnx writes .onnx, openvino .xml (and .bin beside it).\n"
    assert refused(tmp_path, classifier, "-o", tmp_path / "a.pt") == (
        f"Error: {tmp_path / 'a.pt'}: the name does not end in .onnx or .xml\n{remedy}"
    )
    assert refused(tmp_path, classifier, "-o", tmp_path / "a.xml", "--format", "onnx") == (
        f"Error: {tmp_path / 'a.xml'}: the name does not end in .onnx\n{remedy}"
    )


def test_a_model_at_an_address_wants_a_name_for_its_graph(tmp_path: Path) -> None:
    assert refused(tmp_path, "s3://models/a/model.tar.gz") == (
        "Error: s3://models/a/model.tar.gz: the model is at an address, and the graph goes on a disk\n"
        "Name a --output.\n"
    )


def test_data_without_a_readable_picture_is_refused(classifier: Path, tmp_path: Path) -> None:
    for name in ("disc", "square"):
        (tmp_path / "data" / name).mkdir(parents=True)
        (tmp_path / "data" / name / "a.png").write_bytes(b"\x89PNG no more")
    told = refused(tmp_path, classifier, "-o", tmp_path / "a.onnx", "--data", tmp_path / "data")
    first, second = told.splitlines()
    assert first.startswith(f"Error: {tmp_path / 'data'}: no picture to compare on: ")
    assert second == "Name other data with --data."


def test_a_network_that_torch_cannot_export_is_told(
    classifier: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: object, **__: object) -> None:
        raise RuntimeError("no operator for that\nand much more")

    monkeypatch.setattr(torch.export, "export", fails)
    assert refused(tmp_path, classifier, "-o", tmp_path / "a.onnx") == (
        f"Error: {classifier}: torch {torch.__version__} can't export ResNet-20 (pre): no operator for that\n"
        "Train another network, or update torch and onnxscript.\n"
    )


def test_a_detector_with_too_many_boxes_to_compare_is_told(detector_of: Callable[..., Path], tmp_path: Path) -> None:
    if find_spec("timm") is None:
        pytest.skip("needs foveal[timm]")
    spec = DetectorSpec("test_resnet", 3, (3, 224, 224), **NORMAL)
    folder = detector_of(tmp_path / "model", spec, nms_topk=9000)
    assert refused(tmp_path, folder) == (
        f"Error: {folder}: nms_topk is 9,000, and a graph compares all pairs of a picture's surest boxes\n"
        "Set it to at most 2,000 in the settings of the model's foveal.json.\n"
    )


def test_the_graph_lies_beside_the_models_folder_or_archive(tmp_path: Path) -> None:
    place = exporting._beside
    (tmp_path / "run" / "model").mkdir(parents=True)
    (tmp_path / "run" / "model.tar.gz").touch()
    names = {place(tmp_path / each) for each in ("run", "run/model", "run/model.tar.gz")}
    assert names == {tmp_path / "run" / "model"}
    assert place(tmp_path / "v1.2.tgz") == tmp_path / "v1.2"


def test_comparing_takes_batches_of_several_sizes(classifier: Path) -> None:
    model, sizes = foveal.load(classifier), []

    def engine(pictures: NDArray[np.uint8]) -> NDArray[np.float32]:
        sizes.append(len(pictures))
        with torch.inference_mode():
            return module_of(model)(torch.from_numpy(pictures)).numpy()

    agreement = compare(model, engine, made_pictures(model.rule)[:20])
    assert sizes == [1, 3, 8, 8]
    assert (agreement.pictures, agreement.wrong) == (20, ())
