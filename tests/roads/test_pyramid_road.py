"""Detectors with a feature pyramid, through their doors; mosaics, several sides and class weights on the way."""

from __future__ import annotations

import json
import signal
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import torch

import foveal
from foveal.artifact import open_artifact
from foveal.errors import UserError
from foveal.predictor import DetectionPredictor
from foveal.training.events import Event, StepDone

pytestmark = pytest.mark.skipif(find_spec("timm") is None, reason="small networks of timm's are trained here")

SETTINGS: dict[str, Any] = {
    "base_network": "mobilenetv3_small_050",
    "head": "pyramid",
    "image_shape": 300,
    "use_pretrained_model": 0,
    "mini_batch_size": 4,
    "epochs": 2,
    "log_steps": 1,
    "warmup_epochs": 0,
    "mosaic": 0.5,
    "multi_scale": 0.25,
    "class_weights": "auto",
}


@pytest.fixture(scope="module")
def run(few_boxes: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that was stopped by a signal after three steps, and then went on."""
    out = tmp_path_factory.mktemp("pyramid") / "run"

    def stop_after_three_steps(event: Event) -> None:
        if isinstance(event, StepDone) and event.step == 3:
            signal.raise_signal(signal.SIGTERM)

    stopped = foveal.train(few_boxes, out, listeners=[stop_after_three_steps], **SETTINGS)
    assert stopped.stopped == "SIGTERM"
    assert foveal.train(few_boxes, out, **SETTINGS).stopped == ""
    return out


def test_a_run_that_was_stopped_ends_as_one_that_was_not_whatever_the_workers(
    run: Path, few_boxes: Path, tmp_path: Path
) -> None:
    foveal.train(few_boxes, tmp_path / "whole", **SETTINGS, loader_workers=0)
    weights = [(folder / "model/model.safetensors").read_bytes() for folder in (run, tmp_path / "whole")]
    assert weights[0] == weights[1]


def test_training_evaluate_and_the_artifact_have_the_same_figures(run: Path, few_boxes: Path) -> None:
    artifact, _ = open_artifact(run)
    assert artifact.network["head"] == artifact.settings["head"] == "pyramid"
    model = foveal.load(run)
    assert isinstance(model, DetectionPredictor)
    verdict = foveal.evaluate(model, few_boxes, split="validation").verdict
    assert {name: artifact.metrics[name] for name in verdict.figures} == dict(verdict.figures)
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    told = [line for line in lines if line["kind"] == "epoch"]
    assert all(line["train:class_loss"] > 0 and line["train:box_loss"] > 0 for line in told)


def test_training_goes_on_from_it_with_a_class_more_and_frozen_layers(
    run: Path, few_boxes: Path, tmp_path: Path
) -> None:
    for folder in ("JPEGImages", "Annotations"):
        (tmp_path / "data" / folder).mkdir(parents=True)
    named = 0
    for file in sorted((few_boxes / "Annotations").iterdir()):
        xml = file.read_text(encoding="utf-8")
        if "<name>disc<" in xml and not named:
            xml, named = xml.replace("<name>disc<", "<name>ball<"), 1
        (tmp_path / "data/Annotations" / file.name).write_text(xml, encoding="utf-8")
    for file in (few_boxes / "JPEGImages").iterdir():
        (tmp_path / "data/JPEGImages" / file.name).write_bytes(file.read_bytes())
    more: dict[str, Any] = {"mini_batch_size": 4, "epochs": 1, "validation_fraction": 0, "ema_decay": 0}
    more |= {"warmup_epochs": 0, "learning_rate": 1e-3, "freeze_layer_pattern": "conv_stem|class_tower|classes"}
    foveal.train(tmp_path / "data", tmp_path / "more", model=run, **more)
    (artifact, after), (_, before) = open_artifact(tmp_path / "more"), open_artifact(run)
    assert artifact.class_names == ("ball", "disc", "square", "triangle")
    assert artifact.network["head"] == artifact.settings["head"] == "pyramid"
    frozen = [name for name in before if ("class_tower" in name and "norm" not in name) or "conv_stem" in name]
    assert frozen and all(torch.equal(before[name], after[name]) for name in frozen)
    for name in ("body.classes.weight", "body.classes.bias"):
        assert torch.equal(after[name][1:], before[name])
    assert not torch.equal(after["body.sides.weight"], before["body.sides.weight"])
    with pytest.raises(UserError) as caught:
        foveal.train(tmp_path / "data", tmp_path / "no", model=run, head="ssd")
    assert str(caught.value) == (
        "model: head=ssd was given, but the earlier model has pyramid\n"
        "Leave head out: incremental training goes on with the earlier network."
    )
