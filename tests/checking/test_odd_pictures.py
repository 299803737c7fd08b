"""Every finding about pictures, with its whole text."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from foveal.checking.examine import sources_of
from foveal.checking.measure import measure
from foveal.checking.odd_pictures import Part, doubles, look_alikes, odd_box_sizes, odd_files, odd_looks
from foveal.data.recognise import open_data


def scene(seed: int, mode: str = "RGB", size: tuple[int, int] = (60, 48)) -> Image.Image:
    rng = np.random.default_rng(seed)
    small = rng.integers(0, 256, (7, 9, 3)).astype(np.uint8)
    return Image.fromarray(small).resize(size, Image.Resampling.BICUBIC).convert(mode)


def save(path: Path, picture: Image.Image, **options: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    picture.save(path, **options)


def parts_of(root: Path) -> list[Part]:
    sources = sources_of(open_data(root, task=None))
    return [Part(name, source, measure(source, "", 2, quiet=True)) for name, source in sources.items()]


def told(findings):
    return [(each.code, each.severity, each.count, each.what) for each in findings]


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Ten pictures in two classes, two of them for validation."""
    for number in range(8):
        save(tmp_path / "train" / ("cat", "dog")[number % 2] / f"{number}.png", scene(number))
    for number in (8, 9):
        save(tmp_path / "val" / ("cat", "dog")[number % 2] / f"{number}.png", scene(number))
    return tmp_path


def test_good_pictures_are_not_odd(photos):
    parts = parts_of(photos)
    assert odd_files(parts, 0.05) + odd_looks(parts) + doubles(parts) + look_alikes(parts) == ()


def test_broken_and_misnamed_files(photos):
    (photos / "train/cat/0.png").write_bytes(b"<html>404</html>")
    save(photos / "train/dog/1.png", scene(1), format="JPEG")
    found = odd_files(parts_of(photos), 0.2)
    assert told(found) == [
        ("unreadable", "warning", 1, "1 of 10 pictures can't be read and are left out"),
        ("suffix", "note", 1, "1 picture is of another form than the name says"),
    ]
    assert [(each.where, each.why) for finding in found for each in finding.suspects] == [
        ((f"{photos}/train/cat/0.png",), "is not a picture of a known kind"),
        ((f"{photos}/train/dog/1.png",), "named .png, is JPEG"),
    ]


def test_more_broken_files_than_training_goes_on_with_are_an_error(photos):
    for name in ("cat/0", "dog/1"):
        (photos / "train" / f"{name}.png").write_bytes(b"")
    first = odd_files(parts_of(photos), 0.05)[0]
    assert (first.severity, first.what, first.remedy) == (
        "error", "2 of 10 records can't be used, more than the 5% that training goes on with",
        "Mend or remove them, or raise bad_records_limit.",
    )  # fmt: skip


def test_grey_among_colour_and_pictures_of_one_colour(photos):
    save(photos / "train/cat/2.png", scene(2, "L"))
    save(photos / "train/dog/3.png", Image.new("RGB", (60, 48), (0, 0, 90)))
    found = odd_looks(parts_of(photos))
    assert told(found) == [
        ("mixed-channels", "note", 1, "1 picture is grey, the others in colour"),
        ("one-colour", "note", 1, "1 picture shows one colour and nothing else"),
    ]
    assert [each.suspects[0].spots for each in found] == [(("train", 1),), (("train", 5),)]


def test_the_same_file_across_splits_with_another_label_and_within_a_split(photos):
    for source, target in (
        ("train/cat/0.png", "val/cat/0.png"),
        ("train/cat/2.png", "train/dog/2.png"),
        ("train/dog/1.png", "train/dog/11.png"),
    ):
        (photos / target).write_bytes((photos / source).read_bytes())
    found = doubles(parts_of(photos))
    assert told(found) == [
        ("duplicate-across-splits", "warning", 1, "1 picture is in more than one split, byte for byte"),
        ("duplicate-labels-differ", "warning", 1, "1 picture is there several times, with labels that differ"),
        ("duplicate", "note", 1, "1 picture is several times in a split"),
    ]
    assert [each.suspects[0].where for each in found] == [
        (f"{photos}/train/cat/0.png", f"{photos}/val/cat/0.png"),
        (f"{photos}/train/cat/2.png", f"{photos}/train/dog/2.png"),
        (f"{photos}/train/dog/1.png", f"{photos}/train/dog/11.png"),
    ]
    assert found[1].suspects[0].why == "labels differ"


def test_look_alikes_within_and_across_splits_and_copies_count_once(photos):
    save(photos / "val/cat/like.jpg", scene(0), quality=70)
    save(photos / "train/dog/like.jpg", scene(1), quality=70)
    (photos / "train/dog/again.jpg").write_bytes((photos / "train/dog/like.jpg").read_bytes())
    found = look_alikes(parts_of(photos))
    assert told(found) == [
        ("near-duplicate-across-splits", "warning", 1, "1 pair of pictures in different splits is nearly the same"),
        ("near-duplicate", "note", 1, "1 pair of pictures in a split is nearly the same"),
    ]
    assert found[0].suspects[0].where == (f"{photos}/train/cat/0.png", f"{photos}/val/cat/like.jpg")
    assert found[0].suspects[0].why.startswith("alike to 99.")


def boxed(root: Path, *boxes: str) -> None:
    """YOLO: one picture of 400 x 300 for each text of boxes."""
    (root / "labels").mkdir(parents=True)
    (root / "classes.txt").write_text("cat\n")
    for number, text in enumerate(boxes):
        save(root / "images" / f"{number}.png", scene(number, size=(400, 300)))
        (root / "labels" / f"{number}.txt").write_text(text)


def test_tiny_boxes_and_boxes_outside(tmp_path):
    large = "0 .5 .5 .5 .5\n"
    boxed(tmp_path, large * 8 + "0 .5 .5 .015 .5\n", large * 5, "0 .5 .5 .025 .5\n0 1.3 .5 .1 .1\n0 .5 .5 .024 .5\n")
    found = odd_box_sizes(parts_of(tmp_path), 300)
    assert told(found) == [
        ("box-outside", "warning", 1, "1 box lies outside the picture and is left out"),
        ("tiny-box", "note", 1, "1 of 16 boxes is under 8 pixels on a side"),
        ("tiny-box-after-resize", "warning", 3, "3 of 16 boxes are under 8 pixels on a side in a picture of 300 x 300"),
    ]
    assert [[suspect.why for suspect in each.suspects] for each in found] == [
        ["1 box"],
        ["1 box, the smallest 6 x 150"],
        ["1 box, the smallest 6 x 150", "2 boxes, the smallest 9.6 x 150"],
    ]


def test_labels_of_another_size_are_scaled_or_left_out(tmp_path):
    xml = "<annotation><size><width>200</width><height>{}</height></size><object><name>cat</name><bndbox><xmin>1</xmin>"
    xml += "<ymin>1</ymin><xmax>99</xmax><ymax>99</ymax></bndbox></object></annotation>"
    (tmp_path / "Annotations").mkdir()
    for name, height in (("1", 160), ("2", 150), ("3", 48)):
        save(tmp_path / "JPEGImages" / f"{name}.png", scene(int(name)))
        (tmp_path / "Annotations" / f"{name}.xml").write_text(xml.format(height))
    parts = parts_of(tmp_path)
    assert told(odd_looks(parts)) == [
        ("size-scaled", "note", 1, "1 picture has another size than stated, of the same aspect; boxes are scaled along")
    ]
    found = odd_files(parts, 1)
    assert told(found) == [
        ("size-disagrees", "warning", 2, "2 pictures have another size than the boxes are of, and are left out")
    ]
    assert found[0].suspects[0].why == "its boxes are of a picture of 200 x 150 pixels, and this one has 60 x 48"
