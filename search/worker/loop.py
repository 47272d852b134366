"""A worker: takes trials from the study, has its child train them, tells the result.

One process, one thread, one loop.  Between two database calls it waits on the
child's pipe, never longer than until the next heartbeat is due, so there is no
heartbeat thread that could die unseen.  It never trains itself.
"""

from __future__ import annotations

import enum
import logging
from collections.abc import Callable
from dataclasses import dataclass

from optuna.samplers import BaseSampler

from nkat_errors import BadInput, NkatError
from search.file.search_file import SearchFile
from search.objective.judge import infeasible
from search.objective.messages import (
    EpochDone,
    Event,
    Failed,
    Finished,
    Job,
    NotSaved,
    Ready,
    Saved,
    Stop,
    Stopped,
)
from search.worker.child import ChildSettings
from search.worker.child_handle import ChildProcess, Died
from search.worker.recorder import Recorder
from search.worker.signals import StopRequest
from storage.board import Board
from storage.checkpoints import CheckpointStore
from storage.errors import DatabaseGone, LeaseLost
from storage.records import Claim, GaveUp, NoWork
from storage.states import Command

log = logging.getLogger(__name__)

BEATS_PER_LEASE = 4
"""Workers and the orchestrator beat, and look for silent workers, that often."""
TICK_S = 0.5
"""Longest wait in one go: how soon a signal or a lost lease is noticed."""
READY_TIMEOUT_S = 300.0
"""A child that has not come up by then is taken for stalled (a cold disk's import of
torch takes tens of seconds)."""
IDLE_POLL_S = 1.0
"""Between two looks for work while every ticket is leased to others."""


class WorkerBroken(NkatError):
    """This worker kept failing and stopped itself."""


class Ending(enum.Enum):
    """Why a worker ended."""

    SEARCH_DONE = "the search is done"
    STOPPED = "stopped by a signal"
    SEARCH_STOPPED = "the search was stopped"


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerSettings:
    """A worker's times and limits.

    Args:
        host, pid, device, note: what `status` shows.
        grace_s: from the stop signal until the child is killed.
    """

    host: str
    pid: int
    device: str
    note: str = ""
    grace_s: float = 20.0


class Worker:
    """See the module's docstring.

    Args:
        board: tickets, leases, heartbeats.
        search: the search file.
        new_sampler: makes Optuna's from this worker's rank (0 for the study's first).
        child: how to start the training child.
        settings: times, limits, names.
        checkpoints: the same folder as the child's, to clean up when a trial is over.
        stop: set by signal handlers.
        clock: monotonic seconds.
        sleep: waits that many seconds.
    """

    def __init__(
        self,
        *,
        board: Board,
        search: SearchFile,
        new_sampler: Callable[[int], BaseSampler],
        child: ChildSettings,
        settings: WorkerSettings,
        checkpoints: CheckpointStore,
        stop: StopRequest,
        clock: Callable[[], float],
        sleep: Callable[[float], None],
    ) -> None:
        self._board = board
        self._search = search
        self._child_settings = child
        self._settings = settings
        self._checkpoints = checkpoints
        self._stop = stop
        self._clock = clock
        self._sleep = sleep
        self._child: ChildProcess | None = None
        self._ready = False
        self._claim: Claim | None = None
        self._recorder: Recorder | None = None
        self._heard_at = clock()
        self._beat_due = 0.0
        self._idle_until = 0.0
        self._failures_in_a_row = 0
        self._kill_at: float | None = None
        self._command = Command.RUN
        self._id = board.register_worker(
            host=settings.host, pid=settings.pid, device=settings.device, note=settings.note
        )
        self._sampler = new_sampler(board.worker_rank(self._id))

    def run(self) -> Ending:
        """Works until the search is done or a stop is asked for.

        Raises:
            WorkerBroken: `service.max_worker_failures` attempts in a row failed here.
            BadInput: the child says that no trial can be trained (data set missing).
        """
        reason = "unexpected end"
        try:
            ending = self._loop()
            reason = ending.value
        except NkatError as error:
            reason = str(error)
            raise
        finally:
            self._end_child()
            self._retire(reason)
        return ending

    def _retire(self, reason: str) -> None:
        try:
            self._board.retire_worker(self._id, reason)
        except DatabaseGone as error:
            # Not a second failure: without beats the lease ends by itself.
            log.warning("could not sign off: %s", error)

    # -- the loop ---------------------------------------------------------------

    def _loop(self) -> Ending:
        self._start_child()
        while True:
            self._beat_if_due()
            if self._stop.count and self._claim is None:
                return Ending.STOPPED
            if self._claim is None:
                if self._command is Command.STOP:
                    return Ending.SEARCH_STOPPED
                due = self._ready and self._clock() >= self._idle_until
                if self._command is Command.RUN and due:
                    ending = self._look_for_work()
                    if ending is not None:
                        return ending
            self._press_for_a_stop()
            self._handle(self._receive())
            self._check_stall()

    def _receive(self) -> Event | Died | None:
        wait_s = min(TICK_S, max(self._beat_due - self._clock(), 0.0))
        if self._child is None:
            self._sleep(wait_s)
            self._start_child()
            return None
        return self._child.receive(wait_s)

    def _beat_if_due(self) -> None:
        if self._clock() < self._beat_due:
            return
        beat = self._board.beat(self._id)
        self._beat_due = self._clock() + self._search.service.lease_s / BEATS_PER_LEASE
        self._command = beat.command
        # Every worker reaps, so a search without an orchestrator loses nothing either.
        self._board.reap(self._search.service.lease_s)
        if self._claim is not None and self._claim.token in beat.lost:
            self._lease_lost(None)

    def _look_for_work(self) -> Ending | None:
        claim = self._board.claim(self._id, self._sampler)
        if isinstance(claim, NoWork):
            if claim.reason == "done":
                return Ending.SEARCH_DONE
            if claim.reason == "stopped":
                return Ending.SEARCH_STOPPED
            self._idle_until = self._clock() + IDLE_POLL_S
            return None
        self._claim = claim
        try:
            params = self._board.suggest(claim, self._search.space.suggest)
        except LeaseLost:
            self._abandon("the lease was lost while the parameters were drawn")
            return None
        self._recorder = Recorder(board=self._board, claim=claim)
        log.info(
            "trial %d, attempt %d: %s",
            claim.number,
            claim.attempt,
            ", ".join(f"{k}={v}" for k, v in params.items()),
        )
        why = self._search.why_infeasible(params)
        if why is not None:
            self._handle(Finished(verdict=infeasible(self._search, why), facts=None))
            return None
        job = Job(
            trial_number=claim.number,
            attempt=claim.attempt,
            params=params,
            best_global=self._best_value(),
        )
        self._heard_at = self._clock()
        if self._child is None or not self._child.send(job):
            log.warning("the training process was gone when its job came")
        return None

    def _best_value(self) -> float | None:
        best = self._board.best()
        return None if best is None else best[1]

    # -- what the child says -----------------------------------------------------

    def _handle(self, event: Event | Died | None) -> None:
        if event is None:
            return
        self._heard_at = self._clock()
        if isinstance(event, Died):
            self._on_death(event)
            return
        if isinstance(event, Ready):
            self._ready = True
            return
        if isinstance(event, Failed):
            self._on_failure(event)
            return
        claim, recorder = self._claim, self._recorder
        if claim is None or recorder is None:
            return
        try:
            self._record(event, claim, recorder)
        except LeaseLost:
            self._lease_lost(event)

    def _record(self, event: Event, claim: Claim, recorder: Recorder) -> None:
        if isinstance(event, EpochDone):
            recorder.epoch(event)
        elif isinstance(event, Saved):
            recorder.saved(event)
        elif isinstance(event, NotSaved):
            log.warning("trial %d goes on without checkpoints: %s", claim.number, event.reason)
        elif isinstance(event, Finished):
            recorder.finished(event, worker=self._id)
            log.info("trial %d: %s", claim.number, event.verdict.outcome)
            if event.facts is not None:  # an infeasible draw says nothing about this device
                self._failures_in_a_row = 0
            self._release(clean=True)
        elif isinstance(event, Stopped):
            self._board.hand_back(claim, self._stop.reason)
            log.info("trial %d handed back (%s)", claim.number, self._stop.reason)
            self._release(clean=False)

    def _on_failure(self, event: Failed) -> None:
        log.warning("%s\n%s", event.reason, event.traceback)
        if event.bad_input:
            if self._claim is not None:
                self._board.hand_back(self._claim, event.reason)
                self._release(clean=False)
            raise BadInput(event.reason)
        self._attempt_failed(event.reason, event.signature)
        if not self._ready:
            self._end_child()

    def _on_death(self, death: Died) -> None:
        self._end_child()
        signature = None if death.from_outside else death.reason
        self._attempt_failed(death.reason, signature)

    def _attempt_failed(self, reason: str, signature: str | None) -> None:
        """The attempt is over; the trial may go on elsewhere or later."""
        self._failures_in_a_row += 1
        claim = self._claim
        if claim is not None:
            try:
                verdict = self._board.fail_attempt(claim, reason=reason, signature=signature)
                gave_up = isinstance(verdict, GaveUp)
                log.warning(
                    "trial %d, attempt %d failed: %s; %s",
                    claim.number,
                    claim.attempt,
                    reason,
                    verdict.reason if isinstance(verdict, GaveUp) else "it will be retried",
                )
                self._release(clean=gave_up)
            except LeaseLost:
                self._abandon(f"its lease was taken before it failed ({reason})")
        limit = self._search.service.max_worker_failures
        if self._failures_in_a_row >= limit:
            raise WorkerBroken(
                f"worker on {self._settings.device} stopped itself after {limit} failures in a "
                f"row, the last: {reason}"
            )

    # -- ends ----------------------------------------------------------------------

    def _press_for_a_stop(self) -> None:
        """After a stop signal: ask once, then kill when the grace time is over."""
        if not self._stop.count or self._claim is None:
            return
        if self._kill_at is None:
            self._kill_at = self._clock() + self._settings.grace_s
            log.info("%s: saving trial %d", self._stop.reason, self._claim.number)
            if self._child is not None:
                self._child.send(Stop())
        if self._stop.count > 1 or self._clock() >= self._kill_at:
            self._end_child()
            try:
                self._board.hand_back(self._claim, f"{self._stop.reason}, cut short")
            except LeaseLost:
                log.warning("trial %d had been taken over already", self._claim.number)
            self._release(clean=False)

    def _check_stall(self) -> None:
        silent_s = self._clock() - self._heard_at
        if self._child is None:
            return
        limit_s = self._search.service.stall_s if self._ready else READY_TIMEOUT_S
        if (self._claim is not None or not self._ready) and silent_s > limit_s:
            self._end_child()
            self._attempt_failed(
                f"the training process said nothing for {limit_s:.0f} s", "stalled"
            )

    def _lease_lost(self, event: Event | None) -> None:
        """Another worker has the trial; a result that is here all the same is logged as late.

        Args:
            event: what could not be written, None when a beat brought the news.
        """
        late = event if isinstance(event, Finished) else self._finished_in_pipe()
        if late is None or self._claim is None:
            self._abandon("its lease was taken by another worker")
            return
        summary = late.attributes(attempt=self._claim.attempt, worker=str(self._id))
        self._board.refuse_late(self._claim, summary | {"value": late.verdict.value})
        self._abandon(f"its lease was taken by another worker; refused: {late.verdict.outcome}")

    def _finished_in_pipe(self) -> Finished | None:
        while self._child is not None:
            event = self._child.receive(0.0)
            if isinstance(event, Finished):
                return event
            if event is None or isinstance(event, Died):
                break
        return None

    def _abandon(self, why: str) -> None:
        """Forget the trial: someone else owns it.  Its child is working on it, so it goes."""
        if self._claim is not None:
            log.warning("trial %d given up: %s", self._claim.number, why)
        self._end_child()
        self._release(clean=False)

    def _release(self, *, clean: bool) -> None:
        if self._claim is not None and clean:
            self._checkpoints.discard(self._claim.number)
        self._claim = None
        self._recorder = None
        self._kill_at = None
        self._idle_until = 0.0

    def _start_child(self) -> None:
        if self._child is None:
            self._child = ChildProcess(self._child_settings)
            self._ready = False
            self._heard_at = self._clock()

    def _end_child(self) -> None:
        if self._child is not None:
            self._child.kill()
            self._child = None
        self._ready = False
