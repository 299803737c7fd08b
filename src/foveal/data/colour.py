"""Colour changes of training pictures, uint8 [H, W, 3] RGB in and out.

``shift_hls`` is the original's: hue, lightness and saturation as OpenCV's 8-bit HLS has them (H in 0..180 of two
degrees each, L and S in 0..255), each moved by a whole number and clamped. ``jitter`` is ours.
"""

from __future__ import annotations

from functools import cache

import numpy as np
from numpy.typing import NDArray

_STRIP = 32_768  # pixels that are worked on at a time: they stay in the processor's cache
HUE_TOP = 180  # the largest hue; the original clamps to it, hues do not wrap round

_UNIT = np.float32(1 / 255)
_LUMA = (np.float32(0.299), np.float32(0.587), np.float32(0.114))  # ITU-R BT.601, as in JPEG

Floats = NDArray[np.float32]
Bytes = NDArray[np.uint8]


def shift_hls(image: Bytes, hue: int, lightness: int, saturation: int) -> Bytes:
    """Move each channel of HLS by a whole number, clamp it (hue to 0..180, the others to 0..255), and go back.

    Equal to OpenCV's 8-bit conversion there and back but for isolated pixels (about 0.003 % of channel values),
    where floats that lie on a half are rounded to the other side.

    Args:
        image: uint8 [H, W, 3], RGB.
        hue, lightness, saturation: what is added, in units of OpenCV's 8-bit HLS.

    Returns:
        uint8 [H, W, 3], a new array.
    """
    places = _places()[:, np.clip(np.arange(HUE_TOP + 1) + hue, 0, HUE_TOP)]
    out = np.empty(image.shape, dtype=np.uint8)
    strip = max(1, _STRIP // max(1, image.shape[1]))
    for start in range(0, len(image), strip):
        _shift_strip(image[start : start + strip], lightness, saturation, places, out[start : start + strip])
    return out


def _shift_strip(image: Bytes, lightness: int, saturation: int, places: Floats, out: Bytes) -> None:
    """``shift_hls`` of some rows into ``out``; ``places`` by the hue before it is moved."""
    red, green, blue = (np.ascontiguousarray(image[:, :, c]) for c in range(3))
    high = np.maximum(np.maximum(red, green), blue)
    low = np.minimum(np.minimum(red, green), blue)
    both = _lightness_saturation().take(high.astype(np.uint16) * np.uint16(256) + low)
    light = _moved(both >> np.uint16(8), lightness)
    reach = _moved(both & np.uint16(255), saturation)
    turn = _hue(red, green, blue, high, low).astype(np.intp)
    # A channel lies between light - reach and light + reach; where, its hue says.
    reach *= np.minimum(light, np.float32(1) - light)
    light -= reach
    reach += reach
    light *= np.float32(255)
    reach *= np.float32(255)
    for c in range(3):
        channel = places[c].take(turn)
        channel *= reach
        channel += light
        np.rint(channel, out=channel)
        out[:, :, c] = channel


def scale_contrast(image: Bytes, factor: float) -> Bytes:
    """All values times ``factor`` (>= 0), rounded and clipped to 0..255: the original's contrast, about black.

    Args:
        image: uint8 of any shape.

    Returns:
        uint8, same shape, a new array.
    """
    table = np.clip(np.rint(np.arange(256, dtype=np.float32) * np.float32(factor)), 0, 255).astype(np.uint8)
    scaled = bytearray(np.ascontiguousarray(image)).translate(table.tobytes())  # quicker than ``take``
    return np.frombuffer(scaled, dtype=np.uint8).reshape(image.shape)


def jitter(image: Bytes, brightness: float, contrast: float, saturation: float) -> Bytes:
    """Scale saturation about each pixel's grey, contrast about the picture's mean grey, then brightness about black.

    Args:
        image: uint8 [H, W, C], C 1 or 3; with 1, saturation has no effect.
        brightness, contrast, saturation: factors; 1 changes nothing.

    Returns:
        uint8, same shape, clipped to 0..255.
    """
    planes = [np.ascontiguousarray(image[:, :, c]).astype(np.float32) for c in range(image.shape[2])]
    grey = planes[0].copy()
    if len(planes) == 3:
        grey *= _LUMA[0]
        grey += planes[1] * _LUMA[1]
        grey += planes[2] * _LUMA[2]
    mean = float(grey.mean())
    own = saturation if len(planes) == 3 else 1.0
    grey *= np.float32(brightness * contrast * (1 - own))
    grey += np.float32(brightness * (1 - contrast) * mean + 0.5)  # the half rounds
    out = np.empty_like(image)
    for c, plane in enumerate(planes):
        plane *= np.float32(brightness * contrast * own)
        plane += grey
        np.maximum(plane, np.float32(0), out=plane)
        np.minimum(plane, np.float32(255), out=plane)
        out[:, :, c] = plane
    return out


def _moved(values: NDArray[np.uint16], by: int) -> Floats:
    """Values 0..255 moved, clamped, and as fractions."""
    moved: Floats = np.clip(values.astype(np.int16) + np.int16(by), 0, 255) * _UNIT
    return moved


def _hue(red: Bytes, green: Bytes, blue: Bytes, high: Bytes, low: Bytes) -> Floats:
    """Hue in 0..180, rounded; 0 for greys. Float32 steps in OpenCV's order, so that its roundings are met."""
    r, g, b = red * _UNIT, green * _UNIT, blue * _UNIT
    spread = high * _UNIT
    spread -= low * _UNIT
    spread += spread == 0  # greys: a difference of 0 over anything
    is_red, is_green = _mask(high == red), _mask(high == green)
    hue = _choose(is_red, g - b, _choose(is_green, b - r, r - g))
    hue *= np.float32(60) / spread
    hue += (~is_red & (is_green * np.int32(120) + np.int32(240))).astype(np.float32)
    hue += (hue < 0) * np.float32(360)
    hue *= np.float32(0.5)
    return np.rint(hue, out=hue)


def _mask(where: NDArray[np.bool_]) -> NDArray[np.int32]:
    """All bits set where true: choosing by bits is some ten times as quick as np.where."""
    return np.negative(where.view(np.int8)).astype(np.int32)


def _choose(mask: NDArray[np.int32], yes: Floats, no: Floats) -> Floats:
    a, b = yes.view(np.int32), no.view(np.int32)
    return ((a ^ b) & mask ^ b).view(np.float32)


@cache
def _lightness_saturation() -> NDArray[np.uint16]:
    """uint16 [65536]: 256 * L + S of a pixel by 256 * (highest channel) + (lowest channel)."""
    level = np.arange(256, dtype=np.float32) * _UNIT
    high, low = level[:, None], level[None, :]
    light = (high + low) * np.float32(0.5)
    room = np.where(light < np.float32(0.5), high + low, np.float32(2) - high - low)
    spread = high - low
    saturation = np.divide(spread, room, out=np.zeros_like(room), where=spread > 0)
    table: NDArray[np.uint16] = np.rint(light * np.float32(255)).astype(np.uint16)
    table <<= np.uint16(8)
    table |= np.rint(saturation * np.float32(255)).astype(np.uint16)
    return table.reshape(-1)


@cache
def _places() -> Floats:
    """float32 [3, 181]: for R, G, B and each hue, where the channel lies between the lowest (0) and highest (1)."""
    sixth = np.arange(HUE_TOP + 1, dtype=np.float32) * np.float32(6 / HUE_TOP) % np.float32(6)
    sector = np.floor(sixth).astype(np.intp)
    part = sixth - sector.astype(np.float32)
    up, down, zero, one = part, np.float32(1) - part, np.zeros_like(part), np.ones_like(part)
    courses = ((one, down, zero, zero, up, one), (up, one, one, down, zero, zero), (zero, zero, up, one, one, down))
    return np.stack([np.choose(sector, course) for course in courses])
