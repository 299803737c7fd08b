"""The main job through its doors: train, evaluate, predict; the same figures wherever they are asked for."""

from __future__ import annotations

import io
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import foveal
from foveal.algorithms import classification
from foveal.algorithms.classification import ask, collect
from foveal.artifact import open_artifact
from foveal.data.loader import Decoder
from foveal.data.recognise import open_data
from foveal.predictor import Prediction, Unreadable
from foveal.training.events import Event, PictureSkipped, Said, StepDone

SETTINGS: dict[str, object] = {
    "num_layers": 20,
    "image_shape": "3,32,32",
    "epochs": 4,
    "mini_batch_size": 8,
    "use_pretrained_model": 0,
}


def run_foveal(*arguments: object, wait: bool = True) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "foveal.cli.main", *map(str, arguments)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    if wait:
        process.out, process.err = process.communicate(timeout=300)  # type: ignore[attr-defined]
    return process


@pytest.fixture(scope="module")
def trained(shapes_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> foveal.Result:
    return foveal.train(shapes_folder, tmp_path_factory.mktemp("trained") / "run", **SETTINGS)


def test_it_learns_shapes_and_judges_them_on_the_test_split(trained: foveal.Result, shapes_folder: Path) -> None:
    judged = foveal.evaluate(trained.model, shapes_folder)
    assert judged.split == "test"
    assert judged.verdict.objective > 0.7  # chance is a third


def test_trainings_last_figures_are_those_of_evaluate_to_the_last_digit(
    trained: foveal.Result, shapes_folder: Path
) -> None:
    done = run_foveal("evaluate", trained.model, shapes_folder, "--split", "validation", "--json")
    judged = json.loads(done.out)  # type: ignore[attr-defined]
    assert judged["count"] == 18
    assert {name: f"{judged[name]:.6f}" for name in trained.figures} == {
        name: f"{value:.6f}" for name, value in trained.figures.items()
    }


def test_the_archive_the_folder_and_the_run_are_one_model(trained: foveal.Result, shapes_folder: Path) -> None:
    picture = next((shapes_folder / "test").rglob("*.png"))
    places = [trained.archive, trained.model, Path(trained.model).parent]
    answers = [foveal.load(place).predict(picture)[0].probabilities.tolist() for place in places]
    assert answers[0] == answers[1] == answers[2]


def mixed_pictures(folder: Path, count: int) -> None:
    """Pictures as people have them: sizes from 20 to 200, JPEG and PNG, turned by EXIF, grey, CMYK, alpha, palette."""
    rng = np.random.default_rng(3)
    for number in range(count):
        name = ("disc", "square", "triangle")[number % 3]
        height, width = rng.integers(20, 200, size=2)
        colour = Image.fromarray(rng.integers(0, 256, (height // 4 + 1, width // 4 + 1, 3), dtype=np.uint8))
        image = colour.resize((int(width), int(height)))
        kind = number % 7
        image = image.convert({1: "L", 2: "CMYK", 3: "RGBA", 4: "P"}.get(kind, "RGB"))
        exif = Image.Exif()
        exif[0x0112] = 1 + number % 8  # orientation
        (folder / name).mkdir(parents=True, exist_ok=True)
        suffix = "png" if kind in (3, 4) else "jpg"
        image.save(folder / name / f"{number:04d}.{suffix}", exif=exif.tobytes())


def test_evaluate_and_predict_agree_on_a_thousand_mixed_pictures_at_any_batch_size(
    trained: foveal.Result, tmp_path: Path
) -> None:
    mixed_pictures(tmp_path / "mixed", 1000)
    model = foveal.load(trained.model)
    source = open_data(tmp_path / "mixed").train
    evaluated = collect(ask(model.network, Decoder(source, 3), model.rule, workers=2), 3)
    assert len(evaluated.rows) == 1000
    expected = classification.probabilities(evaluated.logits, False, model.temperature)
    files = [Path(source.read(row).key) for row in range(len(source))]
    paths = [file if file.is_absolute() else tmp_path / "mixed" / file for file in files]
    for size in (1, 7, 64):
        answers = [a for a in model.stream(paths, batch_size=size) if isinstance(a, Prediction)]
        probabilities = np.stack([answer.probabilities for answer in answers])
        assert np.abs(probabilities - expected).max() <= 1e-5
        assert [a.index for a in answers] == expected.argmax(axis=1).tolist()


def test_predict_takes_paths_bytes_arrays_and_pil_images_alike(trained: foveal.Result, shapes_folder: Path) -> None:
    path = next((shapes_folder / "test").rglob("*.png"))
    model = foveal.load(trained.model)
    given = [path, str(path), path.read_bytes(), np.asarray(Image.open(path)), Image.open(path)]
    answers = [answer.probabilities.tolist() for answer in model.predict(given)]
    assert all(answer == answers[0] for answer in answers)


def test_min_score_answers_none_and_keeps_the_score(trained: foveal.Result, shapes_folder: Path) -> None:
    path = next((shapes_folder / "test").rglob("*.png"))
    (answer,) = foveal.load(trained.model).predict(path, min_score=1.0)
    assert answer.label is None
    assert answer.index is None
    assert answer.score == max(answer.probabilities)


def test_features_have_length_one(trained: foveal.Result, shapes_folder: Path) -> None:
    paths = sorted((shapes_folder / "test").rglob("*.png"))[:5]
    for name, features in foveal.load(trained.model).embed(paths):
        assert name in map(str, paths)
        assert features.dtype == np.float32
        assert abs(float(np.linalg.norm(features)) - 1) < 1e-5


def test_an_unreadable_picture_is_named_and_the_others_are_answered(
    trained: foveal.Result, shapes_folder: Path, tmp_path: Path
) -> None:
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"\x89PNG no more")
    good = next((shapes_folder / "test").rglob("*.png"))
    first, second = foveal.load(trained.model).stream([broken, good])
    assert isinstance(first, Unreadable) and first.picture == str(broken) and first.reason
    assert isinstance(second, Prediction)


def test_two_runs_with_one_seed_are_equal_and_with_another_are_not(shapes_folder: Path, tmp_path: Path) -> None:
    weights = []
    for name, seed, workers in (("a", 1, 0), ("b", 1, 3), ("c", 2, 1)):
        settings = {**SETTINGS, "epochs": 1, "seed": seed, "loader_workers": workers}
        result = foveal.train(shapes_folder, tmp_path / name, **settings)
        weights.append((Path(result.model) / "model.safetensors").read_bytes())
    assert weights[0] == weights[1]
    assert weights[0] != weights[2]


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGTERM to send")
@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_keeps_the_model_and_the_same_command_goes_on(
    number: int, status: int, shapes_folder: Path, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    command = ["train", shapes_folder, "-o", out, "--log-steps", 1]
    command += [part for name, value in (SETTINGS | {"epochs": 6}).items() for part in ("--set", f"{name}={value}")]
    process = run_foveal(*command, wait=False)
    metrics = out / "metrics.jsonl"
    while not (metrics.exists() and metrics.read_text().count("\n") > 5):
        assert process.poll() is None
        time.sleep(0.05)
    process.send_signal(number)
    began = time.monotonic()
    _, stderr = process.communicate(timeout=60)
    assert process.returncode == status
    assert time.monotonic() - began < 20  # it ends at its next step; no figure, only that it does not run on
    assert f"To go on: foveal train {shapes_folder}" in stderr
    assert foveal.load(out).class_names == ("disc", "square", "triangle")
    resumed = run_foveal(*command)
    assert resumed.returncode == 0
    assert "going on from step" in resumed.err  # type: ignore[attr-defined]
    whole = foveal.train(shapes_folder, tmp_path / "whole", log_steps=1, **(SETTINGS | {"epochs": 6}))
    assert (out / "model" / "model.safetensors").read_bytes() == (Path(whole.model) / "model.safetensors").read_bytes()


def test_a_finished_run_is_not_trained_again(trained: foveal.Result, shapes_folder: Path) -> None:
    heard: list[Event] = []
    again = foveal.train(shapes_folder, Path(trained.model).parent, listeners=[heard.append], **SETTINGS)
    assert again == trained
    assert any(isinstance(event, Said) and "finished already" in event.text for event in heard)


def test_incremental_training_carries_rows_over_by_name(
    trained: foveal.Result, shapes_folder: Path, tmp_path: Path
) -> None:
    more = tmp_path / "more"
    for folder in sorted((shapes_folder / "train").iterdir()):
        (more / folder.name).mkdir(parents=True)
        for file in sorted(folder.iterdir())[:8]:
            (more / folder.name / file.name).write_bytes(file.read_bytes())
    (more / "cross").mkdir()
    for number in range(8):
        Image.new("RGB", (32, 32), (number * 20, 0, 90)).save(more / "cross" / f"{number}.png")
    settings = {"epochs": 1, "learning_rate": 0.0, "mini_batch_size": 4, "ema_decay": 0}
    result = foveal.train(more, tmp_path / "run", model=trained.model, **settings)
    artifact, after = open_artifact(result.model)
    _, before = open_artifact(trained.model)
    assert artifact.class_names == ("cross", "disc", "square", "triangle")
    assert after["body.fc.weight"][1:].equal(before["body.fc.weight"])
    assert not after["body.fc.weight"][0].equal(before["body.fc.weight"][0])


def test_checkpoint_frequency_keeps_epochs_that_can_be_asked(shapes_folder: Path, tmp_path: Path) -> None:
    result = foveal.train(shapes_folder, tmp_path / "run", checkpoint_frequency=2, **SETTINGS)
    stored = sorted(path.name for path in (Path(result.model) / "epochs").iterdir())
    assert stored == ["0002.safetensors", "0004.safetensors"]
    picture = next((shapes_folder / "test").rglob("*.png"))
    second, fourth = (foveal.load(result.archive, epoch=epoch).predict(picture)[0].score for epoch in (2, 4))
    assert second != fourth
    with pytest.raises(foveal.UserError, match=r"stored epochs: 2, 4"):
        foveal.load(result.archive, epoch=3)


def test_early_stopping_ends_the_run(shapes_folder: Path, tmp_path: Path) -> None:
    settings = SETTINGS | {"learning_rate": 0.0, "epochs": 9, "early_stopping": "True", "ema_decay": 0}
    settings |= {"early_stopping_min_epochs": 2, "early_stopping_patience": 1}
    result = foveal.train(shapes_folder, tmp_path / "run", **settings)
    assert result.stopped == "early stopping"
    lines = (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()
    assert sum(json.loads(line)["kind"] == "epoch" for line in lines) == 2


def test_predict_reads_standard_input_and_writes_json_lines(trained: foveal.Result, shapes_folder: Path) -> None:
    picture = next((shapes_folder / "test").rglob("*.png"))
    command = [sys.executable, "-m", "foveal.cli.main", "predict", trained.model, "-", "--json"]
    done = subprocess.run(command, input=picture.read_bytes(), capture_output=True, check=True)
    answer = json.loads(done.stdout)
    (asked,) = foveal.load(trained.model).predict(picture)
    assert answer["picture"] == "standard input"
    assert answer["label"] == asked.label


def test_labels_are_drawn_on_pictures(trained: foveal.Result, shapes_folder: Path, tmp_path: Path) -> None:
    done = run_foveal("predict", trained.model, shapes_folder / "test" / "disc", "--draw", tmp_path / "drawn")
    assert done.returncode == 0
    drawn = sorted((tmp_path / "drawn").iterdir())
    assert len(drawn) == 10
    with Image.open(drawn[0]) as image:
        assert min(image.size) > 32  # enlarged, so that the label can be read


def test_the_originals_log_lines_are_printed_on_request(shapes_folder: Path, tmp_path: Path) -> None:
    pairs = [part for name, value in SETTINGS.items() for part in ("--set", f"{name}={value}")]
    done = run_foveal("train", shapes_folder, "-o", tmp_path / "run", "--sagemaker-log", *pairs)
    lines = done.out.splitlines()  # type: ignore[attr-defined]
    for pattern in (
        r"Epoch\[3\] Train-accuracy=0\.\d{6}$",
        r"Epoch\[0\] Validation-accuracy=[01]\.\d{6}$",
        r"Epoch\[1\] Time cost=\d+\.\d{3}$",
    ):
        prefix = r"\[\d\d/\d\d/\d{4} \d\d:\d\d:\d\d INFO \d+\] "
        assert [line for line in lines if re.match(prefix + pattern, line)], pattern


def test_importing_foveal_imports_no_torch() -> None:
    code = "import sys, foveal, foveal.cli.main; print(sorted({'torch', 'numpy', 'rich'} & set(sys.modules)))"
    environment = {**os.environ}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment)
    assert done.stdout.strip() == "[]"


def test_a_corrupt_picture_is_skipped_named_and_written_down(shapes_folder: Path, tmp_path: Path) -> None:
    data = tmp_path / "data"
    for folder in sorted((shapes_folder / "train").iterdir()):
        (data / folder.name).mkdir(parents=True)
        for file in sorted(folder.iterdir()):
            (data / folder.name / file.name).write_bytes(file.read_bytes())
    broken = data / "disc" / "000.png"
    broken.write_bytes(broken.read_bytes()[:60])
    settings = SETTINGS | {"epochs": 2, "validation_fraction": 0}
    foveal.train(data, tmp_path / "run", **settings)
    lines = [json.loads(line) for line in (tmp_path / "run" / "bad_records.jsonl").read_text().splitlines()]
    assert len(lines) == 1
    assert "disc/000.png" in lines[0]["where"].replace("\\", "/")
    assert lines[0]["reason"]


def test_grey_pictures_train_and_answer(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for name, level in (("dark", 60), ("light", 190)):
        (tmp_path / "data" / name).mkdir(parents=True)
        for number in range(12):
            pixels = rng.integers(level - 50, level + 50, (28, 28), dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / "data" / name / f"{number}.pgm")
    result = foveal.train(tmp_path / "data", tmp_path / "run", epochs=12, mini_batch_size=4)
    model = foveal.load(result.model)
    assert (model.rule.channels, model.rule.height, model.rule.width) == (1, 28, 28)
    kept = io.BytesIO()
    Image.new("RGB", (50, 40), (200, 200, 200)).save(kept, "JPEG")
    assert model.predict(kept.getvalue())[0].label == "light"


def test_the_original_recipe_trains_with_the_originals_settings(shapes_folder: Path, tmp_path: Path) -> None:
    settings = {"num_layers": "20", "image_shape": "3,28,28", "epochs": "1", "mini_batch_size": "8", "num_classes": "3"}
    result = foveal.train(
        shapes_folder / "train", tmp_path / "run", recipe="original", validation=shapes_folder / "test", **settings
    )
    artifact, _ = open_artifact(result.model)
    expected = {"optimizer": "sgd", "learning_rate": 0.1, "momentum": 0.9, "weight_decay": 0.0001, "ema_decay": None}
    expected |= {"augmentation_type": "none", "lr_schedule": "step", "num_training_samples": 120, "resize": None}
    assert {name: artifact.settings[name] for name in expected} == expected
    assert artifact.network["resnet"] == "pre"
    assert artifact.preprocessing["antialias"] is False
    assert artifact.data["validation_pictures"] == 30


def test_max_minutes_plans_the_epochs_and_the_plan_is_kept(shapes_folder: Path, tmp_path: Path) -> None:
    heard: list[Event] = []
    settings = SETTINGS | {"epochs": 3, "max_minutes": 30}
    foveal.train(shapes_folder, tmp_path / "run", listeners=[heard.append], **settings)
    said = [event.text for event in heard if isinstance(event, Said)]
    assert any("planned 3 epochs" in line for line in said)
    checkpoint = max((tmp_path / "run" / "checkpoints").glob("step-*"))
    plan = json.loads((checkpoint / "state.json").read_text())["plan"]
    assert (plan["epochs"], plan["schedule"]["kind"], plan["augmentation"]) == (3, "one_cycle", "none")


def test_time_that_does_not_hold_an_epoch_is_filled_with_a_part_of_one(shapes_folder: Path, tmp_path: Path) -> None:
    heard: list[Event] = []
    settings = SETTINGS | {"max_minutes": 0.0001}
    result = foveal.train(shapes_folder, tmp_path / "run", listeners=[heard.append], **settings)
    assert any(
        isinstance(e, Said) and "one whole epoch does not fit, planned 1 of its 12 steps" in e.text for e in heard
    )
    assert result.best_epoch == 1


def test_tensorboard_files_hold_the_curves(shapes_folder: Path, tmp_path: Path) -> None:
    settings = SETTINGS | {"epochs": 1, "log_steps": 5}
    foveal.train(shapes_folder, tmp_path / "run", tensorboard_folder=tmp_path / "curves", **settings)
    (file,) = (tmp_path / "curves").iterdir()
    content = file.read_bytes()
    assert b"epoch/validation_accuracy" in content
    assert b"learning_rate" in content


def test_pictures_smaller_than_the_network_are_enlarged_with_one_warning(shapes_folder: Path, tmp_path: Path) -> None:
    heard: list[Event] = []
    settings = SETTINGS | {"image_shape": "3,40,40", "num_layers": 18, "epochs": 2, "validation_fraction": 0}
    foveal.train(shapes_folder, tmp_path / "run", listeners=[heard.append], **settings)
    warned = [event.text for event in heard if isinstance(event, Said) and "enlarged" in event.text]
    assert warned == ["120 of 120 pictures are smaller than 40 x 40 and are enlarged"]


def test_a_signal_during_validation_does_not_wait_for_its_end(shapes_folder: Path, tmp_path: Path) -> None:
    settings = SETTINGS | {"epochs": 2, "log_steps": 12, "checkpoint_steps": 5}  # 12 steps an epoch

    def stop_at_the_epochs_end(event: Event) -> None:
        if isinstance(event, StepDone) and event.step == 12:
            signal.raise_signal(signal.SIGTERM)

    stopped = foveal.train(shapes_folder, tmp_path / "run", listeners=[stop_at_the_epochs_end], **settings)
    assert (stopped.stopped, stopped.best_epoch) == ("SIGTERM", 0)
    lines = (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line)["kind"] for line in lines] == ["step"]
    resumed = foveal.train(shapes_folder, tmp_path / "run", **settings)
    whole = foveal.train(shapes_folder, tmp_path / "whole", **settings)
    weights = [(Path(result.model) / "model.safetensors").read_bytes() for result in (resumed, whole)]
    assert weights[0] == weights[1]


def test_an_unreadable_validation_picture_is_named(shapes_folder: Path, tmp_path: Path) -> None:
    heard: list[Event] = []
    (tmp_path / "val" / "disc").mkdir(parents=True)
    (tmp_path / "val" / "disc" / "broken.png").write_bytes(b"\x89PNG no more")
    good = next((shapes_folder / "test" / "disc").iterdir())
    (tmp_path / "val" / "disc" / good.name).write_bytes(good.read_bytes())
    settings = SETTINGS | {"epochs": 2}
    folder = shapes_folder / "train"
    foveal.train(folder, tmp_path / "run", validation=tmp_path / "val", listeners=[heard.append], **settings)
    assert ["broken.png" in event.where for event in heard if isinstance(event, PictureSkipped)] == [True]
