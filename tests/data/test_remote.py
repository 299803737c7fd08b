"""Data at addresses: opened as if it lay on disk, pictures read when they are needed."""

from __future__ import annotations

import io
import tarfile
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from foveal.data.given import decode_given
from foveal.data.recognise import open_data
from foveal.data.remote import local, picture_addresses
from foveal.errors import BadPicture, UserError
from foveal.formats.imagerecord import pack
from foveal.formats.recordio import frame
from foveal.storage import cache, obstores, stores
from foveal.storage.address import parse_address


def picture(shade: int) -> bytes:
    kept = io.BytesIO()
    Image.new("RGB", (8, 8), (shade, 0, 0)).save(kept, "PNG")
    return kept.getvalue()


RECORDS = b"".join(frame(pack(picture(number + 1), float(number), number)) for number in range(2))


@pytest.fixture
def photos(bucket: Any) -> str:
    """``train`` and ``val`` with two classes of three pictures each, as a console makes folders: with empty objects."""
    for split in ("train", "val"):
        bucket.put(f"photos/{split}/", b"")
        for kind in ("cat", "dog"):
            bucket.put(f"photos/{split}/{kind}/", b"")
            for number in range(3):
                bucket.put(f"photos/{split}/{kind}/{number}.png", picture(10 * number))
    return f"s3://{bucket.name}/photos/"


def whole() -> list[str]:
    """Names of the copies that hold something."""
    files = (path for path in cache.objects_folder().rglob("*") if path.is_file() and path.stat().st_size)
    return sorted(path.name for path in files if cache.is_whole(path))


def test_a_folder_per_class_is_opened_and_its_pictures_are_read_when_needed(photos: str) -> None:
    dataset = open_data(photos)
    address = photos.rstrip("/")
    size = 4 * sum(len(picture(10 * number)) for number in range(3))
    assert dataset.said == (
        f"{address}: 12 objects, {size / 1000:.1f} kB; 12 to be read when needed",
        f"folders of splits in {address}: train, val",
        "train: a folder per class, 6 pictures, 2 classes",
        "validation: a folder per class, 6 pictures, 2 classes",
    )
    assert dataset.class_names == ("cat", "dog")
    assert whole() == []
    assert dataset.train.read(1).picture == picture(10)
    assert whole() == ["1.png"]


def test_the_fingerprint_is_that_of_a_folder_and_stays(photos: str, tmp_path: Path) -> None:
    for kind in ("cat", "dog"):
        (tmp_path / "train" / kind).mkdir(parents=True)
        for number in range(3):
            (tmp_path / "train" / kind / f"{number}.png").write_bytes(picture(10 * number))
    train = open_data(photos).train
    before = train.fingerprint()
    train.read(0)
    assert train.fingerprint() == before == open_data(tmp_path / "train").train.fingerprint()


def test_a_path_that_was_an_address_is_one(photos: str) -> None:
    assert open_data(Path(photos)).train.origin == photos.rstrip("/")


def test_lists_and_annotations_are_fetched(bucket: Any) -> None:
    bucket.put("data/train.lst", b"0\t1\ta/1.png\n1\t0\ta/2.png\n")
    bucket.put("data/classes.txt", b"cat\ndog\n")
    for number in (1, 2):
        bucket.put(f"data/a/{number}.png", picture(number))
    dataset = open_data(f"s3://{bucket.name}/data/train.lst")
    assert (dataset.class_names, [dataset.train.read(row).label for row in (0, 1)]) == (("cat", "dog"), [1, 0])
    assert whole() == ["1.png", "2.png", "classes.txt", "train.lst"]
    assert dataset.train.origin == f"s3://{bucket.name}/data/train.lst"


def test_boxes_are_opened_where_they_lie(bucket: Any) -> None:
    box = "<bndbox><xmin>1</xmin><ymin>1</ymin><xmax>5</xmax><ymax>5</ymax></bndbox>"
    xml = f"<annotation><filename>1.png</filename><object><name>cat</name>{box}</object></annotation>"
    bucket.put("voc/Annotations/1.xml", xml.encode())
    bucket.put("voc/JPEGImages/1.png", picture(1))
    dataset = open_data(f"s3://{bucket.name}/voc", task="boxes")
    assert dataset.train.where(0) == f"s3://{bucket.name}/voc/JPEGImages/1.png (1.xml)"
    assert whole() == ["1.xml"]


def test_records_come_whole_with_the_names_beside_them(bucket: Any) -> None:
    bucket.put("recs/train.rec", RECORDS)
    bucket.put("recs/classes.txt", b"cat\ndog\n")
    bucket.put("recs/other/1.png", picture(3))
    dataset = open_data(f"s3://{bucket.name}/recs/train.rec")
    assert (dataset.class_names, dataset.train.read(1).picture) == (("cat", "dog"), picture(2))
    assert whole() == ["classes.txt", "train.rec"]


def test_the_lines_of_a_manifest_may_be_addresses(photos: str, bucket: Any, tmp_path: Path) -> None:
    lines = (f'{{"source-ref": "{photos}train/{kind}/1.png", "kind": "{kind}"}}' for kind in ("cat", "dog"))
    (tmp_path / "train.manifest").write_text("\n".join(lines))
    train = open_data(tmp_path / "train.manifest").train
    assert (train.class_names, train.read(1).picture) == (("cat", "dog"), picture(10))
    bucket.remove("photos/train/cat/1.png")
    with pytest.raises(BadPicture) as caught:
        train.read(0)
    told = f"there is no such object in the store: {photos}train/cat/1.png"
    assert caught.value.what == told


def test_shards_are_opened_by_a_pattern(bucket: Any) -> None:
    for number in range(2):
        kept = io.BytesIO()
        with tarfile.open(fileobj=kept, mode="w") as tar:
            for name, content in ((f"{number}.png", picture(number)), (f"{number}.cls", str(number).encode())):
                member = tarfile.TarInfo(name)
                member.size = len(content)
                tar.addfile(member, io.BytesIO(content))
        bucket.put(f"shards/train-{number:03d}.tar", kept.getvalue())
    train = open_data(f"s3://{bucket.name}/shards/train-{{000..001}}.tar").train
    assert [train.read(row).picture for row in range(2)] == [picture(0), picture(1)]


def test_what_the_store_has_no_longer_is_gone_when_it_is_opened_again(photos: str, bucket: Any) -> None:
    open_data(photos).train.read(0)
    for number in range(3):
        bucket.remove(f"photos/train/cat/{number}.png")
    bucket.put("photos/train/dog/9.png", picture(9))
    again = open_data(photos + "train")
    assert (again.class_names, len(again.train)) == (("dog",), 4)


def test_what_changed_is_read_anew_when_it_is_opened_again(photos: str, bucket: Any) -> None:
    open_data(photos).train.read(0)
    bucket.put("photos/train/cat/0.png", picture(99))
    assert open_data(photos).train.read(0).picture == picture(99)


def test_a_picture_that_goes_away_while_training_is_a_bad_one(photos: str, bucket: Any) -> None:
    train = open_data(photos).train
    bucket.remove("photos/train/cat/0.png")
    with pytest.raises(BadPicture) as caught:
        train.read(0)
    assert str(caught.value) == f"{photos}train/cat/0.png: there is no such object in the store any more"


def test_a_store_that_goes_away_while_training_is_an_error(photos: str, monkeypatch: pytest.MonkeyPatch) -> None:
    train = open_data(photos).train

    def refused(*_: object) -> None:
        raise UserError("the store refuses to let us read this", "s3://photos", "Check whose credentials are used.")

    monkeypatch.setattr(obstores, "read", refused)
    with pytest.raises(UserError, match="the store refuses") as caught:
        train.read(0)
    assert not isinstance(caught.value, BadPicture)


def test_messages_name_addresses(photos: str, bucket: Any) -> None:
    bucket.put(
        "photos/train/cat/0.png", b"no picture at all, but some text, which is longer than what is looked at....."
    )
    train = open_data(photos).train
    assert train.where(0) == f"{photos}train/cat/0.png"
    bucket.put("photos/train/cat/train/1.png", picture(1))
    with pytest.raises(UserError) as caught:
        open_data(photos)
    told = str(caught.value)
    assert str(cache.objects_folder()) not in told
    assert told.startswith(f"{photos}train: ")


def test_an_object_called_like_a_folder_is_told(bucket: Any) -> None:
    bucket.put("photos/cat", b"something")
    bucket.put("photos/cat/1.png", picture(1))
    with pytest.raises(UserError) as caught:
        open_data(f"s3://{bucket.name}/photos")
    assert str(caught.value) == (
        f"s3://{bucket.name}/photos/cat: the name of this object is that of a folder too\n"
        "Rename it: on disk a name is a file or a folder."
    )


def test_a_file_that_became_a_folder_and_a_folder_that_became_a_file(photos: str, bucket: Any) -> None:
    bucket.put("photos/train/bird", b"a text")
    bucket.put("photos/train/fish/1.png", picture(1))
    open_data(photos)
    bucket.remove("photos/train/bird")
    bucket.remove("photos/train/fish/1.png")
    bucket.put("photos/train/bird/1.png", picture(1))
    bucket.put("photos/train/fish", b"a text")
    assert open_data(photos + "train").class_names == ("bird", "cat", "dog")


def test_a_prefix_without_anything_is_told(bucket: Any) -> None:
    with pytest.raises(UserError) as caught:
        open_data(f"s3://{bucket.name}/nothing/")
    assert str(caught.value) == f"s3://{bucket.name}/nothing: nothing is there\nCheck bucket and prefix."


def test_an_http_folder_is_told(cloudless: Path) -> None:
    with pytest.raises(UserError) as caught:
        open_data("https://example.org/photos/")
    assert str(caught.value) == (
        "https://example.org/photos/: http servers have no list of what they hold\n"
        "Name one file: a .rec, a .zip or a .tar."
    )


def test_files_that_must_be_whole_and_are_larger_than_the_cache_are_told(
    bucket: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FOVEAL_CACHE_GB", "0.000001")
    bucket.put("data/train.lst", bytes(700))
    bucket.put("data/val.lst", bytes(700))
    with pytest.raises(UserError) as caught:
        open_data(f"s3://{bucket.name}/data")
    assert str(caught.value) == (
        f"s3://{bucket.name}/data: its lists, annotations and records have 1,400 bytes, and they must be here whole:"
        " the cache has room for 900\nSet FOVEAL_CACHE_GB higher, or copy the data to a disk and name it there."
    )


def test_pictures_below_an_address_are_named_for_asking(photos: str, bucket: Any) -> None:
    assert picture_addresses(photos + "val/cat") == [f"{photos}val/cat/{number}.png" for number in range(3)]
    assert picture_addresses(photos + "val/cat/1.png") == [photos + "val/cat/1.png"]
    bucket.put("texts/1.txt", b"text")
    with pytest.raises(UserError) as caught:
        picture_addresses(f"s3://{bucket.name}/texts")
    assert str(caught.value) == (
        f"s3://{bucket.name}/texts: no pictures below this address\nPictures are told by their endings: .jpg, .png, ..."
    )


def test_a_picture_at_an_address_can_be_asked_about(photos: str) -> None:
    pixels = decode_given(photos + "val/cat/2.png", 3, "2.png")
    assert np.array_equal(pixels, np.full((8, 8, 3), (20, 0, 0), dtype=np.uint8))


def test_records_behind_http(cloudless: Path, tmp_path: Path) -> None:
    pytest.importorskip("obstore", reason="needs obstore: pip install foveal[cloud]")

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

    (tmp_path / "train.rec").write_bytes(RECORDS)
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(tmp_path)))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        train = open_data(f"http://127.0.0.1:{server.server_port}/train.rec?token=1").train
        assert (len(train), train.read(0).picture) == (2, picture(1))
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def test_a_folder_that_fsspec_knows(cloudless: Path) -> None:
    fsspec = pytest.importorskip("fsspec")
    memory = fsspec.filesystem("memory")
    memory.pipe({f"/photos/{kind}/{n}.png": picture(n) for kind in ("cat", "dog") for n in (1, 2)})
    try:
        train = open_data("memory://photos").train
        assert (len(train), train.class_names, train.read(3).picture) == (4, ("cat", "dog"), picture(2))
        assert train.where(0) == "memory://photos/cat/1.png"
    finally:
        memory.rm("/photos", recursive=True)


def test_paths_are_given_back(tmp_path: Path) -> None:
    assert local(tmp_path) == tmp_path
    assert local("photos") == Path("photos")


def test_a_thousand_readings_of_one_folder_list_it_once(photos: str, monkeypatch: pytest.MonkeyPatch) -> None:
    train = open_data(photos).train
    monkeypatch.setattr(stores, "list_objects", None)
    monkeypatch.setattr(stores, "head", None)
    assert {train.read(row % 6).label for row in range(100)} == {0, 1}
    assert parse_address(train.where(0)).bucket in photos
