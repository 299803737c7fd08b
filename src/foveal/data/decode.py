"""Encoded picture files to pixels: upright, RGB or grey, uint8.

Which reader decides what is broken depends on the file's first bytes alone. A JPEG whose header libjpeg-turbo
understands is read by simplejpeg, strictly: cut or garbled data is refused. Pillow reads everything else, JPEGs
with unusual chroma sampling included. Reading is thread-safe, and both readers release the interpreter's lock.
"""

from __future__ import annotations

import io
import os
import re
import struct
import warnings
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from threading import Lock

import numpy as np
import simplejpeg
from numpy.typing import NDArray
from PIL import Image, ImageFile
from PIL.TiffImagePlugin import TiffImageFile

from foveal.errors import BadPicture, UserError

MAX_PIXELS = 178_956_970
"""Pictures above this are refused unread (Pillow's own bound, 2 GiB / 12): a small file may claim a huge size."""

_JPEG = b"\xff\xd8\xff"
_EXIF = b"Exif\x00\x00"
_ORIENTATION, _WIDTH, _HEIGHT = 0x0112, 0x0100, 0x0101  # numbers of tags in EXIF and TIFF
# What EXIF's orientations ask for, in this order: rows and columns change places, columns turn round, rows turn round.
TURNED, RIGHT_TO_LEFT, UPSIDE_DOWN = frozenset((5, 6, 7, 8)), frozenset((2, 3, 6, 7)), frozenset((3, 4, 7, 8))
_GREY = frozenset(("1", "L", "LA", "La", "I", "I;16", "I;16B", "I;16L", "I;16N", "F"))  # modes of Pillow
_USUAL = ("PNG", "PPM", "BMP", "GIF", "WEBP", "TIFF", "JPEG")
# EPS would start Ghostscript, WMF and the like draw with the system's own code; none of them hold photographs.
_REFUSED = frozenset(_USUAL) | {"EPS", "WMF", "PSD", "FPX", "MIC", "MPEG", "HDF5", "GRIB", "BUFR", "CONTAINER", "PCD"}
# What Pillow's readers raise on damaged files, most of them undocumented.
_DAMAGED = (
    OSError,
    SyntaxError,
    ValueError,
    EOFError,
    struct.error,
    zlib.error,
    IndexError,
    KeyError,
    TypeError,
    AttributeError,
    OverflowError,
    NotImplementedError,
    Image.DecompressionBombWarning,  # where warnings are errors
)
_SILENCE = Lock()


@dataclass(frozen=True)
class Header:
    """What the beginning of a picture tells: upright size in pixels, Pillow's name of its kind, one channel or more."""

    width: int
    height: int
    kind: str
    grey: bool


@dataclass(frozen=True)
class Decoded:
    """A picture upright, and how it lay in its file.

    Attributes:
        pixels: uint8 [H, W, C], upright.
        orientation: EXIF's number from 1 (stored upright) to 8 that was applied.
    """

    pixels: NDArray[np.uint8]
    orientation: int = 1

    @property
    def size(self) -> tuple[int, int]:
        """(width, height) of the upright picture in pixels."""
        return self.pixels.shape[1], self.pixels.shape[0]

    @property
    def stored(self) -> tuple[int, int]:
        """(width, height) of the picture as it lies in the file."""
        return self.size[::-1] if self.orientation in TURNED else self.size


def decode(picture: bytes, channels: int, where: str = "", max_pixels: int = MAX_PIXELS) -> NDArray[np.uint8]:
    """The pixels of ``decode_upright``: uint8 [H, W, channels], contiguous and writable."""
    return decode_upright(picture, channels, where, max_pixels).pixels


def decode_upright(picture: bytes, channels: int, where: str = "", max_pixels: int = MAX_PIXELS) -> Decoded:
    """The picture upright (EXIF orientation applied), as the original reads it.

    Alpha is dropped, not blended; 16 bits are cut to the upper 8; CMYK and palettes become RGB; of several frames
    the first is taken. With 4 channels the picture must have alpha of its own.

    Args:
        picture: the encoded file.
        channels: 3 for RGB, 1 for grey, 4 for RGBA.
        where: the file or record, for the error.
        max_pixels: larger pictures are refused before they are decoded.

    Returns:
        The pixels, contiguous and writable, and the orientation that was applied.

    Raises:
        BadPicture: empty, no picture, cut, garbled, or larger than ``max_pixels``.
        UserError: another number of channels.
    """
    if channels not in (1, 3, 4):
        raise UserError(
            f"{channels} channels are not possible", "image_shape", "Use 3 (RGB), 1 (grey) or 4 (RGB and alpha)."
        )
    if not picture:
        raise BadPicture("the picture file is empty", where)
    if picture.startswith(_JPEG):
        try:
            height, width, _, _ = simplejpeg.decode_jpeg_header(picture)
        except ValueError:
            return _decode_other(picture, channels, where, max_pixels)
        _check_size(width, height, where, max_pixels)
        return _decode_jpeg(picture, channels, where)
    return _decode_other(picture, channels, where, max_pixels)


def picture_size(picture: bytes | str | os.PathLike[str], where: str = "") -> tuple[int, int]:
    """(width, height) of the upright picture in pixels, from the header alone. Raises BadPicture."""
    if isinstance(picture, bytes):
        header = read_header(picture, where)
        return header.width, header.height
    where = where or os.fspath(picture)
    try:
        with open(picture, "rb") as file:
            return _upright_size(_open(file, where))
    except OSError as error:
        raise BadPicture(f"cannot be read: {error.strerror or error}", where) from error


def read_header(picture: bytes, where: str = "") -> Header:
    """Read the beginning of an encoded picture. Raises BadPicture, also for more than ``MAX_PIXELS``."""
    if not picture:
        raise BadPicture("the picture file is empty", where)
    image = _open(picture, where)
    width, height = _upright_size(image)
    return Header(width, height, image.format or "", image.mode in _GREY)


def _upright_size(image: Image.Image) -> tuple[int, int]:
    width, height = image.size
    if isinstance(image, TiffImageFile):  # whether ``size`` is upright already depends on Pillow's version
        width, height = int(image.tag_v2[_WIDTH]), int(image.tag_v2[_HEIGHT])
    return (height, width) if _orientation_of(image) in TURNED else (width, height)


def _orientation_of(image: Image.Image) -> int:
    """EXIF's number of a picture that isn't loaded yet."""
    if not isinstance(image, TiffImageFile):
        return _orientation(image.info.get("exif"))
    value = image.tag_v2.get(_ORIENTATION, 1)
    return int(value) if isinstance(value, int) and 1 <= value <= 8 else 1


def _check_size(width: int, height: int, where: str, max_pixels: int) -> None:
    if width * height > max_pixels:
        raise BadPicture(
            f"{width} x {height} pixels are more than the {max_pixels:,} that are read",
            where,
            "Shrink the picture, or leave it out.",
        )


def _decode_jpeg(picture: bytes, channels: int, where: str) -> Decoded:
    if channels == 4:
        raise BadPicture("a JPEG has no alpha channel, and 4 channels were asked for", where)
    try:
        image: NDArray[np.uint8] = simplejpeg.decode_jpeg(picture, "GRAY" if channels == 1 else "RGB")
    except ValueError as error:
        raise BadPicture(f"damaged JPEG: {error}", where) from error
    orientation = _orientation(_exif_segment(picture))
    return Decoded(_upright(image, orientation), orientation)


def _exif_segment(jpeg: bytes) -> bytes | None:
    """The EXIF block of a JPEG, or None.

    Looked for from segment to segment up to the picture's own data: some hundred times as quick as opening the file,
    and as searching all of its bytes where there is none.
    """
    at = 2
    while jpeg[at : at + 1] == b"\xff":
        kind, size = jpeg[at + 1 : at + 2], int.from_bytes(jpeg[at + 2 : at + 4], "big")
        if kind == b"\xff":  # a marker may be preceded by any number of these
            at += 1
        elif kind == b"\xe1" and jpeg.startswith(_EXIF, at + 4):
            return jpeg[at + 4 : at + 2 + size]
        elif kind == b"\xda" or size < 2:  # the scan begins, or the file is damaged
            break
        else:
            at += 2 + size
    return None


def _orientation(block: object) -> int:
    """1 to 8 as EXIF counts; 1 (upright) where the block is missing or damaged.

    The block is a TIFF header (byte order, 42, offset of the first directory) and that directory: a count, and 12
    bytes an entry (tag, type, number of values, value). Read here because Pillow warns of every damaged block.
    """
    if not isinstance(block, bytes):
        return 1
    tiff = block.removeprefix(_EXIF)
    order = {b"II": "<", b"MM": ">"}.get(tiff[:2], "")
    if not order:
        return 1
    try:
        (start,) = struct.unpack_from(order + "I", tiff, 4)
        (count,) = struct.unpack_from(order + "H", tiff, start)
        for entry in range(start + 2, start + 2 + 12 * count, 12):
            tag, _, _, value = struct.unpack_from(order + "HHIH", tiff, entry)
            if tag == _ORIENTATION:
                return int(value) if 1 <= value <= 8 else 1
    except struct.error:
        return 1
    return 1


def _upright(image: NDArray[np.uint8], orientation: int) -> NDArray[np.uint8]:
    """Turn and mirror uint8 [H, W, C] so that the picture stands as it was seen."""
    if orientation == 1:
        return image
    if orientation in TURNED:
        image = image.transpose(1, 0, 2)
    if orientation in RIGHT_TO_LEFT:
        image = image[:, ::-1]
    if orientation in UPSIDE_DOWN:
        image = image[::-1]
    return np.ascontiguousarray(image)


def _open(picture: bytes | io.BufferedReader, where: str, max_pixels: int = MAX_PIXELS) -> ImageFile.ImageFile:
    """Pillow's picture, its header read and its pixels not."""
    file: io.BytesIO | io.BufferedReader = io.BytesIO(picture) if isinstance(picture, bytes) else picture
    try:
        image = _recognise(file, _USUAL) or _recognise(file, _unusual())
    except Image.DecompressionBombError as error:
        raise _bomb(where, max_pixels) from error
    except _DAMAGED as error:
        raise BadPicture(f"damaged picture: {_reason(error)}", where) from error
    if image is None:
        jpeg = isinstance(picture, bytes) and picture.startswith(_JPEG)
        raise BadPicture(
            "damaged JPEG: its header cannot be read" if jpeg else "is not a picture of a known kind", where
        )
    _check_size(*image.size, where, max_pixels)
    return image


def _recognise(file: io.BytesIO | io.BufferedReader, kinds: Sequence[str]) -> ImageFile.ImageFile | None:
    """Open a file as the first of ``kinds`` that it is, or None.

    As ``Image.open`` does it, which prints a warning for every picture of more than 90 million pixels.
    """
    Image.preinit()
    file.seek(0)
    start = file.read(16)
    for kind in kinds:
        if kind not in Image.OPEN:
            Image.init()
        factory, accepts = Image.OPEN[kind]
        try:
            accepted = accepts is None or accepts(start)  # a text says why this Pillow can't read the kind
            if accepted and not isinstance(accepted, str):
                file.seek(0)
                return factory(file, "")
        except (SyntaxError, IndexError, TypeError, struct.error):  # another kind, after all
            continue
    return None


def _reason(error: Exception) -> str:
    """The first line of what a reader of Pillow's says, without addresses in memory."""
    text = str(error).strip() or type(error).__name__
    return re.sub(r"<[^<>]* at 0x[0-9a-fA-F]+>", "the file", text.splitlines()[0])


def _bomb(where: str, max_pixels: int) -> BadPicture:
    """For a picture that is found to be too large by Pillow, behind its header."""
    return BadPicture(
        f"it claims more than the {max_pixels:,} pixels that are read", where, "Shrink the picture, or leave it out."
    )


@contextmanager
def _unwarned(image: Image.Image) -> Iterator[None]:
    """Pillow warns once more when it loads a large TIFF. One at a time, for filters of warnings aren't thread-safe."""
    if not isinstance(image, TiffImageFile) or image.width * image.height <= MAX_PIXELS // 2:
        yield
        return
    with _SILENCE, warnings.catch_warnings():
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)
        yield


@cache
def _unusual() -> tuple[str, ...]:
    Image.init()
    return tuple(name for name in Image.OPEN if name not in _REFUSED)


def _decode_other(picture: bytes, channels: int, where: str, max_pixels: int) -> Decoded:
    opened = _open(picture, where, max_pixels)
    try:
        orientation = _orientation_of(opened)
        with _unwarned(opened):
            opened.load()
        image = _pixels(opened, channels, where)
    except BadPicture:
        raise
    except Image.DecompressionBombError as error:
        raise _bomb(where, max_pixels) from error
    except _DAMAGED as error:
        raise BadPicture(f"damaged {opened.format}: {_reason(error)}", where) from error
    # Pillow turns a TIFF itself while it loads.
    return Decoded(image if isinstance(opened, TiffImageFile) else _upright(image, orientation), orientation)


def _pixels(image: Image.Image, channels: int, where: str) -> NDArray[np.uint8]:
    """uint8 [H, W, channels] of a loaded picture."""
    kind = image.format
    if image.mode == "F":
        raise BadPicture("has floating-point pixels, whose range is not known", where)
    if image.mode.startswith("I"):
        image = _upper_byte(image)
    alpha = image.mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in image.info
    if channels == 4 and not alpha:
        raise BadPicture("has no alpha channel, and 4 channels were asked for", where)
    if alpha and image.mode != "RGBA":
        image = image.convert("RGBA")  # palettes with alpha lose their colours' meaning on any other way
    if alpha and channels != 4:
        image = image.convert("RGB")  # drops alpha without blending
    if channels == 1 and kind == "PNG" and image.mode in ("RGB", "P"):
        return _grey_of_png(np.asarray(image.convert("RGB")))
    wanted = {1: "L", 3: "RGB", 4: "RGBA"}[channels]
    if image.mode != wanted:
        image = image.convert(wanted)
    return np.array(image, dtype=np.uint8).reshape(image.height, image.width, channels)


def _grey_of_png(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """uint8 [H, W, 1] of RGB as libpng makes it for the original: its weights in 1/32768, cut and not rounded."""
    red, green, blue = (image[:, :, c].astype(np.uint32) for c in range(3))
    return ((red * 9797 + green * 19234 + blue * 3737) >> 15).astype(np.uint8)[:, :, None]


def _upper_byte(image: Image.Image) -> Image.Image:
    """A 16-bit grey picture (mode I;16, or I as of PGM) cut to 8 bits as the original does."""
    values = np.asarray(image).astype(np.int64)
    return Image.fromarray((np.clip(values, 0, 65535) >> 8).astype(np.uint8))
