"""Changing the geometry of decoded pictures: resizing and affine warps, uint8 [H, W, C] in and out.

Resizing goes through torch's uint8 kernels: three to six times as quick as Pillow, while OpenCV would take about two
thirds of their time (``benchmarks/pictures.py`` prints the ratios). Their integer arithmetic is at most 1 level (0.2 on
average) from OpenCV's, and they run on one thread whatever torch's thread count, so loader threads do not fight.

Coordinates are continuous: pixel i covers i to i + 1, and the picture 0 to its size.
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

Box = tuple[int, int, int, int]
"""left, top, right, bottom in pixels of the picture; right and bottom are outside."""

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
