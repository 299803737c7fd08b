"""Training pictures mixed: exact pixels and labels, and the same whatever the batch, the workers and the ranks."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from foveal.data.loader import batches
from foveal.data.mixing import Mixing, mix, mixed
from foveal.data.order import Order
from foveal.errors import BadPicture

CLASSES, SIDE, COUNT = 3, 8, 12


def vector(label: Any) -> NDArray[np.float32]:
    return np.eye(CLASSES, dtype=np.float32)[label]


class Pictures:
    """A decoder of pictures of one value, 20 times their row; row ``broken`` can't be read."""

    channels = 3

    def __init__(self, broken: int = -1) -> None:
        self.broken = broken
        self.source = self

    def __len__(self) -> int:
        return COUNT

    def where(self, row: int) -> str:
        return f"row {row}"

    def __call__(self, row: int) -> tuple[NDArray[np.uint8], int]:
        if row == self.broken:
            raise BadPicture("broken", self.where(row))
        return np.full((SIDE, SIDE, 3), 20 * row, np.uint8), row % CLASSES


class Fixed:
    """A generator that gives what it is told."""

    def __init__(self, share: float, *numbers: float) -> None:
        self.share, self.numbers = share, list(numbers)

    def beta(self, a: float, b: float) -> float:
        return self.share

    def random(self, size: int | None = None) -> Any:
        return self.numbers.pop(0) if size is None else np.array([self.numbers.pop(0) for _ in range(size)])


ONE = (np.full((SIDE, SIDE, 3), 100, np.uint8), vector(0))
OTHER = (np.full((SIDE, SIDE, 3), 51, np.uint8), vector(2))


def test_mixup_blends_pixels_and_labels() -> None:
    pixels, label = mix(ONE, OTHER, Mixing(1.0, 0.0, vector), Fixed(0.25))  # type: ignore[arg-type]
    assert (pixels == round(0.25 * 100 + 0.75 * 51)).all() and pixels.dtype == np.uint8
    assert label.tolist() == [0.25, 0, 0.75]


def test_cutmix_pastes_a_rectangle_and_counts_what_is_left() -> None:
    pixels, label = mix(ONE, OTHER, Mixing(0.0, 1.0, vector), Fixed(0.75, 0.5, 0.5))  # type: ignore[arg-type]
    expected = np.full((SIDE, SIDE, 3), 100, np.uint8)
    expected[2:6, 2:6] = 51  # a quarter of 8 x 8, in the middle
    assert np.array_equal(pixels, expected)
    assert label.tolist() == [0.75, 0, 0.25]


def test_a_rectangle_that_reaches_beyond_the_picture_counts_what_lies_in_it() -> None:
    pixels, label = mix(ONE, OTHER, Mixing(0.0, 1.0, vector), Fixed(0.75, 0.0, 0.0))  # type: ignore[arg-type]
    assert (pixels[:2, :2] == 51).all() and int((pixels == 51).sum()) == 2 * 2 * 3
    assert label.tolist() == [1 - 4 / 64, 0, 4 / 64]


def test_pictures_that_are_mixed_stay_as_they_were() -> None:
    mix(ONE, OTHER, Mixing(1.0, 1.0, vector), np.random.default_rng(0))
    assert (ONE[0] == 100).all() and (OTHER[0] == 51).all() and ONE[1].tolist() == [1, 0, 0]


def both_kinds(seed: int) -> bool:
    """Whether a draw with both on pasted."""
    pixels, _ = mix(ONE, OTHER, Mixing(1.0, 1.0, vector), np.random.default_rng(seed))
    return bool(np.isin(pixels, (51, 100)).all())


def test_with_both_each_picture_gets_one_of_them_by_a_coin() -> None:
    pasted = sum(both_kinds(seed) for seed in range(200))
    assert 70 < pasted < 130


def training(ranks: int, workers: int, batch: int, broken: int = -1) -> dict[int, tuple[list[int], list[float]]]:
    """Row -> pixels and label of a pass, as ``ranks`` processes get them that take every k-th picture of each batch."""
    found = {}
    pictures: Any = Pictures(broken)
    prepare = mixed(lambda image, label, row, number: (image, label), pictures, Mixing(1.0, 1.0, vector), seed=5)
    for rank in range(ranks):
        slices = (range(start + rank, min(start + batch, COUNT), ranks) for start in range(0, COUNT, batch))
        stream = batches(pictures, Order(COUNT, 5), slices, lambda _: prepare, lambda labels: np.array(labels), workers)
        for made in stream:
            for row, pixels, label in zip(made.rows.tolist(), made.pixels, made.targets, strict=True):
                found[row] = (pixels.flatten().tolist(), label.tolist())
    return found


@pytest.mark.parametrize(("ranks", "workers", "batch"), [(2, 0, 4), (3, 2, 6), (1, 2, 5)])
def test_a_picture_is_mixed_the_same_whatever_the_ranks_workers_and_batches(
    ranks: int, workers: int, batch: int
) -> None:
    one = training(1, 0, 4)
    assert len(one) == COUNT and any(0 < max(label) < 1 for _, label in one.values())
    assert training(ranks, workers, batch) == one


def test_beside_a_partner_that_cannot_be_read_a_picture_stays_as_it_is() -> None:
    sound, broken = training(1, 0, 4), training(1, 0, 4, broken=3)
    assert set(broken) == set(range(COUNT)) - {3}
    for row, (pixels, label) in broken.items():
        if (pixels, label) != sound[row]:
            assert set(pixels) == {20 * row} and label == vector(row % CLASSES).tolist()
