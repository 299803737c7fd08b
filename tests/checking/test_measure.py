"""One look at every picture: sizes, forms, boxes in their pictures, and what can't be read."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from foveal.checking.measure import measure
from foveal.formats.folder import read_folder
from foveal.formats.voc import find_voc, read_voc

XML = "<annotation><size><width>{0}</width><height>{1}</height></size>{2}</annotation>"
OBJECT = (
    "<object><name>cat</name><bndbox><xmin>{}</xmin><ymin>{}</ymin><xmax>{}</xmax><ymax>{}</ymax></bndbox></object>"
)


def voc(root: Path, name: str, size: tuple[int, int], stated: tuple[int, int], *boxes: tuple[float, ...]) -> None:
    for folder in ("JPEGImages", "Annotations"):
        (root / folder).mkdir(exist_ok=True)
    Image.new("RGB", size).save(root / "JPEGImages" / f"{name}.png")
    (root / "Annotations" / f"{name}.xml").write_text(XML.format(*stated, "".join(OBJECT.format(*b) for b in boxes)))


def look(root: Path):
    return measure(read_voc(find_voc(root)["all"])[0], "looking", quiet=True)


def test_sizes_forms_and_broken_files(tmp_path):
    (tmp_path / "a").mkdir()
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (40, 30)).save(tmp_path / "a/1.jpg", exif=exif)
    Image.new("L", (20, 10)).save(tmp_path / "a/2.jpg", "PNG")
    (tmp_path / "a/3.jpg").write_bytes((tmp_path / "a/1.jpg").read_bytes()[:-40])
    (tmp_path / "a/4.png").write_bytes(b"")
    Image.new("L", (5, 5)).save(tmp_path / "a/5.pgm")
    seen = measure(read_folder(tmp_path)[0], "looking", quiet=True)
    assert seen.size.tolist() == [[30, 40], [20, 10], [0, 0], [0, 0], [5, 5]]
    assert seen.grey.tolist() == [False, True, False, False, True]
    assert seen.kinds == {"JPEG": 1, "PNG": 1, "PPM": 1}
    assert seen.misnamed == {1: (".jpg", "PNG")}
    assert list(seen.unreadable) == [2, 3]
    assert seen.unreadable[2].startswith("damaged JPEG: ")
    assert seen.unreadable[3] == "the picture file is empty"
    assert seen.readable.tolist() == [0, 1, 4]
    whole = hashlib.blake2b((tmp_path / "a/1.jpg").read_bytes(), digest_size=16).digest()
    assert seen.digest[0].tobytes() == whole


def test_boxes_are_measured_in_their_picture(tmp_path):
    voc(tmp_path, "1", (100, 80), (100, 80), (10, 20, 40, 60), (90, 70, 130, 90), (5, 5, 5, 9))
    voc(tmp_path, "2", (50, 40), (100, 80), (10, 20, 40, 60))
    voc(tmp_path, "3", (60, 60), (100, 80), (10, 20, 40, 60))
    voc(tmp_path, "4", (100, 80), (100, 80), (200, 10, 220, 20), (0, 0, 7, 9))
    seen = look(tmp_path)
    assert seen.box_rows.tolist() == [0, 0, 1, 3]
    assert seen.box_sizes.tolist() == [[30, 40], [10, 10], [15, 20], [7, 9]]
    assert (seen.rescaled, seen.outside) == ([1], {3: 1})
    assert seen.misfits == {2: "its boxes are of a picture of 100 x 80 pixels, and this one has 60 x 60"}


@pytest.mark.parametrize("workers", [1, 3])
def test_the_number_of_threads_changes_nothing(tmp_path, workers):
    rng = np.random.default_rng(0)
    (tmp_path / "a").mkdir()
    for number in range(40):
        Image.fromarray(rng.integers(0, 256, (20, 30, 3)).astype(np.uint8)).save(tmp_path / f"a/{number}.png")
    source, _ = read_folder(tmp_path)
    seen, alone = measure(source, "", workers, quiet=True), measure(source, "", 1, quiet=True)
    assert (seen.digest == alone.digest).all() and (seen.bits == alone.bits).all() and (seen.small == alone.small).all()
    assert len(np.unique(seen.digest, axis=0)) == 40
