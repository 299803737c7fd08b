"""Charts: well-formed, escaped, and what they say is what they were given."""

from __future__ import annotations

import math
import re
from xml.etree import ElementTree

import numpy as np
import pytest

from foveal.report.charts import (
    Line,
    bars_chart,
    differences_chart,
    lines_chart,
    matrix_chart,
    matrix_picture,
    reliability_chart,
)

NASTY = "<script>&\"'"


def words(svg: str) -> list[str]:
    return [element.text for element in ElementTree.fromstring(svg).iter() if element.text and element.tag == "text"]


def titles(svg: str) -> list[str]:
    return [element.text or "" for element in ElementTree.fromstring(svg).iter("title")]


def test_lines_are_named_and_lie_between_the_axes():
    svg = lines_chart([Line(NASTY, (0, 0.5, 1), (1, 0.5, 0)), Line("one point", (0.5,), (1.0,))], "recall", "precision")

    assert NASTY in words(svg) and {"recall", "precision", "0.2", "1"} <= set(words(svg))
    points = re.findall(r'polyline class="line c0".*?points="([^"]*)"', svg)[0].split()
    assert points == ["48.0,16.0", "208.0,121.0", "368.0,226.0"]
    assert svg.count("<circle") == 1  # a line of one point would not be seen


def test_reliability_has_a_point_and_a_bar_for_each_bin_with_answers():
    svg = reliability_chart(np.array([0.2, np.nan, 0.9]), np.array([0.1, np.nan, 1.0]), np.array([3, 0, 1]), "right")

    assert svg.count("<circle") == 2
    assert "3 with confidence 20.0%" in " ".join(titles(svg)) and "3 (75.0%) are this sure" in titles(svg)
    assert "nan" not in svg


def test_bars_tell_share_and_count():
    svg = bars_chart(["8-16", NASTY], [0.25, math.nan], [1200, 0], "side", "found")

    assert {"25%", "1,200", "-", NASTY} <= set(words(svg)) and "nan" not in svg


def test_differences_end_at_a_round_number_and_leave_out_what_is_undefined():
    svg = differences_chart(["a", "b"], [0.031, math.nan], [-0.01, math.nan], [0.07, math.nan], "points")

    assert {"+10", "+5", "0", "-5", "-10", "a", "b"} <= set(words(svg))
    assert svg.count("<circle") == 1 and "+3.10 points, -1.00 to +7.00" in titles(svg)


@pytest.mark.parametrize("classes", [2, 12, 50])
def test_a_matrix_names_its_classes_and_counts(classes):
    names = [f"class {i}" for i in range(classes)]
    matrix = np.eye(classes, dtype=np.int64) * 5
    matrix[0, 1] = 15

    svg = matrix_chart(matrix, names)

    assert set(names) <= set(words(svg)) and words(svg).count("5") == classes
    assert "15 of class 0 were taken for class 1 (75.0%)" in titles(svg)
    assert len(svg) < 100_000


def test_a_matrix_of_many_classes_is_a_picture_of_bounded_size():
    matrix = np.zeros((200, 200), np.int64)
    matrix[3, 3], matrix[3, 150] = 1, 9

    picture = matrix_picture(matrix)

    assert picture.size == (600, 600)
    right, wrong, nothing = (picture.getpixel(place) for place in ((10, 10), (451, 10), (10, 451)))
    assert nothing == (255, 255, 255)
    assert right[2] > right[0] and wrong[0] > wrong[2]  # blue and red
