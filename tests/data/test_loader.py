from __future__ import annotations

import io
from dataclasses import dataclass

import numpy as np
import pytest
from PIL import Image

from foveal.data.boxaugment import augment_boxes, collate_boxes
from foveal.data.loader import Decoder, make_batch
from foveal.data.views import Preprocessing
from foveal.errors import BadPicture
from foveal.records import BadRecord, Boxes, Label, Labels, Sample


def png(width: int, height: int, orientation: int = 1) -> bytes:
    exif = Image.Exif()
    exif[0x0112] = orientation
    file = io.BytesIO()
    Image.fromarray(np.full((height, width, 3), 200, dtype=np.uint8)).save(file, "PNG", exif=exif)
    return file.getvalue()


def boxes(*values: tuple[float, ...], size: tuple[int, int] | None = None) -> Boxes:
    n = len(values)
    return Boxes(
        values=np.array(values, dtype=np.float32).reshape(n, 4),
        cls=np.zeros(n, dtype=np.int64),
        unit="fraction" if size is None else "pixel",
        of="stored",
        difficult=np.zeros(n, dtype=np.bool_),
        crowd=np.zeros(n, dtype=np.bool_),
        extra=np.zeros((n, 0), dtype=np.float32),
        size=size,
    )


@dataclass
class Listed:
    """A source of what is listed; counts its readings."""

    samples: list[tuple[bytes, Label]]
    read_count: int = 0
    form: str = "listed"
    origin: str = "list"
    class_names: tuple[str, ...] | None = None
    groups: tuple[str, ...] | None = None
    bad: tuple[BadRecord, ...] = ()

    def __len__(self) -> int:
        return len(self.samples)

    def labels(self) -> Labels:
        raise NotImplementedError

    def where(self, index: int) -> str:
        return f"list, line {index + 1}"

    def read(self, index: int) -> Sample:
        self.read_count += 1
        return Sample(str(index), *self.samples[index])

    def fingerprint(self) -> str:
        return ""


def test_boxes_come_in_pixels_of_the_upright_picture() -> None:
    decoder = Decoder(Listed([(png(40, 20, 6), boxes((0, 0, 0.5, 0.25)))]), 3)
    image, label = decoder(0)
    assert image.shape == (40, 20, 3)
    assert isinstance(label, Boxes)
    assert label.values.tolist() == [[15, 0, 20, 20]]
    assert (label.unit, label.of, label.size) == ("pixel", "upright", (20, 40))


def test_kept_pictures_keep_their_converted_boxes() -> None:
    source = Listed([(png(40, 20, 6), boxes((0, 0, 0.5, 0.25)))])
    decoder = Decoder(source, 3, cache_bytes=10_000)
    assert decoder(0)[1] is decoder(0)[1]
    assert source.read_count == 1


def test_other_labels_pass_as_they_are() -> None:
    hot = np.array([0, 1], dtype=np.float32)
    decoder = Decoder(Listed([(png(4, 4), 3), (png(4, 4), hot)]), 1)
    assert decoder(0)[1] == 3
    assert decoder(1)[1] is hot


def test_boxes_of_another_picture_make_a_bad_one_that_names_its_place() -> None:
    decoder = Decoder(Listed([(png(40, 20), boxes((1, 1, 5, 5), size=(64, 48)))]), 3)
    with pytest.raises(BadPicture, match=r"list, line 1: its boxes are of a picture of 64 x 48 pixels, and .* 40 x 20"):
        decoder(0)


def test_a_batch_of_boxes_is_padded_and_leaves_out_what_cannot_be_read() -> None:
    samples = [
        (png(40, 20), boxes((0, 0, 0.5, 0.5), (0.5, 0.5, 1, 1))),
        (b"nothing", boxes()),
        (png(40, 20), boxes()),
        (png(40, 20), boxes((1, 1, 5, 5), size=(64, 48))),
    ]
    rule = Preprocessing("squeeze", 3, 16, 16)

    def prepare(image: np.ndarray, label: Label, row: int, number: int) -> tuple[np.ndarray, np.ndarray]:
        assert isinstance(label, Boxes)
        return augment_boxes(image, label, rule, np.random.default_rng(row), "none")

    batch = make_batch(Decoder(Listed(samples), 3), np.arange(4), np.zeros(4, np.int64), prepare, collate_boxes)
    assert batch.pixels.shape == (2, 16, 16, 3)
    assert batch.rows.tolist() == [0, 2]
    assert batch.targets.shape == (2, 2, 6)
    assert batch.targets[0].tolist() == [[0, 0, 0, 0.5, 0.5, 0], [0, 0.5, 0.5, 1, 1, 0]]
    assert (batch.targets[1] == -1).all()
    assert [record.where for record in batch.bad] == ["list, line 2", "list, line 4"]


def test_an_unreadable_batch_is_an_empty_one() -> None:
    decoder = Decoder(Listed([(b"", boxes())]), 3)
    batch = make_batch(decoder, np.zeros(1, np.int64), np.zeros(1, np.int64), lambda *_: None, collate_boxes)
    assert batch.targets.shape == (0, 1, 6)
    assert len(batch.pixels) == 0


def test_small_pictures_are_noted_by_their_upright_size() -> None:
    decoder = Decoder(Listed([(png(40, 20, 6), boxes()), (png(40, 20), boxes())]), 3, smallest=(40, 20))
    decoder(0), decoder(1)
    assert decoder.smaller == {1}
