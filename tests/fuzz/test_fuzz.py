"""Readers given 2,000 wrong inputs each: only errors that a person can mend. `make fuzz` gives them many more."""

from __future__ import annotations

import itertools
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from random import Random

import pytest

if sys.platform != "linux":
    pytest.skip("bounds of memory are set as Linux has them", allow_module_level=True)

import fuzzing
from archives import make_tar, make_zip, tar_seeds, zip_seeds
from fence import Escaped, fenced
from fuzzing import fuzz
from mutation import LONGEST, mutate_binary, mutate_text
from readers import CORPUS, PACKAGE, READERS, Reader

from foveal.errors import UserError

COUNT = 2000


@pytest.fixture
def deep(tmp_path: Path) -> Path:
    """An empty folder, four folders down: names that lead up from it reach nothing of others."""
    folder = tmp_path / "a" / "b" / "c" / "d"
    folder.mkdir(parents=True)
    return folder


@pytest.mark.parametrize("name", READERS)
def test_wrong_inputs_come_to_data_or_to_errors_that_can_be_mended(name: str, deep: Path) -> None:
    report = fuzz(READERS[name], deep, COUNT)
    assert [failure.what for failure in report.failures] == []
    assert report.inputs == COUNT + len(READERS[name].seeds())
    assert report.read > 0


@pytest.mark.parametrize("name", READERS)
def test_right_inputs_of_most_readers_are_read(name: str, deep: Path) -> None:
    reader = READERS[name]
    report = fuzz(reader, deep, 0)
    assert report.read >= min(len(reader.right()), 2)


def test_the_corpus_is_small_and_of_readers_that_there_are() -> None:
    files = list(CORPUS.glob("*/*"))
    assert {path.parent.name for path in files} <= set(READERS)
    assert sum(path.stat().st_size for path in files) < 200_000


@pytest.mark.parametrize(
    ("make", "seeds"),
    [
        (mutate_binary, [b"one", b"another" * 99]),
        (mutate_text, [b'{"a": [1, 2]}\nb,c\n']),
        (make_tar, tar_seeds()),
        (make_zip, zip_seeds()),
    ],
)
def test_a_seed_makes_the_same_input_again(make, seeds) -> None:
    made = [make(Random(seed), seeds, [b"word"]) for seed in range(200)]
    assert [make(Random(seed), seeds, [b"word"]) for seed in range(200)] == made
    assert len(set(made)) > 100
    assert max(map(len, made)) <= max(LONGEST, 200_000)


def failure(act: Callable[[], object], folder: Path) -> str:
    """What is told of a reader that does this with its input; before anything counts it is given it once."""
    given: list[bytes] = []

    def read(folder: Path, content: bytes) -> None:
        given.append(content)
        if len(given) > 1:
            act()

    report = fuzz(Reader("failing", True, (), lambda: [b"seed"], read), folder, 0)
    assert [each.content for each in report.failures] == [b"seed"]
    return report.failures[0].what.splitlines()[-1]


def test_what_is_no_user_error_is_a_failure(deep: Path) -> None:
    assert failure(lambda: {}["x"], deep) == "KeyError: 'x'"


def test_a_warning_is_a_failure(deep: Path) -> None:
    assert failure(lambda: warnings.warn("overflow", RuntimeWarning, 1), deep) == "RuntimeWarning: overflow"


def test_a_message_that_nobody_reads_is_a_failure(deep: Path) -> None:
    def act() -> None:
        raise UserError("endless " * 999)

    told = "AssertionError: a message of 7,992 characters: " + ("endless " * 999)[:200]
    assert failure(act, deep) == told


def test_memory_without_bounds_is_a_failure(deep: Path) -> None:
    assert failure(lambda: bytes(2 * fuzzing.MEMORY), deep).startswith("MemoryError")


def test_time_without_bounds_is_a_failure(deep: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fuzzing, "STOPPED", 0.2)
    assert failure(lambda: [None for _ in itertools.count() if None], deep).startswith("Stopped: stopped after")


def test_what_takes_more_than_a_second_is_a_failure(deep: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fuzzing, "SLOW", 0.01)
    assert failure(lambda: sum(range(3_000_000)), deep).startswith("it took 0.")


def test_nothing_is_changed_or_seen_outside_the_fence(tmp_path: Path) -> None:
    inside, outside = tmp_path / "inside", tmp_path / "outside"
    inside.mkdir()
    outside.write_text("seen")
    with fenced(inside):
        (inside / "kept").write_text("fine")
        for change in (
            lambda: (inside / ".." / "new").write_text("x"),
            lambda: (tmp_path / "new").mkdir(),
            lambda: outside.rename(inside / "taken"),
            lambda: outside.unlink(),
            lambda: (inside / "link").symlink_to("kept"),
            lambda: (inside / "second").hardlink_to(outside),
        ):
            with pytest.raises(Escaped):
                change()
        with pytest.raises(PermissionError, match="outside the fence"):
            outside.read_text()
        with pytest.raises(PermissionError, match="outside the fence"):
            list(tmp_path.iterdir())
    assert sorted(path.name for path in tmp_path.iterdir()) == ["inside", "outside"]
    assert [path.name for path in inside.iterdir()] == ["kept"]


def test_lines_that_are_reached_are_noted(deep: Path) -> None:
    report = fuzz(READERS["class-names"], deep, 5, measure=True)
    seen, there = report.lines["formats/pictures.py"]
    assert 10 < len(seen) < there < 200
    assert (PACKAGE / "formats" / "pictures.py").is_file()
