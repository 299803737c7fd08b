from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from foveal.data.resize import resize, warp


def noise(height: int, width: int, channels: int = 3, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, channels), dtype=np.uint8)


def bilinear(image: np.ndarray, height: int, width: int) -> np.ndarray:
    """Four neighbours in float64, from the definition: centres on centres, edges repeated."""
    y = np.clip((np.arange(height) + 0.5) * image.shape[0] / height - 0.5, 0, image.shape[0] - 1)
    x = np.clip((np.arange(width) + 0.5) * image.shape[1] / width - 0.5, 0, image.shape[1] - 1)
    y0, x0 = np.floor(y).astype(int), np.floor(x).astype(int)
    y1, x1 = np.minimum(y0 + 1, image.shape[0] - 1), np.minimum(x0 + 1, image.shape[1] - 1)
    fy, fx = (y - y0)[:, None, None], (x - x0)[None, :, None]
    p = image.astype(np.float64)
    upper = p[y0][:, x0] * (1 - fx) + p[y0][:, x1] * fx
    lower = p[y1][:, x0] * (1 - fx) + p[y1][:, x1] * fx
    return upper * (1 - fy) + lower * fy


@pytest.mark.parametrize("channels", [1, 3, 4])
@pytest.mark.parametrize(("height", "width"), [(64, 48), (20, 31), (100, 30), (1, 1), (224, 300)])
def test_without_antialias_four_neighbours_count(height: int, width: int, channels: int) -> None:
    image = noise(50, 37, channels)
    difference = np.abs(resize(image, height, width, antialias=False) - bilinear(image, height, width))
    assert difference.max() <= 1.5  # integer weights, and a rounding after each direction
    assert difference.mean() <= 0.5


def test_with_antialias_shrinking_averages() -> None:
    board = np.zeros((64, 64, 3), dtype=np.uint8)
    board[::2, ::2] = board[1::2, 1::2] = 255
    assert np.abs(resize(board, 8, 8, antialias=True).astype(int) - 128).max() <= 2
    assert np.abs(resize(board, 20, 20, antialias=False).astype(int) - 128).max() > 50


@pytest.mark.parametrize("antialias", [True, False])
def test_enlarging_is_the_same_with_either(antialias: bool) -> None:
    image = noise(9, 7)
    assert np.abs(resize(image, 30, 40, antialias).astype(int) - bilinear(image, 30, 40)).max() <= 1.5


@pytest.mark.parametrize("antialias", [True, False])
def test_a_box_is_cut_out_before_resizing(antialias: bool) -> None:
    image = noise(60, 80)
    cut = np.ascontiguousarray(image[5:45, 11:71])
    assert np.array_equal(resize(image, 24, 30, antialias, (11, 5, 71, 45)), resize(cut, 24, 30, antialias))


def test_the_size_it_has_already_is_left_alone() -> None:
    image = noise(24, 30)
    assert resize(image, 24, 30, antialias=True) is image


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_the_result_is_contiguous_whatever_the_input(channels: int) -> None:
    image = noise(40, 50, channels)
    image.flags.writeable = False
    for part in (image, image[3:30, 2:40], image[:, ::-1], image[::-1]):
        out = resize(part, 20, 25, antialias=True)
        assert out.shape == (20, 25, channels)
        assert out.flags.c_contiguous
        assert np.array_equal(out, resize(np.array(part), 20, 25, antialias=True))


def test_threads_get_the_same_pixels() -> None:
    images = [noise(90 + i, 120, seed=i) for i in range(16)]
    alone = [resize(image, 64, 64, True) for image in images]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(lambda image: resize(image, 64, 64, True), images))
    assert all(np.array_equal(a, b) for a, b in zip(alone, together, strict=True))


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_a_warp_by_whole_pixels_moves_and_fills(channels: int) -> None:
    image = noise(10, 12, channels)
    moved = warp(image, np.array([[1.0, 0, 3], [0, 1, -2]]), (0, 0, 12, 10), fill=9)
    assert np.array_equal(moved[:8, 3:], image[2:, :9])
    assert (moved[8:] == 9).all()
    assert (moved[:, :3] == 9).all()


def test_a_window_of_a_warp_is_that_part_of_the_whole() -> None:
    image = noise(40, 50)
    forward = np.array([[0.9, 0.15, 2.0], [-0.1, 1.1, -3.0]])
    whole = warp(image, forward, (0, 0, 50, 40))
    assert np.array_equal(warp(image, forward, (7, 5, 39, 37)), whole[5:37, 7:39])


def test_half_a_pixel_blends_with_the_border() -> None:
    image = np.zeros((4, 4, 1), dtype=np.uint8)
    moved = warp(image, np.array([[1.0, 0, 0.5], [0, 1, 0]]), (0, 0, 6, 4), fill=255)
    assert moved[0, :, 0].tolist() == [128, 0, 0, 0, 128, 255]


def test_far_outside_there_is_only_border() -> None:
    moved = warp(noise(8, 8), np.array([[1.0, 0, 1000.0], [0, 1, -1000.0]]), (0, 0, 8, 8), fill=200)
    assert (moved == 200).all()
