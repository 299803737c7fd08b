"""Packing pictures into RecordIO."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from foveal.data.pack import pack
from foveal.data.recognise import open_data
from foveal.errors import UserError


def encoded(size=(40, 30), mode="RGB", kind="PNG", seed=0, **options):
    shape = (size[1], size[0]) if mode == "L" else (size[1], size[0], len(Image.new(mode, (1, 1)).getbands()))
    image = Image.fromarray(np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8), mode)
    kept = io.BytesIO()
    image.save(kept, kind, **options)
    return kept.getvalue()


@pytest.fixture
def photos(tmp_path):
    for number, split in enumerate(["train/cat", "train/cat", "train/dog", "val/dog", "test/cat"]):
        (tmp_path / "photos" / split).mkdir(parents=True, exist_ok=True)
        (tmp_path / "photos" / split / f"{number}.png").write_bytes(encoded(seed=number))
    return tmp_path / "photos"


def pictures(source):
    return {(sample.picture, sample.label) for sample in map(source.read, range(len(source)))}


def test_every_split_is_packed_byte_for_byte_and_opens_again(photos, tmp_path):
    data = open_data(photos)
    report = pack(data, tmp_path / "out")
    assert report.counts == {"train": 3, "validation": 1, "test": 1}
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "classes.txt", "test.idx", "test.rec", "train.idx", "train.rec", "val.idx", "val.rec",
    ]  # fmt: skip
    again = open_data(tmp_path / "out")
    assert (again.class_names, again.named) == (("cat", "dog"), True)
    assert pictures(again.train) == pictures(data.train)
    assert pictures(again.validation) == pictures(data.validation)
    assert pictures(again.test) == pictures(data.test)
    assert report.said[-1] == "order shuffled with seed 0"


def test_the_order_is_seeded_or_kept(photos, tmp_path):
    data = open_data(photos).train
    orders = []
    for name, seed in (("a", None), ("b", 1), ("c", 1)):
        pack(data, tmp_path / name, shuffle_seed=seed)
        orders.append([int(line.split("\t")[0]) for line in (tmp_path / name / "train.idx").read_text().splitlines()])
    assert orders[0] == [0, 1, 2]
    assert orders[1] == orders[2]
    assert sorted(orders[1]) == [0, 1, 2]


def test_files_that_are_there_stay_unless_told(photos, tmp_path):
    data = open_data(photos)
    pack(data, tmp_path / "out")
    before = (tmp_path / "out" / "train.rec").read_bytes()
    with pytest.raises(UserError) as caught:
        pack(data, tmp_path / "out", shuffle_seed=5, resize=8)
    assert str(caught.value) == (
        f"{tmp_path}/out: train.rec, val.rec, test.rec, train.idx, val.idx, test.idx, classes.txt are there already\n"
        "Choose another folder, or overwrite them (--overwrite)."
    )
    assert (tmp_path / "out" / "train.rec").read_bytes() == before
    pack(data.train, tmp_path / "out", resize=8, overwrite=True)
    assert (tmp_path / "out" / "train.rec").read_bytes() != before
    assert not (tmp_path / "out" / "val.rec").exists()


@pytest.mark.parametrize(
    ("picture", "kind", "mode", "size"),
    [
        (encoded((40, 30)), "PNG", "RGB", (21, 16)),
        (encoded((30, 40), "L"), "PNG", "L", (16, 21)),
        (encoded((200, 100), kind="JPEG"), "JPEG", "RGB", (32, 16)),
        (encoded((40, 30), "RGBA"), "PNG", "RGB", (21, 16)),
        (encoded((40, 30), "CMYK", "JPEG"), "JPEG", "RGB", (21, 16)),
        (encoded((40, 30), "L", "GIF"), "JPEG", "L", (21, 16)),
        (encoded((10, 8)), "PNG", "RGB", (20, 16)),
    ],
)
def test_resized_pictures_keep_aspect_and_kind(tmp_path, picture, kind, mode, size):
    (tmp_path / "in/a").mkdir(parents=True)
    (tmp_path / "in/a/1.png").write_bytes(picture)
    pack(open_data(tmp_path / "in"), tmp_path / "out", resize=16)
    image = Image.open(io.BytesIO(open_data(tmp_path / "out").train.read(0).picture))
    assert (image.format, image.size) == (kind, size)
    if picture[:3] != b"GIF":
        assert image.mode == mode


def test_resizing_turns_pictures_upright(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # lies on its side
    (tmp_path / "in/a").mkdir(parents=True)
    (tmp_path / "in/a/1.jpg").write_bytes(encoded((40, 30), kind="JPEG", exif=exif))
    pack(open_data(tmp_path / "in"), tmp_path / "out", resize=15)
    image = Image.open(io.BytesIO(open_data(tmp_path / "out").train.read(0).picture))
    assert image.size == (15, 20)
    assert 0x0112 not in image.getexif()


def test_sixteen_bits_are_cut_to_eight(tmp_path):
    (tmp_path / "in/a").mkdir(parents=True)
    Image.fromarray(np.full((4, 4), 0x8040, np.uint16)).save(tmp_path / "in/a/1.png")
    pack(open_data(tmp_path / "in"), tmp_path / "out", pass_through=False)
    image = Image.open(io.BytesIO(open_data(tmp_path / "out").train.read(0).picture))
    assert image.getpixel((0, 0)) == 0x80


def test_what_is_no_picture_is_left_out_and_named(photos, tmp_path):
    (photos / "train/cat/broken.jpg").write_bytes(b"not a picture")
    (photos / "train/cat/empty.jpg").write_bytes(b"")
    report = pack(open_data(photos), tmp_path / "out", shuffle_seed=None)
    assert report.counts["train"] == 3
    assert [(bad.where, bad.reason) for bad in report.bad] == [
        (str(photos / "train/cat/broken.jpg"), "is not a picture of a known kind"),
        (str(photos / "train/cat/empty.jpg"), "the picture file is empty"),
    ]


def test_a_source_without_a_readable_picture_leaves_no_file(tmp_path):
    (tmp_path / "in/a").mkdir(parents=True)
    (tmp_path / "in/a/1.jpg").write_bytes(b"not a picture")
    with pytest.raises(UserError, match=r"none of its 1 pictures can be read; the last: .*is not a picture"):
        pack(open_data(tmp_path / "in"), tmp_path / "out")
    assert list((tmp_path / "out").iterdir()) == []


@pytest.mark.parametrize("name", ["two\nlines", " cat", "cat ", "a\u2028b"])
def test_a_class_name_that_is_no_line_is_refused_before_anything_is_written(tmp_path, name):
    (tmp_path / "in" / name).mkdir(parents=True)
    (tmp_path / "in" / name / "1.png").write_bytes(encoded())
    with pytest.raises(UserError) as caught:
        pack(open_data(tmp_path / "in"), tmp_path / "out")
    assert str(caught.value) == (
        f"{tmp_path}/in: the name of the class {name!r} has a line break, or blanks at its ends\n"
        "classes.txt holds one name a line: rename the class."
    )
    assert not (tmp_path / "out").exists()


def test_kinds_that_mxnet_can_not_read_are_said(tmp_path):
    (tmp_path / "in/a").mkdir(parents=True)
    (tmp_path / "in/a/1.gif").write_bytes(encoded(mode="L", kind="GIF"))
    report = pack(open_data(tmp_path / "in"), tmp_path / "out")
    assert report.said[-1] == f"1 pictures are of kinds that MXNet itself can't read, e.g. {tmp_path}/in/a/1.gif"
