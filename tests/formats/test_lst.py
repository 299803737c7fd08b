"""Lists of pictures."""

from __future__ import annotations

import pytest

from foveal.errors import BadPicture, UserError
from foveal.formats.lst import read_lst


@pytest.fixture
def folder(tmp_path):
    for name in ("cats/1.jpg", "cats/2.jpg", "a dog.jpg"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(name.encode())
    return tmp_path


def write(folder, text, name="train.lst"):
    (folder / name).write_bytes(text.encode())
    return folder / name


def test_a_list_is_read_in_its_order(folder):
    source = read_lst(write(folder, "0\t1\tcats/1.jpg\n7\t1.000000\tcats/2.jpg\n3\t0\ta dog.jpg\n"))
    assert source.files == ("cats/1.jpg", "cats/2.jpg", "a dog.jpg")
    assert source.labels().values.tolist() == [1, 1, 0]
    assert source.read(2).picture == b"a dog.jpg"
    assert source.read(2).label == 0
    assert source.where(2) == "train.lst, line 3 (a dog.jpg)"
    assert source.bad == ()


def test_windows_line_ends_blank_lines_trailing_blanks_and_backslashes_do_no_harm(folder):
    source = read_lst(write(folder, "\ufeff0\t1\tcats\\1.jpg  \r\n\r\n1\t0\t./a dog.jpg\t\r\n\r\n"))
    assert source.files == ("cats/1.jpg", "a dog.jpg")
    assert source.where(1) == "train.lst, line 3 (a dog.jpg)"


def test_several_labels_a_line_are_kept(folder):
    source = read_lst(write(folder, "0\t1\t0\t1\tcats/1.jpg\n1\t5\tcats/2.jpg\n"))
    assert source.labels().values.tolist() == [1, 0, 1, 5]
    assert source.labels().offsets.tolist() == [0, 3, 4]
    assert source.read(0).label.tolist() == [1, 0, 1]


def test_a_number_that_is_too_large_is_left_to_the_check_of_labels(folder):
    assert read_lst(write(folder, "0\t1e300\tcats/1.jpg\n")).labels().values.tolist() == [float("inf")]


def test_a_picture_named_twice_has_two_keys(folder):
    source = read_lst(write(folder, "0\t1\tcats/1.jpg\n1\t0\tcats/1.jpg\n"))
    assert [source.read(row).key for row in range(2)] == ["cats/1.jpg (line 1)", "cats/1.jpg (line 2)"]


def test_a_missing_picture_is_left_out_and_its_line_named(folder):
    source = read_lst(write(folder, "0\t1\tcats/1.jpg\n1\t1\tcats/9.jpg\n2\t0\ta dog.jpg\n"))
    assert source.files == ("cats/1.jpg", "a dog.jpg")
    assert source.labels().values.tolist() == [1, 0]
    assert [(bad.where, bad.reason) for bad in source.bad] == [
        ("train.lst, line 2", f"the picture cats/9.jpg isn't in {folder}")
    ]


def test_a_picture_that_goes_away_later_is_a_bad_picture(folder):
    source = read_lst(write(folder, "0\t1\tcats/1.jpg\n"))
    (folder / "cats/1.jpg").unlink()
    with pytest.raises(BadPicture, match=r"train\.lst, line 1 \(cats/1\.jpg\): can't be read: No such file"):
        source.read(0)


def test_pictures_are_found_in_a_folder_called_like_the_list(folder):
    path = write(folder, "0\t1\t1.jpg\n", "cats.lst")
    assert read_lst(path).root == folder / "cats"
    assert read_lst(path, root=folder / "cats").read(0).picture == b"cats/1.jpg"


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("0\tcat\tcats/1.jpg", "the label 'cat' is no number"),
        ("x\t1\tcats/1.jpg", "the index 'x' is no whole number"),
        ("0.5\t1\tcats/1.jpg", "the index '0.5' is no whole number"),
        ("0\tcats/1.jpg", "2 columns separated by tabs, at least 3 are needed"),
        ("0 1 cats/1.jpg", "1 column separated by tabs, at least 3 are needed"),
    ],
)
def test_a_bad_line_gives_the_original_text_then_file_line_and_columns(folder, line, problem):
    path = write(folder, f"0\t1\tcats/1.jpg\n{line}\n")
    with pytest.raises(UserError) as caught:
        read_lst(path, channel="validation")
    assert str(caught.value) == (
        "Invalid lst file in the validation channel.\n"
        f"{path}, line 2: {problem}: {line!r}\n"
        "A line is `index<tab>label<tab>path`: a whole number, a class number from 0, the picture's relative path."
    )


def test_an_index_that_is_there_already_names_both_lines(folder):
    path = write(folder, "0\t1\tcats/1.jpg\n1\t1\tcats/2.jpg\n0\t0\ta dog.jpg\n")
    with pytest.raises(UserError) as caught:
        read_lst(path)
    assert str(caught.value) == (
        f"{path}, line 3: the index 0 is in line 1 already: '0\\t0\\ta dog.jpg'\n"
        "Each line has an index of its own: number the lines anew."
    )
    with pytest.raises(UserError, match=r"Invalid lst file in the train channel\.\n.*line 3: the index 0 is in"):
        read_lst(path, channel="train")


def test_a_label_that_is_missing_is_no_number(folder):
    path = write(folder, "0\t\tcats/1.jpg\n")
    with pytest.raises(UserError) as caught:
        read_lst(path)
    assert str(caught.value) == (
        f"{path}, line 1: the label '' is no number: '0\\t\\tcats/1.jpg'\n"
        "A line is `index<tab>label<tab>path`: a whole number, a class number from 0, the picture's relative path."
    )


def test_outside_of_training_no_channel_is_spoken_of(folder):
    path = write(folder, "0\tcats/1.jpg\n")
    with pytest.raises(UserError) as caught:
        read_lst(path)
    assert str(caught.value).splitlines()[0] == (
        f"{path}, line 1: 2 columns separated by tabs, at least 3 are needed: '0\\tcats/1.jpg'"
    )


@pytest.mark.parametrize("line", ["\1" * 500 + "\t1\tcats/1.jpg", "0\t" + "\1" * 500 + "\tcats/1.jpg"])
def test_fields_that_are_long_or_binary_are_cut(folder, line):
    with pytest.raises(UserError, match="is no") as caught:
        read_lst(write(folder, line))
    shown = repr("\1" * 80 + "...")
    assert f" {shown} is no " in caught.value.what
    assert caught.value.what.count("\\x01") <= 2 * 80
    assert "\1" not in str(caught.value)


@pytest.mark.parametrize(
    "name", ["cats/\0.jpg", "\0/1.jpg", "x" * 300 + ".jpg", "y" * 300 + "/1.jpg", "cats/" * 1000 + "1.jpg"]
)
def test_a_name_that_no_file_can_have_is_left_out(folder, name):
    source = read_lst(write(folder, f"0\t1\t{name}\n1\t0\tcats/1.jpg\n"))
    assert source.files == ("cats/1.jpg",)
    assert [bad.where for bad in source.bad] == ["train.lst, line 1"]
    assert len(source.bad[0].reason) < 300 + len(str(folder))


def test_an_empty_list_and_one_without_its_pictures_are_refused(folder):
    with pytest.raises(UserError, match=r"Invalid lst file in the train channel\.\n.*train\.lst: it names no picture"):
        read_lst(write(folder, "\n\n"), channel="train")
    with pytest.raises(UserError, match=r"none of its 1 pictures is there; the first: the picture nine\.jpg isn't in"):
        read_lst(write(folder, "0\t1\tnine.jpg\n"))


def test_names_that_are_not_utf8_are_read_and_shown(folder):
    (folder / "train.lst").write_bytes(b"0\t1\tcats/1.jpg\n1\t1\tb\xe4r.jpg\n")
    assert read_lst(folder / "train.lst").bad[0].reason == f"the picture b\\udce4r.jpg isn't in {folder}"
