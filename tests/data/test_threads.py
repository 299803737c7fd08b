"""Work of several threads in order."""

from __future__ import annotations

import time

import pytest

from foveal.data.threads import in_order


@pytest.mark.parametrize("threads", [1, 4])
def test_results_come_in_the_order_of_the_items(threads):
    def work(item):
        time.sleep(0.002 * (item % 3 == 0))
        return item * 2

    assert list(in_order(work, range(40), threads)) == [2 * item for item in range(40)]


@pytest.mark.parametrize("threads", [1, 4])
def test_an_error_comes_where_the_result_would(threads):
    def work(item):
        if item == 5:
            raise ValueError(item)
        return item

    results = in_order(work, range(20), threads)
    assert [next(results) for _ in range(5)] == [0, 1, 2, 3, 4]
    with pytest.raises(ValueError, match="5"):
        next(results)


def test_items_are_taken_only_a_little_ahead():
    taken = []
    results = in_order(lambda item: item, (taken.append(item) or item for item in range(1000)), 2)
    next(results)
    assert len(taken) <= 8
