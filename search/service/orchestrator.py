"""The housekeeper of a search: reaps, watches the failure rate, writes notes, sweeps.

It decides nothing that workers could not do without it: they reap as well, and
the budget is exact by its tickets.  It makes a search visible and keeps it tidy.
"""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import Callable, Sequence
from dataclasses import asdict

import optuna

from search.dashboard.artifacts import announce_export, announce_report
from search.dashboard.notes import (
    Best,
    name_the_metric,
    study_note,
    trial_note,
    write_study_note,
    write_trial_note,
)
from search.file.search_file import SearchFile
from search.service.ends import Ends
from search.service.gate_watch import GateWatch
from search.service.observation import Observation, Observer
from search.service.steering import RESUME
from search.study.finalists import enter_finalists
from search.study.nearest import AtTheGate
from search.study.trial_record import TrialRecord
from search.trackers.address import without_login
from search.worker.loop import BEATS_PER_LEASE
from search.worker.signals import StopRequest
from storage.board import Board
from storage.checkpoints import CheckpointStore
from storage.optuna_internals import trial_id_of
from storage.records import NO_DEVICE, Counts, SearchRecord
from storage.states import Command

log = logging.getLogger(__name__)

MIN_ATTEMPTS_FOR_RATE = 8
"""Ended attempts before a failure rate means anything."""
NOTES_EVERY_S = 10.0
SWEEP_EVERY_S = 60.0
OBSERVE_EVERY_S = 2.0
NOTE = "orchestrator"
"""What its row in the worker table says, where `status` and the health check find it."""


class Orchestrator:
    """See the module's docstring.

    Args:
        board: the study's board.
        search: the search file as stored.
        record: the stored search.
        checkpoints: where the workers' checkpoints are, or None when they are elsewhere.
        clock: monotonic seconds.
        notes: write the dashboard's notes (a rehearsal of thousands of trials does not).
        observers: are told every few seconds how the search stands, and once at the end.

    Attributes:
        command, message: what the search wants of its workers, and why.
        failing: it paused itself, because its attempts keep failing.
        warning: that nothing passes the gate; empty until the sampler's start-up is over.
    """

    def __init__(
        self,
        *,
        board: Board,
        search: SearchFile,
        record: SearchRecord,
        checkpoints: CheckpointStore | None,
        clock: Callable[[], float],
        notes: bool = True,
        observers: Sequence[Observer] = (),
    ) -> None:
        self._board = board
        self._search = search
        self._record = record
        self._checkpoints = checkpoints
        self._clock = clock
        self._notes = notes
        self._observers = observers
        self._beat_due = self._notes_due = self._sweep_due = self._observe_due = 0.0
        self._noted: set[int] = set()
        self._settled = -1
        self._watch = GateWatch(board)
        self._id = board.register_worker(
            host=socket.gethostname(), pid=os.getpid(), device=NO_DEVICE, note=NOTE
        )
        self.command = Command.RUN
        self.message = ""
        self.failing = False
        self.warning = ""

    @property
    def gate(self) -> AtTheGate | None:
        """How the trial nearest to passing stood at the gate, as of the last tick."""
        return self._watch.best

    def tick(self) -> Counts:
        """One round, cheap enough for every second; returns the search in numbers."""
        now = self._clock()
        if now >= self._beat_due:
            # Both say in the log what they did.
            self._board.reap(self._search.service.lease_s)
            failing = self._board.pause_if_failing(
                max_failure_rate=self._search.service.max_failure_rate,
                min_attempts=MIN_ATTEMPTS_FOR_RATE,
            )
            if failing is not None:
                self.failing = True
                log.error("mend the cause, then: %s", RESUME)
            beat = self._board.beat(self._id)
            self.command, self.message = beat.command, beat.message
            self.failing = self.failing and self.command is not Command.RUN
            self._beat_due = now + self._search.service.lease_s / BEATS_PER_LEASE
        counts = self._counts()
        if warning := self._watch.look(counts):
            self.warning = warning
            log.warning("%s", warning)
        if now >= self._sweep_due and self._checkpoints is not None:
            self._checkpoints.sweep(self._board.over_numbers())
            self._sweep_due = now + SWEEP_EVERY_S
        if now >= self._notes_due and self._notes:
            self.write_notes(counts)
            self._notes_due = now + NOTES_EVERY_S
        if now >= self._observe_due and self._observers:
            self._observe(counts)
            self._observe_due = now + OBSERVE_EVERY_S
        return counts

    def _counts(self) -> Counts:
        """Whoever ends when all is done must not miss the finalists' runs: they are entered
        before it is said."""
        counts = self._board.counts()
        if counts.over and counts.ended != self._settled:
            self._settled = counts.ended
            if enter_finalists(self._board, self._search):
                counts = self._board.counts()
        return counts

    def _state(self, counts: Counts) -> str:
        return counts.state(self.command)

    def _observe(self, counts: Counts) -> None:
        seen = Observation(
            study=self._record.study_name,
            state=self._state(counts),
            message=self.message,
            counts=counts,
            ended=self._watch.ended,
            gate=self._watch.best,
            workers=[row for row in self._board.workers() if row.note != NOTE],
        )
        for observer in self._observers:
            observer(seen)

    def write_notes(self, counts: Counts) -> None:
        """A sentence per finished trial and the study's page; each once."""
        best = self._board.best()
        plain = asdict(counts)
        page = study_note(
            title=self._search.title or self._search.study,
            budget=counts.budget,
            counts={
                key: plain[key]
                for key in ("done", "complete", "pruned", "running", "waiting", "failed")
            },
            state=self._state(counts),
            search_text=self._shown_text(),
            cut_down=self._search.cut_down,
            best=None if best is None else Best(number=best[0], value=best[1]),
        )

        def write(study: optuna.Study) -> set[int]:
            noted = set()
            for trial in study.get_trials(deepcopy=False):
                if trial.state.is_finished() and trial.number not in self._noted:
                    record = TrialRecord.of_frozen(trial)
                    write_trial_note(study, trial_id_of(trial), trial_note(record))
                    if record.complete and record.repeats is None:
                        announce_export(study, trial_id=trial_id_of(trial), number=trial.number)
                    noted.add(trial.number)
            name_the_metric(study)
            announce_report(study)
            write_study_note(study, page)
            return noted

        self._noted |= self._board.with_study("notes", write)

    def _shown_text(self) -> str:
        """The search file without its passwords: the webhook's address is as good as one, and
        a tracker's may hold one."""
        text, service = self._record.search_text, self._search.service
        for address in service.trackers or ():
            text = text.replace(address, without_login(address))
        return text if service.notify is None else text.replace(service.notify, "(hidden)")

    def run(
        self,
        *,
        stop: StopRequest,
        until_done: bool,
        ends: Ends,
        sleep: Callable[[float], None],
        interval_s: float = 1.0,
    ) -> None:
        """Ticks until a signal (or, with `until_done`, the end of the search).

        Args:
            ends: what ends the search before its budget of trials is used up.
        """
        told = False
        try:
            while not stop.count:
                counts = self.tick()
                if until_done and counts.over:
                    break
                why = "" if told else ends.reached(self._board.best())
                if why:
                    self._board.set_state("stop", why)
                    log.info("the search ends: %s", why)
                    told = True
                    if until_done:
                        break
                sleep(interval_s)
        finally:
            self.close(stop.reason or "the search is done")

    def close(self, reason: str) -> None:
        """Last notes, good-bye."""
        if self._notes or self._observers:
            counts = self._board.counts()
            if self._notes:
                self.write_notes(counts)
            if self._observers:
                self._watch.look(counts)
                self._observe(counts)
        self._board.retire_worker(self._id, reason)
