"""Boxes of tiles put together. The tiles' answers are made by hand, or by an oracle that sees every object it shows."""

from __future__ import annotations

import numpy as np
import pytest

from foveal.data.tiles import cut_out
from foveal.data.views import tiles
from foveal.models import merging
from foveal.models.merging import merge
from foveal.models.suppression import Rule
from foveal.records import Boxes, Detections

RULE = Rule(0.45, 400)
LEFT, RIGHT = (0, 0, 100, 100), (80, 0, 180, 100)  # tiles of a picture of 180 x 100
Tile = tuple[int, int, int, int]
Rows = list[tuple[float, ...]]


def merged(*found: tuple[Tile, Rows], size: tuple[int, int] = (180, 100), rule: Rule = RULE) -> list[tuple[float, ...]]:
    """(class, score, corners in pixels) of what stays of each tile's rows, which are the same; the network's input has
    200 x 200 pixels."""
    rows, affines = [], []
    for (left, top, right, bottom), boxes in found:
        each = np.array(boxes, np.float64).reshape(-1, 6)
        each[:, 2:] = (each[:, 2:] - [left, top, left, top]) / ([right - left, bottom - top] * 2)
        rows.append(each.astype(np.float32))
        affines.append(np.array([[(right - left) / 200, 0, left], [0, (bottom - top) / 200, top]]))
    answer = merge(rows, affines, (200, 200), size, rule)
    return [
        (int(cls), round(float(score), 3), *box)
        for cls, score, box in zip(answer.cls, answer.scores, np.round(answer.pixels, 2).tolist(), strict=True)
    ]


def test_boxes_are_moved_to_the_picture_and_come_by_falling_score() -> None:
    assert merged((LEFT, [(0, 0.5, 10, 20, 40, 60)]), (RIGHT, [(1, 0.75, 130, 5, 175, 95)])) == [
        (1, 0.75, 130, 5, 175, 95),
        (0, 0.5, 10, 20, 40, 60),
    ]


def test_an_object_that_two_tiles_show_whole_is_found_once_by_the_surer_one() -> None:
    assert merged((LEFT, [(0, 0.6, 82, 20, 96, 40)]), (RIGHT, [(0, 0.8, 83, 20, 97, 40)])) == [(0, 0.8, 83, 20, 97, 40)]


def test_a_whole_object_is_preferred_to_a_part_that_is_surer() -> None:
    part, whole = (0, 0.9, 90, 20, 100, 40), (0, 0.6, 90, 20, 120, 40)
    assert merged((LEFT, [part]), (RIGHT, [whole])) == [whole]
    assert merged((RIGHT, [whole]), (LEFT, [part])) == [whole]


def test_a_part_stays_where_the_whole_is_hardly_believed() -> None:
    part, junk = (0, 0.9, 90, 20, 100, 40), (0, 0.1, 90, 20, 120, 40)
    assert merged((LEFT, [part]), (RIGHT, [junk])) == [part, junk]


def test_an_object_that_no_tile_shows_whole_keeps_its_best_part() -> None:
    one, other = (0, 0.7, 74, 20, 100, 40), (0, 0.8, 80, 20, 106, 40)
    assert merged((LEFT, [one]), (RIGHT, [other])) == [other]


def test_small_objects_inside_larger_ones_stay() -> None:
    inner, outer = (0, 0.6, 84, 20, 92, 28), (0, 0.9, 82, 10, 97, 60)
    assert merged((LEFT, [inner]), (RIGHT, [outer])) == [outer, inner]


def test_an_edge_of_the_picture_cuts_nothing() -> None:
    at_the_edge, larger = (0, 0.5, 0, 20, 10, 40), (0, 0.6, 0, 20, 25, 40)
    tall = (0, 0, 100, 60)
    assert merged((tall, [at_the_edge]), ((0, 20, 100, 80), [larger]), size=(100, 80)) == [larger, at_the_edge]


def test_classes_are_apart_unless_suppression_is_across_them() -> None:
    found = ((LEFT, [(0, 0.6, 84, 20, 96, 40)]), (RIGHT, [(1, 0.8, 84, 20, 96, 40)]))
    assert [each[0] for each in merged(*found)] == [1, 0]
    assert [each[0] for each in merged(*found, rule=Rule(0.45, 400, across_classes=True))] == [1]


def test_boxes_are_cut_to_the_picture_and_those_beyond_it_go() -> None:
    tile = (0, 0, 100, 100)
    assert merged((tile, [(0, 0.9, 50, 30, 90, 90), (0, 0.8, 70, 10, 90, 20)]), size=(60, 40)) == [
        (0, 0.9, 50, 30, 60, 40)
    ]


def test_rows_that_do_not_count_are_left_out_and_nothing_is_nothing() -> None:
    assert merged((LEFT, [(-1, 0.9, 5, 5, 9, 9)]), (RIGHT, [])) == []
    assert merged() == []


def test_as_many_boxes_as_tiles_and_their_topk_allow_may_stay() -> None:
    rows: Rows = [(0, 0.5, 2 * number, 0, 2 * number + 1, 1) for number in range(30)]
    right: Rows = [(0, 0.5, 100 + 2 * number, 0, 101 + 2 * number, 1) for number in range(30)]
    assert len(merged((LEFT, rows), (RIGHT, right), rule=Rule(0.45, 30))) == 60


# An oracle


def scattered(rng: np.random.Generator, side: int, count: int) -> np.ndarray:
    """Boxes of sides 20 to 58 that don't overlap by more than 0.2: float64 [n, 4]."""
    kept = np.zeros((0, 4))
    for _ in range(20 * count):
        width, height = rng.uniform(20, 58, 2)
        left, top = rng.uniform(0, side - width), rng.uniform(0, side - height)
        box = np.array([left, top, left + width, top + height])
        shared = np.maximum(0, np.minimum(kept[:, 2:], box[2:]) - np.maximum(kept[:, :2], box[:2])).prod(axis=1)
        areas = (kept[:, 2:] - kept[:, :2]).prod(axis=1)
        if len(kept) < count and not (shared > 0.2 * (areas + width * height - shared)).any():
            kept = np.vstack([kept, box])
    return kept


def by_an_oracle(objects: np.ndarray, side: int, rng: np.random.Generator) -> Detections:
    """What is left of exact boxes of all that tiles of 300 pixels show, as training shows it, with any scores."""
    none = np.zeros(len(objects), bool)
    boxes = Boxes(
        objects.astype(np.float32), np.zeros(len(objects), np.int64), "pixel", "upright", none, none,
        np.zeros((len(objects), 0), np.float32), (side, side),
    )  # fmt: skip
    image, rows, affines = np.zeros((side, side, 1), np.uint8), [], []
    for tile in tiles(side, side, 300, 0.2):
        shown = cut_out((image, boxes), tile)[1]
        assert isinstance(shown, Boxes)
        scores = rng.uniform(0.3, 1, (len(shown.cls), 1))
        rows.append(np.hstack([0 * scores, scores, shown.values / 300]).astype(np.float32))
        affines.append(np.array([[1.0, 0, tile[0]], [0, 1.0, tile[1]]]))
    return merge(rows, affines, (300, 300), (side, side), RULE)


def test_every_object_smaller_than_the_overlap_is_found_once_and_whole() -> None:
    rng = np.random.default_rng(0)
    objects = scattered(rng, 1000, 100)
    found = by_an_oracle(objects, 1000, rng)
    order = np.lexsort(found.pixels.T)
    assert len(found.cls) == len(objects) == 100
    assert np.abs(found.pixels[order] - objects[np.lexsort(objects.astype(np.float32).T)]).max() < 1e-3


def test_by_overlap_alone_parts_would_stay_beside_their_objects(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(merging, "EDGE", -1)
    rng = np.random.default_rng(0)
    assert len(by_an_oracle(scattered(rng, 1000, 100), 1000, rng).cls) > 100
