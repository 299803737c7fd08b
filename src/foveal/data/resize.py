"""Changing the geometry of decoded pictures: resizing and affine warps, uint8 [H, W, C] in and out.

Resizing goes through torch's uint8 kernels: three to six times as quick as Pillow, while OpenCV would take about two
thirds of their time (``benchmarks/pictures.py`` prints the ratios). Their integer arithmetic is at most 1 level (0.2 on
average) from OpenCV's, and they run on one thread whatever torch's thread count, so loader threads do not fight.
``resample`` has the other kernels of OpenCV as well, and borders that are never built.

Coordinates are continuous: pixel i covers i to i + 1, and the picture 0 to its size.
"""

from __future__ import annotations

from math import floor
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

Box = tuple[int, int, int, int]
"""left, top, right, bottom in pixels of the picture; right and bottom are outside."""

KERNELS = ("nearest", "bilinear", "cubic", "area", "lanczos")
"""OpenCV's INTER_NEAREST, LINEAR, CUBIC, AREA and LANCZOS4, at their numbers. Only ``area`` averages in shrinking."""

_BLOCK = 131_072  # values that are weighed at a time: they stay in the processor's cache
_CUBIC = -0.75  # slope of OpenCV's cubic at the neighbouring pixel
_FRACTION = 32  # sub-pixel steps of an affine warp a side, as OpenCV's INTER_LINEAR has
_LANE = 20  # bits a channel takes in a packed pixel: 8 of value and 10 of weight fit
_HALF = 512  # rounds a sum of weights that add up to 1024


def resize(
    image: NDArray[np.uint8], height: int, width: int, antialias: bool, box: Box | None = None
) -> NDArray[np.uint8]:
    """Bilinear resizing, the aspect not kept.

    Args:
        image: uint8 [H, W, C], C from 1 to 4.
        height, width: the size wanted, at least 1.
        antialias: widen the filter when shrinking (modern); without it, four neighbours count (the original).
        box: the part to take, on the source's pixel grid; the whole picture when None.

    Returns:
        uint8 [height, width, C], contiguous; the input itself where nothing is to be done.
    """
    if box is not None:
        left, top, right, bottom = box
        image = image[top:bottom, left:right]
    if image.shape[:2] == (height, width):
        return np.ascontiguousarray(image)
    if not (image.flags.c_contiguous and image.flags.writeable):
        image = image.copy()  # by NumPy, on this thread: torch would start its own threads for it
    # Batch first and channels moved by strides alone: any other order takes a kernel half as quick.
    planes = torch.from_numpy(image)[None].permute(0, 3, 1, 2)
    resized = F.interpolate(planes, size=(height, width), mode="bilinear", antialias=antialias, align_corners=False)
    out: NDArray[np.uint8] = resized.permute(0, 2, 3, 1)[0].numpy()
    return np.ascontiguousarray(out)


def resample(
    image: NDArray[np.uint8], height: int, width: int, kernel: str, box: Box | None = None, fill: int = 127
) -> NDArray[np.uint8]:
    """Resize a part of the picture, or of a wider canvas around it, as OpenCV does with ``kernel``.

    The canvas is not built: what lies outside the picture costs nothing. Values are at most 1 from OpenCV's
    (``nearest`` is equal): its weights are whole numbers, and these are not. torch's uint8 bicubic would take a tenth
    of the time, but cuts what overshoots 0..255 after the first direction already, which is off by up to 20 at edges.

    Args:
        image: uint8 [H, W, C], C from 1 to 4; H or W may be 0.
        height, width: the size wanted, at least 1.
        kernel: one of ``KERNELS``.
        box: the part to take, on the picture's pixel grid, not empty; it may reach beyond the picture. The whole
            picture when None. Nothing outside the box counts.
        fill: value of all channels outside the picture, 0..255.

    Returns:
        uint8 [height, width, C], contiguous; may be the input itself.
    """
    left, top, right, bottom = (0, 0, image.shape[1], image.shape[0]) if box is None else box
    x0, y0 = max(0, left), max(0, top)
    x1, y1 = max(x0, min(right, image.shape[1])), max(y0, min(bottom, image.shape[0]))
    image = image[y0:y1, x0:x1]
    inside = (x0, y0, x1, y1) == (left, top, right, bottom)
    if inside and (height, width) == (bottom - top, right - left):
        return np.ascontiguousarray(image)
    if inside and kernel == "bilinear":
        return resize(image, height, width, antialias=False)
    if kernel == "area" and (height > bottom - top or width > right - left):
        kernel = "enlarged area"
    rows, row_weights = _taps(kernel, bottom - top, height)
    columns, column_weights = _taps(kernel, right - left, width)
    rows, row_weights = _inside(rows + (top - y0), row_weights, y1 - y0)
    columns, column_weights = _inside(columns + (left - x0), column_weights, x1 - x0)
    out = np.full((height, width, image.shape[2]), fill, dtype=np.uint8)
    touched = _span(row_weights), _span(column_weights)
    if 0 in image.shape or touched[0].start == touched[0].stop or touched[1].start == touched[1].stop:
        return out
    rows, row_weights = rows[touched[0]], row_weights[touched[0]]
    columns, column_weights = columns[touched[1]], column_weights[touched[1]]
    if kernel == "nearest":
        out[touched] = image.take(rows[:, 0], axis=0).take(columns[:, 0], axis=1)
        return out
    image = np.ascontiguousarray(image)
    block = max(1, _BLOCK // (image.shape[1] * image.shape[2]))
    for start in range(0, len(rows), block):
        part = slice(start, start + block)
        upright = _weighed(image, rows[part], row_weights[part])
        values = _weighed(_transposed(upright), columns, column_weights)  # [w, rows, C]
        if not inside:
            share = column_weights.sum(axis=1)[:, None] * row_weights[part].sum(axis=1)
            values += (np.float32(fill) - np.float32(fill) * share)[:, :, None]
        np.rint(values, out=values)
        np.clip(values, 0, 255, out=values)
        first = touched[0].start + start
        out[first : first + len(rows[part]), touched[1]] = _transposed(values.astype(np.uint8))
    return out


def _taps(kernel: str, source: int, wanted: int) -> tuple[NDArray[np.intp], NDArray[np.float32]]:
    """For each of ``wanted`` pixels the source pixels that count, and by how much.

    Returns:
        int [wanted, k], positions in 0..source-1, those outside moved to the border as OpenCV repeats it; and
        float32 [wanted, k], weights that add up to 1.
    """
    scale = source / wanted
    steps = np.arange(wanted, dtype=np.float64)
    if kernel == "nearest":
        first, weights = np.floor(steps * scale), np.ones((wanted, 1))
    elif kernel == "area":
        first = np.floor(steps * scale)
        pixels = first[:, None] + np.arange(floor(scale) + 2)
        low, high = np.maximum(pixels, (steps * scale)[:, None]), np.minimum(pixels + 1, ((steps + 1) * scale)[:, None])
        weights = np.maximum(high - low, 0) / scale
    elif kernel == "enlarged area":  # between pixels only where two of them meet
        first = np.floor(steps * scale)
        part = np.maximum(0, (steps + 1) - (first + 1) / scale)
        part -= np.floor(part)
        weights = np.stack([1 - part, part], axis=1)
    else:
        centre = (steps + 0.5) * scale - 0.5
        reach = {"bilinear": 1, "cubic": 2, "lanczos": 4}[kernel]
        first = np.floor(centre) - (reach - 1)
        weights = _course(kernel, np.abs(first[:, None] + np.arange(2 * reach) - centre[:, None]))
        weights /= weights.sum(axis=1, keepdims=True)
    positions = np.clip(first[:, None] + np.arange(weights.shape[1]), 0, source - 1)
    return positions.astype(np.intp), weights.astype(np.float32)


def _course(kernel: str, distance: NDArray[np.float64]) -> NDArray[np.float64]:
    """The weight of a pixel ``distance`` pixels away, float64 of the same shape."""
    if kernel == "bilinear":
        return np.maximum(0, 1 - distance)
    if kernel == "lanczos":
        return np.where(distance < 4, np.sinc(distance) * np.sinc(distance / 4), 0)
    near = ((_CUBIC + 2) * distance - (_CUBIC + 3)) * distance * distance + 1
    far = ((distance - 5) * distance + 8) * distance * _CUBIC - 4 * _CUBIC
    return np.where(distance <= 1, near, np.where(distance < 2, far, 0))


def _inside(
    positions: NDArray[np.intp], weights: NDArray[np.float32], size: int
) -> tuple[NDArray[np.intp], NDArray[np.float32]]:
    """The same with weight 0 for pixels that aren't among the ``size`` there are."""
    missing = (positions < 0) | (positions >= size)
    return np.where(missing, 0, positions), np.where(missing, np.float32(0), weights)


def _span(weights: NDArray[np.float32]) -> slice:
    """From the first to the last pixel of the result that the picture has a share in."""
    touched = np.flatnonzero(weights.any(axis=1))
    return slice(int(touched[0]), int(touched[-1]) + 1) if len(touched) else slice(0, 0)


def _weighed(
    image: NDArray[np.uint8] | NDArray[np.float32], rows: NDArray[np.intp], weights: NDArray[np.float32]
) -> NDArray[np.float32]:
    """Weighted sums of rows: float32 [n, ...] of [H, ...], positions [n, k] and weights [n, k]."""
    wide = image.reshape(image.shape[0], -1)
    total = wide.take(rows[:, 0], axis=0) * weights[:, 0, None]
    for k in range(1, rows.shape[1]):
        total += wide.take(rows[:, k], axis=0) * weights[:, k, None]
    return total.reshape(len(rows), *image.shape[1:])


def _transposed(values: NDArray[Any]) -> NDArray[Any]:
    """[n, m, C] of [m, n, C], contiguous; pixels are moved as a whole, which is several times as quick."""
    rows, columns, channels = values.shape
    pixels = values.reshape(rows, -1).view(np.dtype((np.void, channels * values.itemsize)))
    return np.ascontiguousarray(pixels.T).view(values.dtype).reshape(columns, rows, channels)


def mirrored(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Left and right change places: a contiguous copy, made channel by channel, some six times as quick as by pixel."""
    out = np.empty(image.shape, dtype=np.uint8)
    for channel in range(image.shape[2]):
        out[:, :, channel] = image[:, ::-1, channel]
    return out


def warp(image: NDArray[np.uint8], forward: NDArray[np.float64], window: Box, fill: int = 255) -> NDArray[np.uint8]:
    """A window of the picture moved by an affine map; bilinear, with ``fill`` outside the picture.

    Positions are rounded to 1/32 pixel and the weights are whole numbers, as in OpenCV's warpAffine (3 and 4).
    A pixel is packed into 64 bits with 20 a channel, so that one multiplication weighs all of its channels.

    Args:
        image: uint8 [H, W, C], C from 1 to 4.
        forward: float64 [2, 3], from source pixel centres to those of the result.
        window: the part of the result that is wanted, in its pixels; may reach beyond the picture.
        fill: value of all channels outside the picture, 0..255.

    Returns:
        uint8 [bottom - top, right - left, C].
    """
    if image.shape[2] > 3:  # a fourth channel does not fit into 64 bits
        parts = [warp(image[:, :, :3], forward, window, fill), warp(image[:, :, 3:], forward, window, fill)]
        return np.concatenate(parts, axis=2)
    left, top, right, bottom = window
    x, y = _source_positions(forward, window)
    packed = _pack(image, fill)
    # The border is two wide, so that a position clipped to it meets nothing but border.
    columns, rows = (x >> 5) + np.int32(2), (y >> 5) + np.int32(2)
    np.clip(columns, 0, image.shape[1] + 2, out=columns)
    np.clip(rows, 0, image.shape[0] + 2, out=rows)
    stride = packed.shape[1]
    rows *= np.int32(stride)
    rows += columns
    index = rows.astype(np.intp)
    flat = packed.reshape(-1)
    part = (x & np.int32(_FRACTION - 1)).astype(np.uint64)
    upper = _between(flat.take(index), flat[1:].take(index), part)
    lower = _between(flat[stride:].take(index), flat[stride + 1 :].take(index), part)
    weighed = _between(upper, lower, (y & np.int32(_FRACTION - 1)).astype(np.uint64))
    channels = image.shape[2]
    weighed += np.uint64(sum(_HALF << (_LANE * c) for c in range(channels)))
    out = np.empty((bottom - top, right - left, channels), dtype=np.uint8)
    weighed >>= np.uint64(10)
    for c in range(channels):
        out[:, :, c] = weighed  # keeps the lowest 8 bits
        weighed >>= np.uint64(_LANE)
    return out


def _between(a: NDArray[np.uint64], b: NDArray[np.uint64], part: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """32 a + (b - a) part, in ``a``; what a channel borrows of the next one in b - a, the sum gives back."""
    b -= a
    b *= part
    a <<= np.uint64(5)
    a += b
    return a


def _source_positions(forward: NDArray[np.float64], window: Box) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """x and y in the source of each pixel of the window, int32 [height, width], in 1/32 pixel.

    Fixed point as OpenCV has it: steps along a row and the row's start are rounded to 1/1024 pixel each.
    """
    left, top, right, bottom = window
    (m00, m01, m02), (m10, m11, m12) = np.asarray(forward, dtype=np.float64)
    determinant = m00 * m11 - m01 * m10
    a, b, c, d = m11 / determinant, -m01 / determinant, -m10 / determinant, m00 / determinant
    columns = np.arange(left, right, dtype=np.float64)
    rows = np.arange(top, bottom, dtype=np.float64)
    fine = 1024.0
    half = 1024 // _FRACTION // 2
    x_row = np.rint((b * rows - a * m02 - b * m12) * fine).astype(np.int32) + np.int32(half)
    y_row = np.rint((d * rows - c * m02 - d * m12) * fine).astype(np.int32) + np.int32(half)
    x = x_row[:, None] + np.rint(a * columns * fine).astype(np.int32)
    y = y_row[:, None] + np.rint(c * columns * fine).astype(np.int32)
    x >>= 5
    y >>= 5
    return x, y


def _pack(image: NDArray[np.uint8], fill: int) -> NDArray[np.uint64]:
    """uint64 [H + 4, W + 4]: the channels of each pixel side by side, with a border of ``fill``."""
    height, width, channels = image.shape
    packed = np.full((height + 4, width + 4), sum(fill << (_LANE * c) for c in range(channels)), dtype=np.uint64)
    inner = image[:, :, channels - 1].astype(np.uint64)
    for c in range(channels - 2, -1, -1):
        inner <<= np.uint64(_LANE)
        inner |= image[:, :, c]
    packed[2:-2, 2:-2] = inner
    return packed
