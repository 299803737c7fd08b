"""Packing pictures into RecordIO."""

from __future__ import annotations

import io
import json
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from foveal.converting.pack import Packing, list_pictures, pack
from foveal.converting.reencode import Encoding
from foveal.data.boxes import to_pixels
from foveal.data.decode import decode_upright
from foveal.data.recognise import open_data
from foveal.errors import UserError
from foveal.formats.imagerecord import pack as pack_record
from foveal.formats.recordio import write_records
from foveal.formats.recsource import RecordSource


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
        pack(data, tmp_path / name, Packing(shuffle_seed=seed))
        orders.append([int(line.split("\t")[0]) for line in (tmp_path / name / "train.idx").read_text().splitlines()])
    assert orders[0] == [0, 1, 2]
    assert orders[1] == orders[2]
    assert sorted(orders[1]) == [0, 1, 2]


def test_files_that_are_there_stay_unless_told(photos, tmp_path):
    data = open_data(photos)
    pack(data, tmp_path / "out")
    before = (tmp_path / "out" / "train.rec").read_bytes()
    with pytest.raises(UserError) as caught:
        pack(data, tmp_path / "out", Packing(Encoding(8), shuffle_seed=5))
    assert str(caught.value) == (
        f"{tmp_path}/out: train.rec, val.rec, test.rec, train.idx, val.idx, test.idx, classes.txt are there already\n"
        "Choose another folder, or overwrite them (--overwrite)."
    )
    assert (tmp_path / "out" / "train.rec").read_bytes() == before
    pack(data.train, tmp_path / "out", Packing(Encoding(8)), overwrite=True)
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
    pack(open_data(tmp_path / "in"), tmp_path / "out", Packing(Encoding(16)))
    image = Image.open(io.BytesIO(open_data(tmp_path / "out").train.read(0).picture))
    assert (image.format, image.size) == (kind, size)
    if picture[:3] != b"GIF":
        assert image.mode == mode


def test_resizing_turns_pictures_upright(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # lies on its side
    (tmp_path / "in/a").mkdir(parents=True)
    (tmp_path / "in/a/1.jpg").write_bytes(encoded((40, 30), kind="JPEG", exif=exif))
    pack(open_data(tmp_path / "in"), tmp_path / "out", Packing(Encoding(15)))
    image = Image.open(io.BytesIO(open_data(tmp_path / "out").train.read(0).picture))
    assert image.size == (15, 20)
    assert 0x0112 not in image.getexif()


def test_sixteen_bits_are_cut_to_eight(tmp_path):
    (tmp_path / "in/a").mkdir(parents=True)
    Image.fromarray(np.full((4, 4), 0x8040, np.uint16)).save(tmp_path / "in/a/1.png")
    pack(open_data(tmp_path / "in"), tmp_path / "out", Packing(Encoding()))
    image = Image.open(io.BytesIO(open_data(tmp_path / "out").train.read(0).picture))
    assert image.getpixel((0, 0)) == 0x80


def test_what_is_no_picture_is_left_out_and_named(photos, tmp_path):
    (photos / "train/cat/broken.jpg").write_bytes(b"not a picture")
    (photos / "train/cat/empty.jpg").write_bytes(b"")
    report = pack(open_data(photos), tmp_path / "out", Packing(shuffle_seed=None))
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


FIXTURE = Path(__file__).parent.parent / "fixtures" / "recordio" / "detection.rec"


def coco(folder, *boxes, size=(40, 30), **options):
    """One COCO file over PNG pictures; boxes of each picture: (category id, x, y, w, h, crowd)."""
    folder.mkdir(parents=True, exist_ok=True)
    images = [{"id": row, "file_name": f"{row}.png", "width": size[0], "height": size[1]} for row in range(len(boxes))]
    annotations = [
        {"image_id": row, "category_id": kind, "bbox": box, "iscrowd": crowd}
        for row, objects in enumerate(boxes)
        for kind, *box, crowd in objects
    ]
    for row in range(len(boxes)):
        (folder / f"{row}.png").write_bytes(encoded(size, seed=row, **options))
    categories = [{"id": 1, "name": "cat"}, {"id": 2, "name": "dog"}]
    data = {"images": images, "annotations": annotations, "categories": categories}
    (folder / "a.json").write_text(json.dumps(data))
    return open_data(folder, task="boxes")


def pixels(source, row):
    sample = source.read(row)
    boxes = to_pixels(sample.label, decode_upright(sample.picture, 3))
    return boxes.values.tolist(), boxes.cls.tolist(), boxes.difficult.tolist()


def test_boxes_become_fractions_and_come_back(tmp_path):
    data = coco(tmp_path / "in", [(1, 10, 3, 20, 15, 0), (2, 0, 0, 40, 30, 0)], [], [(2, 30, 20, 20, 20, 0)])
    report = pack(data, tmp_path / "out", Packing(shuffle_seed=None))
    again = open_data(tmp_path / "out", task=None)
    assert (again.task, again.class_names) == ("boxes", ("cat", "dog"))
    assert again.train.stored(0).tolist() == np.float32([2, 5, 0, 0.25, 0.1, 0.75, 0.6, 1, 0, 0, 1, 1]).tolist()
    assert again.train.stored(1).tolist() == [2, 5]
    assert again.train.stored(2).tolist() == np.float32([2, 5, 1, 0.75, 2 / 3, 1, 1]).tolist()  # cut to the picture
    for row in range(3):
        assert np.allclose(pixels(again.train, row)[0], pixels(data.train, row)[0], atol=1e-5)
        assert pixels(again.train, row)[1:] == pixels(data.train, row)[1:]
    assert report.said[-1] == "in the order of the data"


def test_sizes_go_into_the_header_when_asked_for_and_marks_into_a_sixth_number(tmp_path):
    data = coco(tmp_path / "in", [(1, 10, 3, 20, 15, 1), (2, 0, 0, 40, 30, 0)], [])
    report = pack(data, tmp_path / "out", Packing(shuffle_seed=None, size_header=True))
    again = open_data(tmp_path / "out", task="boxes").train
    assert again.stored(0).tolist() == np.float32([4, 6, 40, 30, 0, 0.25, 0.1, 0.75, 0.6, 1, 1, 0, 0, 1, 1, 0]).tolist()
    assert again.stored(1).tolist() == [4, 6, 40, 30]
    assert again.boxes(0).difficult.tolist() == [True, False]
    assert (
        report.said[-1]
        == f"crowds of 1 pictures are packed as difficult objects, e.g. {tmp_path}/in/0.png (a.json, image id 0)"
    )


def test_labels_of_records_are_written_again_to_the_byte(tmp_path):
    source = open_data(FIXTURE, task="boxes").train
    payloads = [(row, pack_record(encoded(seed=row), source.stored(row), row)) for row in range(len(source))]
    write_records(tmp_path / "train.rec", payloads)
    for name, packing in (("a", Packing(None, None)), ("b", Packing(Encoding(8), None, size_header=True))):
        pack(open_data(tmp_path / "train.rec", task=None), tmp_path / name, packing)
        again = open_data(tmp_path / name, task="boxes").train
        assert [again.stored(row).tobytes() for row in range(7)] == [source.stored(row).tobytes() for row in range(7)]
    assert (tmp_path / "a" / "train.rec").read_bytes() == (tmp_path / "train.rec").read_bytes()


@pytest.mark.parametrize("resize", [None, 15])
def test_boxes_of_pictures_that_lie_on_their_side_follow_them(tmp_path, resize):
    exif = Image.Exif()
    exif[0x0112] = 6
    data = coco(
        tmp_path / "in", [(1, 10, 3, 20, 15, 0)], kind="JPEG", exif=exif
    )  # boxes of the picture as it is stored
    pack(data, tmp_path / "out", Packing(resize and Encoding(resize)))
    again = open_data(tmp_path / "out", task="boxes").train
    upright = np.float32([30 - 3 - 15, 10, 30 - 3, 30]) / np.float32([30, 40, 30, 40])
    assert np.allclose(again.boxes(0).values, [upright], atol=1e-6)


def test_boxes_of_a_picture_of_another_size_are_left_out_with_it(tmp_path):
    data = coco(tmp_path / "in", [(1, 10, 3, 20, 15, 0)], [(2, 0, 0, 9, 9, 0)])
    (tmp_path / "in" / "1.png").write_bytes(encoded((40, 60)))
    report = pack(data, tmp_path / "out")
    assert report.counts == {"train": 1}
    assert report.bad[0].where == f"{tmp_path}/in/1.png (a.json, image id 1)"
    assert report.bad[0].reason == "its boxes are of a picture of 40 x 30 pixels, and this one has 40 x 60"


def test_real_blood_cells_are_packed_whole(shared, tmp_path):
    for split in ("train", "val", "test"):
        with zipfile.ZipFile(shared / "data" / "bccd" / f"{split}.zip") as archive:
            archive.extractall(tmp_path / "bccd")
    data = open_data(tmp_path / "bccd", task=None)
    report = pack(data, tmp_path / "out", Packing(shuffle_seed=None))
    again = open_data(tmp_path / "out", task=None)
    assert (data.task, again.task, again.class_names) == ("boxes", "boxes", ("Platelets", "RBC", "WBC"))
    counted = {}
    for split in ("train", "validation", "test"):
        before, after = getattr(data, split), getattr(again, split)
        counted[split] = np.bincount(after.labels().values.astype(int)).tolist()
        for row in range(0, len(before), 9):
            assert np.allclose(pixels(after, row)[0], pixels(before, row)[0], atol=1e-3)
            assert pixels(after, row)[1:] == pixels(before, row)[1:]
    assert counted == {"train": [209, 2381, 214], "validation": [83, 967, 87], "test": [69, 805, 71]}
    assert report.said[-1] == (
        "2 pictures have boxes with nothing in them, which are left out, e.g. "
        f"{tmp_path}/bccd/train/JPEGImages/BloodImage_00343.jpg (BloodImage_00343.xml)"
    )


# As im2rec


LIST = Path(__file__).parent.parent / "fixtures" / "recordio" / "im2rec_like.lst"


def im2rec_pictures(folder):
    """The pictures that MXNet's list tool packed into the fixture, as files under the list's paths."""
    source = RecordSource([LIST.with_suffix(".rec")])
    for row, line in enumerate(LIST.read_text().splitlines()):
        path = folder / line.split("\t")[-1]
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(source.read(row).picture)
    return folder


def test_a_list_is_packed_to_the_byte_as_im2rec_does_it(tmp_path):
    data = open_data(LIST, root=im2rec_pictures(tmp_path / "in"))
    pack(data, tmp_path / "out", Packing(shuffle_seed=None))
    assert (tmp_path / "out/train.rec").read_bytes() == LIST.with_suffix(".rec").read_bytes()
    assert (tmp_path / "out/train.idx").read_bytes() == LIST.with_suffix(".idx").read_bytes()


def test_several_labels_are_all_packed_or_the_first_alone(tmp_path):
    lines = [line.split("\t") for line in LIST.read_text().splitlines()]
    text = "".join(f"{number}\t1\t0\t{label}\t{path}\n" for number, label, path in lines)
    root = im2rec_pictures(tmp_path / "in")
    (tmp_path / "a.lst").write_text(text)
    data = open_data(tmp_path / "a.lst", root=root, task=None)
    pack(data, tmp_path / "all", Packing(shuffle_seed=None, label_width=3))
    pack(data, tmp_path / "first", Packing(shuffle_seed=None, all_labels=False))
    assert open_data(tmp_path / "all", task=None).train.labels().values[:6].tolist() == [1, 0, 2, 1, 0, 0]
    assert open_data(tmp_path / "first", task=None).train.labels().values.tolist() == [1, 1, 1, 1]
    with pytest.raises(UserError) as caught:
        pack(data, tmp_path / "out", Packing(label_width=2))
    assert str(caught.value) == (
        "a.lst, line 1 (owl/e.jpg): 3 label numbers, and label_width is 2\n"
        "Mend the label, or set label_width to what the data has."
    )


def test_chunks_are_files_of_their_own_in_order(photos, tmp_path):
    for number in range(10, 14):
        (photos / "train/cat" / f"{number}.png").write_bytes(encoded(seed=number))
    data = open_data(photos).train
    pack(data, tmp_path / "out", Packing(shuffle_seed=None, chunks=3))
    found = [len(open_data(tmp_path / "out" / f"train_{number}.rec").train) for number in range(3)]
    assert found == [3, 3, 1]
    assert pictures(open_data(tmp_path / "out").train) == pictures(data)
    with pytest.raises(UserError, match=r"train_0\.rec, train_1\.rec, .* are there already"):
        pack(data, tmp_path / "out")
    with pytest.raises(UserError) as caught:
        pack(data, tmp_path / "more", Packing(chunks=8))
    assert str(caught.value) == f"{photos}: 8 chunks are more than its 7 pictures\nChoose fewer."


def test_the_centre_is_cut_out_and_boxes_follow(tmp_path):
    data = coco(tmp_path / "in", [(1, 10, 3, 20, 15, 0), (2, 0, 0, 5, 30, 0)], [(1, 0, 0, 40, 30, 0)])
    pack(data, tmp_path / "out", Packing(Encoding(15, center_crop=True), shuffle_seed=None))
    again = open_data(tmp_path / "out", task="boxes")
    assert Image.open(io.BytesIO(again.train.read(0).picture)).size == (15, 15)
    assert pixels(again.train, 0)[0] == [[2.5, 1.5, 12.5, 9]]  # cut: 5 from the left; the second lies outside
    assert pixels(again.train, 1)[0] == [[0, 0, 15, 15]]


@pytest.mark.parametrize(("encoding", "kind", "mode"), [
    (Encoding(kind="JPEG"), "JPEG", "RGB"),
    (Encoding(kind="PNG", grey=True), "PNG", "L"),
    (Encoding(grey=True), "PNG", "L"),
])  # fmt: skip
def test_kind_and_colour_can_be_asked_for(photos, tmp_path, encoding, kind, mode):
    pack(open_data(photos).train, tmp_path / "out", Packing(encoding))
    image = Image.open(io.BytesIO(open_data(tmp_path / "out").train.read(0).picture))
    assert (image.format, image.mode) == (kind, mode)


def test_threads_keep_the_order(photos, tmp_path):
    for number in range(10, 40):
        (photos / "train/cat" / f"{number}.png").write_bytes(encoded(seed=number))
    for threads in (1, 4):
        pack(open_data(photos), tmp_path / str(threads), Packing(Encoding(8), threads=threads))
    assert (tmp_path / "1/train.rec").read_bytes() == (tmp_path / "4/train.rec").read_bytes()


def test_a_list_alone_packs_to_the_same_records(photos, tmp_path):
    data = open_data(photos / "train")
    said = list_pictures(data, tmp_path / "lists", Packing(shuffle_seed=1))
    assert said == (f"{tmp_path}/lists/train.lst: 3 pictures, relative to {photos}/train",)
    pack(open_data(tmp_path / "lists/train.lst", root=photos / "train"), tmp_path / "a", Packing(shuffle_seed=None))
    pack(data, tmp_path / "b", Packing(shuffle_seed=1))
    assert (tmp_path / "a/train.rec").read_bytes() == (tmp_path / "b/train.rec").read_bytes()
    with pytest.raises(UserError, match=r"lists/train.lst: is there already"):
        list_pictures(data, tmp_path / "lists", Packing())
    with pytest.raises(UserError) as caught:
        list_pictures(open_data(tmp_path / "a"), tmp_path / "c", Packing())
    assert str(caught.value) == f"{tmp_path}/a: its pictures lie in records, and have no path to list\nPack it."


def test_boxes_have_neither_a_label_width_nor_a_first_label(tmp_path):
    data = coco(tmp_path / "in", [(1, 10, 3, 20, 15, 0)])
    with pytest.raises(UserError) as caught:
        pack(data, tmp_path / "out", Packing(label_width=7))
    assert str(caught.value) == (
        f"{tmp_path}/in: labels of boxes are as long as there are objects, and label_width asks for one length\n"
        "Leave label_width out."
    )
    with pytest.raises(UserError) as caught:
        pack(data, tmp_path / "out", Packing(all_labels=False))
    assert str(caught.value) == (
        f"{tmp_path}/in: of labels of boxes the first number alone means nothing\nLeave --no-pack-label out."
    )


def test_a_picture_that_jpeg_can_not_hold_is_left_out(tmp_path):
    (tmp_path / "in/a").mkdir(parents=True)
    Image.new("L", (66_000, 1)).save(tmp_path / "in/a/1.png")
    (tmp_path / "in/a/2.png").write_bytes(encoded())
    report = pack(open_data(tmp_path / "in"), tmp_path / "out", Packing(Encoding(kind="JPEG")))
    assert report.bad[0].reason == "66000 x 1 pixels are more than JPEG holds, which is 65,500 a side"
