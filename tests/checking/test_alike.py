"""Which pictures look alike: the same shot in another file, and not another shot of the same thing."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from foveal.checking import alike
from foveal.checking.alike import find_alike, look_of


def scene(seed: int, size: tuple[int, int] = (120, 90)) -> Image.Image:
    """A picture with structure at all scales, as photographs have it."""
    rng = np.random.default_rng(seed)
    layers = [
        Image.fromarray(rng.integers(0, 256, (side, side)).astype(np.uint8)).resize(size, Image.Resampling.BICUBIC)
        for side in (3, 6, 12, 40)
    ]
    return Image.fromarray(np.mean([np.asarray(layer, dtype=np.float64) for layer in layers], axis=0).astype(np.uint8))


def encoded(picture: Image.Image, quality: int) -> Image.Image:
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=quality)
    return Image.open(buffer)


def pairs(*pictures: Image.Image) -> list[list[int]]:
    looks = [look_of(np.asarray(picture.convert("L"))) for picture in pictures]
    aspect = np.array([picture.width / picture.height for picture in pictures])
    found = find_alike(np.stack([each.bits for each in looks]), np.stack([each.small for each in looks]), aspect)
    assert found.complete
    return found.rows.tolist()


@pytest.mark.parametrize(
    "change",
    [
        lambda picture: picture.copy(),
        lambda picture: encoded(picture, 30),
        lambda picture: picture.resize((300, 225), Image.Resampling.BICUBIC),
        lambda picture: picture.resize((40, 30), Image.Resampling.BOX),
        lambda picture: picture.point(lambda value: 40 + value // 2),
        lambda picture: picture.crop((1, 1, 119, 89)),
        lambda picture: picture.convert("RGB"),
    ],
    ids=["copy", "encoded anew", "enlarged", "shrunk", "lit otherwise", "cut a little", "in colour"],
)
def test_the_same_shot_is_found(change):
    others = [scene(seed) for seed in range(1, 6)]
    assert pairs(scene(0), *others, change(scene(0))) == [[0, 6]]


@pytest.mark.parametrize(
    "change",
    [
        lambda picture: picture.transpose(Image.Transpose.FLIP_LEFT_RIGHT),
        lambda picture: picture.rotate(15),
        lambda picture: picture.crop((0, 0, 90, 68)),
        lambda picture: picture.resize((90, 90)),
        lambda picture: scene(1),
    ],
    ids=["mirrored", "turned", "cut by a quarter", "squeezed", "another"],
)
def test_other_pictures_are_not(change):
    assert pairs(scene(0), change(scene(0))) == []


def test_pictures_that_show_nothing_are_not_compared():
    white = Image.new("L", (50, 50), 255)
    assert pairs(white, white, Image.new("L", (50, 50), 0)) == []
    assert pairs(white) == []


def planted(count: int, twins: int) -> tuple[np.ndarray, np.ndarray, list[list[int]]]:
    """Random looks, the last ``twins`` of them with 10 bits of the first ones' changed."""
    rng = np.random.default_rng(3)
    bits = rng.integers(0, 2**63, (count, 4), dtype=np.uint64)
    small = rng.integers(0, 256, (count, 256)).astype(np.uint8)
    for twin in range(twins):
        flat = np.unpackbits(bits[twin].view(np.uint8))
        flat[rng.permutation(256)[:10]] ^= 1
        bits[count - 1 - twin] = np.packbits(flat).view(np.uint64)
        small[count - 1 - twin] = small[twin]
    return bits, small, [[twin, count - 1 - twin] for twin in range(twins)]


def test_among_many_pictures_neighbours_in_mixed_orders_are_compared():
    bits, small, wanted = planted(20_000, 200)
    found = find_alike(bits, small, np.ones(len(bits)))
    assert sorted(found.rows.tolist()) == wanted
    assert (found.correlation > 0.999).all()


def test_the_search_ends_where_nearly_all_are_alike(monkeypatch):
    monkeypatch.setattr(alike, "MOST_PAIRS", 100)
    bits, small, _ = planted(200, 0)
    bits[:], small[:] = bits[0], small[0]
    found = find_alike(bits, small, np.ones(200))
    assert (found.complete, len(found.rows) >= 100) == (False, True)
    assert (found.rows[:, 0] < found.rows[:, 1]).all()
