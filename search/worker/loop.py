"""A worker: takes trials from the study, has its child train them, tells the result.

One process, one thread, one loop.  Between two database calls it waits on the
child's pipe, never longer than until the next heartbeat is due, so there is no
heartbeat thread that could die unseen.  It never trains itself.
"""

from __future__ import annotations

import enum
import logging
from collections.abc import Callable
from dataclasses import dataclass, replace

from optuna.samplers import BaseSampler

from nkat_errors import BadInput, NkatError
from search.file.search_file import SearchFile
from search.logs import set_log_context
from search.objective.judge import infeasible
from search.objective.messages import Event, Failed, Finished, Job, Ready, Stop, Stopped
from search.study.finalists import enter_finalists
from search.study.past import Past, PastReader
from search.worker.attempt import TrialAttempt
from search.worker.child import ChildSettings
from search.worker.child_handle import Died
from search.worker.signals import StopRequest
from search.worker.training_child import TrainingChild
from storage.board import Board
from storage.checkpoints import CheckpointStore
from storage.errors import DatabaseGone, LeaseLost
from storage.records import NoWork
from storage.states import Command

log = logging.getLogger(__name__)

BEATS_PER_LEASE = 4
"""Workers and the orchestrator beat, and look for silent workers, that often."""
TICK_S = 0.5
"""Longest wait in one go: how soon a signal or a lost lease is noticed."""
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
        alive: called in every round (`search.worker.life_sign`).
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
        alive: Callable[[], None],
        clock: Callable[[], float],
        sleep: Callable[[float], None],
    ) -> None:
        self._board = board
        self._search = search
        self._settings = settings
        self._checkpoints = checkpoints
        self._stop = stop
        self._alive = alive
        self._clock = clock
        self._past = PastReader(search)
        self._attempt: TrialAttempt | None = None
        self._beat_due = 0.0
        self._idle_until = 0.0
        self._failures_in_a_row = 0
        self._kill_at: float | None = None
        self._command = Command.RUN
        self._trouble = ""
        self._id = board.register_worker(
            host=settings.host, pid=settings.pid, device=settings.device, note=settings.note
        )
        set_log_context(worker=str(self._id))
        self._child = TrainingChild(
            settings=replace(child, worker=str(self._id)),
            stall_s=search.service.stall_s,
            clock=clock,
            sleep=sleep,
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
            self._child.end()
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
        self._child.start()
        while True:
            self._alive()
            self._beat_if_due()
            if self._attempt is None:
                ending = self._between_trials()
                if ending is not None:
                    return ending
            self._press_for_a_stop()
            self._handle(self._child.listen(self._wait_s()))
            stalled = self._child.stalled(at_work=self._attempt is not None)
            if stalled is not None:
                self._child.end()
                self._lost_child(stalled, "stalled")

    def _wait_s(self) -> float:
        return min(TICK_S, max(self._beat_due - self._clock(), 0.0))

    def _beat_if_due(self) -> None:
        if self._clock() < self._beat_due:
            return
        beat = self._board.beat(self._id)
        self._beat_due = self._clock() + self._search.service.lease_s / BEATS_PER_LEASE
        self._command = beat.command
        # Every worker reaps, so a search without an orchestrator loses nothing either.
        self._board.reap(self._search.service.lease_s)
        if self._attempt is not None and self._attempt.claim.token in beat.lost:
            self._lease_lost(None)

    def _between_trials(self) -> Ending | None:
        if self._stop.count:
            return Ending.STOPPED
        if self._command is Command.STOP:
            return Ending.SEARCH_STOPPED
        due = self._child.ready and self._clock() >= self._idle_until
        return self._look_for_work() if self._command is Command.RUN and due else None

    def _look_for_work(self) -> Ending | None:
        claim = self._board.claim(self._id, self._sampler)
        if isinstance(claim, NoWork):
            if claim.reason == "done":
                # Others may have entered the finalists' runs since the claim was answered.
                return None if enter_finalists(self._board, self._search) else Ending.SEARCH_DONE
            if claim.reason == "stopped":
                return Ending.SEARCH_STOPPED
            self._idle_until = self._clock() + IDLE_POLL_S
            return None
        self._attempt = TrialAttempt(
            board=self._board,
            claim=claim,
            checkpoints=self._checkpoints,
            clock=self._clock,
            set_trouble=self._set_trouble,
        )
        set_log_context(trial=claim.number, attempt=claim.attempt)
        try:
            params = self._board.suggest(claim, self._search.space.suggest)
        except LeaseLost:
            self._abandon("the lease was lost while the parameters were drawn")
            return None
        drawn = ", ".join(f"{k}={v}" for k, v in params.items())
        log.info("trial %d, attempt %d: %s", claim.number, claim.attempt, drawn)
        why = self._search.why_infeasible(params)
        if why is not None:
            self._handle(Finished(verdict=infeasible(self._search, why), facts=None))
            return None
        repeat = self._attempt.repeat
        job = Job(
            trial_number=claim.number,
            attempt=claim.attempt,
            params=params,
            # A finalist's run goes to its end: cut short it would have no score to compare.
            past=self._past.read(self._board.ended_trials()) if repeat is None else Past(),
            run=0 if repeat is None else repeat.run,
        )
        if not self._child.send(job):
            log.warning("the training process was gone when its job came")
        return None

    # -- what the child says -----------------------------------------------------

    def _handle(self, event: Event | Died | None) -> None:
        if isinstance(event, Died):
            self._lost_child(event.reason, None if event.from_outside else event.reason)
        elif isinstance(event, Failed):
            self._on_failure(event)
        elif event is not None and not isinstance(event, Ready) and self._attempt is not None:
            self._on_progress(event, self._attempt)

    def _on_progress(self, event: Event, attempt: TrialAttempt) -> None:
        try:
            if isinstance(event, Finished):
                attempt.finish(event)
                if event.facts is not None:  # an infeasible draw says nothing about this device
                    self._failures_in_a_row = 0
                self._release()
            elif isinstance(event, Stopped):
                attempt.hand_back(self._stop.reason)
                self._release()
            else:
                attempt.hear(event)
        except LeaseLost:
            self._lease_lost(event)

    def _on_failure(self, event: Failed) -> None:
        log.warning("the training process failed:\n%s", event.traceback.rstrip())
        if event.bad_input:
            if self._attempt is not None:
                self._attempt.hand_back(event.reason)
                self._release()
            raise BadInput(event.reason)
        self._failed(event.reason, event.signature)

    def _lost_child(self, reason: str, signature: str | None) -> None:
        if self._attempt is None:
            log.warning("%s", reason)
        self._failed(reason, signature)

    def _failed(self, reason: str, signature: str | None) -> None:
        """The attempt under way is over; or the child failed before it had one."""
        self._failures_in_a_row += 1
        if self._attempt is not None:
            self._attempt.fail(reason, signature)
            self._release()
        limit = self._search.service.max_worker_failures
        if self._failures_in_a_row >= limit:
            raise WorkerBroken(
                f"worker on {self._settings.device} stopped itself after {limit} failures in a "
                f"row, the last: {reason}"
            )

    def _set_trouble(self, text: str) -> None:
        if text != self._trouble:
            self._board.set_worker_reason(self._id, text)
            self._trouble = text

    # -- ends ----------------------------------------------------------------------

    def _press_for_a_stop(self) -> None:
        """After a stop signal: ask once, then kill when the grace time is over."""
        if not self._stop.count or self._attempt is None:
            return
        if self._kill_at is None:
            self._kill_at = self._clock() + self._settings.grace_s
            log.info("%s: saving trial %d", self._stop.reason, self._attempt.number)
            self._child.send(Stop())
        if self._stop.count > 1 or self._clock() >= self._kill_at:
            self._child.end()
            self._attempt.hand_back(f"{self._stop.reason}, cut short")
            self._release()

    def _lease_lost(self, event: Event | None) -> None:
        """Another worker has the trial; a result that is here all the same is logged as late.

        Args:
            event: what could not be written, None when a beat brought the news.
        """
        late = event if isinstance(event, Finished) else self._child.finished_in_pipe()
        why = "its lease was taken by another worker"
        if late is not None and self._attempt is not None:
            why += f"; refused: {self._attempt.refuse(late)}"
        self._abandon(why)

    def _abandon(self, why: str) -> None:
        """Forget the trial: someone else owns it.  Its child is working on it, so it goes."""
        if self._attempt is not None:
            log.warning("trial %d given up: %s", self._attempt.number, why)
        self._child.end()
        self._release()

    def _release(self) -> None:
        self._attempt = None
        self._kill_at = None
        self._idle_until = 0.0
        set_log_context(trial=None, attempt=None)
