"""The page of an evaluation: whole in one file, of bounded size, and telling what was found."""

from __future__ import annotations

import re

import numpy as np
import pytest

from foveal.algorithms import classification, detection
from foveal.errors import UserError
from foveal.evaluation import Judged
from foveal.pages import album
from foveal.pages.evaluated import page_of
from foveal.pages.parts import check_free, write_page
from foveal.records import BadRecord
from foveal.report.page import Page, render


def judged_classes(kit, model, labels, logits, sizes=((40, 30),), bad=()):
    pictures = kit.pictures(sizes, [0] * len(labels))
    answers = classification.Answers(np.arange(len(labels)), labels, logits.astype(np.float32), bad)
    thresholds = model.thresholds if model.several else None
    judging = classification.Judging(
        model.class_names, model.several, temperature=model.temperature, thresholds=thresholds
    )
    return Judged(classification.verdict(answers, judging), answers, pictures, "test", ("judging on the test split",))


def section(page: Page, title: str):
    return next(each for each in page.sections if each.title == title)


def test_a_classifiers_page_has_figures_matrix_classes_sureness_sizes_and_mistakes(kit):
    model = kit.classifier(("cat", "<dog>", "owl"), temperature=2.0)
    labels = np.array([0, 1, 1, 2, 2, 0])
    logits = np.eye(3)[[0, 1, 0, 2, 1, 0]] * [[4], [4], [8], [4], [2], [1]]
    judged = judged_classes(kit, model, labels, logits, sizes=((20, 300), (100, 90)), bad=(BadRecord("x.png", "torn"),))

    page = page_of(judged, model, "run/model", "photos/")

    html = render(page)
    assert page.facts == (
        "ResNet-20 (pre), 3 classes, epoch 3", "6 pictures of photos/ (test)", "judging on the test split",
    )  # fmt: skip
    assert ("<dog>", "cat", 1) in section(page, "What is taken for what").tables[0].rows
    captions = [group[0].caption for group in section(page, "The worst mistakes").groups]
    assert captions == [
        "cat 96.5%, labelled <dog> (1.8%): picture <2>.png",
        "<dog> 57.6%, labelled owl (21.2%): picture <4>.png",
    ]
    assert "16-32: 33% of 3" in html and "64-128: 100% of 3" in html  # by the shorter side
    assert section(page, "1 pictures could not be judged").lines == ("x.png: torn",)
    assert "<dog>" not in html and "script" not in html and not re.search(r"https?:|@import|url\(", html)


def test_pages_stay_small_and_whole_with_many_classes(kit):
    names = tuple(f"class {i}" for i in range(1200))
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 1200, 3000)
    judged = judged_classes(kit, kit.classifier(names), labels, rng.normal(size=(3000, 1200)))

    page = page_of(judged, kit.classifier(names), "m", "d")

    assert "too large to be looked at" in section(page, "What is taken for what").text
    assert "The best 1,000 are left out." in section(page, "Classes").text
    assert len(section(page, "The worst mistakes").groups) == 24
    assert len(render(page)) < 5_000_000


def test_pictures_are_left_out_when_the_page_is_full(kit, monkeypatch):
    monkeypatch.setattr(album, "BYTES", 3000)
    model = kit.classifier(("a", "b"))
    judged = judged_classes(kit, model, np.zeros(30, np.int64), np.tile([0.0, 1.0], (30, 1)))

    page = page_of(judged, model, "m", "d")

    mistakes = section(page, "The worst mistakes")
    assert 0 < len(mistakes.groups) < 24
    assert mistakes.text.startswith(f"{len(mistakes.groups)} of 30 wrong answers")


def test_a_page_of_several_labels_has_curves_and_the_surest_wrong_decisions(kit):
    model = kit.classifier(("dog", "car", "none such"), several=True)
    labels = np.array([[1, 0, 0], [1, 1, 0], [0, 1, 0], [0, 0, 0]], np.float32)
    logits = np.array([[3, -3, -4], [2, -2, -4], [1, 3, -4], [-3, -3, -4]], np.float32)
    judged = judged_classes(kit, model, labels, logits)

    page = page_of(judged, model, "m", "d")

    captions = [group[0].caption for group in section(page, "The worst mistakes").groups]
    assert captions == ["missed car 12%: picture <1>.png", "wrongly told dog 73%: picture <2>.png"]
    chart = section(page, "Precision and recall").charts[0].svg
    assert "dog 1.00" in chart and "car" in chart and "none such" not in chart
    assert section(page, "Classes").tables[0].rows[-1][0] == "none such"  # undefined


SIZE = (200, 100)
LEFT, RIGHT, SMALL = (0, 0, 90, 90), (100, 0, 190, 90), (150, 50, 156, 56)


@pytest.fixture
def boxes(kit):
    """A cat found and a small owl missed; a dog found twice and taken for a cat elsewhere; an alarm in an empty one."""
    truths = (
        kit.truth(SIZE, (0, LEFT), (2, SMALL)),
        kit.truth(SIZE, (1, LEFT), (1, RIGHT)),
        kit.truth(SIZE),
    )
    found = (
        kit.found(SIZE, (0, 0.9, LEFT)),
        kit.found(SIZE, (1, 0.9, LEFT), (0, 0.8, RIGHT), (1, 0.7, (5, 5, 90, 90)), (1, 0.2, RIGHT)),
        kit.found(SIZE, (2, 0.95, SMALL)),
    )
    model = kit.detector(("cat", "dog", "owl"))
    answers = detection.Answers(np.arange(3), truths, found, ())
    verdict = detection.verdict(answers, detection.Judging(model.class_names, confidence=model.thresholds, coco=False))
    return Judged(verdict, answers, kit.pictures([SIZE], truths), "test", ()), model


def test_a_detectors_page_has_curves_classes_sizes_misses_and_false_alarms(boxes):
    page = page_of(*boxes, "m", "d")

    misses, alarms = section(page, "What is missed"), section(page, "False alarms")
    assert misses.text == "2 of 4 objects; the pictures with the most first. Drawn is what is missed."
    assert [group[0].caption for group in misses.groups] == [
        "1 of 2 missed (1 owl): picture <0>.png", "1 of 2 missed (1 dog): picture <1>.png",
    ]  # fmt: skip
    assert [group[0].caption for group in alarms.groups] == [
        "owl 95%, nothing is there: picture <2>.png",
        "cat 80%, an object of another class: picture <1>.png",
        "dog 70%, a second box of an object that is found already: picture <1>.png",
    ]
    assert dict(alarms.tables[0].rows)["an object of the class, but badly placed"] == 0
    assert "&lt;8: 0% of 1" in section(page, "Sizes of objects").charts[0].svg
    assert "dog 0.83" in section(page, "Precision and recall").charts[0].svg


def test_a_small_box_in_a_large_picture_is_shown_with_its_surroundings(kit):
    large = (2000, 1000)
    shown = album.Album(kit.pictures([large], [None]))
    box = kit.truth(large, (0, (1500, 900, 1510, 912)))

    window = album._window(*large, box.values[0])
    moved = album._cut(box, window)

    assert window == (1425, 826, 1585, 986)
    assert moved.values.tolist() == [[75, 74, 85, 86]] and moved.size == (160, 160)
    assert shown.boxed(0, "", ("a",), box, around=box.values[0]) is not None


def test_an_older_page_is_replaced_and_a_page_of_somebody_elses_is_kept(tmp_path):
    write_page(tmp_path / "report", "index.html", Page("one"), "foveal evaluate")
    check_free(tmp_path / "report", "index.html", "foveal evaluate")

    with pytest.raises(UserError) as refused:
        check_free(tmp_path / "report", "index.html", "foveal compare")

    page = tmp_path / "report" / "index.html"
    assert str(refused.value) == f"{page}: there is a page that is no report of `foveal compare`\nName another folder."


def test_a_file_is_no_folder_for_a_page(tmp_path):
    (tmp_path / "report").write_text("mine")

    with pytest.raises(UserError) as refused:
        check_free(tmp_path / "report", "index.html", "foveal evaluate")

    where = tmp_path / "report"
    assert str(refused.value) == f"{where}: this is a file, and --report names a folder\nName another folder."
