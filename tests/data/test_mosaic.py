"""Four pictures in one: the boxes lie on what they lay on before, and nothing depends on who else is at work."""

from __future__ import annotations

import io

import numpy as np
from numpy.random import Generator, Philox
from PIL import Image

from foveal.data.boxaugment import FILL
from foveal.data.loader import Decoder
from foveal.data.mosaic import mosaic, with_mosaics
from foveal.data.views import Preprocessing
from foveal.records import BadRecord, Boxes, Label, Labels, Sample

RULE = Preprocessing("squeeze", 3, 80, 80)
COLOURS = {0: (250, 10, 10), 1: (10, 250, 10), 2: (10, 10, 250)}


class Squares:
    """Pictures with a square each, whose colour tells its class; a number of them can't be read."""

    form, origin, class_names, groups, bad = "squares", "squares", None, None, tuple[BadRecord, ...]()

    def __init__(self, count: int, broken: frozenset[int] = frozenset()) -> None:
        self.count, self.broken = count, broken

    def __len__(self) -> int:
        return self.count

    def labels(self) -> Labels:
        raise NotImplementedError

    def fingerprint(self) -> str:
        return ""

    def where(self, index: int) -> str:
        return f"squares, picture {index}"

    def read(self, index: int) -> Sample:
        if index in self.broken:
            return Sample(str(index), b"nothing", 0)
        rng = Generator(Philox(key=index))
        kind, x, y = int(rng.integers(3)), int(rng.integers(10, 60)), int(rng.integers(10, 40))
        pixels = np.full((90, 120, 3), 60, dtype=np.uint8)
        pixels[y : y + 40, x : x + 40] = COLOURS[kind]
        file = io.BytesIO()
        Image.fromarray(pixels).save(file, "PNG")
        no = np.zeros(1, dtype=np.bool_)
        values = np.array([[x, y, x + 40, y + 40]], dtype=np.float32)
        empty = np.zeros((1, 0), dtype=np.float32)
        label = Boxes(values, np.array([kind]), "pixel", "stored", no, no, empty, (120, 90))
        return Sample(str(index), file.getvalue(), label)


def made(pictures: Decoder, row: int, seed: int = 1) -> tuple[np.ndarray, np.ndarray]:
    image, label = pictures(row)
    assert isinstance(label, Boxes)
    return mosaic((image, label), pictures, RULE, np.random.default_rng(seed))


def test_boxes_lie_on_their_objects() -> None:
    pictures = Decoder(Squares(6), 3)
    seen = 0
    for seed in range(40):
        pixels, targets = made(pictures, seed % 6, seed)
        assert pixels.shape == (80, 80, 3) and pixels.dtype == np.uint8 and targets.dtype == np.float32
        assert (targets[:, 1:5] >= 0).all() and (targets[:, 1:5] <= 1).all() and len(targets) <= 4
        for kind, x0, y0, x1, y1, _ in targets.tolist():
            left, top, right, bottom = (round(80 * side) for side in (x0, y0, x1, y1))
            inner = pixels[top + 2 : bottom - 2, left + 2 : right - 2]
            if inner.size and min(inner.shape[:2]) > 3:
                shares = inner.reshape(-1, 3).astype(float).mean(axis=0)
                assert shares.argmax() == kind  # colours are shifted, and stay the strongest
                seen += 1
    assert seen > 60


def test_four_pictures_meet_near_the_middle() -> None:
    corners = set()
    for seed in range(30):
        targets = made(Decoder(Squares(6), 3), 0, seed)[1]
        for edge in targets[:, 1]:
            corners.add(float(edge) >= 0.4)
    assert corners == {True, False}


def test_the_place_of_a_picture_that_cannot_be_read_stays_grey() -> None:
    pictures = Decoder(Squares(2, frozenset({1})), 3)
    grey = 0
    for seed in range(12):
        pixels, targets = made(pictures, 0, seed)
        corners = pixels[[0, 0, -1, -1], [0, -1, 0, -1]]
        blank = int((corners == FILL).all(axis=1).sum())
        assert len(targets) <= 4 - blank
        grey += blank
    assert grey > 0


def test_a_share_of_the_pictures_become_mosaics_by_seed_pass_and_row_alone() -> None:
    def plain(image: np.ndarray, label: Label, row: int, number: int) -> tuple[np.ndarray, str]:
        return image, "plain"

    pictures = Decoder(Squares(6), 3)
    prepare = with_mosaics(plain, pictures, RULE, 0.5, True, seed=7)
    again = with_mosaics(plain, Decoder(Squares(6), 3), RULE, 0.5, True, seed=7)
    places = [(row, number) for number in range(8) for row in range(6)]
    mine = [prepare(*pictures(row), row, number) for row, number in places]
    theirs = [again(*pictures(row), row, number) for row, number in reversed(places)][::-1]
    for (one, target), (other, its) in zip(mine, theirs, strict=True):
        assert np.array_equal(one, other) and np.array_equal(target, its)
    assert 12 < sum(isinstance(target, str) for _, target in mine) < 36
    assert all(
        isinstance(with_mosaics(plain, pictures, RULE, 0.0, True, 7)(*pictures(0), 0, n)[1], str) for n in range(9)
    )
