from __future__ import annotations

import numpy as np
import pytest
from PIL import ImageFont

from foveal.draw import RIGHT, SMALLEST, STRIP, WRONG, Caption, contact_sheet, draw_label, shortened


def picture(height: int, width: int, channels: int = 3) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (height, width, channels), dtype=np.uint8)


def colours(pixels: np.ndarray) -> set[tuple[int, ...]]:
    return set(map(tuple, pixels.reshape(-1, 3).tolist()))


def test_the_picture_stays_as_it_is_and_the_text_stands_below() -> None:
    image = picture(300, 400)
    drawn = np.asarray(draw_label(image, ["cat\t97.3 %", "dog\t1.1 %"]))
    assert np.array_equal(drawn[:300], image)
    strip = drawn[300:]
    assert 40 <= len(strip) <= 80
    assert tuple(strip[0, 0]) == STRIP
    assert strip.max() > 200  # light text


def test_tiny_pictures_are_enlarged_by_a_whole_factor() -> None:
    image = picture(28, 28, 1)
    drawn = np.asarray(draw_label(image, ["Sandal"]))
    assert drawn.shape[1] == 252
    assert np.array_equal(drawn[4:252:9, 4:252:9], np.repeat(image, 3, axis=2))


@pytest.mark.parametrize("shape", [(1, 1), (300, 10), (6, 700), (1000, 30), (50, 3000)])
@pytest.mark.parametrize("channels", [1, 3, 4])
def test_any_size_gets_a_readable_strip(shape: tuple[int, int], channels: int) -> None:
    drawn = draw_label(picture(*shape, channels), ["a name"])
    assert drawn.mode == "RGB"
    assert drawn.width >= SMALLEST
    assert drawn.height >= shape[0] + 18
    assert drawn.height <= max(shape[0], 2 * SMALLEST) + 400


def test_without_lines_there_is_no_strip() -> None:
    assert draw_label(picture(300, 400), []).size == (400, 300)


def test_long_text_is_cut_to_the_room_there_is() -> None:
    font = ImageFont.load_default(15)
    assert shortened("cat", 150, font) == "cat"
    assert shortened("two\nlines", 150, font) == "two lines"
    cut = shortened("a very long name of a class indeed", 150, font)
    assert cut.endswith("...")
    assert cut.startswith("a very long")
    assert font.getlength(cut) <= 150
    assert shortened("anything", 1, font) == "..."


def test_what_follows_a_tab_is_not_cut() -> None:
    image = np.zeros((240, 240, 3), dtype=np.uint8)
    long = np.asarray(draw_label(image, ["a very long name of a class, longer than the strip\t97.3 %"]))
    short = np.asarray(draw_label(image, ["a\t97.3 %"]))
    assert np.array_equal(long[240:, -50:], short[240:, -50:])
    assert (short[240:, -50:] > 200).any()


def test_a_sheet_is_a_grid_with_right_green_and_wrong_red() -> None:
    captions = [Caption("cat", 0.9, "cat"), Caption("dog", 0.6, "cat"), Caption("cow")]
    sheet = np.asarray(contact_sheet([picture(20, 30), picture(300, 200, 1), picture(40, 40)], captions, columns=2))
    assert sheet.shape == (12 + 2 * (150 + 44 + 12), 12 + 2 * (150 + 12), 3)
    first, second, third = sheet[:212, :168], sheet[:212, 168:], sheet[212:, :168]
    assert RIGHT in colours(first) and WRONG not in colours(first)
    assert WRONG in colours(second) and RIGHT not in colours(second)
    assert not {RIGHT, WRONG} & colours(third)


def test_an_empty_sheet_is_a_sheet() -> None:
    assert contact_sheet([], []).mode == "RGB"
