"""How training pictures with boxes are made ready, step by step."""

from __future__ import annotations

import numpy as np
import pytest

from foveal.algorithms import detection
from foveal.algorithms.detection import Teaching, preparing
from foveal.data.boxaugment import augment_boxes
from foveal.data.loader import Decoder
from foveal.data.order import picture_generator
from foveal.data.views import Preprocessing
from foveal.records import Boxes

RULE = Preprocessing("squeeze", 3, 96, 96)
SIDES = (64, 96, 128)
NOBODY: Decoder = None  # type: ignore[assignment]


def picture() -> tuple[np.ndarray, Boxes]:
    pixels = np.random.default_rng(1).integers(0, 256, (50, 70, 3), dtype=np.uint8)
    no = np.zeros(1, dtype=np.bool_)
    values = np.array([[10, 10, 40, 40]], dtype=np.float32)
    boxes = Boxes(values, np.zeros(1, np.int64), "pixel", "upright", no, no, np.zeros((1, 0), np.float32), (70, 50))
    return pixels, boxes


def test_every_step_has_a_side_that_follows_from_seed_and_step() -> None:
    teaching = Teaching(sides=SIDES)
    sides = []
    for step in range(40):
        prepare, again = (preparing(RULE, teaching, NOBODY, 5, step) for _ in range(2))
        shapes = {prepare(*picture(), row, number)[0].shape for row in range(3) for number in range(2)}
        assert shapes == {again(*picture(), 9, 9)[0].shape}
        ((height, width, _),) = shapes
        assert height == width
        sides.append(height)
    assert set(sides) == set(SIDES)
    other = [preparing(RULE, teaching, NOBODY, 6, step)(*picture(), 0, 0)[0].shape[0] for step in range(40)]
    assert other != sides


def test_a_picture_at_the_rules_side_is_what_it_is_without_all_this() -> None:
    prepare = preparing(RULE, Teaching(sides=(96,)), NOBODY, 5, 3)
    pixels, targets = prepare(*picture(), 2, 4)
    plain, same = augment_boxes(*picture(), RULE, picture_generator(5, 4, 2), "ssd", True)
    assert np.array_equal(pixels, plain) and np.array_equal(targets, same)


def test_mosaics_end_with_their_last_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(detection, "with_mosaics", lambda *_: lambda *_: "mosaic")
    prepare = preparing(RULE, Teaching(mosaic=1.0, mosaic_until=2), NOBODY, 5, 0)
    assert [isinstance(prepare(*picture(), 0, number), str) for number in range(4)] == [True, True, False, False]
