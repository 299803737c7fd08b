from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from foveal.data.resize import KERNELS, mirrored, resample, resize, warp


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


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_mirrored_changes_left_and_right_and_gives_a_picture_of_its_own(channels: int) -> None:
    image = noise(7, 10, channels)
    for part in (image, image[2:5, 3:9], image[:, :0]):
        out = mirrored(part)
        assert np.array_equal(out, part[:, ::-1])
        assert out.flags.c_contiguous and not np.may_share_memory(out, image)


def test_threads_get_the_same_pixels() -> None:
    images = [noise(90 + i, 120, seed=i) for i in range(16)]
    alone = [resize(image, 64, 64, True) for image in images]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(lambda image: resize(image, 64, 64, True), images))
    assert all(np.array_equal(a, b) for a, b in zip(alone, together, strict=True))


# The kernels of OpenCV: their values are held to the original's in test_boxaugment -----------------------------------


def averaged(image: np.ndarray, height: int, width: int) -> np.ndarray:
    """Mean of what each pixel of the result covers, by way of a picture of whole cells, in float64."""
    fine = image.astype(np.float64).repeat(height, axis=0).repeat(width, axis=1)
    return fine.reshape(height, image.shape[0], width, image.shape[1], -1).mean(axis=(1, 3))


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("channels", [1, 3, 4])
def test_every_kernel_keeps_a_plain_picture_and_the_size_asked_for(kernel: str, channels: int) -> None:
    plain = np.full((17, 23, channels), 90, dtype=np.uint8)
    for size in ((17, 23), (5, 40), (40, 5), (1, 1), (50, 60), (17, 9)):
        out = resample(plain, *size, kernel)
        assert out.shape == (*size, channels)
        assert out.flags.c_contiguous
        assert (out == 90).all()


def test_area_averages_what_each_pixel_covers() -> None:
    image = noise(12, 14)
    assert np.abs(resample(image, 5, 9, "area") - averaged(image, 5, 9)).max() <= 0.51


def test_nearest_takes_the_pixel_at_the_upper_left_of_its_place() -> None:
    image = noise(4, 5)
    assert np.array_equal(resample(image, 3, 2, "nearest"), image[[0, 1, 2]][:, [0, 2]])
    assert np.array_equal(resample(image, 8, 10, "nearest"), image.repeat(2, axis=0).repeat(2, axis=1))


def test_bilinear_inside_and_beyond_the_picture_is_the_same_kernel() -> None:
    image = noise(50, 37)
    inside = resample(image, 20, 31, "bilinear", (2, 3, 30, 45))
    assert np.array_equal(inside, resize(image, 20, 31, False, (2, 3, 30, 45)))
    grown = np.pad(image, ((1, 0), (0, 0), (0, 0)), constant_values=127)
    assert np.abs(resample(image, 20, 31, "bilinear", (0, -1, 37, 50)) - bilinear(grown, 20, 31)).max() <= 0.51


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("fill", [0, 127])
@pytest.mark.parametrize(
    "box", [(-30, -20, 98, 76), (-3, 20, 40, 50), (10, -300, 60, 20), (-7, -5, 10, 9), (5, 5, 70, 51), (90, 90, 99, 95)]
)
def test_a_canvas_that_is_not_built_gives_the_pixels_of_one_that_is(kernel: str, fill: int, box: tuple) -> None:
    image = noise(48, 64)
    canvas = np.full((448, 464, 3), fill, dtype=np.uint8)
    canvas[300:348, 200:264] = image
    left, top, right, bottom = box
    built = canvas[max(0, 300 + top) : 300 + bottom, 200 + left : 200 + right]
    got = resample(image, 30, 36, kernel, box, fill)
    assert np.abs(got.astype(int) - resample(built, 30, 36, kernel)).max() <= 1


def test_a_picture_of_nothing_is_all_canvas() -> None:
    out = resample(np.zeros((0, 5, 3), dtype=np.uint8), 4, 6, "lanczos", (-3, -3, 9, 9), 12)
    assert out.shape == (4, 6, 3)
    assert (out == 12).all()


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
