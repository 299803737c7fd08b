"""``foveal convert`` and the im2rec side of ``foveal pack``, by the front door."""

from __future__ import annotations

import csv

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from foveal.cli.convert import TO
from foveal.cli.main import foveal
from foveal.converting.targets import TARGETS
from foveal.data.recognise import open_data
from foveal.errors import UserError


@pytest.fixture
def photos(tmp_path):
    """A folder per class, 8 pictures each, and a folder below one of them."""
    for number in range(16):
        folder = tmp_path / "photos" / ("cat", "dog/old" if number > 12 else "dog")[number // 8]
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((20, 30, 3), number * 9, np.uint8)).save(folder / f"{number}.jpg")
    return tmp_path / "photos"


def run(*arguments):
    result = CliRunner().invoke(foveal, list(map(str, arguments)), catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result


def fails(*arguments):
    with pytest.raises(UserError) as caught:
        CliRunner().invoke(foveal, list(map(str, arguments)), catch_exceptions=False, standalone_mode=False)
    return str(caught.value)


def names(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def test_the_forms_offered_are_those_that_are_written():
    assert tuple(TARGETS) == TO


def test_a_folder_becomes_records_and_a_folder_again(photos, tmp_path):
    result = run("convert", photos, tmp_path / "a.rec")
    assert result.stderr.splitlines()[-2:] == [
        f"{tmp_path}/a.rec: recordio, 16 train",
        "recordio holds numbers of classes; their names are in classes.txt",
    ]
    run("convert", tmp_path / "a.rec", tmp_path / "again", "--to", "folder", "--num-thread", "2")
    assert names(tmp_path / "again")[:2] == ["cat/train_000000.jpg", "cat/train_000001.jpg"]
    assert (tmp_path / "again/dog/train_000008.jpg").read_bytes() == (photos / "dog/8.jpg").read_bytes()


def test_all_that_can_be_chosen_at_once(photos, tmp_path):
    (tmp_path / "away.txt").write_text("cat/0.jpg\n\ncat/1.jpg\n")
    result = run(
        "convert", photos, tmp_path / "out", "--to", "csv", "--split", "0.5,0.5", "--sample", 8, "--seed", 4,
        "--map", "cat=feline", "--classes", "dog,feline", "--drop", tmp_path / "away.txt", "--drop", "8.jpg",
        "--resize", 10, "--quality", 50,
    )  # fmt: skip
    assert result.stderr.splitlines()[1:5] == [
        "dropped by name: 3 pictures",
        "train: a sample of 8 of 13 pictures, seed 4",
        "split by class, seed 4: 4 train, 4 validation",
        f"{tmp_path}/out: csv, 4 train, 4 validation",
    ]
    again = open_data(tmp_path / "out")
    assert again.class_names == ("dog", "feline")
    with Image.open(tmp_path / "out" / names(tmp_path / "out")[1]) as image:
        assert image.size == (15, 10)


def table(tmp_path, photos):
    with (tmp_path / "table.csv").open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["file", "label", "camera"])
        for number, path in enumerate(sorted(photos.rglob("*.jpg"))):
            rows.writerow([path.relative_to(tmp_path), path.relative_to(photos).parts[0], f"c{number // 2}"])
    return tmp_path / "table.csv"


def test_a_column_of_a_table_groups_pictures_and_is_written_again(photos, tmp_path):
    run(
        "convert",
        table(tmp_path, photos),
        tmp_path / "out",
        "--to",
        "csv",
        "--split",
        "0.5,0.5",
        "--group-by",
        "camera",
    )
    groups = {}
    for split in ("train", "val"):
        with (tmp_path / "out" / f"{split}.csv").open(newline="") as file:
            groups[split] = {row["group"] for row in csv.DictReader(file)}
    assert groups["train"] | groups["val"] == {f"c{number}" for number in range(8)}
    assert not groups["train"] & groups["val"]


def test_groups_are_told_where_the_form_has_none(photos, tmp_path):
    result = run("convert", table(tmp_path, photos), tmp_path / "out", "--to", "lst", "--group-by", "camera")
    assert "lst has no groups: which pictures belong together is not kept" in result.stderr


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["--split", "a,b"], "'a,b' are no shares\nWrite 0.8,0.1,0.1 (train, val, test)."),
        (["--map", "cat"], "'cat' is not of the form OLD=NEW\nWrite --map kitten=cat."),
        (["--map", "cat=a", "--map", "cat=b"], "the class 'cat' is given two names\nGive it one."),
    ],
)
def test_options_that_can_not_be_meant(photos, tmp_path, options, told):
    assert fails("convert", photos, tmp_path / "out", "--to", "lst", *options) == told


def test_lists_of_what_to_drop_that_can_not_be_read(photos, tmp_path):
    (tmp_path / "a.txt").write_bytes(b"\xff\xfe\x00")
    assert fails("convert", photos, tmp_path / "out", "--to", "lst", "--drop", tmp_path / "a.txt").startswith(
        f"{tmp_path}/a.txt: can't be read as text: 'utf-8' codec can't decode byte 0xff"
    )
    (tmp_path / "b.jsonl").write_text('{"where": "cat/0.jpg"}\n{"place": "x"}\n')
    assert fails("convert", photos, tmp_path / "out", "--to", "lst", "--drop", tmp_path / "b.jsonl") == (
        f'{tmp_path}/b.jsonl, line 2: no JSON object with a text "where": \'{{"place": "x"}}\'\n'
        "Give lines as bad_records.jsonl has them."
    )


def test_pack_divides_crops_and_lists_as_im2rec_does(photos, tmp_path):
    run("pack", photos, tmp_path / "out", "--train-ratio", 0.5, "--test-ratio", 0.25, "--resize", 10, "--center-crop",
        "--encoding", ".png", "--color", 0, "--chunks", 2, "--num-thread", 2)  # fmt: skip
    assert [name for name in names(tmp_path / "out") if name.endswith(".rec")] == [
        "test_0.rec", "test_1.rec", "train_0.rec", "train_1.rec", "val_0.rec", "val_1.rec",
    ]  # fmt: skip
    again = open_data(tmp_path / "out")
    assert (len(again.train), len(again.validation), len(again.test)) == (8, 4, 4)
    result = run("pack", photos, tmp_path / "lists", "--list", "--recursive", "--no-shuffle")
    assert (tmp_path / "lists/classes.txt").read_text() == "cat\ndog\ndog/old\n"
    assert (tmp_path / "lists/train.lst").read_text().splitlines()[-2:] == [
        "14\t2\tdog/old/14.jpg",
        "15\t2\tdog/old/15.jpg",
    ]
    assert result.stderr.splitlines()[-1] == f"{tmp_path}/lists/train.lst: 16 pictures, relative to {photos}"
    run("pack", tmp_path / "lists/train.lst", tmp_path / "b", "--root", photos, "--pass-through", "--label-width", 1)


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (
            ["--pass-through", "--resize", "8", "--color", "1"],
            "pass_through keeps the bytes of pictures, and --resize, --color would change them\nLeave one of them out.",
        ),
        (["--encoding", ".png", "--quality", "3"], "PNG has no quality\nLeave --quality out, or encode as .jpg."),
        (
            ["--test-ratio", "0.2"],
            "no share for training is given\nGive --train-ratio and --test-ratio that make 1 at most.",
        ),
        (
            ["--train-ratio", "0.9", "--test-ratio", "0.2"],
            "0.9 and 0.2 are more than 1\nGive --train-ratio and --test-ratio that make 1 at most.",
        ),
    ],
)
def test_options_of_pack_that_contradict_each_other(photos, tmp_path, options, told):
    assert fails("pack", photos, tmp_path / "out", *options) == told


def test_recursive_takes_a_folder_of_pictures(photos, tmp_path):
    assert fails("pack", photos / "cat/0.jpg", tmp_path / "out", "--recursive") == (
        f"{photos}/cat/0.jpg: --recursive takes a folder of pictures\nLeave it out."
    )
    (tmp_path / "empty").mkdir()
    assert fails("pack", tmp_path / "empty", tmp_path / "out", "--recursive") == (
        f"{tmp_path}/empty: it holds no picture, at any depth\nName the folder of the pictures."
    )
