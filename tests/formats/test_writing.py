"""Names and numbers as the writers of all forms need them."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from foveal.formats.pictures import is_hidden, tidy_path
from foveal.formats.writing import Entry, Names, boxes_in, decimal, left_top_width_height, number_text, tidy_stem
from foveal.records import Boxes


@pytest.mark.parametrize(
    ("path", "stem"),
    [
        ("cat/red one.jpg", "cat_red one"),
        ("../up/./1.png", "up_1"),
        ("a\tb\nc.jpg", "a_b_c"),
        ("C:\\photos\\1.jpg", "C__photos_1"),
        (".hidden.jpg", "hidden"),
        ("__MACOSX.png", "___MACOSX"),
        (" blank .jpg", "blank"),
        ("\u00a0. wide\u2003space.\u3000.jpg", "wide\u2003space"),
        ("\u00a0", "_"),
        ("v1.2.jpg", "v1.2"),
        ("\udcff.jpg", "_"),
        ("", "_"),
        ("é" * 300 + ".jpg", "é" * 90),
    ],
)
def test_one_name_is_made_of_a_path(path, stem):
    assert tidy_stem(path) == stem


@given(st.lists(st.text(max_size=12), max_size=20))
def test_every_picture_gets_a_name_of_its_own_that_every_form_can_hold(paths):
    names = Names()
    stems = [names.stem(path) for path in paths]
    assert len({stem.casefold() for stem in stems}) == len(stems)
    for stem in stems:
        assert stem and not is_hidden(stem) and not set(stem) & set('/\\\t\n\r"<>|:*?')
        assert tidy_path(stem + ".jpg") == stem + ".jpg" and stem.splitlines() == [stem]
        stem.encode()


def test_names_that_differ_in_case_or_suffix_alone_are_numbered():
    names = Names()
    assert [names.stem(each) for each in ("a.jpg", "A.png", "a.gif", "a_2.jpg")] == ["a", "A_2", "a_3", "a_2_2"]


@given(st.floats(-1e6, 1e6, width=32))
def test_decimals_are_the_float32_again(value):
    text = number_text(decimal(np.float32(value)))
    assert np.float32(float(text)) == np.float32(value)
    assert len(text) <= 16


@given(st.lists(st.tuples(*[st.floats(0, 10_000, width=32)] * 4), max_size=5))
def test_left_top_width_height_make_the_corners_again(rows):
    values = np.array(rows, dtype=np.float32).reshape(-1, 4)
    for (x, y, w, h), (x0, y0, x1, y1) in zip(left_top_width_height(boxes(values)), values, strict=True):
        assert np.allclose([x, y, x + w, y + h], [x0, y0, x1, y1], rtol=1e-6, atol=1e-6)


def boxes(values, unit="pixel"):
    count = len(values)
    marks = np.zeros(count, dtype=np.bool_)
    extra = np.zeros((count, 0), np.float32)
    return Boxes(values, np.zeros(count, np.int64), unit, "upright", marks, marks, extra)


def test_entries_give_their_boxes_in_either_unit():
    fractions = boxes(np.float32([[0.1, 0.2, 0.5, 1]]), "fraction")
    entry = Entry(0, "1.jpg", (200, 100), 3, fractions)
    assert boxes_in(entry, "fraction") is fractions
    pixels = boxes_in(entry, "pixel")
    assert (pixels.unit, pixels.values.tolist()) == ("pixel", [[20, 20, 100, 100]])
    assert boxes_in(Entry(0, "1.jpg", (200, 100), 3, pixels), "fraction").values.tolist() == fractions.values.tolist()
