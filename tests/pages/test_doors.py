"""The pages and heat maps of ``foveal evaluate --report`` and ``foveal predict --explain``."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner, Result
from PIL import Image

from foveal.artifact import write_artifact
from foveal.cli.main import foveal
from foveal.errors import UserError


@pytest.fixture(scope="module")
def model(kit, tmp_path_factory) -> Path:
    """An untrained classifier of the toy shapes."""
    torch.manual_seed(0)
    made = kit.classifier(("disc", "square", "triangle"))
    folder = tmp_path_factory.mktemp("door") / "model"
    write_artifact(folder, replace(made.artifact, preprocessing=made.rule.to_dict()), made.network.state_dict())
    return folder


def run(*words: object) -> Result:
    return CliRunner().invoke(foveal, [str(word) for word in words])


def test_evaluate_writes_a_page_beside_its_figures(model, shapes_folder, tmp_path):
    done = run("evaluate", model, shapes_folder, "--report", tmp_path / "report")

    assert done.exit_code == 0, done.output
    page = (tmp_path / "report" / "index.html").read_text(encoding="utf-8")
    assert 'data-by="foveal evaluate"' in page and "judging on the test split" in page
    assert f"the page: {tmp_path / 'report' / 'index.html'}" in done.stderr and done.stdout.startswith("accuracy ")


def test_evaluate_writes_over_no_other_page(model, shapes_folder, tmp_path):
    (tmp_path / "index.html").write_text("<html>mine")

    done = run("evaluate", model, shapes_folder, "--report", tmp_path)

    assert isinstance(done.exception, UserError)
    assert (tmp_path / "index.html").read_text() == "<html>mine"


def test_predict_writes_a_sheet_of_heat_maps_for_each_picture_and_over_nothing(model, shapes_folder, tmp_path):
    (tmp_path / "heat").mkdir()
    (tmp_path / "heat" / "000.png").write_bytes(b"mine")

    done = run("predict", model, shapes_folder / "test/disc/000.png", "--explain", tmp_path / "heat")

    assert done.exit_code == 0, done.output
    assert (tmp_path / "heat" / "000.png").read_bytes() == b"mine"
    with Image.open(tmp_path / "heat" / "000-2.png") as sheet:
        assert sheet.width > 2 * sheet.height * 0.8  # the picture, and its label's map beside it


def test_a_picture_on_standard_input_is_not_explained(model, tmp_path):
    done = run("predict", model, "-", "--explain", tmp_path / "heat")

    assert str(done.exception) == (
        "--explain: standard input has no name to write heat maps by\nGive the picture as a file."
    )
