"""Sheets of labelled pictures, and the page of a check."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from foveal.checking.checkpage import page_of, spread_text
from foveal.checking.examine import Spread, examine, refused
from foveal.checking.sheet import choose_rows, draw_sheet, label_texts
from foveal.data.recognise import open_data
from foveal.draw import COLOURS
from foveal.errors import UserError
from foveal.records import Reading


def save(path, value):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((30, 40, 3), value, dtype=np.uint8)).save(path)


def photos(root, cats=9, dogs=2):
    for number in range(cats):
        save(root / "cat" / f"{number}.png", 10 + number)
    for number in range(dogs):
        save(root / "dog" / f"{number}.png", 200 + number)
    return open_data(root)


def test_rows_go_round_the_classes(tmp_path):
    rows = list(choose_rows(photos(tmp_path).train))
    assert sorted(rows) == list(range(11))
    assert [row >= 9 for row in rows[:4]] == [False, True, False, True]
    assert rows == list(choose_rows(open_data(tmp_path).train))
    assert rows != list(choose_rows(open_data(tmp_path).train, seed=1))


def test_a_sheet_shows_every_class_and_passes_over_what_can_not_be_read(tmp_path):
    dataset = photos(tmp_path)
    (tmp_path / "dog/0.png").write_bytes(b"")
    sheet = np.asarray(draw_sheet(dataset, 4))
    assert (sheet == 201).all(axis=2).any()
    assert sheet.shape[1] == 12 + 4 * 162
    for file in tmp_path.rglob("*.png"):
        file.write_bytes(b"")
    with pytest.raises(UserError) as caught:
        draw_sheet(dataset)
    assert str(caught.value) == f"{tmp_path}: none of its pictures can be read\n`foveal check` tells why."


def test_boxes_are_drawn_in_the_colours_of_their_classes(tmp_path):
    (tmp_path / "labels").mkdir()
    (tmp_path / "classes.txt").write_text("cat\ndog\n")
    save(tmp_path / "images/1.png", 90)
    (tmp_path / "labels/1.txt").write_text("1 .5 .5 .5 .5\n")
    dataset = open_data(tmp_path, task=None)
    sheet = np.asarray(draw_sheet(dataset))
    assert (sheet == COLOURS[1]).all(axis=2).sum() > 100
    assert not (sheet == COLOURS[0]).all(axis=2).any()
    assert label_texts(dataset.train, dataset.class_names)(0) == "1 box"


def test_labels_in_words(tmp_path):
    dataset = photos(tmp_path)
    text = label_texts(dataset.train, dataset.class_names)
    assert (text(0), text(10)) == ("cat", "dog")
    (tmp_path / "a.csv").write_text("file,red,round\ncat/0.png,1,1\ncat/1.png,0,0\n")
    several = open_data(tmp_path / "a.csv", task=None, reading=Reading(labels=("red", "round")))
    text = label_texts(several.train, several.class_names)
    assert (text(0), text(1)) == ("red, round", "no class")


def test_the_page_shows_suspects_as_pictures_and_the_rest_as_lines(tmp_path):
    dataset = photos(tmp_path, cats=12)
    (tmp_path / "dog/1.png").write_bytes(b"")
    page = page_of(examine(dataset, bad_records_limit=0.5, quiet=True), dataset, quiet=True)
    sections = {section.title: section for section in page.sections}
    flat = sections["13 pictures show one colour and nothing else"]
    assert (flat.mark, len(flat.groups), flat.lines) == ("note", 13, ())
    assert flat.groups[0][0].caption == f"train: {tmp_path}/cat/0.png (cat)"
    broken = sections["1 of 14 pictures can't be read and are left out"]
    assert (broken.mark, broken.groups, broken.lines) == (
        "warning", (), (f"{tmp_path}/dog/1.png: the picture file is empty",)
    )  # fmt: skip
    assert page.title == f"Check of {tmp_path}"
    assert page.facts[-1] == "0 errors, 1 warning, 2 notes"
    assert sections["Some of the training pictures"].wide is not None


def test_more_suspects_than_are_shown_are_counted(tmp_path):
    dataset = photos(tmp_path, cats=40)
    page = page_of(examine(dataset, quiet=True), dataset, quiet=True)
    flat = next(section for section in page.sections if section.title.startswith("42 pictures show one colour"))
    assert (len(flat.groups), flat.text) == (24, "Look whether they are meant. Here are 24 of 42.")


def test_data_that_can_not_be_opened_has_a_page_too():
    page = page_of(refused("here", UserError("it holds no picture", "there", "Give some.")), None, quiet=True)
    assert [(section.title, section.text, section.lines) for section in page.sections] == [
        ("it holds no picture", "Give some.", ("there",))
    ]


@pytest.mark.parametrize(
    ("spread", "text"),
    [
        (None, "-"),
        (Spread(92, 92, 92), "92"),
        (Spread(193, 400, 1200), "193 to 1,200, median 400"),
        (Spread(0.25, 1.02, 8), "0.25 to 8, median 1.02"),
    ],
)
def test_spreads_are_told_shortly(spread, text):
    assert spread_text(spread) == text
