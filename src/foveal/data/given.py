"""Pictures as a caller hands them over: paths, encoded bytes, Pillow's pictures, arrays."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from foveal.data.decode import decode
from foveal.errors import BadPicture, UserError
from foveal.storage.address import is_address
from foveal.storage.cache import read_address


def decode_given(image: Any, channels: int, name: str) -> NDArray[np.uint8]:
    """The picture upright: uint8 [H, W, channels].

    Args:
        image: a path, an address (``s3://bucket/1.jpg``), encoded bytes, a PIL image, or an array uint8 [H, W, 3]
            (RGB), [H, W, 1] or [H, W] (grey), upright.
        channels: 3 or 1, as the network takes them.
        name: what the picture is called in errors.

    Raises:
        BadPicture: what cannot be read. UserError: what is no picture at all.
    """
    if isinstance(image, str | Path):
        try:
            return decode(read_given(image, name), channels, name)
        except OSError as error:
            raise BadPicture(f"can't be opened: {error.strerror}", name) from error
    if isinstance(image, bytes):
        return decode(image, channels, name)
    if isinstance(image, np.ndarray):
        return _array(image, channels, name)
    if hasattr(image, "save") and hasattr(image, "convert"):  # a PIL image, without importing Pillow to ask
        kept = io.BytesIO()
        image.save(kept, "PNG" if image.mode in ("1", "L", "P", "RGB", "RGBA", "LA", "I;16") else "TIFF")
        return decode(kept.getvalue(), channels, name)
    raise UserError(
        f"a {type(image).__name__} is no picture", name, "Give a path, encoded bytes, a PIL image or a uint8 array."
    )


def read_given(image: str | Path, name: str) -> bytes:
    """The encoded picture at a path or an address. Raises OSError, BadPicture; UserError for a store's troubles."""
    return read_address(image, name) if is_address(image) else Path(image).read_bytes()


def _array(image: NDArray[Any], channels: int, name: str) -> NDArray[np.uint8]:
    if image.ndim == 2:
        image = image[:, :, None]
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] not in (1, 3) or not image.size:
        raise UserError(
            f"an array of {image.dtype} {list(image.shape)} is no picture",
            name,
            "Give uint8 [H, W, 3] (RGB), [H, W, 1] or [H, W] (grey), values 0..255.",
        )
    if image.shape[2] == channels:
        return np.ascontiguousarray(image)
    if channels == 3:
        return np.repeat(image, 3, axis=2)
    grey = (image @ np.array([0.299, 0.587, 0.114])).round().astype(np.uint8)  # ITU-R BT.601, as Pillow and OpenCV
    return np.ascontiguousarray(grey[:, :, None])
