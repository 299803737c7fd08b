"""``foveal inspect`` and ``foveal pack`` on pictures with boxes."""

from __future__ import annotations

import json

import pytest
from click.testing import CliRunner
from PIL import Image

from foveal.cli.main import foveal


@pytest.fixture
def photos(tmp_path):
    for folder in ("images", "labels"):
        (tmp_path / "photos" / folder).mkdir(parents=True)
    for name, label in (("1", "0 .5 .5 .5 .5\n0 .5 .5 .25 .25\n"), ("2", ""), ("3", "1 .5 .5 .5 .5\n")):
        Image.new("RGB", (40, 30)).save(tmp_path / "photos" / "images" / f"{name}.png")
        (tmp_path / "photos" / "labels" / f"{name}.txt").write_text(label)
    (tmp_path / "photos" / "classes.txt").write_text("cat\ndog\n")
    return tmp_path / "photos"


def run(*arguments):
    result = CliRunner().invoke(foveal, list(map(str, arguments)), catch_exceptions=False)
    assert result.exit_code == 0
    return result


def test_boxes_classes_and_sizes_are_told(photos):
    assert run("inspect", photos).stdout.splitlines() == [
        f"{photos} is data",
        "train: YOLO, 3 pictures (1 without objects), 3 boxes, 2 classes",
        "classes in the order of classes.txt: cat, dog",
        "pictures: all 40 x 30 (3 looked at)",
        "train: 3 boxes, 1 a picture (median), 2 at most; 1 of 3 pictures without; a box's side is 50% of its "
        "picture's (median), nine of ten 28% to 50%",
        "class       train  (boxes)",
        "cat             2",
        "dog             1",
    ]


def test_json_has_the_same(photos):
    told = json.loads(run("inspect", photos, "--json").stdout)
    assert (told["form"], told["task"], told["classes"], told["counts"]) == (
        "yolo", "boxes", ["cat", "dog"], {"train": [2, 1]}
    )  # fmt: skip
    assert told["boxes"]["train"] == {
        "boxes": 3, "empty": 1, "median": 1, "most": 2, "sides": pytest.approx([0.275, 0.5, 0.5])
    }  # fmt: skip


def test_packed_boxes_are_boxes(photos, tmp_path):
    run("pack", photos, tmp_path / "out", "--size-header")
    told = json.loads(run("inspect", tmp_path / "out", "--json").stdout)
    assert (told["form"], told["task"], told["counts"]) == ("recordio", "boxes", {"train": [2, 1]})
    records = [
        json.loads(line) for line in run("inspect", tmp_path / "out" / "train.rec", "--json").stdout.splitlines()
    ]
    assert sorted(record["label"][:4] for record in records) == [[4, 5, 40, 30]] * 3
