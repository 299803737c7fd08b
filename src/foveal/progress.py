"""How work shows itself: a line of progress with the time left, on a terminal or in a log file."""

from __future__ import annotations

import sys
import time
import unicodedata
from collections.abc import Iterable, Iterator
from typing import TypeVar

T = TypeVar("T")


def duration(seconds: float) -> str:
    """A time span in a person's words: 42 s, 3 min 20 s, 2 h 5 min."""
    whole = max(0, round(seconds))
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s" if whole % 60 else f"{whole // 60} min"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def track(items: Iterable[T], total: int, what: str, every: float = 0.2, quiet: bool = False) -> Iterator[T]:
    """Pass ``items`` on and show how far they are, on standard error.

    A terminal gets one line that is written over; a file or pipe gets a line every 15 seconds, and
    nothing at all for work that is done before that.
    """
    terminal = sys.stderr.isatty()
    started = shown = time.monotonic()
    every = every if terminal else 15.0
    for count, item in enumerate(items, 1):
        yield item
        now = time.monotonic()
        if not quiet and now - shown >= every:
            left = (now - started) / count * (total - count)
            line = f"{what}: {count:,} of {total:,}, {duration(left)} left"
            print(f"\r\x1b[2K{line}" if terminal else line, end="" if terminal else "\n", file=sys.stderr, flush=True)
            shown = now
    if terminal and shown != started and not quiet:
        print("\r\x1b[2K", end="", file=sys.stderr, flush=True)


def plain(text: str) -> str:
    """Text as a terminal can show it in one line: control characters, which names of files may hold, as escapes."""
    return "".join(
        each if unicodedata.category(each) not in ("Cc", "Cs") else each.encode("unicode_escape").decode()
        for each in text
    )
