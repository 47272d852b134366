"""What the live view shows of trials: curves of those under way, seconds of the last ones."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from uuid import UUID

import optuna
from optuna.trial import TrialState

from nkat_errors import BadInput
from search.file.search_file import SearchFile
from search.space import Value
from search.study.epochs import STAGE_2_STEP
from search.study.saved import saved_hours
from search.study.trial_record import TrialRecord
from storage.board import Board
from storage.records import AttemptRow
from storage.states import Attempt

READ_EVERY_S = 1.0
RECENT_TRIALS = 20
"""Trials whose seconds say how long the next ones will take.  In two recorded searches of 50 the
time left after 10 was off by 2 and 37 %: the second went over to networks that cost three times
as much, which no pace foresees."""
SHOWN = 5
"""Ended trials that the live view lists."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LiveTrial:
    """A trial under way.

    Args:
        curve: local TPE score after each epoch of stage 1.
        params: its searched parameters, so far as they are drawn.
    """

    curve: tuple[float, ...]
    params: Mapping[str, Value]


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """The trials that have ended.

    Args:
        seconds: that the last ones took, all their attempts together.
        newest: a sentence for each of the last ones, oldest first.
        saved: what stopping early saved, one sentence; empty while nothing was stopped.
    """

    seconds: tuple[float, ...] = ()
    newest: tuple[str, ...] = ()
    saved: str = ""


@dataclass(slots=True, kw_only=True)
class LiveTrials:
    """Reads them from the board, not more often than is worth showing.

    Args:
        board: the study's.
        search: its file: planned epochs, the gate.
        clock: monotonic seconds.
        made_up_epochs: of a rehearsal, which trains every set for as many.
    """

    board: Board
    search: SearchFile
    clock: Callable[[], float]
    made_up_epochs: int | None = None
    _read_at: float = field(default=-math.inf, init=False)
    _trials: Mapping[int, LiveTrial] = field(default_factory=dict, init=False)
    _ended: Ended = field(default_factory=lambda: Ended(), init=False)
    _ended_of: int = field(default=-1, init=False)

    @property
    def threshold(self) -> float:
        """Of the gate."""
        return self.search.gate.threshold

    def running(self) -> Mapping[int, LiveTrial]:
        """By number, at most a second old."""
        now = self.clock()
        if now - self._read_at >= READ_EVERY_S:
            self._trials = self.board.with_study("live", _running)
            self._read_at = now
        return self._trials

    def ended(self, done: int) -> Ended:
        """What has ended.

        Args:
            done: how many trials have; nothing is read again until it changes.
        """
        if done != self._ended_of:
            trials = self.board.ended_trials()
            newest = sorted(trials, key=lambda trial: trial.datetime_complete or datetime.min)
            records = [TrialRecord.of_frozen(trial) for trial in newest]
            self._ended = Ended(
                seconds=recent_seconds(self.board.attempts()),
                newest=tuple(f"trial {one.number} {one.outcome}" for one in records[-SHOWN:]),
                saved=saved_hours(records).sentence(),
            )
            self._ended_of = done
        return self._ended

    def epochs(self, params: Mapping[str, Value], dataset: str) -> int | None:
        """Planned epochs of a trial on a data set; None while parameters are missing."""
        if self.made_up_epochs is not None:
            return self.made_up_epochs
        try:
            return self.search.resolve(params, dataset)[1].epochs
        except BadInput:
            return None


def recent_seconds(attempts: Iterable[AttemptRow]) -> tuple[float, ...]:
    """What the trials that ended last took, all their attempts together.

    A worker's first trial compiles the kernels for all that follow: it counts only while there
    is no other.
    """
    seconds: dict[int, float] = {}
    ended_last: dict[int, float] = {}
    first: dict[UUID, tuple[datetime, int]] = {}
    for attempt in attempts:
        begun = (attempt.started_at, attempt.number)
        first[attempt.worker_id] = min(begun, first.get(attempt.worker_id, begun))
        if attempt.ended_at is None:
            continue
        took = (attempt.ended_at - attempt.started_at).total_seconds()
        seconds[attempt.number] = seconds.get(attempt.number, 0.0) + took
        if attempt.outcome in (Attempt.COMPLETE, Attempt.PRUNED):
            ended_last[attempt.number] = attempt.ended_at.timestamp()
    cold = {number for _, number in first.values()}
    warm = [number for number in ended_last if number not in cold] or list(ended_last)
    newest = sorted(warm, key=ended_last.__getitem__)[-RECENT_TRIALS:]
    return tuple(seconds[number] for number in newest)


def _running(study: optuna.Study) -> dict[int, LiveTrial]:
    return {
        trial.number: LiveTrial(
            curve=tuple(
                value
                for step, value in sorted(trial.intermediate_values.items())
                if step < STAGE_2_STEP
            ),
            params=dict(trial.params),
        )
        for trial in study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))
    }
