"""``foveal check`` from the command line: what it prints, writes and ends with."""

from __future__ import annotations

import json

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from foveal.cli.main import foveal
from foveal.errors import UserError


def save(path, seed, size=(60, 50)):
    path.parent.mkdir(parents=True, exist_ok=True)
    small = np.random.default_rng(seed).integers(0, 256, (7, 9, 3)).astype(np.uint8)
    Image.fromarray(small).resize(size).save(path)


@pytest.fixture
def photos(tmp_path):
    for number in range(24):
        save(tmp_path / "photos" / ("cat", "dog")[number % 2] / f"{number}.png", number)
    return tmp_path / "photos"


def run(*arguments):
    return CliRunner().invoke(foveal, ["check", *map(str, arguments)], catch_exceptions=False)


def refusal(*arguments):
    with pytest.raises(UserError) as caught:
        run(*arguments)
    return str(caught.value)


def test_good_data_ends_with_0_and_says_what_fits(photos):
    done = run(photos)
    assert done.exit_code == 0
    assert done.stdout.splitlines() == [
        "                      train",
        "pictures                 24",
        "unreadable                0",
        "left out on opening       0",
        "width                    60",
        "height                   50",
        "grey                      0",
        "files                24 PNG",
        "",
        "pictures of class  train",
        "cat                   12",
        "dog                   12",
        "",
        "Settings that fit: num_classes=2, num_training_samples=24, image_shape=3,56,56, resize=64",
        "Nothing odd was found.",
    ]
    assert done.stderr == "train: a folder per class, 24 pictures, 2 classes\n"


def test_notes_end_with_0_warnings_with_1_and_errors_with_2(photos):
    save(photos / "cat" / "4.png", 4, size=(58, 50))
    save(photos / "cat" / "like.png", 4, size=(116, 100))
    noted = run(photos)
    assert (noted.exit_code, noted.stdout.splitlines()[-1]) == (0, "0 errors, 0 warnings, 1 note")
    (photos / "dog" / "5.png").write_bytes(b"")
    warned = run(photos)
    assert (warned.exit_code, warned.stdout.splitlines()[-1]) == (1, "0 errors, 1 warning, 1 note")
    assert warned.stdout.splitlines()[-8:-5] == [
        "warning: 1 of 25 pictures can't be read and are left out",
        "    Give whole files, or remove them.",
        f"    - {photos}/dog/5.png: the picture file is empty",
    ]
    strict = run(photos, "--bad-records-limit", "0")
    assert (strict.exit_code, strict.stdout.splitlines()[-1]) == (2, "1 error, 1 warning, 1 note")


def test_validation_data_given_beside_is_compared(photos, tmp_path):
    (tmp_path / "more" / "cat").mkdir(parents=True)
    (tmp_path / "more" / "cat" / "x.png").write_bytes((photos / "cat" / "2.png").read_bytes())
    told = json.loads(run(photos, "--validation", tmp_path / "more", "--json").stdout)
    assert [(each["code"], each["severity"], each["count"]) for each in told["findings"]] == [
        ("class-missing", "warning", 1),
        ("duplicate-across-splits", "warning", 1),
    ]
    assert told["findings"][1]["suspects"][0]["pictures"] == [
        {"split": "train", "row": 1}, {"split": "validation", "row": 0}
    ]  # fmt: skip


def test_data_that_can_not_be_opened_is_told_like_any_finding(tmp_path):
    (tmp_path / "empty").mkdir()
    done = run(tmp_path / "empty", "--json")
    told = json.loads(done.stdout)
    assert (done.exit_code, told["severity"], told["splits"]) == (2, "error", {})
    assert [(each["code"], each["what"], each["suspects"][0]["where"]) for each in told["findings"]] == [
        ("not-opened", "no labelled pictures found; it holds nothing", [str(tmp_path / "empty")])
    ]
    assert run(tmp_path / "empty").stdout.startswith("error: no labelled pictures found; it holds nothing\n")


def test_the_report_is_one_page_and_written_again_by_the_next_check(photos, tmp_path):
    save(photos / "cat" / "like.png", 4, size=(120, 100))
    done = run(photos, "--report", tmp_path / "deep" / "report")
    assert done.stdout.splitlines()[-1] == f"The suspects as pictures: {tmp_path}/deep/report/index.html"
    assert [each.name for each in (tmp_path / "deep" / "report").iterdir()] == ["index.html"]
    html = (tmp_path / "deep" / "report" / "index.html").read_text()
    assert html.count("<img") == 3  # the sheet and the pair
    assert run(photos, "--report", tmp_path / "deep" / "report").exit_code == 0


def test_what_others_wrote_is_not_written_over(photos, tmp_path):
    (tmp_path / "index.html").write_text("<html>mine</html>")
    assert refusal(photos, "--report", tmp_path) == (
        f"{tmp_path}/index.html: there is a page that is no report of `foveal check`\nName another folder."
    )
    assert (tmp_path / "index.html").read_text() == "<html>mine</html>"
    (tmp_path / "a.txt").write_text("")
    assert refusal(photos, "--report", tmp_path / "a.txt") == (
        f"{tmp_path}/a.txt: this is a file, and --report names a folder\nName another folder."
    )


@pytest.mark.parametrize("shape", ["3,224", "3,0,224", "abc", "2,10,10", "-3", ""])
def test_a_shape_that_is_none_is_refused(photos, shape):
    assert refusal(photos, "--image-shape", shape) == (
        f"--image-shape: {shape!r} is no picture's shape\n"
        "Give channels,height,width (3,224,224), or one number for a detector (300)."
    )


def test_a_detector_has_no_resize_and_a_square_picture(tmp_path):
    save(tmp_path / "images" / "1.png", 1)
    (tmp_path / "labels").mkdir()
    (tmp_path / "labels" / "1.txt").write_text("0 .5 .5 .5 .5\n")
    assert refusal(tmp_path, "--resize", "100") == (
        "--resize: these pictures carry boxes, and --resize is for image classification\n"
        "Leave it out: a detector's pictures are squeezed to --image-shape."
    )
    assert refusal(tmp_path, "--image-shape", "3,200,300") == (
        "--image-shape: a detector's pictures are square, and this shape is 200 x 300\nGive one number, such as 300."
    )
    small = run(tmp_path, "--image-shape", "15")
    assert "warning: 1 of 1 box is under 8 pixels on a side in a picture of 15 x 15" in small.stdout


def test_the_crop_is_judged_by_the_settings_that_are_meant(photos):
    done = run(photos, "--image-shape", "3,20,20")
    assert (done.exit_code, done.stdout.splitlines()[-4:-2]) == (
        1,
        [
            "warning: without resize, the crop of 20 x 20 pixels cuts away 87% of the median picture (60 x 50)",
            "    Set resize=20, which cuts away 17%.",
        ],
    )


def test_names_with_control_characters_and_markup_are_shown_as_they_are(photos):
    (photos / "cat" / "[bold]a\nb.png").write_bytes(b"")
    (photos / "[red]").mkdir()
    save(photos / "[red]" / "1.png", 99)
    told = run(photos).stdout
    assert "cat/[bold]a\\nb.png: the picture file is empty" in told
    assert "[red]                  1" in told
