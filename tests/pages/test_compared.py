"""Two models on the same pictures: figures with intervals, the page, and what is refused."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
from click.testing import CliRunner

from foveal import comparison
from foveal.algorithms import detection
from foveal.artifact import write_artifact
from foveal.cli.compare import command
from foveal.comparison import compare
from foveal.data.recognise import open_data
from foveal.errors import UserError
from foveal.evaluation import Judged, evaluate
from foveal.pages.compared import page_of
from foveal.records import Reading
from foveal.report.page import render


@pytest.fixture(scope="module")
def models(kit):
    """Two untrained classifiers of the toy shapes; the second knows the classes in another order."""
    torch.manual_seed(0)
    first = kit.classifier(("disc", "square", "triangle"))
    second = kit.classifier(("triangle", "disc", "square"))
    return first, second


def test_a_comparison_counts_the_same_pictures_whatever_the_order_of_classes(models, shapes_folder):
    first, second = models

    found = compare(first, second, shapes_folder, resamples=100)

    alone = [np.mean([model.predict(str(path))[0].label == path.parent.name
                      for path in sorted(shapes_folder.glob("test/*/*"))]) for model in models]  # fmt: skip
    accuracy = found.figures["accuracy"]
    assert (found.split, found.count, found.class_names) == ("test", 30, ("disc", "square", "triangle"))
    assert (accuracy.first, accuracy.second) == (pytest.approx(alone[0]), pytest.approx(alone[1]))
    assert accuracy.low <= accuracy.difference <= accuracy.high
    assert found.only_a is not None and found.only_b is not None
    assert found.only_b - found.only_a == round(30 * accuracy.difference)
    assert list(found.per_class) == ["disc", "square", "triangle"]
    json.dumps(found.to_dict(), allow_nan=False)


def test_a_model_beside_itself_differs_nowhere(models, shapes_folder):
    found = compare(models[0], models[0], shapes_folder, resamples=100)

    assert found.figures["accuracy"].difference == found.figures["accuracy"].low == found.figures["accuracy"].high == 0
    assert (found.only_a, found.only_b, found.p_value) == (0, 0, 1.0)
    assert found.verdict == "these pictures do not tell which is better: +0.00 points of accuracy, +0.00 to +0.00"


def test_the_page_shows_the_pictures_on_which_they_disagree(models, shapes_folder):
    found = compare(*models, shapes_folder, resamples=100)

    page = page_of(found, *models, ("one", "two"), "shapes")

    shown = {each.title: each for each in page.sections}
    assert len(shown["Only A is right"].groups) == min(18, found.only_a or 0)
    assert len(shown["Only B is right"].groups) == min(18, found.only_b or 0)
    html = render(page)
    assert "A: one (ResNet-20 (pre))" in html and "McNemar" in html and len(html) < 5_000_000


def test_detectors_are_compared_by_map_with_each_pictures_mistakes_side_by_side(kit, monkeypatch):
    size, left, right = (200, 100), (0, 0, 90, 90), (100, 0, 190, 90)
    truths = tuple(kit.truth(size, (0, left), (1, right)) for _ in range(4))
    models = kit.detector(("cat", "dog")), kit.detector(("dog", "cat"))
    all_right = tuple(kit.found(size, (0, 0.9, left), (1, 0.8, right)) for _ in range(4))
    half = tuple(kit.found(size, (1, 0.9, left)) for _ in range(4))  # its class 1 is the cat
    pictures = kit.pictures([size], truths)

    def judged(model, dataset, split=None, workers=None):
        found = all_right if model is models[0] else half
        answers = detection.Answers(np.arange(4), truths, found, ())
        judging = detection.Judging(model.class_names, coco=False)
        return Judged(detection.verdict(answers, judging), answers, pictures, "test", ())

    monkeypatch.setattr(comparison, "evaluate", judged)
    monkeypatch.setattr(comparison, "open_data", lambda *_, **__: None)

    found = compare(*models, "boxes", resamples=100)

    assert (found.figures["mAP"].first, found.figures["mAP"].second) == (1.0, 0.5)
    assert (found.per_class["cat"].difference, found.per_class["dog"].difference) == (0.0, -1.0)
    assert found.verdict == "A is better: -50.00 points of mAP, -50.00 to -50.00"
    page = page_of(found, *models, ("one", "two"), "boxes")
    pairs = page.sections[-1].groups
    assert [[each.caption for each in pair] for pair in pairs[:1]] == [
        ["A: 0 missed, 0 false: picture <0>.png", "B: 1 missed, 0 false: picture <0>.png"]
    ]


@pytest.mark.parametrize(
    ("second", "text"),
    [
        (
            ("classifier", ("disc", "square", "star")),
            "compare: only the first model knows the classes triangle\n"
            "Compare models that were trained on the same classes, under the same names.",
        ),
        (
            ("classifier", ("disc", "square", "triangle", "star")),
            "compare: only the second model knows the classes star\n"
            "Compare models that were trained on the same classes, under the same names.",
        ),
        (
            ("detector", ("disc", "square", "triangle")),
            "compare: the first model gives one label, the second boxes\nCompare models of one kind.",
        ),
    ],
)
def test_models_that_cannot_be_compared_are_refused(kit, models, shapes_folder, second, text):
    kind, names = second

    with pytest.raises(UserError) as refused:
        compare(models[0], getattr(kit, kind)(names), shapes_folder)

    assert str(refused.value) == text


def test_validation_sets_that_training_set_aside_differently_are_refused(kit, shapes_folder):
    dataset = open_data(shapes_folder / "train")
    models = []
    for seed in (0, 1):
        model = kit.classifier(("disc", "square", "triangle"))
        data = {"fingerprint": dataset.train.fingerprint(), "validation_fraction": 0.2, "seed": seed}
        model.artifact = replace(model.artifact, data=data)
        models.append(model)

    with pytest.raises(UserError) as refused:
        compare(*models, dataset, split="validation")

    assert str(refused.value) == (
        f"{shapes_folder / 'train'}: the models set aside different pictures of it in training, so its validation split"
        " is not the same\nCompare on pictures that neither was trained on, given with --test, or with --split all."
    )


def test_the_command_writes_figures_and_a_page(models, shapes_folder, tmp_path):
    paths = []
    for number, model in enumerate(models):
        folder = tmp_path / f"model{number}"
        artifact = replace(model.artifact, preprocessing=model.rule.to_dict())
        write_artifact(folder, artifact, model.network.state_dict())
        paths.append(str(folder))

    report = ["--report", str(tmp_path / "report"), "--json"]

    done = CliRunner().invoke(command, [*paths, "--data", str(shapes_folder), "--resamples", "100", *report])

    assert done.exit_code == 0, done.output
    figures = json.loads(done.stdout)
    assert figures["count"] == 30 and set(figures["figures"]) == {"accuracy", "macro_f1", "log_loss"}
    assert 'data-by="foveal compare"' in (tmp_path / "report" / "index.html").read_text(encoding="utf-8")


def test_classifiers_of_several_labels_are_compared_each_at_its_own_thresholds(kit, shapes_folder, tmp_path):
    names = ("disc", "square", "triangle")
    rows = ["file," + ",".join(names)]
    for number, path in enumerate(sorted(shapes_folder.glob("test/*/*"))):
        shutil.copy(path, tmp_path / f"{number}{path.suffix}")
        rows.append(f"{number}{path.suffix}," + ",".join(str(int(name == path.parent.name)) for name in names))
    (tmp_path / "labels.csv").write_text("\n".join(rows) + "\n", encoding="utf-8")
    dataset = open_data(tmp_path / "labels.csv", reading=Reading(labels=names))
    torch.manual_seed(0)
    first, second = kit.classifier(names, several=True), kit.classifier(names[::-1], several=True)
    second.thresholds = {"disc": 0.2, "square": 0.5, "triangle": 0.9}

    found = compare(first, second, dataset, split="all", resamples=100)

    alone = [evaluate(model, dataset, split="all").verdict.figures for model in (first, second)]
    assert (found.kind, found.count) == ("several labels", 30)
    for name in ("mAP", "micro_f1", "all_right"):
        each = found.figures[name]
        assert (each.first, each.second) == (pytest.approx(alone[0][name]), pytest.approx(alone[1][name]))
    titles = [each.title for each in page_of(found, first, second, ("one", "two"), "shapes").sections]
    assert titles[2:] == ["Only A is all right", "Only B is all right", "Both are wrong, each in its own way"]
