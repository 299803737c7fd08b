"""Archives as data: unpacked once, used from the cache, found in folders; and shards and metadata found by looking."""

from __future__ import annotations

import errno
import io
import json
import os
import signal
import subprocess
import sys
import tarfile
import zipfile

import pytest

from foveal.data import unpack
from foveal.data.recognise import open_data
from foveal.data.unpack import cache_folder, is_packed_data, unpacked, unpacked_folder
from foveal.errors import UserError
from foveal.formats.imagerecord import pack
from foveal.formats.recordio import write_records
from foveal.records import BoxSource


@pytest.fixture(autouse=True)
def cache(tmp_path_factory, monkeypatch):
    folder = tmp_path_factory.mktemp("cache")
    monkeypatch.setenv("XDG_CACHE_HOME", str(folder))
    return folder / "foveal" / "unpacked"


def zipped(path, *names, **contents):
    with zipfile.ZipFile(path, "w") as file:
        for name in names:
            file.writestr(name, contents.get(name, name))
    return path


def tarred(path, members):
    with tarfile.open(path, "w:gz" if path.name.endswith("gz") else "w") as file:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            file.addfile(info, io.BytesIO(content))
    return path


def samples(first, count, suffix="cls", text="{}"):
    members = {}
    for number in range(first, first + count):
        members[f"{number:05d}.jpg"] = b"picture %d" % number
        members[f"{number:05d}.{suffix}"] = text.format(number % 2).encode()
    return members


def listing(folder):
    return {str(each.relative_to(folder)): each.read_bytes() for each in folder.rglob("*") if each.is_file()}


def refusal(*args, **options):
    with pytest.raises(UserError) as caught:
        open_data(*args, **options)
    return str(caught.value)


def test_an_archive_is_unpacked_once(tmp_path, cache):
    path = zipped(tmp_path / "photos.zip", "cat/1.jpg", "dog/2.jpg")
    first, second = [], []
    folder = unpacked(path, first)
    (folder / "cat/1.jpg").write_bytes(b"touched")
    assert unpacked(path, second) == folder
    assert listing(folder) == {"cat/1.jpg": b"touched", "dog/2.jpg": b"dog/2.jpg"}
    assert folder == cache / folder.name and folder.name.startswith("photos-")
    assert first == [f"photos.zip is unpacked in {folder}"]
    assert second == [f"photos.zip is unpacked in {folder}, from an earlier time"]


def test_a_changed_archive_is_unpacked_anew(tmp_path):
    path = zipped(tmp_path / "photos.zip", "cat/1.jpg")
    before = unpacked_folder(path)
    zipped(path, "cat/1.jpg", "cat/2.jpg")
    changed = unpacked_folder(path)
    os.utime(path, ns=(1, 1))
    assert len({before, changed, unpacked_folder(path)}) == 3


def test_the_cache_lies_in_the_home_folder_where_nothing_else_is_said(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    for value in ("", "relative"):
        monkeypatch.setenv("XDG_CACHE_HOME", value)
        assert cache_folder() == tmp_path / ".cache" / "foveal" / "unpacked"


@pytest.mark.parametrize(
    ("names", "inner"),
    [
        (["photos/cat/1.jpg", "photos/dog/1.jpg"], "photos"),
        (["a/b/cat/1.jpg", "a/b/dog/1.jpg", "__MACOSX/x"], "a/b"),
        (["test/1.jpg"], "test"),
        (["x/1.jpg"], "x"),
        (["cat/1.jpg"], "."),
        (["cat/1.jpg", "dog/1.jpg"], "."),
        (["train/cat/1.jpg", "test/cat/1.jpg"], "."),
    ],
)
def test_a_folder_that_is_all_that_an_archive_holds_is_entered(tmp_path, names, inner):
    path = zipped(tmp_path / "x.zip", *names)
    assert unpacked(path, []) == unpacked_folder(path) / inner


def test_an_archive_that_breaks_off_leaves_nothing(tmp_path, cache):
    path = zipped(tmp_path / "x.zip", "cat/1.jpg", "../2.jpg")
    for _ in range(2):
        assert "its name leads out" in refusal(path)
        assert [each.name for each in cache.iterdir()] == [".locks"]


KILLED = """
import os, signal, sys
from pathlib import Path
from foveal.data import unpack
unpack._TICK = 1
def stop(items, total, what):
    for count, item in enumerate(items):
        yield item
        if count == 40:
            os.kill(os.getpid(), signal.SIGKILL)
unpack.track = stop
unpack.unpacked(Path(sys.argv[1]), [])
"""


def test_what_a_killed_process_left_is_removed_and_the_next_starts_clean(tmp_path, cache):
    names = [f"cat/{number}.jpg" for number in range(50)]
    first, other = zipped(tmp_path / "x.zip", *names), zipped(tmp_path / "y.zip", *names)
    for path in (first, other):
        done = subprocess.run([sys.executable, "-c", KILLED, path], capture_output=True, text=True)
        assert done.returncode == -signal.SIGKILL, done.stderr
    left = [each.name for each in cache.iterdir() if each.name.endswith(".part")]
    assert len(left) == 1 and not unpacked_folder(first).exists()  # the second run removed what the first had left
    assert len(listing(unpacked(first, []))) == 50
    assert sorted(each.name for each in cache.iterdir()) == [".locks", unpacked_folder(first).name]


def test_a_process_waits_for_another_that_unpacks_the_same(tmp_path, cache):
    path = zipped(tmp_path / "x.zip", *(f"cat/{number}.jpg" for number in range(300)))
    code = (
        "import sys, pathlib; from foveal.data.unpack import unpacked; print(unpacked(pathlib.Path(sys.argv[1]), []))"
    )
    running = [subprocess.Popen([sys.executable, "-c", code, path], stdout=-1, text=True) for _ in range(3)]
    assert {each.communicate()[0].strip() for each in running} == {str(unpacked_folder(path))}
    assert [each.returncode for each in running] == [0, 0, 0]
    assert len(listing(unpacked_folder(path))) == 300


OPENED = """
import sys
from pathlib import Path
from foveal.data.unpack import unpacked
unpacked(Path(sys.argv[1]), [])
print("open", flush=True)
sys.stdin.read()
"""


def trees(cache):
    return {each.name.split("-")[0] for each in cache.iterdir() if not each.name.startswith(".")}


def opened(path):
    """A process that has an archive open until its input ends."""
    process = subprocess.Popen([sys.executable, "-c", OPENED, path], stdin=-1, stdout=-1, text=True)
    assert process.stdout.readline() == "open\n"
    return process


def test_what_was_not_opened_for_the_longest_time_makes_room(tmp_path, cache, monkeypatch):
    monkeypatch.setenv("FOVEAL_CACHE_GB", "0.0000025")  # 2,500 bytes
    paths = [zipped(tmp_path / f"{name}.zip", "x/1.jpg", **{"x/1.jpg": "y" * 1000}) for name in "abc"]
    for number in (0, 1, 0):
        opened(paths[number]).communicate()
    assert trees(cache) == {"a", "b"}
    opened(paths[2]).communicate()
    assert trees(cache) == {"a", "c"}
    assert not [each.name for each in cache.iterdir() if each.name.endswith(".part")]


def test_what_a_running_process_has_open_is_not_removed(tmp_path, cache, monkeypatch):
    monkeypatch.setenv("FOVEAL_CACHE_GB", "0.0000005")  # 500 bytes
    first = opened(zipped(tmp_path / "a.zip", "x/1.jpg", **{"x/1.jpg": "y" * 1000}))
    unpacked(zipped(tmp_path / "b.zip", "x/1.jpg", **{"x/1.jpg": "y" * 1000}), [])
    assert trees(cache) == {"a", "b"}
    first.kill()
    first.communicate()
    unpacked(zipped(tmp_path / "c.zip", "x/1.jpg", **{"x/1.jpg": "y" * 1000}), [])
    assert trees(cache) == {"b", "c"}


def test_a_cache_that_can_not_be_written_is_told(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    path = zipped(tmp_path / "x.zip", "cat/1.jpg")
    assert refusal(path) == (
        f"{tmp_path}/file/foveal/unpacked/.locks/{unpacked_folder(path).name}.used: can't be written: Not a directory\n"
        "Let XDG_CACHE_HOME name a folder on a disk where that works."
    )


def test_an_archive_larger_than_the_free_disk_is_told(tmp_path, monkeypatch):
    monkeypatch.setattr(unpack, "_KEPT_FREE", 1 << 62)
    assert "bytes that are free in" in refusal(zipped(tmp_path / "x.zip", "cat/1.jpg"))


@pytest.mark.parametrize("name", ["photos.zip", "photos.tar", "photos.tar.gz", "photos.TGZ"])
def test_data_in_an_archive_opens_as_data(tmp_path, name):
    names = ["photos/train/cat/1.jpg", "photos/train/dog/2.jpg", "photos/test/cat/3.jpg"]
    path = tmp_path / name
    if name.endswith("zip"):
        zipped(path, *names)
    else:
        tarred(path, {each: each.encode() for each in names})
    data = open_data(path)
    assert (data.train.form, data.class_names, len(data.train), len(data.test)) == ("folder", ("cat", "dog"), 2, 1)
    assert data.train.read(1).picture == b"photos/train/dog/2.jpg"
    assert data.said[0] == f"{name} is unpacked in {unpacked_folder(path)}"


def test_records_in_an_archive(tmp_path):
    write_records(tmp_path / "train.rec", [(0, pack(b"picture", 1.0, 0))], index=False)
    path = tarred(tmp_path / "x.tar", {"train.rec": (tmp_path / "train.rec").read_bytes()})
    assert open_data(path).train.read(0).picture == b"picture"
    assert is_packed_data(path)


def test_archives_by_split(tmp_path):
    zipped(tmp_path / "train.zip", "train/cat/1.jpg", "train/dog/2.jpg")
    zipped(tmp_path / "val.zip", "cat/3.jpg", "dog/4.jpg")
    zipped(tmp_path / "test.zip", "test/dog/5.jpg", "test/cat/6.jpg")
    zipped(tmp_path / "faults.zip", "x/1.jpg")
    data = open_data(tmp_path)
    assert [len(each) for each in (data.train, data.validation, data.test)] == [2, 2, 2]
    assert data.said[0] == "not read, for want of a split's name: faults.zip"


def test_splits_named_as_archives(tmp_path):
    train = zipped(tmp_path / "a.zip", "train/cat/1.jpg", "train/dog/2.jpg")
    test = zipped(tmp_path / "b.zip", "test/dog/5.jpg", "test/cat/6.jpg")
    data = open_data(train, test=test, validation=test)
    assert [len(each) for each in (data.train, data.validation, data.test)] == [2, 2, 2]


def test_an_archive_alone_in_a_folder_of_a_split(tmp_path):
    (tmp_path / "train").mkdir()
    zipped(tmp_path / "train/photos.zip", "cat/1.jpg", "dog/2.jpg")
    assert len(open_data(tmp_path).train) == 2


def test_pictures_of_a_table_in_an_archive_of_its_name(tmp_path):
    (tmp_path / "train.csv").write_text("file,label\n1.jpg,cat\n2.jpg,dog\n")
    zipped(tmp_path / "train.zip", "train/1.jpg", "train/2.jpg")
    assert open_data(tmp_path).train.read(1).picture == b"train/2.jpg"
    (tmp_path / "train.csv").rename(tmp_path / "labels.csv")
    assert open_data(tmp_path / "labels.csv", root=tmp_path / "train.zip").train.read(0).picture == b"train/1.jpg"


def test_pictures_of_coco_in_an_archive_of_its_split(tmp_path):
    coco = {
        "images": [{"id": 1, "file_name": "1.jpg"}],
        "annotations": [{"image_id": 1, "category_id": 1, "bbox": [1, 2, 3, 4]}],
        "categories": [{"id": 1, "name": "cat"}],
    }
    (tmp_path / "instances_train.json").write_text(json.dumps(coco))
    zipped(tmp_path / "train.zip", "train/1.jpg")
    data = open_data(tmp_path, task=None)
    assert (data.task, data.train.read(0).picture) == ("boxes", b"train/1.jpg")


def test_blood_cells_as_they_were_handed_out(shared):
    data = open_data(shared / "data" / "bccd", task=None)
    assert [len(each) for each in (data.train, data.validation, data.test)] == [205, 87, 72]
    assert data.class_names == ("Platelets", "RBC", "WBC")
    assert len(data.train.labels().values) == 2382 + 214 + 209


@pytest.mark.parametrize(
    ("names", "what"),
    [
        (["train-1.zip", "train-2.zip"], "2 archives for one split: train-1.zip, train-2.zip\nUnpack them into one"),
        (["a.parquet"], "its Parquet files aren't read\nExport the pictures as files with a metadata.jsonl, or as Web"),
    ],
)
def test_folders_that_can_not_be_read_are_told(tmp_path, names, what):
    for name in names:
        zipped(tmp_path / name, "cat/1.jpg")
    assert refusal(tmp_path).startswith(f"{tmp_path}: {what}")


@pytest.mark.parametrize(
    ("name", "what"),
    [
        ("x.7z", "this is no archive that is read\nUnpack it, or pack it as zip or tar. Data is"),
        (
            "x.parquet",
            "Parquet files aren't read\nExport the pictures as files with a metadata.jsonl, or as WebDataset",
        ),
    ],
)
def test_files_that_can_not_be_read_are_told(tmp_path, name, what):
    (tmp_path / name).write_bytes(b"x")
    assert refusal(tmp_path / name).startswith(f"{tmp_path / name}: {what}")


def test_a_model_is_no_data(tmp_path):
    path = tarred(tmp_path / "model.tar.gz", {"foveal.json": b"{}", "model.safetensors": b"1"})
    assert refusal(path).startswith(f"{path}: this is a trained model, not data\n`foveal inspect` tells what it is.")
    assert not is_packed_data(path)
    assert not unpacked_folder(path).exists()


def test_a_split_without_training_data_in_an_archive(tmp_path):
    zipped(tmp_path / "train.zip", "train/cat/1.jpg", "train/dog/2.jpg")
    zipped(tmp_path / "test.zip", "train/cat/1.jpg", "val/cat/2.jpg")
    assert refusal(tmp_path) == (
        f"{tmp_path}/test.zip: it has train, validation, but no test data\nName it by what it holds."
    )


def test_shards_are_read_in_place(tmp_path, cache):
    tarred(tmp_path / "train-000.tar", samples(0, 3))
    tarred(tmp_path / "train-001.tar", samples(3, 2))
    tarred(tmp_path / "val-000.tar", samples(9, 1))
    data = open_data(tmp_path)
    assert (data.train.form, len(data.train), len(data.validation), data.class_names) == (
        "webdataset",
        5,
        1,
        ("0", "1"),
    )
    assert data.said == (
        "train: labels by .cls",
        "validation: labels by .cls",
        "train: WebDataset shards, 5 pictures",
        "validation: WebDataset shards, 1 picture",
    )
    assert not cache.exists()


def test_a_range_of_shards_and_one_shard(tmp_path):
    for number in range(3):
        tarred(tmp_path / f"s-{number:04d}.tar", samples(number * 2, 2))
    data = open_data(tmp_path / "s-{0000..0001}.tar", validation=tmp_path / "s-0002.tar")
    assert (len(data.train), len(data.validation)) == (4, 2)
    assert refusal(tmp_path / "s-{0002..0003}.tar") == (
        f"{tmp_path}/s-0003.tar: can't be opened: No such file or directory\nCheck the path and who may read it."
    )
    assert refusal(tmp_path / "s-{3..2}.tar") == (
        f"{tmp_path}/s-{{3..2}}.tar: the range {{3..2}} means 0 files\n"
        "A range goes up, and has at most 100,000 numbers."
    )


def test_a_folder_of_shards_without_splits(tmp_path):
    tarred(tmp_path / "a.tar", samples(0, 2))
    tarred(tmp_path / "b.tar", samples(2, 2))
    assert len(open_data(tmp_path).train) == 4


def test_a_tar_of_a_folder_is_no_shard(tmp_path):
    path = tarred(tmp_path / "x.tar", {"cat/1.jpg": b"1", "cat/1.txt": b"", "dog/2.jpg": b"2"})
    assert open_data(path).train.form == "folder"


def test_compressed_shards_are_told(tmp_path):
    path = tarred(tmp_path / "x.tar.gz", samples(0, 2))
    assert refusal(path) == (
        f"{path}: it holds WebDataset's samples (.cls), and shards are read from uncompressed tar files only\n"
        "Decompress it first (gunzip, xz -d), or unpack and pack it with tar."
    )


def test_an_archive_that_is_meant_as_a_shard_and_is_none(tmp_path):
    path = zipped(tmp_path / "x.zip", "cat/1.jpg")
    assert refusal(path, form="webdataset") == (
        f"{path}: this file isn't read as webdataset\nWebDataset is an uncompressed tar file, or several, in which a "
        "picture and its label (.cls, .json or .txt) have one name and follow each other."
    )


def metadata(folder, rows):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "metadata.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    for row in rows:
        (folder / row["file_name"]).write_bytes(row["file_name"].encode())


def test_metadata_by_split(tmp_path):
    metadata(tmp_path / "train", [{"file_name": "1.jpg", "label": "cat"}, {"file_name": "2.jpg", "label": "dog"}])
    metadata(tmp_path / "validation", [{"file_name": "3.jpg", "label": "dog"}])
    data = open_data(tmp_path)
    assert (data.train.form, data.class_names, data.validation.labels().values.tolist()) == (
        "imagefolder",
        ("cat", "dog"),
        [1],
    )
    assert data.said[1:] == (
        "train: a folder with metadata, 2 pictures, 2 classes",
        "validation: a folder with metadata, 1 picture, 2 classes",
        "classes in this order: cat, dog",
    )


def test_metadata_with_objects_is_data_for_detection(tmp_path):
    objects = {"bbox": [[1, 2, 3, 4]], "categories": [0]}
    metadata(tmp_path, [{"file_name": "1.jpg", "objects": objects}])
    data = open_data(tmp_path, task=None)
    assert data.task == "boxes" and isinstance(data.train, BoxSource)
    assert refusal(tmp_path).startswith(
        f"{tmp_path}/metadata.jsonl: its rows have objects, and classes are asked for\n"
    )


def test_names_that_only_validation_has_are_told(tmp_path):
    metadata(tmp_path / "train", [{"file_name": "1.jpg", "label": 0}])
    metadata(tmp_path / "validation", [{"file_name": "3.jpg", "label": "dog"}])
    assert refusal(tmp_path) == (
        f"{tmp_path}/validation/metadata.jsonl: the validation data: it has names of classes, the training data only "
        "numbers\nPut the names of the training classes into classes.txt beside them, one a line, in label order."
    )


def test_a_disk_that_has_no_locks_is_told_instead_of_waited_for(tmp_path, monkeypatch):
    def no_locks(handle, operation):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr("fcntl.flock", no_locks)
    path = zipped(tmp_path / "x.zip", "cat/1.jpg")
    assert refusal(path) == (
        f"{cache_folder()}/.locks: no file can be locked: No locks available\n"
        "Let XDG_CACHE_HOME name a folder on a disk where that works."
    )
