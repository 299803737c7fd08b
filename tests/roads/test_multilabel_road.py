"""Any number of labels a picture, and confidences that mean something: through all doors the same."""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

import foveal
from foveal.algorithms.classification import answer_logits
from foveal.artifact import DESCRIPTION, open_artifact
from foveal.cli.evaluate import command as evaluate_command
from foveal.cli.predict import command as predict_command
from foveal.data.recognise import open_data
from foveal.errors import UserError
from foveal.predictor import Predictor
from foveal.training.events import Said

COLOURS = {"red": (230, 30, 30), "green": (30, 220, 40), "blue": (40, 60, 240)}
TINY: dict[str, object] = {
    "num_layers": 20, "image_shape": "3,16,16", "mini_batch_size": 8, "use_pretrained_model": 0, "loader_workers": 0,
}  # fmt: skip


def write_tags(root: Path, splits: dict[str, int], names: tuple[str, ...] = tuple(COLOURS)) -> Path:
    """``train.csv`` and more, with a column of 0 and 1 for each colour that is a bar somewhere in the picture."""
    rng = np.random.default_rng(4)
    for split, count in splits.items():
        (root / split).mkdir(parents=True)
        with (root / f"{split}.csv").open("w", newline="", encoding="utf-8") as file:
            table = csv.writer(file)
            table.writerow(["file", *names])
            for number in range(count):
                there = [(number >> bit) & 1 for bit in range(len(names))]
                picture = rng.integers(0, 60, (16, 16, 3)).astype(np.uint8)
                for bit, name in enumerate(names):
                    if there[bit]:
                        picture[5 * bit : 5 * bit + 4] = COLOURS.get(name, (250, 250, 250))
                Image.fromarray(picture).save(root / split / f"{number:02d}.png")
                table.writerow([f"{split}/{number:02d}.png", *there])
    return root


@pytest.fixture(scope="module")
def tags(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tags(tmp_path_factory.mktemp("tags") / "data", {"train": 40, "test": 16})


@pytest.fixture(scope="module")
def said() -> list[str]:
    return []


@pytest.fixture(scope="module")
def trained(tags: Path, said: list[str], tmp_path_factory: pytest.TempPathFactory) -> foveal.Result:
    def note(event: object) -> None:
        if isinstance(event, Said):
            said.append(event.text)

    out = tmp_path_factory.mktemp("several") / "run"
    return foveal.train(tags, out, listeners=[note], epochs=6, learning_rate=0.05, tta_flip=1, **TINY)


@pytest.fixture
def changed(trained: foveal.Result, tmp_path: Path) -> Callable[..., Path]:
    """A copy of the trained model whose description is changed."""

    def make(**fields: Any) -> Path:
        shutil.copytree(trained.model, tmp_path / "changed")
        path = tmp_path / "changed" / DESCRIPTION
        path.write_text(json.dumps({**json.loads(path.read_text(encoding="utf-8")), **fields}), encoding="utf-8")
        return tmp_path / "changed"

    return make


def predictor(path: str | Path) -> Predictor:
    model = foveal.load(path)
    assert isinstance(model, Predictor)
    return model


def logits_of(model: Predictor, pictures: list[Path]) -> np.ndarray:
    """Of the artifact's network, asked without its rule's mirror image."""
    import torch

    seen = torch.from_numpy(np.stack([model.pixels(each) for each in pictures]))
    plain = answer_logits(model.network, seen, type(model.rule)(**{**model.rule.to_dict(), "tta_flip": False}))
    turned = answer_logits(model.network, seen.flip(2), type(model.rule)(**{**model.rule.to_dict(), "tta_flip": False}))
    found: np.ndarray = ((plain + turned) / 2).numpy()
    return found


def refusal(wrong: Callable[[], object]) -> str:
    with pytest.raises(UserError) as caught:
        wrong()
    return str(caught.value)


def test_the_data_decides_and_it_is_said(trained: foveal.Result, said: list[str]) -> None:
    artifact, _ = open_artifact(trained.model)
    assert artifact.settings["multi_label"] is True
    assert "multi_label: each picture has any number of classes; epochs are compared by mAP" in said
    assert "6 of 40 pictures are set aside for validation (by all classes of each)" in said


def test_it_learns_colours(trained: foveal.Result, tags: Path) -> None:
    verdict = foveal.evaluate(trained.model, tags).verdict
    assert verdict.objective == verdict.figures["mAP"] > 0.8  # chance is a half


def test_the_last_figures_of_training_are_those_of_evaluate(trained: foveal.Result, tags: Path) -> None:
    done = CliRunner().invoke(evaluate_command, [trained.model, str(tags), "--split", "validation", "--json"])
    judged = json.loads(done.stdout)
    assert (judged["count"], judged["split"], judged["multi_label"]) == (6, "validation", True)
    assert set(trained.figures) >= {"accuracy", "mAP", "micro_f1", "macro_f1", "calibration_error_before"}
    assert {name: f"{judged[name]:.6f}" for name in trained.figures} == {
        name: f"{value:.6f}" for name, value in trained.figures.items()
    }


def test_thresholds_are_stored_and_decide_what_is_told(
    trained: foveal.Result, tags: Path, changed: Callable[..., Path]
) -> None:
    pictures = sorted((tags / "test").glob("*.png"))
    model = predictor(trained.model)
    stored = open_artifact(trained.model)[0].thresholds
    assert set(stored) == set(COLOURS) and model.thresholds == stored
    for answer in model.predict(pictures):
        told = {name for name, p in zip(COLOURS, answer.probabilities, strict=True) if p >= stored[name]}
        assert set(answer.labels) == told
        assert answer.label == (answer.labels[0] if told else None)
    strict = predictor(changed(thresholds={"red": 0.0, "green": 1.0, "blue": 1.0}))
    assert {answer.labels for answer in strict.predict(pictures)} == {("red",)}
    assert {answer.labels for answer in strict.predict(pictures, min_score=1.0)} == {()}


def test_evaluate_counts_at_the_stored_thresholds(tags: Path, changed: Callable[..., Path]) -> None:
    details = foveal.evaluate(changed(thresholds={"red": 0.0, "green": 1.0, "blue": 1.0}), tags).verdict.details
    assert [row["predicted"] for row in details["per_class"]] == [16, 0, 0]
    assert details["thresholds"] == {"red": 0.0, "green": 1.0, "blue": 1.0}


def test_the_temperature_and_the_mirror_image_are_used_by_all_doors(
    trained: foveal.Result, tags: Path, changed: Callable[..., Path]
) -> None:
    pictures = sorted((tags / "test").glob("*.png"))
    model = predictor(trained.model)
    assert model.rule.tta_flip and model.temperature == open_artifact(trained.model)[0].calibration["temperature"]
    assert model.temperature != 1
    logits = logits_of(model, pictures)
    answers = np.stack([answer.probabilities for answer in model.predict(pictures)])
    np.testing.assert_allclose(answers, 1 / (1 + np.exp(-logits / model.temperature)), atol=1e-5)
    hot = changed(calibration={"temperature": 8.0})
    hotter = np.stack([answer.probabilities for answer in predictor(hot).predict(pictures)])
    np.testing.assert_allclose(hotter, 1 / (1 + np.exp(-logits / 8)), atol=1e-5)
    before, after = (foveal.evaluate(each, tags).verdict for each in (trained.model, hot))
    assert after.figures["log_loss"] > before.figures["log_loss"]
    assert after.figures["temperature"] == 8
    assert after.figures["calibration_error_before"] == before.figures["calibration_error_before"]


def test_a_model_without_a_temperature_opens_and_answers_as_it_is(tags: Path, changed: Callable[..., Path]) -> None:
    fields = {"calibration": {}}
    model = predictor(changed(**fields))
    pictures = sorted((tags / "test").glob("*.png"))
    answers = np.stack([answer.probabilities for answer in model.predict(pictures)])
    assert model.temperature is None
    np.testing.assert_allclose(answers, 1 / (1 + np.exp(-logits_of(model, pictures))), atol=1e-5)
    assert "calibration_error_before" not in foveal.evaluate(model, tags).verdict.figures


def test_predict_prints_and_draws_each_label(trained: foveal.Result, tags: Path, tmp_path: Path) -> None:
    picture = tags / "test" / "07.png"  # all three colours
    (answer,) = predictor(trained.model).predict(picture)
    asked = [trained.model, str(picture)]
    printed = json.loads(CliRunner().invoke(predict_command, [*asked, "--json"]).stdout)
    assert [each["label"] for each in printed["labels"]] == list(answer.labels)
    line = CliRunner().invoke(predict_command, [*asked, "--draw", str(tmp_path)]).stdout
    assert all(f"{label} " in line for label in answer.labels)
    lines = len(answer.labels)
    plain = CliRunner().invoke(predict_command, [*asked, "--min-score", "1", "--draw", str(tmp_path)]).stdout
    assert "none" in plain
    with Image.open(tmp_path / "07.png") as drawn, Image.open(tmp_path / "07-2.png") as empty:
        assert lines > 1 and drawn.height > empty.height


def test_evaluate_prints_a_table(trained: foveal.Result, tags: Path) -> None:
    out = CliRunner().invoke(evaluate_command, [trained.model, str(tags)]).stdout
    assert "at each class's threshold, as training chose it" in out and "before the temperature of" in out
    assert [line.split()[0] for line in out.splitlines()[-3:]] == list(COLOURS)
    asked = CliRunner().invoke(evaluate_command, [trained.model, str(tags), "--top-k", "2"])
    assert (
        str(asked.exception) == "top_k: top_k is for one label a picture, and this model gives several\nLeave it out."
    )


def test_training_goes_on_with_a_class_more(trained: foveal.Result, tmp_path: Path) -> None:
    more = write_tags(tmp_path / "more", {"train": 32}, ("blue", "white", "green", "red"))
    events: list[str] = []
    result = foveal.train(
        more, tmp_path / "run", model=trained.model, epochs=1, learning_rate=0, mini_batch_size=8, ema_decay=0,
        listeners=[lambda event: events.append(event.text) if isinstance(event, Said) else None],
    )  # fmt: skip
    assert any("3 classes stay, 1 new (white)" in line for line in events)
    artifact, tensors = open_artifact(result.model)
    earlier = open_artifact(trained.model)[1]
    assert artifact.class_names == ("blue", "white", "green", "red")
    assert tensors["body.fc.weight"][[3, 2, 0]].tolist() == earlier["body.fc.weight"].tolist()
    assert artifact.preprocessing["tta_flip"] is True  # the earlier model's rule


def test_one_and_several_labels_do_not_go_on_from_one_another(
    trained: foveal.Result, shapes_folder: Path, tmp_path: Path
) -> None:
    assert refusal(lambda: foveal.train(shapes_folder, tmp_path / "run", model=trained.model, epochs=1)) == (
        "model: the earlier model gives any number of labels a picture, and this run is for one label a picture\n"
        "Set multi_label=1 with data that fits it, or train anew."
    )


def test_several_labels_where_one_is_asked_for_are_refused(tags: Path, tmp_path: Path) -> None:
    assert refusal(lambda: foveal.train(tags, tmp_path / "run", multi_label=0, **TINY)) == (
        f"{tags}: its pictures have several labels each, and multi_label is 0\n"
        "Set multi_label=1, or give each picture one label."
    )


def test_weights_of_several_labels_are_told_as_idle_where_the_data_has_one(shapes_folder: Path) -> None:
    from foveal.algorithms.recipe import read_task
    from foveal.settings import parse_settings

    parsed = parse_settings({"use_weighted_loss": 1}, recipe="modern")
    _, doubts = read_task(parsed.settings, parsed.given, open_data(shapes_folder).task, "")
    assert doubts == ("use_weighted_loss has no effect: the data has one label a picture",)


def test_one_label_a_picture_with_multi_label_is_a_row_with_a_single_1(shapes_folder: Path, tmp_path: Path) -> None:
    result = foveal.train(
        shapes_folder / "test", tmp_path / "run", recipe="original", multi_label=1, use_weighted_loss=1, epochs=1,
        validation=shapes_folder / "test", num_layers=20, image_shape="3,28,28", mini_batch_size=8,
    )  # fmt: skip
    artifact, _ = open_artifact(result.model)
    assert artifact.metrics["per_class"][0]["support"] == 10
    assert "temperature" not in result.figures  # calibrate is off in the original
    judged = foveal.evaluate(result.model, shapes_folder / "test", split="all")
    assert judged.verdict.objective == judged.verdict.figures["accuracy"] == result.figures["accuracy"]


def test_a_model_of_one_label_is_not_judged_on_several(shapes_folder: Path, tags: Path, tmp_path: Path) -> None:
    result = foveal.train(
        shapes_folder / "test", tmp_path / "run", epochs=1, mixup=0.4, cutmix=1, random_erasing=0.5, top_k=2,
        label_smoothing=0.1, class_weights="auto", layer_decay=0.7, freeze_layer_pattern="conv0_", **TINY,
    )  # fmt: skip
    source = open_data(tags).test
    assert source is not None
    assert refusal(lambda: foveal.evaluate(result.model, tags)) == (
        f"{source.origin}: its pictures have several labels each, and one is expected\n"
        "Train with multi_label=1, or give each picture one label."
    )


def test_a_temperature_that_cannot_be_is_told(changed: Callable[..., Path]) -> None:
    place = changed(calibration={"temperature": -1.0})
    assert refusal(lambda: foveal.load(place)) == (
        f"{place}: {DESCRIPTION} is damaged: the temperature is -1.0\nCopy the artifact again."
    )


def test_mixed_training_does_not_depend_on_the_workers(tags: Path, tmp_path: Path) -> None:
    weights = []
    for workers in (0, 2):
        settings = {**TINY, "loader_workers": workers, "mixup": 0.4, "cutmix": 1, "random_erasing": 0.5}
        result = foveal.train(tags, tmp_path / str(workers), epochs=1, **settings)
        weights.append((Path(result.model) / "model.safetensors").read_bytes())
    assert weights[0] == weights[1]
