from __future__ import annotations

import io

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from foveal.data.boxes import to_pixels
from foveal.data.decode import Decoded, decode_upright
from foveal.errors import BadPicture
from foveal.records import Boxes

TURNING = (5, 6, 7, 8)


def boxes(values: list[list[float]], unit: str = "pixel", of: str = "upright", size: tuple | None = None) -> Boxes:
    n = len(values)
    return Boxes(
        values=np.array(values, dtype=np.float32).reshape(n, 4),
        cls=np.arange(n),
        unit=unit,
        of=of,
        difficult=np.arange(n) % 2 == 1,
        crowd=np.arange(n) % 3 == 2,
        extra=np.arange(n, dtype=np.float32)[:, None],
        size=size,
    )


def picture(width: int, height: int, orientation: int = 1) -> Decoded:
    """An upright picture of this size."""
    return Decoded(np.zeros((height, width, 3), dtype=np.uint8), orientation)


def encoded(stored: np.ndarray, orientation: int, kind: str, **options: object) -> bytes:
    exif = Image.Exif()
    exif[0x0112] = orientation
    file = io.BytesIO()
    Image.fromarray(stored).save(file, kind, exif=exif, **options)
    return file.getvalue()


def test_pixels_of_the_upright_picture_stay_as_they_are() -> None:
    got = to_pixels(boxes([[1, 2, 30, 40.5]]), picture(60, 50))
    assert got.values.tolist() == [[1, 2, 30, 40.5]]
    assert got.values.dtype == np.float32
    assert (got.unit, got.of, got.size) == ("pixel", "upright", (60, 50))


def test_fractions_are_of_width_and_height() -> None:
    got = to_pixels(boxes([[0.5, 0.5, 1, 0.75]], "fraction"), picture(60, 40))
    assert got.values.tolist() == [[30, 20, 60, 30]]


def test_no_objects_stay_none() -> None:
    for of in ("stored", "upright"):
        got = to_pixels(boxes([], "fraction", of), picture(60, 40, 6))
        assert got.values.shape == (0, 4)
        assert got.extra.shape == (0, 1)


# Orientation ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("unit", ["pixel", "fraction"])
def test_boxes_of_the_stored_picture_turn_with_its_pixels(orientation: int, unit: str) -> None:
    stored = np.zeros((24, 40, 3), dtype=np.uint8)  # whole blocks of JPEG, so that no value bleeds
    left, top, right, bottom = 8, 8, 32, 16
    stored[top:bottom, left:right] = 255
    decoded = decode_upright(encoded(stored, orientation, "JPEG", quality=100, subsampling=0), 3)
    assert decoded.orientation == orientation
    assert decoded.stored == (40, 24)
    assert decoded.size == ((24, 40) if orientation in TURNING else (40, 24))
    values = np.array([left, top, right, bottom], dtype=np.float64)
    if unit == "fraction":
        values /= [40, 24, 40, 24]
    got = to_pixels(boxes([values.tolist()], unit, "stored"), decoded).values[0]
    bright = decoded.pixels[:, :, 0] > 128
    y, x = np.flatnonzero(bright.any(axis=1)), np.flatnonzero(bright.any(axis=0))
    assert got.tolist() == pytest.approx([x[0], y[0], x[-1] + 1, y[-1] + 1], abs=1e-5)


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "WEBP"])
def test_other_kinds_tell_their_orientation_too(kind: str) -> None:
    decoded = decode_upright(encoded(np.zeros((24, 40, 3), dtype=np.uint8), 6, kind), 3)
    assert (decoded.orientation, decoded.stored, decoded.size) == (6, (40, 24), (24, 40))


def test_boxes_of_the_upright_picture_do_not_turn() -> None:
    assert to_pixels(boxes([[1, 2, 3, 30]]), picture(24, 40, 6)).values.tolist() == [[1, 2, 3, 30]]


# A stated size --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("orientation", TURNING)
@pytest.mark.parametrize("of", ["stored", "upright"])
def test_a_stated_size_tells_which_picture_is_meant(orientation: int, of: str) -> None:
    decoded = picture(24, 40, orientation)
    upright = to_pixels(boxes([[1, 2, 3, 30]], of=of, size=(24, 40)), decoded)
    stored = to_pixels(boxes([[1, 2, 3, 20]], of=of, size=(40, 24)), decoded)
    assert upright.values.tolist() == [[1, 2, 3, 30]]
    assert np.array_equal(stored.values, to_pixels(boxes([[1, 2, 3, 20]], of="stored"), decoded).values)


def test_fractions_too_are_of_the_picture_whose_size_is_stated() -> None:
    decoded = picture(20, 40, 6)
    got = to_pixels(boxes([[0, 0, 0.5, 0.25]], "fraction", "upright", (40, 20)), decoded)
    assert got.values.tolist() == [[15, 0, 20, 20]]  # upper left as stored is upper right when turned clockwise


@pytest.mark.parametrize("stated", [(120, 100), (30, 25), (600, 500)])
def test_a_picture_that_was_resized_takes_its_boxes_along(stated: tuple[int, int]) -> None:
    scale = stated[0] / 60
    got = to_pixels(boxes([[6 * scale, 10 * scale, 30 * scale, 40 * scale]], size=stated), picture(60, 50))
    assert got.values.tolist() == [[6, 10, 30, 40]]


@pytest.mark.parametrize(
    ("stated", "real"), [((1333, 1000), (100, 75)), ((1333, 1001), (100, 75)), ((99, 75), (1333, 1000))]
)
def test_sides_that_were_rounded_on_resizing_are_the_same_aspect(stated: tuple, real: tuple) -> None:
    got = to_pixels(boxes([[0, 0, stated[0] / 2, stated[1] / 2]], size=stated), picture(*real))
    assert got.values[0].tolist() == pytest.approx([0, 0, real[0] / 2, real[1] / 2])


def test_a_picture_that_was_resized_and_turned_takes_its_boxes_along() -> None:
    got = to_pixels(boxes([[0, 0, 40, 10]], size=(80, 48)), picture(24, 40, 6))
    assert got.values.tolist() == [[19, 0, 24, 20]]


@pytest.mark.parametrize("stated", [(0, 0), (60, 0), (-1, 50), None])
def test_a_size_of_nothing_states_nothing(stated: tuple | None) -> None:
    assert to_pixels(boxes([[1, 2, 3, 4]], size=stated), picture(60, 50)).values.tolist() == [[1, 2, 3, 4]]


@pytest.mark.parametrize(("stated", "orientation"), [((50, 60), 1), ((50, 60), 3), ((60, 60), 1), ((60, 48), 1)])
def test_another_picture_is_refused_with_both_sizes(stated: tuple, orientation: int) -> None:
    with pytest.raises(BadPicture) as raised:
        to_pixels(boxes([[1, 2, 3, 4]], size=stated), picture(60, 50, orientation), "train.json, picture a.jpg")
    assert str(raised.value) == (
        "train.json, picture a.jpg: its boxes are of a picture of "
        f"{stated[0]} x {stated[1]} pixels, and this one has 60 x 50\n"
        "Correct the size in the label or give the picture that was labelled."
    )


def test_fractions_do_not_mind_a_wrong_size() -> None:
    got = to_pixels(boxes([[0, 0, 0.5, 0.5]], "fraction", size=(48, 64)), picture(60, 50))
    assert got.values.tolist() == [[0, 0, 30, 25]]


# The border -----------------------------------------------------------------------------------------------------------


def test_what_is_outside_is_cut_off_and_what_is_wholly_outside_dropped() -> None:
    got = to_pixels(
        boxes([[-5, -5, 10, 10], [70, 0, 90, 10], [50, 40, 99, 99], [5, 5, 5, 9], [9, 9, 3, 3]]), picture(60, 50)
    )
    assert got.values.tolist() == [[0, 0, 10, 10], [50, 40, 60, 50]]
    assert got.cls.tolist() == [0, 2]
    assert got.difficult.tolist() == [False, False]
    assert got.crowd.tolist() == [False, True]
    assert got.extra.tolist() == [[0], [2]]


@settings(max_examples=60, deadline=None)
@given(
    values=st.lists(st.tuples(*[st.floats(-50, 200, width=32)] * 4), max_size=5),
    orientation=st.integers(1, 8),
    of=st.sampled_from(["stored", "upright"]),
    unit=st.sampled_from(["pixel", "fraction"]),
)
def test_boxes_always_lie_in_the_picture_and_are_not_empty(values: list, orientation: int, of: str, unit: str) -> None:
    got = to_pixels(boxes([list(v) for v in values], unit, of), picture(60, 50, orientation))
    x0, y0, x1, y1 = got.values.T
    assert ((x0 >= 0) & (y0 >= 0) & (x1 <= 60) & (y1 <= 50) & (x1 > x0) & (y1 > y0)).all()
