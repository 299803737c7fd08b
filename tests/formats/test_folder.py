"""A folder per class."""

from __future__ import annotations

import pytest
from PIL import Image

from foveal.errors import UserError
from foveal.formats.folder import read_folder
from foveal.formats.pictures import SUFFIXES, picture_files, read_class_names, sort_class_names
from foveal.records import Remark


def make(root, *names):
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(name.encode())
    return root


def test_subfolders_are_classes_in_order_of_their_names(tmp_path):
    source, said = read_folder(make(tmp_path, "dog/1.png", "cat/1.jpg", "cat/2.PGM"))
    assert source.class_names == ("cat", "dog")
    assert source.files == ("cat/1.jpg", "cat/2.PGM", "dog/1.png")
    assert source.labels().values.tolist() == [0, 0, 1]
    assert source.where(2) == str(tmp_path / "dog/1.png")
    assert source.read(2).label == 1
    assert said == ()


def test_files_come_in_natural_order_and_from_any_depth(tmp_path):
    source, _ = read_folder(make(tmp_path, "a/10.jpg", "a/2.jpg", "a/deep/er/1.jpg", "b/x.jpg"))
    assert source.files == ("a/2.jpg", "a/10.jpg", "a/deep/er/1.jpg", "b/x.jpg")


def test_numbers_as_class_names_sort_as_numbers_only_if_all_are():
    assert sort_class_names(["10", "9", "2"]) == ("2", "9", "10")
    assert sort_class_names(["10", "9", "b"]) == ("10", "9", "b")
    assert sort_class_names(["01", "1", "0"]) == ("0", "01", "1")


def test_hidden_files_are_ignored_and_what_is_left_out_is_said(tmp_path):
    make(tmp_path, "a/1.jpg", "b/1.jpg", "a/.2.jpg", ".git/3.jpg", "__MACOSX/a/1.jpg")
    make(tmp_path, "a/Thumbs.db", "loose.png", "empty/x.txt")
    source, said = read_folder(tmp_path)
    assert source.files == ("a/1.jpg", "b/1.jpg")
    lines = (
        f"left out: the folder {tmp_path}/empty, which holds no picture",
        f"left out: 1 pictures in {tmp_path} itself, which have no class, e.g. loose.png",
        f"left out: 2 files in {tmp_path} that are no pictures by name, e.g. a/Thumbs.db",
    )
    assert said == tuple(Remark("passed-over", line) for line in lines)


def test_a_validation_folder_may_lack_classes_but_not_have_new_ones(tmp_path):
    source, _ = read_folder(make(tmp_path, "dog/1.jpg"), class_names=("cat", "dog"))
    assert source.labels().values.tolist() == [1]
    make(tmp_path, "cow/1.jpg")
    with pytest.raises(UserError, match=r"the class cow is not among the known classes \(cat, dog\)"):
        read_folder(tmp_path, class_names=("cat", "dog"))


def test_a_folder_without_classes_is_refused(tmp_path):
    with pytest.raises(UserError, match="no subfolder of it holds a picture"):
        read_folder(make(tmp_path, "1.jpg"))


def test_the_fingerprint_tells_sizes_and_labels_and_not_the_place(tmp_path):
    for place in ("a", "b"):
        make(tmp_path / place, "cat/1.jpg", "dog/1.jpg")
    make(tmp_path / "c", "cat/1.jpg", "dog/1.jpg")
    (tmp_path / "c/dog/1.jpg").write_bytes(b"another size")
    a, b, c = (read_folder(tmp_path / place)[0].fingerprint() for place in "abc")
    assert a == b != c


def test_pictures_below_a_folder_come_in_natural_order_without_hidden_ones(tmp_path):
    make(tmp_path, "10.JPG", "2.png", "notes.txt", "b/3.jpg", "b/c/20.webp", "b/c/3.webp")
    make(tmp_path, "._2.png", ".cache/1.png", "__MACOSX/1.png")
    (tmp_path / "gone.png").symlink_to(tmp_path / "nowhere")
    (tmp_path / "folder.png").mkdir()
    wanted = ["2.png", "10.JPG", "b/3.jpg", "b/c/3.webp", "b/c/20.webp"]
    assert picture_files(tmp_path) == [tmp_path / name for name in wanted]
    assert picture_files(tmp_path / "nowhere") == []


def test_every_suffix_is_one_that_pillow_opens():
    Image.init()
    opened = {suffix for suffix, kind in Image.registered_extensions().items() if kind in Image.OPEN}
    assert opened >= SUFFIXES


@pytest.mark.parametrize(
    ("text", "where", "what"),
    [
        ("cat\n\ndog\n", "line 2", "a blank line between class names"),
        ("cat\ndog\ncat\n", "line 3", "the class 'cat' is already named in line 1"),
        ("\n\n", "", "names no class"),
    ],
)
def test_class_names_that_can_not_be_meant_are_refused(tmp_path, text, where, what):
    (tmp_path / "classes.txt").write_text(text)
    with pytest.raises(UserError) as caught:
        read_class_names(tmp_path / "classes.txt")
    assert caught.value.where == f"{tmp_path}/classes.txt" + (f", {where}" if where else "")
    assert caught.value.what == what


def test_class_names_are_lines(tmp_path):
    (tmp_path / "classes.txt").write_bytes("\ufeffT-shirt top\r\nBär\r\n\r\n".encode())
    assert read_class_names(tmp_path / "classes.txt") == ("T-shirt top", "Bär")
