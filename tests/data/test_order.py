"""The orders in which pictures come, and that a source and a stream of it have one order."""

from __future__ import annotations

from itertools import chain
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from foveal.data import order
from foveal.data.order import Order, shard_order, shuffled
from foveal.errors import UserError
from foveal.settings import parse_settings

KINDS: dict[str, dict[str, Any]] = {
    "permutation": {},
    "none": {},
    "window": {"window": 7},
    "shards+window": {"window": 7, "shards": (20, 0, 13, 30)},
}


ORDERS: dict[str, dict[str, Any]] = {
    "permutation": {},
    "window": {"window": 3},
    "shards+window": {"window": 3, "shards": (4, 6)},
    "none": {},
}


@pytest.fixture
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Blocks of 4 windows, and no less than 8 steps, so that small sources have many."""
    monkeypatch.setattr(order, "_LEAST_BLOCK", 8)
    order._given.cache_clear(), order._left.cache_clear()


def one_pass(told: Order, number: int = 0) -> list[int]:
    rows, passes = told.rows(range(number * told.length, (number + 1) * told.length))
    assert (passes == number).all()
    return rows.tolist()


@pytest.mark.parametrize("kind", KINDS)
def test_each_picture_comes_once_a_pass_and_passes_differ(kind: Any) -> None:
    told = Order(63, 5, kind, **KINDS[kind])
    passes = [one_pass(told, number) for number in range(3)]
    assert [sorted(rows) for rows in passes] == [list(range(63))] * 3
    assert (passes[0] == passes[1]) == (kind == "none")
    assert (one_pass(Order(63, 6, kind, **KINDS[kind])) == passes[0]) == (kind == "none")


@pytest.mark.parametrize("kind", KINDS)
def test_any_part_of_the_run_is_known_by_itself(kind: Any) -> None:
    told = Order(63, 5, kind, **KINDS[kind])
    whole, passes = told.rows(range(200))
    for places in (range(60, 130), range(3, 200, 4), range(199, 200), range(0)):
        rows, numbers = told.rows(places)
        assert rows.tolist() == whole[list(places)].tolist()
        assert numbers.tolist() == passes[list(places)].tolist()


@given(
    length=st.integers(1, 300), window=st.integers(1, 80), seed=st.integers(0, 2**63 - 1), number=st.integers(0, 10**6)
)
@settings(max_examples=60)
def test_a_stream_has_the_order_of_a_source_of_its_length(length: int, window: int, seed: int, number: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(order, "_LEAST_BLOCK", 8)
        order._given.cache_clear(), order._left.cache_clear()
        streamed = list(shuffled(iter(range(length)), window, seed, number))
        assert streamed == one_pass(Order(length, seed, "window", window), number)
        assert sorted(streamed) == list(range(length))


def test_a_stream_of_shards_has_the_order_of_a_source_of_them(small_blocks: None) -> None:
    lengths = (20, 0, 13, 30)
    shards = [range(20), range(0), range(20, 33), range(33, 63)]
    for number in range(3):
        stream = chain.from_iterable(shards[shard] for shard in shard_order(4, 5, number))
        told = Order(63, 5, "shards+window", 7, lengths)
        assert list(shuffled(stream, 7, 5, number)) == one_pass(told, number)


def test_long_streams_and_sources_agree_with_blocks_as_they_are() -> None:
    for length, window in ((150_000, 20_000), (70_000, 100)):
        assert list(shuffled(range(length), window, 1, 2)) == one_pass(Order(length, 1, "window", window), 2)


def test_a_window_gives_a_random_slot_and_fills_it_with_the_next(small_blocks: None) -> None:
    """The rule, written down a second time, in words and from the slots alone."""
    length, window = 100, 9
    slots = np.concatenate([order._slots(window, 3, 0, block) for block in range(12)])
    held, came = list(range(window)), []
    for step in range(length - window):
        came.append(held[slots[step]])
        held[slots[step]] = window + step
    rows = one_pass(Order(length, 3, "window", window))
    assert rows[: length - window] == came
    assert sorted(rows[length - window :]) == sorted(held)


def test_a_window_moves_pictures_little_and_a_large_one_anywhere() -> None:
    rows = np.array(one_pass(Order(50_000, 0, "window", 100)))
    assert (np.arange(50_000) - rows).min() == -99  # none comes more than a window early
    assert np.abs(np.arange(50_000) - rows).mean() < 150
    assert one_pass(Order(50, 0, "window", 10**9)) == one_pass(Order(50, 0, "window", 50))


def test_slots_are_drawn_evenly_and_first_places_are_fair(small_blocks: None) -> None:
    counts = np.bincount([one_pass(Order(8, seed, "window", 4))[0] for seed in range(1000)], minlength=8)
    assert counts[4:].tolist() == [0] * 4
    assert abs(counts[:4] - 250).max() < 65  # 4.7 standard deviations


def test_orders_stay_what_they_are() -> None:
    """A run goes on in its order with the next version too."""
    told = {kind: one_pass(Order(10, 1, kind, **more), 1) for kind, more in ORDERS.items()}  # type: ignore[arg-type]
    assert told == {
        "permutation": [8, 2, 7, 4, 0, 6, 5, 1, 3, 9],
        "window": [1, 0, 2, 3, 4, 6, 5, 9, 8, 7],
        "shards+window": [5, 4, 6, 7, 8, 0, 9, 3, 2, 1],
        "none": list(range(10)),
    }


def test_a_buffer_that_the_order_has_not_is_told() -> None:
    told = "shuffle_buffer=5 has no effect: order=none does not use it"
    assert told in parse_settings({"order": "none", "shuffle_buffer": "5"}, recipe="modern").warnings


def test_an_order_that_there_is_not_is_told() -> None:
    with pytest.raises(UserError) as caught:
        parse_settings({"order": "windw"}, recipe="modern")
    assert str(caught.value) == (
        "The value 'windw' is not valid for the 'order' hyperparameter which accepts one of the following: "
        "'auto', 'permutation', 'window', 'shards+window', 'none'\n"
        "Did you mean 'window'? Set order to one of: auto, permutation, window, shards+window, none."
    )
