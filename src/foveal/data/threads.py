"""Work that several threads do, handed back in order."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

A = TypeVar("A")
B = TypeVar("B")


def in_order(work: Callable[[A], B], items: Iterable[A], threads: int, ahead: int | None = None) -> Iterator[B]:
    """``work`` of each item, in the order of the items, made ahead by ``threads`` threads; 1 does it here.

    ``ahead``: how many results may wait; None: three a thread. What ``work`` raises is raised where its result would
    have come.
    """
    if threads <= 1:
        yield from map(work, items)
        return
    waiting: deque[Future[B]] = deque()
    most = 3 * threads if ahead is None else ahead
    pool = ThreadPoolExecutor(threads, thread_name_prefix="foveal-work")
    try:
        for item in items:
            waiting.append(pool.submit(work, item))
            if len(waiting) > most:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
