"""Asking tile by tile, with a network that is made by hand: each bright square of a tile is an object."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
import torch
from torch import Tensor

from foveal.algorithms.tiling import detect_in_tiles
from foveal.data.views import Preprocessing
from foveal.models.suppression import Rule

RULE = Preprocessing("tiles", 1, 40, 40, tile_size=40, tile_overlap=0.25)
SUPPRESSION = Rule(0.45, 10)


class Seeing:
    """Answers with a row for every value but 0 and grey in a tile: the box of its pixels, surer the larger it is."""

    def __init__(self) -> None:
        self.batches: list[int] = []

    def __call__(self, pixels: Tensor) -> Tensor:
        self.batches.append(len(pixels))
        rows = torch.full((len(pixels), 10, 6), -1.0)
        for number, tile in enumerate(pixels[..., 0].numpy()):
            for place, value in enumerate(sorted(set(np.unique(tile).tolist()) - {0, 127})):
                y, x = np.nonzero(tile == value)
                box = [x.min(), y.min(), x.max() + 1, y.max() + 1]
                rows[number, place] = torch.tensor([0, 0.5 + len(x) / 10_000, *(side / 40 for side in box)])
        return rows


def picture(height: int, width: int, *boxes: tuple[int, int, int, int]) -> np.ndarray:
    image = np.zeros((height, width, 1), np.uint8)
    for value, (left, top, right, bottom) in enumerate(boxes, 200):
        image[top:bottom, left:right] = value
    return image


def asked(*images: np.ndarray | None, batch: int = 4) -> tuple[list[list[list[float]] | None], Seeing]:
    """Boxes of each picture in pixels, and who was asked."""
    seeing = Seeing()
    answers = list(detect_in_tiles(enumerate(images), RULE, SUPPRESSION, seeing, batch))
    assert [key for key, _ in answers] == list(range(len(images)))
    return [None if found is None else sorted(found.pixels.round(3).tolist()) for _, found in answers], seeing


def test_an_object_on_the_border_of_tiles_is_found_once_and_whole() -> None:
    # tiles of 70 pixels begin at 0 and 30: the first square lies across the end of one and the start of the other
    found, _ = asked(picture(70, 70, (32, 33, 39, 41), (2, 2, 8, 8), (60, 60, 69, 69)))
    assert found == [[[2, 2, 8, 8], [32, 33, 39, 41], [60, 60, 69, 69]]]


def test_batches_mix_tiles_of_several_pictures() -> None:
    found, seeing = asked(picture(40, 40, (1, 1, 5, 5)), picture(70, 70, (50, 50, 60, 60)), picture(20, 30), batch=3)
    assert found == [[[1, 1, 5, 5]], [[50, 50, 60, 60]], []]
    assert seeing.batches == [3, 3]


def test_answers_do_not_depend_on_the_batch() -> None:
    images = [picture(90, 130, (3, 3, 20, 9), (28, 28, 36, 44), (80, 70, 95, 88)), picture(50, 41, (8, 30, 20, 44))]
    assert asked(*images, batch=1)[0] == asked(*images, batch=5)[0] == asked(*images, batch=64)[0]


def test_a_picture_smaller_than_a_tile_keeps_its_scale() -> None:
    assert asked(picture(20, 30, (25, 10, 30, 20)))[0] == [[[25, 10, 30, 20]]]


def test_unreadable_pictures_keep_their_place() -> None:
    assert asked(None, picture(40, 40, (1, 1, 5, 5)), None)[0] == [None, [[1, 1, 5, 5]], None]
    assert asked()[0] == []


def test_a_picture_is_asked_for_when_the_one_before_is_cut_up_and_tiles_when_their_batch_is_made() -> None:
    came: list[str] = []

    def pictures() -> Iterator[tuple[int, np.ndarray]]:
        for number in range(3):
            came.append(f"picture {number}")
            yield number, picture(70, 70)

    def watch(key: int, tiles: list) -> Iterator:
        for place, tile in enumerate(tiles):
            came.append(f"tile {key}.{place}")
            yield tile

    def answer(pixels: Tensor) -> Tensor:
        came.append("asked")
        return torch.zeros(len(pixels), 0, 6)

    next(detect_in_tiles(pictures(), RULE, SUPPRESSION, answer, 3, watch))
    first = ["picture 0", "tile 0.0", "tile 0.1", "tile 0.2", "asked", "tile 0.3", "picture 1", "tile 1.0", "tile 1.1"]
    assert came == [*first, "asked"]


@pytest.mark.parametrize("side", [31, 40, 100])
def test_each_tile_is_asked_about_once(side: int) -> None:
    _, seeing = asked(picture(side, side))
    assert sum(seeing.batches) == {31: 1, 40: 1, 100: 9}[side]
