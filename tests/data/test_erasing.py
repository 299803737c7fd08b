"""Rectangles of noise in training pictures."""

from __future__ import annotations

import numpy as np

from foveal.data.erasing import AREA, erase

IMAGE = np.full((40, 60, 3), 7, np.uint8)


def generator(seed: int) -> np.random.Generator:
    return np.random.Generator(np.random.Philox(seed))


def test_a_share_of_the_pictures_loses_one_rectangle_of_2_to_33_per_cent() -> None:
    erased = 0
    for seed in range(300):
        found = erase(IMAGE, 0.25, generator(seed))
        changed = (found != IMAGE).any(axis=2)
        if not changed.any():
            continue
        erased += 1
        rows, columns = np.flatnonzero(changed.any(axis=1)), np.flatnonzero(changed.any(axis=0))
        area = (rows[-1] - rows[0] + 1) * (columns[-1] - columns[0] + 1) / changed.size
        assert AREA[0] * 0.8 < area < AREA[1] * 1.1
        assert changed.sum() / changed.size > 0.95 * area  # noise meets the old value now and then
    assert 50 < erased < 100
    assert (IMAGE == 7).all()


def test_0_changes_nothing_and_1_always_does() -> None:
    assert np.array_equal(erase(IMAGE, 0.0, generator(1)), IMAGE)
    assert not any(np.array_equal(erase(IMAGE, 1.0, generator(seed)), IMAGE) for seed in range(20))


def test_the_same_numbers_give_the_same_picture() -> None:
    assert np.array_equal(erase(IMAGE, 1.0, generator(3)), erase(IMAGE, 1.0, generator(3)))


def test_a_picture_of_one_pixel_is_taken() -> None:
    assert erase(np.zeros((1, 1, 1), np.uint8), 1.0, generator(0)).shape == (1, 1, 1)
