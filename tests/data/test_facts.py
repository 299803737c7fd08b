"""What a look at a few pictures tells."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from foveal.data.facts import BoxFacts, Facts, look_at_boxes, look_at_pictures
from foveal.errors import UserError
from foveal.formats.folder import read_folder
from foveal.formats.yolo import find_yolo, read_yolo


def save(path: Path, size: tuple[int, int], mode: str = "L", orientation: int = 1) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.new(mode, size).save(path, exif=exif)


def test_sizes_are_medians_of_upright_pictures(tmp_path: Path) -> None:
    save(tmp_path / "a/1.png", (40, 30))
    save(tmp_path / "a/2.jpg", (30, 40), orientation=6)
    save(tmp_path / "b/3.png", (40, 30), "LA")
    source, _ = read_folder(tmp_path)
    assert look_at_pictures(source) == Facts(
        short=30, long=40, height=30, width=40, aspect=0.75, same=True, grey=True, looked=3, unread=0, first_unread=""
    )
    save(tmp_path / "b/4.png", (100, 80), "RGB")
    facts = look_at_pictures(read_folder(tmp_path)[0])
    assert (facts.short, facts.long, facts.same, facts.grey) == (30, 40, False, False)


def test_pictures_that_cannot_be_read_are_counted_and_the_first_is_named(tmp_path: Path) -> None:
    save(tmp_path / "a/3.png", (40, 30))
    (tmp_path / "a/1.png").write_bytes(b"<html>404</html>")
    (tmp_path / "a/2.png").write_bytes(b"")
    facts = look_at_pictures(read_folder(tmp_path)[0])
    assert (facts.looked, facts.unread) == (3, 2)
    assert facts.first_unread == f"{tmp_path}/a/1.png: is not a picture of a known kind"
    (tmp_path / "a/3.png").unlink()
    with pytest.raises(UserError) as caught:
        look_at_pictures(read_folder(tmp_path)[0])
    assert str(caught.value).splitlines()[0] == (
        f"{tmp_path}: none of the 2 pictures looked at can be read; the first: {tmp_path}/a/1.png: "
        "is not a picture of a known kind"
    )


def test_boxes_are_counted_and_measured(tmp_path: Path) -> None:
    for name in ("1", "2", "3"):
        save(tmp_path / f"images/{name}.png", (40, 30))
    (tmp_path / "labels").mkdir()
    (tmp_path / "labels/1.txt").write_text("0 .5 .5 .5 .5\n1 .5 .5 .1 .1\n0 .5 .5 0 .1\n")
    (tmp_path / "labels/2.txt").write_text("0 .5 .5 .9 .1\n")
    source, _ = read_yolo(find_yolo(tmp_path)["all"])
    facts = look_at_boxes(source)
    assert (facts.boxes, facts.empty, facts.median, facts.most) == (3, 1, 1, 2)
    assert facts.sides == pytest.approx((0.12, 0.3, 0.48), abs=1e-6)
    for name in ("1", "2", "3"):
        (tmp_path / f"images/{name}.png").write_bytes(b"")
    assert look_at_boxes(source) == BoxFacts(boxes=3, empty=1, median=1, most=2, sides=None)
