"""Large pictures in tiles, through the doors: train, evaluate and predict see the same tiles and tell the same.

The network is a small one from random weights: equality is asked for here, not quality.
"""

from __future__ import annotations

import csv
import json
import re
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from PIL import Image

import foveal
from foveal.algorithms.detection import rows_of
from foveal.artifact import open_artifact
from foveal.cli.inspect import command as inspect_command
from foveal.cli.predict import _tiles
from foveal.data.loader import Decoder
from foveal.data.recognise import open_data
from foveal.errors import UserError
from foveal.judging import judge_detection
from foveal.predictor import DetectionPredictor, Unreadable
from foveal.settings import parse_settings
from foveal.training.events import Event, Said

pytestmark = pytest.mark.skipif(find_spec("timm") is None, reason="small networks of timm's are trained here")

SETTINGS: dict[str, Any] = {
    "base_network": "mobilenetv3_small_050",
    "use_pretrained_model": 0,
    "mini_batch_size": 4,
    "epochs": 2,
    "warmup_epochs": 0,
    "ema_decay": 0,
    "tile_size": 120,
}
TRAINED, VALIDATED = 5, 3
PAGE = Path(__file__).resolve().parents[2] / "docs" / "export.md"


def write_fields(folder: Path) -> None:
    """Pictures of grass, most of 220 x 160 pixels, with bright squares on it; one without any, one smaller than a tile,
    one turned by EXIF."""
    rng = np.random.default_rng(1)
    folder.mkdir()
    rows: list[tuple[object, ...]] = [("file", "xmin", "ymin", "xmax", "ymax", "class", "split")]
    for number in range(TRAINED + VALIDATED):
        width, height = (90, 70) if number == 1 else (220, 160)
        pixels = rng.integers(40, 90, (height, width, 3), dtype=np.uint8)
        name = f"{number}.png"
        split = "train" if number < TRAINED else "val"
        places = [] if number == 2 else [(7, 5), (width // 2 - 10, 20), (width - 40, height - 34)]
        for left, top in places:
            side = int(rng.integers(14, 24))
            pixels[top : top + side, left : left + side] = (230, 210, 60)
            rows.append((name, left, top, left + side, top + side, "square", split))
        if not places:
            rows.append((name, "", "", "", "", "", split))
        image, exif = Image.fromarray(pixels), Image.Exif()
        if number == 3:
            image, exif[0x0112] = image.transpose(Image.Transpose.ROTATE_90), 6
        image.save(folder / name, exif=exif.tobytes())
    with (folder / "boxes.csv").open("w", newline="") as file:
        csv.writer(file).writerows(rows)


@pytest.fixture(scope="module")
def fields(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("fields") / "fields"
    write_fields(folder)
    return folder / "boxes.csv"


@pytest.fixture(scope="module")
def run(fields: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[str]]:
    """A run's folder, and what it said."""
    out = tmp_path_factory.mktemp("tiles") / "run"
    said: list[str] = []

    def hear(event: Event) -> None:
        if isinstance(event, Said):
            said.append(event.text)

    foveal.train(fields, out, listeners=[hear], **SETTINGS)
    return out, said


def model_of(run: tuple[Path, list[str]]) -> DetectionPredictor:
    model = foveal.load(run[0])
    assert isinstance(model, DetectionPredictor)
    return model


def test_what_tiles_there_are_is_said_and_they_decide_the_networks_size(run: tuple[Path, list[str]]) -> None:
    said = run[1]
    assert (
        "tiles of 120 x 120 pixels: 25 of 5 training pictures, 1 to 6 a picture; in training each counts as a picture"
        in said
    )
    assert "network: SSD on mobilenetv3_small_050, pictures of 300 x 300 pixels: tiles of 120 x 120, enlarged" in said
    artifact, _ = open_artifact(run[0])
    rule = {"kind": "tiles", "height": 300, "width": 300, "tile_size": 120, "tile_overlap": 0.2}
    assert artifact.preprocessing == {**artifact.preprocessing, **rule}
    assert (artifact.data["training_pictures"], artifact.data["validation_pictures"]) == (5, 3)
    assert artifact.settings["num_training_samples"] == 5


def test_every_tile_is_trained_on_once_an_epoch(run: tuple[Path, list[str]]) -> None:
    lines = [json.loads(line) for line in (run[0] / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    assert [line["step"] for line in lines if line["kind"] == "epoch"] == [6, 12]


def test_training_evaluate_and_predict_tell_the_same(run: tuple[Path, list[str]], fields: Path) -> None:
    stored, _ = open_artifact(run[0])
    model = model_of(run)
    judged = foveal.evaluate(model, fields, split="validation")
    assert judged.verdict.details == stored.metrics
    assert judged.verdict.details["count"] == VALIDATED
    files = [fields.parent / f"{number}.png" for number in range(TRAINED, TRAINED + VALIDATED)]
    answers = model.predict(files, min_score=0)
    source = open_data(fields, task="boxes").validation
    assert source is not None
    truths = [Decoder(source, 3)(row)[1] for row in range(len(source))]
    again = judge_detection(truths, [each.found for each in answers], ("square",)).to_dict()  # type: ignore[arg-type]
    assert again["mAP"] == stored.metrics["mAP"]
    assert sum(len(each.objects) for each in answers) > VALIDATED
    for one, other in zip(answers, judged.answers.found, strict=True):  # type: ignore[union-attr]
        assert (one.found.values == other.values).all()
        assert (one.found.scores == other.scores).all()


def test_answers_do_not_depend_on_what_else_is_asked(run: tuple[Path, list[str]], fields: Path) -> None:
    model, folder = model_of(run), fields.parent
    files = [folder / "0.png", folder / "boxes.csv", folder / "3.png"]
    first, unreadable, third = model.stream(files, min_score=0.02, batch_size=3)
    assert isinstance(unreadable, Unreadable)
    for one, file in ((first, files[0]), (third, files[2])):
        alone = model.predict(file, min_score=0.02)[0]
        assert np.abs(one.found.values - alone.found.values).max() < 1e-4  # type: ignore[union-attr]
    assert third.size == (220, 160)  # type: ignore[union-attr]


def test_weights_do_not_depend_on_workers_and_what_is_kept_in_memory(
    run: tuple[Path, list[str]], fields: Path, tmp_path: Path
) -> None:
    foveal.train(fields, tmp_path / "again", loader_workers=0, cache_pictures=0, order="permutation", **SETTINGS)
    weights, others = open_artifact(run[0])[1], open_artifact(tmp_path / "again")[1]
    assert all(torch.equal(tensor, others[name]) for name, tensor in weights.items())


@pytest.mark.parametrize("picture", ["0.png", "1.png", "3.png"])
def test_the_lines_of_the_docs_cut_up_and_merge_as_predict_does(
    run: tuple[Path, list[str]], fields: Path, picture: str
) -> None:
    model = model_of(run)
    blocks = re.findall(r"^```python\n(.*?)^```$", PAGE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    names: dict[str, Any] = {}
    exec(blocks[0] + next(block for block in blocks if "def merge" in block), names)  # noqa: S102
    told = {"preprocessing": model.rule.to_dict(), "suppression": {"nms_threshold": model.suppression.nms_threshold}}
    seen, corners, size = names["cut_up"](fields.parent / picture, told["preprocessing"])
    rows = rows_of(model.network, torch.from_numpy(np.stack(seen)), model.suppression).numpy()
    found = names["merge"](rows, corners, size, told)
    (answer,) = model.predict(fields.parent / picture, min_score=0)
    assert len(found) == len(answer.objects) > 0
    assert [score for _, score, _ in found] == pytest.approx([each.score for each in answer.objects], abs=1e-5)
    boxes = {tuple(np.round(box).tolist()) for _, _, box in found}
    assert boxes == {tuple(np.round(each.box).tolist()) for each in answer.objects}


def test_progress_is_shown_within_a_picture_of_many_tiles(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    clock = iter(range(0, 10_000, 4))
    monkeypatch.setattr("foveal.progress.time.monotonic", lambda: next(clock))
    assert list(_tiles("field\n.jpg", list(range(100)))) == list(range(100))
    assert list(_tiles("small.jpg", list(range(99)))) == list(range(99))
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "tiles of field\\n.jpg: 4 of 100, 6 min 24 s left"
    assert len(lines) == 25


def test_inspect_tells_of_tiles(run: tuple[Path, list[str]]) -> None:
    done = CliRunner().invoke(inspect_command, [str(run[0] / "model")], catch_exceptions=False)
    assert "pictures: tiles of 120 pixels, overlapping by 0.2 to 300 x 300, 3 channels\n" in done.output


def test_heat_is_made_of_the_tile_in_which_a_box_is_most_in_the_middle(
    run: tuple[Path, list[str]], fields: Path
) -> None:
    model = model_of(run)
    explained = model.explain(fields.parent / "0.png", min_score=0, most=3)
    assert [each.box for each in explained] == [
        each.box for each in model.predict(fields.parent / "0.png", min_score=0)[0].objects[:3]
    ]
    for each in explained:
        middle = np.array([each.box[0] + each.box[2], each.box[1] + each.box[3]]) / 2  # type: ignore[index]
        left, top = min(
            ((left, top) for top in (0, 40) for left in (0, 50, 100)),
            key=lambda corner: np.abs(np.array(corner) + 60 - middle).max(),
        )
        assert each.heat.shape == (160, 220)
        inside = each.heat[top : top + 120, left : left + 120]
        assert inside.max() == each.heat.max() > 0
        assert inside.sum(dtype=np.float64) == pytest.approx(each.heat.sum(dtype=np.float64))


def test_going_on_from_a_model_of_tiles_wants_tiles(run: tuple[Path, list[str]], fields: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError) as error:
        foveal.train(fields, tmp_path / "more", model=run[0], epochs=1)
    assert str(error.value) == (
        "model: the earlier model sees pictures in tiles of 120 pixels, and tile_size is not given\n"
        "Set tile_size=120 and tile_overlap=0.2, or other tiles."
    )


WHOLE = "one of the following: a string which matches the pattern '^[1-9][0-9]*$'; or an integer between 64 and 10000"
SHARE = "one of the following: a string with a decimal or scientific number; or a number, 0 to below 1"


@pytest.mark.parametrize(
    ("setting", "value", "rule", "remedy"),
    [
        ("tile_overlap", 1, SHARE, "Set tile_overlap to a number, 0 to below 1."),
        ("tile_overlap", "-0.1", SHARE, "Set tile_overlap to a number, 0 to below 1."),
        ("tile_size", 63, WHOLE, "Set tile_size to a whole number, 64 to 10000."),
        ("tile_size", "10001", WHOLE, "Set tile_size to a whole number, 64 to 10000."),
        ("tile_size", "512.0", WHOLE, "Write it without sign, blanks, leading zeros or decimals: tile_size=512."),
        ("tile_size", "auto", WHOLE, "Set tile_size to a whole number, 64 to 10000."),
    ],
)
def test_wrong_tiles_are_refused(setting: str, value: object, rule: str, remedy: str) -> None:
    with pytest.raises(UserError) as error:
        parse_settings({setting: value}, recipe="modern", algorithm="object-detection")
    told = f"The value '{value}' is not valid for the '{setting}' hyperparameter which expects {rule}"
    assert str(error.value) == f"{told}\n{remedy}"


def test_tiles_are_no_matter_of_classification() -> None:
    wanted = {"tile_size": 300, "strict": 1}
    with pytest.raises(UserError) as error:
        parse_settings(wanted, recipe="modern", algorithm="image-classification")
    assert str(error.value) == (
        "Additional properties are not allowed ('tile_size' was unexpected)\n"
        "'tile_size' is a setting of object-detection. Correct or remove it, or set strict=0 to be warned only."
    )


def test_the_originals_recipe_takes_tiles_too() -> None:
    wanted = {"tile_size": 600, "num_classes": 1, "num_training_samples": 5}
    parsed = parse_settings(wanted, recipe="original", algorithm="object-detection")
    assert (parsed.settings.tile_size, parsed.settings.image_shape) == (600, 300)  # type: ignore[attr-defined]


def test_an_overlap_without_tiles_is_told_to_do_nothing() -> None:
    parsed = parse_settings({"tile_overlap": 0.3}, recipe="modern", algorithm="object-detection")
    assert parsed.warnings == ("tile_overlap=0.3 has no effect: without tile_size there are no tiles",)


ASKS = """
import re, sys
from pathlib import Path
import foveal

def memory(name):
    return 1024 * int(re.search(name + r":\\s+(\\d+) kB", Path("/proc/self/status").read_text())[1])

model = foveal.load(sys.argv[1])
model.predict(sys.argv[2], min_score=0)
tiles = []
def watch(name, each):
    for tile in each:
        tiles.append(tile)
        yield tile
before = memory("VmRSS")
Path("/proc/self/clear_refs").write_text("5")  # the peak counts from now on
(found,) = model.stream([sys.argv[3]], min_score=0, watch=watch)
print(len(tiles), found.size[0], len(found.objects), memory("VmHWM") - before)
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="Linux tells its peak")
def test_a_picture_of_100_megapixels_takes_the_memory_of_one_decoded_picture(
    run: tuple[Path, list[str]], fields: Path, tmp_path: Path
) -> None:
    pixels = np.full((10_000, 10_000, 3), 60, np.uint8)
    pixels[5000:5020, ::1000] = (230, 210, 60)
    Image.fromarray(pixels).save(tmp_path / "large.jpg", quality=80)
    del pixels
    model = tmp_path / "model"
    shutil.copytree(run[0] / "model", model)
    told = json.loads((model / "foveal.json").read_text(encoding="utf-8"))
    told["preprocessing"]["tile_size"] = 600
    (model / "foveal.json").write_text(json.dumps(told), encoding="utf-8")
    asks = [sys.executable, "-c", ASKS, str(model), str(fields.parent / "0.png"), str(tmp_path / "large.jpg")]
    done = subprocess.run(asks, capture_output=True, text=True, check=True)
    tiles, width, objects, grown = map(int, done.stdout.split())
    assert (tiles, width) == (441, 10_000)
    assert objects <= 441 * 400
    assert grown < 3 * 10_000**2 + 150e6
