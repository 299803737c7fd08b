"""SIGTERM and Ctrl-C: the run is asked to stop at its next step; a second one stops it at once."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


class StopRequest:
    """``reason`` is empty until a signal has come, then its name."""

    def __init__(self) -> None:
        self.reason = ""


@contextmanager
def stop_on_signals() -> Iterator[StopRequest]:
    """Within this block SIGTERM and SIGINT set the request; in a thread other than the main one it stays empty."""
    request = StopRequest()
    if threading.current_thread() is not threading.main_thread():
        yield request
        return

    def ask(number: int, frame: FrameType | None) -> None:
        request.reason = signal.Signals(number).name
        for each in before:
            signal.signal(each, before[each])

    before = {each: signal.getsignal(each) for each in (signal.SIGTERM, signal.SIGINT)}
    for each in before:
        signal.signal(each, ask)
    try:
        yield request
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)
