"""Training on shards in a bucket that are larger than the cache, and what keeps a run to its order."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import foveal
from foveal.data.order import Order, choose_order, order_of, shards_of
from foveal.data.recognise import open_data
from foveal.data.subset import Subset
from foveal.errors import UserError
from foveal.formats.imagerecord import pack
from foveal.formats.recordio import write_records
from foveal.storage import cache, ranges
from foveal.training.checkpoint import Checkpoint
from foveal.training.events import Event, Said
from foveal.training.run import _expect_order

PART = 4096
BOUND = 120_000  # bytes of cache; the shards have more than twice as many
KILLED = f"""
import runpy, sys
from foveal.storage import ranges
ranges.PART = {PART}
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""
SETTINGS: dict[str, object] = {
    "num_layers": 20,
    "image_shape": "3,32,32",
    "epochs": 2,
    "mini_batch_size": 8,
    "use_pretrained_model": 0,
    "validation_fraction": 0,
    "shuffle_buffer": 9,
    "cache_pictures": 0,
    "checkpoint_steps": 5,
    "loader_workers": 2,
    "device": "cpu",
}


@pytest.fixture
def shards(shapes_folder: Path, tmp_path: Path) -> Path:
    """``train_0.rec`` and ``train_1.rec`` of 60 pictures each, the classes mixed."""
    folder = tmp_path / "recs"
    folder.mkdir()
    pictures = sorted((shapes_folder / "train").rglob("*.*g"), key=lambda path: (path.stem, path.parent.name))
    names = sorted({path.parent.name for path in pictures})
    for shard in range(2):
        part = pictures[60 * shard : 60 * shard + 60]
        payloads = (pack(path.read_bytes(), float(names.index(path.parent.name)), row) for row, path in enumerate(part))
        write_records(folder / f"train_{shard}.rec", enumerate(payloads), index=False)
    return folder


def test_a_killed_run_on_shards_larger_than_the_cache_ends_as_one_on_disk(
    shards: Path, bucket: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FOVEAL_CACHE_GB", str(BOUND / 1e9))
    monkeypatch.setattr(ranges, "PART", PART)
    assert sum(path.stat().st_size for path in shards.iterdir()) > 2 * BOUND
    address = bucket.put_folder(shards, "recs")
    script = Path(__file__).with_name("killed.py")
    pairs = [f"{name}={value}" for name, value in SETTINGS.items()]
    command = [sys.executable, "-c", KILLED, str(script), "step:20", address, str(tmp_path / "far"), *pairs]
    assert subprocess.run(command, capture_output=True).returncode == -signal.SIGKILL
    assert (tmp_path / "far" / "checkpoints" / "step-00000015").is_dir()
    lines: list[str] = []

    def note(event: Event) -> None:
        if isinstance(event, Said):
            lines.append(event.text)

    far = foveal.train(address, tmp_path / "far", listeners=[note], **SETTINGS)
    assert any("2 shards of" in line and "read through ranges" in line for line in lines)
    near = foveal.train(shards, tmp_path / "near", **(SETTINGS | {"order": "shards+window"}))
    weights = [(Path(each.model) / "model.safetensors").read_bytes() for each in (far, near)]
    assert weights[0] == weights[1]
    assert sum(taken for _, taken, _ in cache._copies(cache.objects_folder() / cache.RANGES)) <= BOUND + 4 * PART
    with pytest.raises(UserError) as caught:
        foveal.train(shards, tmp_path / "near", **(SETTINGS | {"order": "window"}))
    told = "a run with other settings or data is in this folder (order: shards+window before, window now)"
    assert caught.value.what == told


def test_the_order_of_what_is_read_through_ranges_is_a_window(
    shards: Path, bucket: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ranges, "PART", PART)
    monkeypatch.setenv("FOVEAL_WHOLE_GB", "0")
    near, address = open_data(shards).train, bucket.put_folder(shards, "recs")
    both, one = open_data(address).train, open_data(f"{address}/train_0.rec").train
    why = "for the data is read through ranges from its store"
    assert choose_order("auto", 9, near) == ("permutation", (), ())
    idle = "shuffle_buffer=9 has no effect: order=auto shuffles what is on disk all over; order=window would use it"
    assert choose_order("auto", 9, near, True) == ("permutation", (), (idle,))
    assert choose_order("auto", 9, both) == (
        "shards+window",
        (f"order=shards+window with shuffle_buffer=9, {why}",),
        (),
    )
    assert choose_order("auto", 9, one)[:2] == ("window", (f"order=window with shuffle_buffer=9, {why}",))
    monkeypatch.setenv("FOVEAL_CACHE_GB", str(BOUND / 1e9))
    each = sum(path.stat().st_size for path in shards.iterdir()) / 120
    assert choose_order("permutation", 9, both)[2] == (
        "order=permutation reads a part of a shard for nearly every picture: order=auto reads each about once",
    )
    fits = int(0.9 * BOUND / 10 / each)
    assert choose_order("window", 9, both)[2] == (
        f"shuffle_buffer=9 pictures of {each / 1000:.1f} kB want 10 times their bytes of cache, or parts are read more "
        f"than once a pass: {fits} would fit, or FOVEAL_CACHE_GB set higher",
    )
    assert choose_order("window", fits, both)[2] == ()


def test_shards_of_a_part_of_a_source_are_counted(shards: Path) -> None:
    train = open_data(shards).train
    part = Subset(train, np.array([0, 59, 60, 61, 119]), [0] * 5)
    assert (shards_of(train), shards_of(part)) == ((60, 60), (2, 3))
    assert order_of("shards+window", 4, 1, part) == Order(5, 1, "shards+window", 4, (2, 3))


def test_shards_in_order_want_shards(shapes_folder: Path) -> None:
    train = open_data(shapes_folder).train
    with pytest.raises(UserError) as caught:
        choose_order("shards+window", 9, train)
    assert str(caught.value) == (
        f"{shapes_folder}: order=shards+window is for .rec files and WebDataset's shards, and this is data of the form "
        "folder\nSet order=window for a shuffle buffer over it, or leave order out."
    )


def test_a_checkpoint_keeps_its_order() -> None:
    before = Order(120, 0, "shards+window", 9, (60, 60))
    checkpoint = Checkpoint(15, {}, {"order": before.to_dict()})
    _expect_order(checkpoint, before, Path("run"))
    with pytest.raises(UserError) as caught:
        _expect_order(checkpoint, Order(120, 0, "shards+window", 10, (50, 70)), Path("run"))
    assert str(caught.value) == (
        "run: the pictures come in another order than before: window and shards changed\n"
        "Name another folder with --output to train anew."
    )
