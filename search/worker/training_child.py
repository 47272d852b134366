"""The worker's training process, kept at hand: started, listened to, timed, replaced."""

from __future__ import annotations

from collections.abc import Callable

from search.objective.messages import Event, Failed, Finished, Order, Ready
from search.worker.child import ChildSettings
from search.worker.child_handle import ChildProcess, Died

SILENT = "the training process said nothing for"
READY_TIMEOUT_S = 300.0
"""A child that has not come up by then is taken for stalled (a cold disk's import of
torch takes tens of seconds)."""


class TrainingChild:
    """At most one training process, and how long it has kept silent.

    Silence counts only while somebody listens: a parent that waits for its database
    cannot hear, and must not blame the child for it.

    Args:
        settings: how to start the process.
        stall_s: silence allowed while it trains, seconds.
        clock: monotonic seconds.
        sleep: waits that many seconds.
    """

    def __init__(
        self,
        *,
        settings: ChildSettings,
        stall_s: float,
        clock: Callable[[], float],
        sleep: Callable[[float], None],
    ) -> None:
        self._settings = settings
        self._stall_s = stall_s
        self._clock = clock
        self._sleep = sleep
        self._process: ChildProcess | None = None
        self._silent_s = 0.0
        self._ready = False

    @property
    def ready(self) -> bool:
        """It can take a job."""
        return self._ready

    def start(self) -> None:
        """Starts the process where there is none."""
        if self._process is None:
            self._process = ChildProcess(self._settings)
            self._ready = False
            self._silent_s = 0.0

    def end(self) -> None:
        """Kills the process; the next `listen` starts another."""
        if self._process is not None:
            self._process.kill()
            self._process = None
        self._ready = False

    def send(self, order: Order) -> bool:
        """False when the process is gone."""
        self._silent_s = 0.0
        return self._process is not None and self._process.send(order)

    def listen(self, wait_s: float) -> Event | Died | None:
        """The next event, None when nothing came in time.

        A process that failed, died or could not start is ended here: after a CUDA error,
        for one, every later call in that process fails too.
        """
        if self._process is None:
            self._sleep(wait_s)
            self.start()
            return None
        began = self._clock()
        event = self._process.receive(wait_s)
        if event is None:
            # At most what we meant to wait: a suspended machine is nobody's silence.
            self._silent_s += min(self._clock() - began, wait_s)
            return None
        self._silent_s = 0.0
        if isinstance(event, Ready):
            self._ready = True
        if isinstance(event, Failed | Died):
            self.end()
        return event

    def finished_in_pipe(self) -> Finished | None:
        """A result that was sent already; what came before it is dropped."""
        while self._process is not None:
            event = self._process.receive(0.0)
            if isinstance(event, Finished):
                return event
            if event is None or isinstance(event, Died):
                break
        return None

    def stalled(self, *, at_work: bool) -> str | None:
        """The sentence on a process that kept silent for too long, else None.

        Args:
            at_work: it has a job; without one it may be silent, once it is ready.
        """
        if self._process is None or (self._ready and not at_work):
            return None
        limit_s = self._stall_s if self._ready else READY_TIMEOUT_S
        if self._silent_s <= limit_s:
            return None
        return f"{SILENT} {limit_s:.0f} s"
