"""SIGTERM, SIGHUP and Ctrl-C as a request that loops look at, never as an exception."""

from __future__ import annotations

import ctypes
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

PR_SET_PDEATHSIG = 1
"""prctl's option: the signal this process gets when its parent dies (Linux)."""


ONE_REQUEST_S = 2.0


class StopRequest:
    """Counts the requests to stop; a second one means at once.

    SIGTERMs within `ONE_REQUEST_S` are one: Slurm and others send it to all processes of a job,
    and whoever started us passes on its own.

    Handlers only touch this, since an exception in the middle of a database call
    could leave it half done.
    """

    def __init__(self, *, clock: Callable[[], float] = time.monotonic) -> None:
        self.count = 0
        self.reason = ""
        self._clock = clock
        self._first_at = 0.0

    def __call__(self, reason: str) -> None:
        now = self._clock()
        if self.reason == reason == "SIGTERM" and now - self._first_at < ONE_REQUEST_S:
            return
        if not self.count:
            self._first_at = now
        self.count += 1
        self.reason = reason

    def __bool__(self) -> bool:
        return self.count > 0


@contextmanager
def stop_on_signals(stop: StopRequest) -> Iterator[StopRequest]:
    """SIGTERM, SIGHUP and SIGINT call `stop` while the context lasts; nohup stays nohup."""

    def handle(number: int, _frame: FrameType | None) -> None:
        stop(signal.Signals(number).name)

    numbers = [signal.SIGTERM, signal.SIGINT]
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
        numbers.append(signal.SIGHUP)
    before = {number: signal.signal(number, handle) for number in numbers}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def signal_when_parent_dies(number: signal.Signals) -> None:
    """Asks the kernel for that signal when the parent is gone (Linux; else nothing)."""
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, number)
