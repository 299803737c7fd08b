from __future__ import annotations

import contextlib
import io
import struct
import warnings
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import simplejpeg
from hypothesis import given, settings
from hypothesis import strategies as st
from mxnet_io import FOLDERS, arrays, described
from PIL import Image

from foveal.data.decode import MAX_PIXELS, Header, decode, picture_size, read_header
from foveal.data.views import Preprocessing, views
from foveal.errors import BadPicture, UserError

ODD = {folder: dict(np.load(folder / "odd_inputs.npz")) for folder in FOLDERS}


def photo(height: int = 24, width: int = 37) -> np.ndarray:
    """A smooth picture whose four corners differ, uint8 [height, width, 3]."""
    y, x = np.mgrid[0:height, 0:width]
    return np.stack([x * 255 // width, y * 255 // height, (x + y) * 255 // (height + width)], axis=-1).astype(np.uint8)


def encoded(image: Image.Image, kind: str = "PNG", **options: object) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def with_orientation(jpeg: bytes, orientation: int) -> bytes:
    tiff = b"II*\0\x08\0\0\0" + struct.pack("<HHHIHH", 1, 0x0112, 3, 1, orientation, 0) + b"\0\0\0\0"
    body = b"Exif\0\0" + tiff
    return jpeg[:2] + b"\xff\xe1" + struct.pack(">H", len(body) + 2) + body + jpeg[2:]


# GIF and WebP are read here and not there; a cut JPEG is refused here, and shown with a grey rest there.
READ_ONLY_HERE = {"gif", "webp_lossless"}
REFUSED_ONLY_HERE = {"jpeg_truncated"}


@pytest.mark.parametrize(("folder", "case", "description"), described("deterministic.json", "odd_inputs"))
def test_unusual_files_are_read_as_the_original_reads_them(folder: Path, case: str, description: dict) -> None:
    key, channels = case.rsplit("__c", 1)
    data, wanted = ODD[folder][key].tobytes(), arrays(folder).get(f"odd__{case}")
    if key in REFUSED_ONLY_HERE or (wanted is None and key not in READ_ONLY_HERE):
        with pytest.raises(BadPicture):
            decode(data, int(channels))
        return
    image = decode(data, int(channels))
    assert picture_size(data) == (image.shape[1], image.shape[0])
    if wanted is None:
        assert image.shape == (36, 44, 3)
        return
    _, height, width = description["arguments"]["data_shape"]
    pixels = views(Preprocessing("crop", int(channels), height, width, None, False), image)[0].pixels
    difference = np.abs(pixels.astype(int) - wanted[0].transpose(1, 2, 0))
    resized = image.shape[:2] != (height, width)
    assert difference.max() <= (2 if resized else 0)
    assert difference.mean() <= 0.6


@pytest.mark.parametrize("orientation", range(1, 9))
def test_every_exif_orientation_stands_upright_as_pillow_has_it(orientation: int) -> None:
    from PIL import ImageOps

    jpeg = with_orientation(encoded(Image.fromarray(photo()), "JPEG", quality=95, subsampling=0), orientation)
    upright = np.asarray(ImageOps.exif_transpose(Image.open(io.BytesIO(jpeg))))
    assert np.array_equal(decode(jpeg, 3), upright)
    assert picture_size(jpeg) == (upright.shape[1], upright.shape[0])


@pytest.mark.parametrize("kind", ["PNG", "WEBP", "TIFF"])
def test_exif_counts_in_other_files_too(kind: str) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    data = encoded(Image.fromarray(photo()), kind, exif=exif, **({"lossless": True} if kind == "WEBP" else {}))
    assert np.array_equal(decode(data, 3), np.rot90(photo(), -1))
    assert picture_size(data) == (24, 37)


def test_exif_is_found_behind_other_segments_and_not_in_a_comment() -> None:
    jpeg = encoded(Image.fromarray(photo()), "JPEG", quality=95)
    turned = with_orientation(jpeg, 6)
    exif = turned[2 : len(turned) - len(jpeg) + 2]
    icc = b"\xff\xe2" + (60_002).to_bytes(2, "big") + bytes(60_000)
    filled = jpeg[:2] + icc + b"\xff\xff" + exif + jpeg[2:]  # segments may be preceded by bytes of 255
    assert decode(filled, 3).shape == (37, 24, 3)
    comment = b"\xff\xfe" + (len(exif) + 2).to_bytes(2, "big") + exif
    assert decode(jpeg[:2] + comment + jpeg[2:], 3).shape == (24, 37, 3)


def test_damaged_exif_leaves_the_picture_as_it_is() -> None:
    jpeg = encoded(Image.fromarray(photo()), "JPEG")
    body = b"Exif\0\0II*\0\xff\xff\xff\xff"
    damaged = jpeg[:2] + b"\xff\xe1" + struct.pack(">H", len(body) + 2) + body + jpeg[2:]
    assert np.array_equal(decode(damaged, 3), decode(jpeg, 3))


@pytest.mark.parametrize("channels", [1, 3, 4])
@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "I;16"])
def test_every_mode_becomes_contiguous_bytes_of_the_channels_asked_for(mode: str, channels: int) -> None:
    image = Image.fromarray(photo()).convert("L" if mode == "I;16" else mode)
    if mode == "I;16":
        image = Image.fromarray(np.asarray(image).astype(np.uint16) * 256 + 200)
    if channels == 4 and "A" not in mode:
        with pytest.raises(BadPicture, match="has no alpha channel"):
            decode(encoded(image), channels)
        return
    pixels = decode(encoded(image), channels)
    assert pixels.shape == (24, 37, channels)
    assert pixels.dtype == np.uint8
    assert pixels.flags.c_contiguous
    assert pixels.flags.writeable


def test_sixteen_bits_are_cut_not_rounded() -> None:
    data = encoded(Image.fromarray(np.array([[0, 255, 256, 511, 65535]], dtype=np.uint16)))
    assert decode(data, 1).ravel().tolist() == [0, 0, 1, 1, 255]


def test_pgm_of_sixteen_bits_is_cut_too() -> None:
    data = b"P5 3 1 65535\n" + struct.pack(">3H", 255, 256, 65535)
    assert decode(data, 1).ravel().tolist() == [0, 1, 255]


def test_pgm_and_ppm_are_read() -> None:
    assert decode(b"P5 2 1 255\n\x07\x80", 1).ravel().tolist() == [7, 128]
    assert decode(b"P6 1 1 255\n\x01\x02\x03", 3).ravel().tolist() == [1, 2, 3]


def test_cmyk_jpeg_becomes_rgb() -> None:
    image = Image.fromarray(photo(32, 32)).convert("CMYK")
    pixels = decode(encoded(image, "JPEG", quality=95), 3)
    assert np.abs(pixels.astype(int) - np.asarray(image.convert("RGB"))).mean() < 4


def test_alpha_is_dropped_and_not_blended() -> None:
    image = np.dstack([photo(), np.zeros((24, 37), dtype=np.uint8)])
    assert np.array_equal(decode(encoded(Image.fromarray(image)), 3), photo())


def test_jpeg_with_unusual_chroma_sampling_is_left_to_pillow() -> None:
    jpeg = bytearray(encoded(Image.fromarray(photo(16, 16)), "JPEG", subsampling=0))
    frame = jpeg.index(b"\xff\xc0")
    jpeg[frame + 11] = 0x31  # luma sampled 3 x 1: legal, and unknown to TurboJPEG's interface
    with pytest.raises(ValueError, match="subsampling"):
        simplejpeg.decode_jpeg_header(bytes(jpeg))
    assert decode(bytes(jpeg), 3).shape == (16, 16, 3)


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (lambda jpeg: jpeg[: len(jpeg) // 2], "damaged JPEG: Premature end of JPEG file"),
        (lambda jpeg: jpeg[:-2], "damaged JPEG: Premature end of JPEG file"),
        (lambda jpeg: jpeg[:200], "damaged picture: Truncated File Read"),
        (lambda jpeg: jpeg[:3], "damaged JPEG: its header cannot be read"),
        (lambda jpeg: b"", "the picture file is empty"),
        (lambda jpeg: b"<html>404</html>", "is not a picture of a known kind"),
    ],
)
def test_broken_files_are_named_with_their_reason(damage, reason: str) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    jpeg = encoded(Image.fromarray(noise), "JPEG")
    with pytest.raises(BadPicture) as caught:
        decode(damage(jpeg), 3, "train.rec, record 3 at byte 96")
    assert caught.value.what.startswith(reason)
    assert str(caught.value).startswith("train.rec, record 3 at byte 96: ")


def test_junk_behind_a_jpeg_does_no_harm() -> None:
    jpeg = encoded(Image.fromarray(photo()), "JPEG")
    assert np.array_equal(decode(jpeg + b"trailing bytes", 3), decode(jpeg, 3))


def test_a_header_that_claims_a_huge_jpeg_is_refused_before_decoding() -> None:
    jpeg = bytearray(encoded(Image.fromarray(photo()), "JPEG"))
    frame = jpeg.index(b"\xff\xc0")
    jpeg[frame + 5 : frame + 9] = struct.pack(">HH", 65280, 65280)
    with pytest.raises(BadPicture, match=rf"65280 x 65280 pixels are more than the {MAX_PIXELS:,} that are read"):
        decode(bytes(jpeg), 3)


def test_the_bound_holds_for_other_files_too() -> None:
    with pytest.raises(BadPicture, match="37 x 24 pixels are more than the 500 that are read"):
        decode(encoded(Image.fromarray(photo())), 3, max_pixels=500)


def png_header(width: int, height: int) -> bytes:
    """A PNG of one bit a pixel without its pixels."""
    png = b"\x89PNG\r\n\x1a\n"
    for kind, fields in ((b"IHDR", struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)), (b"IDAT", b"")):
        png += struct.pack(">I", len(fields)) + kind + fields + struct.pack(">I", zlib.crc32(kind + fields))
    return png


def test_a_header_that_claims_a_huge_png_is_refused_in_the_same_words() -> None:
    png = png_header(65280, 65280)
    for read in (lambda: decode(png, 3, "a.png"), lambda: picture_size(png, "a.png")):
        with pytest.raises(BadPicture) as caught:
            read()
        assert str(caught.value) == (
            f"a.png: 65280 x 65280 pixels are more than the {MAX_PIXELS:,} that are read\n"
            "Shrink the picture, or leave it out."
        )


def test_large_pictures_are_read_without_a_warning() -> None:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        assert picture_size(png_header(12_000, 12_000)) == (12_000, 12_000)
    assert caught == []


def test_a_header_tells_kind_and_whether_it_is_grey() -> None:
    image = Image.fromarray(photo())
    assert read_header(encoded(image)) == Header(37, 24, "PNG", False)
    assert read_header(encoded(image.convert("L"), "JPEG")) == Header(37, 24, "JPEG", True)
    assert read_header(encoded(image.convert("LA"))) == Header(37, 24, "PNG", True)
    with pytest.raises(BadPicture, match=r"^a\.png: the picture file is empty$"):
        read_header(b"", "a.png")


def test_postscript_is_not_given_to_an_interpreter() -> None:
    with pytest.raises(BadPicture, match="not a picture of a known kind"):
        decode(encoded(Image.fromarray(photo()), "EPS"), 3)


def test_floating_point_pixels_are_refused() -> None:
    data = encoded(Image.fromarray(photo()[:, :, 0].astype(np.float32)), "TIFF")
    with pytest.raises(BadPicture, match="floating-point pixels"):
        decode(data, 1)


def test_other_numbers_of_channels_are_an_error_of_the_setting() -> None:
    with pytest.raises(UserError) as caught:
        decode(encoded(Image.fromarray(photo())), 2)
    assert str(caught.value) == (
        "image_shape: 2 channels are not possible\nUse 3 (RGB), 1 (grey) or 4 (RGB and alpha)."
    )


def test_size_of_a_file_on_disk(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(encoded(Image.fromarray(photo())))
    assert picture_size(path) == (37, 24)
    with pytest.raises(BadPicture, match=r"missing\.png: cannot be read: No such file"):
        picture_size(tmp_path / "missing.png")


def test_threads_get_the_same_pixels() -> None:
    files = [encoded(Image.fromarray(photo(50 + i, 70)), kind) for i in range(8) for kind in ("JPEG", "PNG")]
    alone = [decode(file, 3) for file in files]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(lambda file: decode(file, 3), files * 4))
    assert all(np.array_equal(a, b) for a, b in zip(alone * 4, together, strict=True))


KINDS = ("JPEG", "PNG", "GIF", "BMP", "TIFF", "WEBP", "PPM", "TGA", "ICO", "PCX", "JPEG2000", "SGI", "DDS", "QOI")


@pytest.mark.filterwarnings("ignore::UserWarning")  # Pillow's, of damaged TIFFs
@settings(max_examples=150, deadline=None)
@given(kind=st.sampled_from(KINDS), cut=st.integers(0, 4000), at=st.integers(0, 4000), byte=st.integers(0, 255))
def test_damaged_files_are_bad_pictures_or_pictures(kind: str, cut: int, at: int, byte: int) -> None:
    data = bytearray(encoded(Image.fromarray(photo(32, 48)), kind))
    data[at % len(data)] = byte
    for channels in (1, 3):
        try:
            pixels = decode(bytes(data[: cut % (2 * len(data))]), channels, max_pixels=1_000_000)
        except BadPicture:
            continue
        assert pixels.ndim == 3
        assert pixels.shape[2] == channels


HEADS = (b"", b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"II*\0", b"GIF89a", b"BM")


@pytest.mark.filterwarnings("ignore::UserWarning")
@settings(max_examples=100, deadline=None)
@given(
    st.binary(max_size=200), st.sampled_from((b"", b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"II*\0", b"GIF89a", b"BM"))
)
def test_noise_is_a_bad_picture(noise: bytes, head: bytes) -> None:
    with contextlib.suppress(BadPicture):
        decode(head + noise, 3, max_pixels=100_000)
