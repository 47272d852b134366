"""The parent's handle on its training child: start, send, receive, stop, kill.

The child's death is an event here (`Died`), never an exception: what it means
for the trial is the worker's decision.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
from dataclasses import dataclass
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess

from search.objective.messages import Event, Order
from search.worker.child import ChildSettings, child_main

EXIT_WAIT_S = 5.0
"""Time a killed process gets to be reaped before we stop waiting for it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Died:
    """The child is gone without a word.

    Args:
        exit_code: as multiprocessing gives it: -9 for SIGKILL.
    """

    exit_code: int | None

    @property
    def by_signal(self) -> str | None:
        """The signal's name, where one ended it."""
        if self.exit_code is None or self.exit_code >= 0:
            return None
        return signal.Signals(-self.exit_code).name

    @property
    def from_outside(self) -> bool:
        """SIGKILL and SIGTERM come from outside (or from the kernel, short of memory):
        nothing says that the configuration caused them."""
        return self.by_signal in ("SIGKILL", "SIGTERM")

    @property
    def reason(self) -> str:
        if self.by_signal is not None:
            return f"the training process was ended by {self.by_signal}"
        return f"the training process ended by itself with exit code {self.exit_code}"


class ChildProcess:
    """One training child, started with `spawn` (CUDA and database pools survive no fork)."""

    def __init__(self, settings: ChildSettings) -> None:
        context = multiprocessing.get_context("spawn")
        ours, theirs = context.Pipe()
        self._connection: Connection = ours
        self._process: BaseProcess = context.Process(
            target=child_main, args=(theirs, settings, os.getpid()), name="nkat-train"
        )
        self._process.start()
        theirs.close()

    @property
    def pid(self) -> int | None:
        return self._process.pid

    def send(self, order: Order) -> bool:
        """False when the child is gone."""
        try:
            self._connection.send(order)
        except OSError:
            return False
        return True

    def receive(self, timeout_s: float) -> Event | Died | None:
        """The next event, `Died` at the pipe's end, None when nothing came in time."""
        try:
            if not self._connection.poll(max(timeout_s, 0.0)):
                return None
            event: Event = self._connection.recv()
        except (EOFError, OSError):
            self._process.join(EXIT_WAIT_S)
            return Died(exit_code=self._process.exitcode)
        return event

    def kill(self) -> None:
        """SIGKILL, reap, close; safe to call twice."""
        if self._process.is_alive():
            self._process.kill()
        self._process.join(EXIT_WAIT_S)
        self._connection.close()
        if self._process.exitcode is not None:
            self._process.close()
