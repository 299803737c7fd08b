"""Sheets of heat maps: the picture, and a panel for each answer."""

from __future__ import annotations

import numpy as np

from foveal.explain import Explained
from foveal.pages.heat import SIDE, heat_sheet, overlay


def test_a_picture_stays_grey_where_nothing_speaks_for_the_answer_and_glows_where_something_does():
    image = np.full((50, 100, 3), (200, 100, 40), np.uint8)
    heat = np.zeros((25, 50), np.float32)
    heat[:, 40:] = 1

    warm = np.asarray(overlay(image, heat)).astype(int)

    assert warm.shape == (SIDE // 2, SIDE, 3)
    assert np.ptp(warm[100, 50]) == 0  # grey
    assert warm[100, 380, 0] > 180 and warm[100, 380, 0] > warm[100, 380, 2] + 30  # yellow


def test_a_sheet_has_the_picture_and_a_panel_for_each_answer():
    image, heat = np.zeros((60, 80, 3), np.uint8), np.zeros((60, 80), np.float32)
    answers = [Explained("cat", 0, 0.9, heat, (10.0, 10.0, 30.0, 40.0)) for _ in range(4)]

    one, five = heat_sheet(image, [Explained("cat", 0, 0.9, heat)]), heat_sheet(image, answers)

    assert five.width == 2 * one.width - 10  # four columns, not two
    assert five.height > 1.9 * one.height
