"""``foveal inspect`` on data: a sheet, a JSON line a picture, one JSON object."""

from __future__ import annotations

import json

import pytest
from click.testing import CliRunner
from PIL import Image

from foveal.cli.main import foveal
from foveal.errors import UserError


@pytest.fixture
def photos(tmp_path):
    for name in ("cat/1", "cat/2", "dog/1"):
        (tmp_path / "photos" / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (40, 30), (9, 9, 9)).save(tmp_path / "photos" / f"{name}.png")
    return tmp_path / "photos"


def run(*arguments):
    result = CliRunner().invoke(foveal, ["inspect", *map(str, arguments)], catch_exceptions=False)
    assert result.exit_code == 0
    return result.stdout


def refusal(*arguments):
    with pytest.raises(UserError) as caught:
        run(*arguments)
    return str(caught.value)


def test_one_object_with_splits_classes_and_counts(photos):
    told = json.loads(run(photos, "--json"))
    assert {name: told[name] for name in ("kind", "form", "task", "classes", "named", "counts", "bad")} == {
        "kind": "data", "form": "folder", "task": "classes", "classes": ["cat", "dog"], "named": True,
        "counts": {"train": [2, 1]}, "bad": [],
    }  # fmt: skip
    assert (told["splits"]["train"]["pictures"], told["splits"]["train"]["left_out"]) == (3, 0)
    assert len(told["splits"]["train"]["fingerprint"]) == 64


def test_a_line_a_picture(photos):
    lines = [json.loads(line) for line in run(photos, "--pictures").splitlines()]
    assert lines == [
        {"split": "train", "row": row, "where": f"{photos}/{name}.png", "label": [label], "class": kind}
        for row, (name, label, kind) in enumerate([("cat/1", 0, "cat"), ("cat/2", 0, "cat"), ("dog/1", 1, "dog")])
    ]


def test_a_line_a_picture_with_boxes(tmp_path):
    for folder in ("images", "labels"):
        (tmp_path / folder).mkdir()
    Image.new("RGB", (40, 30)).save(tmp_path / "images" / "1.png")
    (tmp_path / "labels" / "1.txt").write_text("1 .5 .5 .5 .5\n")
    (tmp_path / "classes.txt").write_text("cat\ndog\n")
    line = json.loads(run(tmp_path, "--pictures"))
    box = {"class": "dog", "number": 1, "corners": [0.25, 0.25, 0.75, 0.75], "difficult": False, "crowd": False}
    assert (line["unit"], line["size"], line["boxes"]) == ("fraction", None, [box])


def test_a_sheet_is_a_picture_file(photos, tmp_path):
    told = run(photos, "--sheet", tmp_path / "new" / "a.jpg")
    assert told.startswith(f"{photos} is data\n")
    with Image.open(tmp_path / "new" / "a.jpg") as sheet:
        assert (sheet.format, sheet.size) == ("JPEG", (498, 218))
    assert [each.name for each in (tmp_path / "new").iterdir()] == ["a.jpg"]


def test_a_sheet_is_not_written_over_nor_in_an_unknown_form(photos, tmp_path):
    (tmp_path / "a.png").write_bytes(b"mine")
    assert refusal(photos, "--sheet", tmp_path / "a.png") == (
        f"{tmp_path}/a.png: it is there already, and is not written over\nName another file."
    )
    assert (tmp_path / "a.png").read_bytes() == b"mine"
    assert refusal(photos, "--sheet", tmp_path / "a.txt") == (
        f"{tmp_path}/a.txt: '.txt' is no form that a sheet is written in\n"
        "Name a file that ends in .jpg, .jpeg, .png, .webp."
    )


def test_a_model_has_no_pictures_to_show(tmp_path):
    (tmp_path / "run" / "checkpoints").mkdir(parents=True)
    assert refusal(tmp_path / "run", "--sheet", tmp_path / "a.jpg") == (
        f"{tmp_path}/run: it is a training run, and --pictures and --sheet are for labelled pictures\n"
        "Leave them out, or name the data."
    )
