from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from PIL import ImageFont

from foveal.draw import (
    CHALK,
    COLOURS,
    INK,
    PAPER,
    RIGHT,
    SMALLEST,
    STRIP,
    WRONG,
    Caption,
    boxes_sheet,
    colour_of,
    contact_sheet,
    draw_boxes,
    draw_label,
    shortened,
)
from foveal.records import Boxes, Detections


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


# Boxes ----------------------------------------------------------------------------------------------------------------


def found(*rows: tuple[float, ...], size: tuple[int, int] = (480, 400)) -> Detections:
    """Rows of class, score, and a box in pixels."""
    table = np.array(rows, dtype=np.float32).reshape(-1, 6)
    sides = np.array([*size, *size], dtype=np.float32)
    return Detections(table[:, 2:] / sides, table[:, 0].astype(np.int64), table[:, 1], size)


def labelled(*rows: tuple[float, ...], size: tuple[int, int] = (480, 400)) -> Boxes:
    """Rows of class and a box in pixels."""
    table = np.array(rows, dtype=np.float32).reshape(-1, 5)
    none = np.zeros(len(table), dtype=np.bool_)
    cls, extra = table[:, 0].astype(np.int64), np.zeros((len(table), 0), dtype=np.float32)
    return Boxes(table[:, 1:], cls, "pixel", "upright", none, none, extra, size)


GREY = np.full((400, 480, 3), 120, dtype=np.uint8)
NAMES = ("cat", "dog", "bird")


def changed(image: np.ndarray, drawn: np.ndarray) -> np.ndarray:
    return (drawn[: len(image)] != image).any(axis=2)


def test_a_box_is_drawn_around_its_object_and_hides_none_of_it() -> None:
    drawn = np.asarray(draw_boxes(GREY, found((0, 0.9, 100, 120, 300, 320)), NAMES))
    assert drawn.shape == GREY.shape
    assert not changed(GREY, drawn)[120:320, 100:300].any()
    assert colours(drawn[117:119, 150:250]) == {COLOURS[0]}  # the line, between its rims
    assert colours(drawn[[116, 119]][:, 150:250]) == {INK}
    assert not changed(GREY, drawn)[330:].any()


def test_the_name_stands_on_a_plate_above_the_box_and_within_the_picture() -> None:
    above = np.asarray(draw_boxes(GREY, found((1, 0.9, 100, 120, 300, 320)), NAMES))
    plate = (above == COLOURS[1]).all(axis=2)[95:115, 97:140]
    assert plate.mean() > 0.4
    assert above[95:115, 97:140].max(axis=2).min() < 80  # dark text on a light colour
    top = np.asarray(draw_boxes(GREY, found((1, 0.9, 100, 0, 300, 320)), NAMES))
    below = (top == COLOURS[1]).all(axis=2)[323:340, 97:140]
    assert below.mean() > 0.4


def test_plates_hide_neither_small_objects_nor_each_other() -> None:
    boxes = [(0, 0.9, 200, 200, 240, 240), (1, 0.8, 200, 175, 215, 190), (2, 0.7, 225, 175, 240, 190)]
    drawn = np.asarray(draw_boxes(GREY, found(*boxes), NAMES))
    for _, _, x0, y0, x1, y1 in boxes:
        assert changed(GREY, drawn)[y0:y1, x0:x1].mean() < 0.2
    for cls in range(3):
        assert (drawn == COLOURS[cls]).all(axis=2).sum() > 300


def test_neighbouring_classes_have_colours_apart() -> None:
    many = [colour_of(cls) for cls in range(21)]
    assert len(set(many)) == 21
    for a, b in pairwise(many):
        assert np.abs(np.subtract(a, b)).sum() > 100
    assert max(max(colour) for colour in many) <= 255


def test_lines_show_on_black_white_and_their_own_colour() -> None:
    for cls in range(len(COLOURS)):
        for ground in ((0, 0, 0), (255, 255, 255), COLOURS[cls]):
            image = np.full((400, 480, 3), ground, dtype=np.uint8)
            drawn = np.asarray(draw_boxes(image, found((cls, 0.9, 100, 120, 300, 320)), ["x"] * 7))
            across = drawn[110:125, 200].astype(int)
            assert np.abs(across - np.array(ground)).sum(axis=1).max() > 150


def test_true_boxes_are_dashed() -> None:
    drawn = np.asarray(draw_boxes(GREY, found(), NAMES, truth=labelled((0, 100, 120, 300, 320))))
    line = drawn[118, 100:300]
    assert colours(line[None]) == {COLOURS[0], INK}
    assert 0.4 < (line == INK).all(axis=1).mean() < 0.6
    assert not changed(GREY, drawn)[120:320, 100:300].any()


def test_labelled_boxes_are_drawn_without_confidence() -> None:
    boxes = labelled((2, 100, 120, 300, 320))
    drawn = np.asarray(draw_boxes(GREY, boxes, NAMES))
    scored = np.asarray(draw_boxes(GREY, found((2, 0.5, 100, 120, 300, 320)), NAMES))
    assert 0 < changed(GREY, drawn).sum() < changed(GREY, scored).sum()


def test_where_names_would_hide_the_picture_a_strip_below_tells_them() -> None:
    crowd = [
        (i % 2, 0.9, 20 + 40 * (i % 11), 20 + 25 * (i // 11), 30 + 40 * (i % 11), 30 + 25 * (i // 11))
        for i in range(150)
    ]
    drawn = np.asarray(draw_boxes(GREY, found(*crowd), ("a long name of a class", "another long name of a class")))
    assert drawn.shape == (400 + 24 + 16, 480, 3) or drawn.shape == (400 + 48 + 16, 480, 3)
    assert {COLOURS[0], COLOURS[1], STRIP, CHALK} <= colours(drawn[400:])
    assert changed(GREY, drawn).mean() < 0.5
    few = np.asarray(draw_boxes(GREY, found(*crowd[:5]), NAMES))
    assert len(few) == 400


def test_nothing_found_leaves_the_picture_as_it_is() -> None:
    image = picture(400, 480)
    assert np.array_equal(np.asarray(draw_boxes(image, found(), NAMES)), image)
    assert np.array_equal(np.asarray(draw_boxes(image, labelled(), NAMES, labelled())), image)


def test_small_pictures_are_enlarged_with_their_boxes() -> None:
    image = np.full((40, 48, 3), 120, dtype=np.uint8)
    drawn = np.asarray(draw_boxes(image, found((0, 0.9, 10, 12, 30, 32), size=(48, 40)), NAMES))
    assert drawn.shape == (400, 480, 3)
    assert not changed(GREY, drawn)[120:320, 100:300].any()
    assert changed(GREY, drawn)[118, 100:300].all()


@pytest.mark.parametrize("shape", [(1, 1), (3, 2), (6, 700), (700, 6), (300, 50)])
@pytest.mark.parametrize("channels", [1, 3, 4])
def test_any_size_takes_boxes_anywhere(shape: tuple[int, int], channels: int) -> None:
    h, w = shape
    boxes = found((0, 1, 0, 0, w, h), (9, 0.2, w / 2, h / 2, w / 2, h / 2), (1, 0, 0, 0, 0.1, 0.1), size=(w, h))
    drawn = draw_boxes(picture(*shape, channels), boxes, NAMES, labelled((1, 0, 0, w, h), size=(w, h)))
    assert drawn.mode == "RGB"
    assert drawn.width >= w and drawn.height >= h


def test_a_sheet_of_boxes_tells_the_colours_of_the_classes_that_occur() -> None:
    pictures = [GREY, picture(100, 50, 1), picture(30, 300)]
    answers = [
        found((0, 0.9, 100, 120, 300, 320)),
        found(size=(50, 100)),
        found((1, 0.5, 0, 0, 30, 30), size=(300, 30)),
    ]
    truths = [labelled((0, 100, 120, 300, 320)), labelled(size=(50, 100)), labelled((1, 0, 0, 30, 30), size=(300, 30))]
    sheet = np.asarray(boxes_sheet(pictures, answers, NAMES, truths, columns=2, tile=240))
    assert sheet.shape[1] == 12 + 2 * (240 + 12)
    legend = sheet[-36:]
    assert {COLOURS[0], COLOURS[1], PAPER, INK} <= colours(legend)
    assert COLOURS[2] not in colours(sheet)
    plain = boxes_sheet(pictures, answers, NAMES, columns=2, tile=240)
    assert plain.size == (sheet.shape[1], sheet.shape[0])


def test_an_empty_sheet_of_boxes_is_a_sheet() -> None:
    assert boxes_sheet([], [], NAMES).mode == "RGB"
    assert boxes_sheet([GREY], [found()], NAMES).mode == "RGB"
