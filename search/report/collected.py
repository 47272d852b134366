"""What a report is made from: the stored search, read once, and how each trial ended."""

from __future__ import annotations

import enum
import gc
import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from typing import TYPE_CHECKING

from model.known_sets import title_of
from search.file.search_file import SearchFile
from search.study.epochs import STAGE_2_STEP
from search.study.finalists import Finalists
from search.study.session import Session
from search.study.trial_record import TrialRecord, best_first, searched
from search.study.verdict import CANNOT_TRAIN, Ending
from storage.records import AttemptRow
from storage.states import Attempt

if TYPE_CHECKING:
    import optuna
    from optuna.trial import FrozenTrial

Curve = tuple[tuple[int, float], ...]
"""(epoch from 1, local TPE score after it) on the gate's set."""


class Kind(enum.StrEnum):
    """How a trial stands, as the figures tell them apart."""

    COMPLETE = "complete"
    RUNG = "rung"  # stopped within stage 1
    GATE = "gate"  # trained on the gate's set, stopped there
    BOUND = "bound"  # passed the gate, stopped in stage 2
    UNTRAINED = "untrained"  # no memory, diverged, or an infeasible draw
    GIVEN_UP = "given up"  # every attempt at it failed, or others told it
    OPEN = "open"  # waiting or under way


def kind_of(trial: TrialRecord) -> Kind:
    """A complete trial is one by its state, as everywhere; the others by their verdict."""
    if trial.complete:
        return Kind.COMPLETE
    if trial.state in ("running", "waiting"):
        return Kind.OPEN
    verdict = trial.verdict
    if verdict is None or trial.state != "pruned":
        return Kind.GIVEN_UP
    if verdict.ending in CANNOT_TRAIN:
        return Kind.UNTRAINED
    early = {Ending.BOUND: Kind.BOUND, Ending.RUNG: Kind.RUNG}
    return early.get(verdict.ending, Kind.GATE)


@dataclass(frozen=True, kw_only=True)
class Collected:
    """A stored search at one moment.

    Args:
        study: its name; hostile text, as the title of `search` is.
        search: its file.
        budget: trials that it is to have.
        trials: all points of the search, by number.
        finalists: the new runs of its best trials; None where there are none.
        curves: of every trial that reported from the gate's set, by number.
        frozen: Optuna's own records of the trials, for its importances.
        attempts: in the order in which they began.
        versions: packages when the study was made.
        created_at: when that was.
        made_at: when the report is made.
    """

    study: str
    search: SearchFile
    budget: int
    trials: tuple[TrialRecord, ...]
    finalists: Finalists | None
    curves: Mapping[int, Curve]
    frozen: tuple[FrozenTrial, ...]
    attempts: tuple[AttemptRow, ...]
    versions: Mapping[str, str]
    created_at: datetime
    made_at: datetime

    @cached_property
    def by_kind(self) -> Mapping[Kind, tuple[TrialRecord, ...]]:
        """Every kind, also those that no trial is of."""
        found: dict[Kind, list[TrialRecord]] = {kind: [] for kind in Kind}
        for trial in self.trials:
            found[kind_of(trial)].append(trial)
        return {kind: tuple(trials) for kind, trials in found.items()}

    @cached_property
    def best(self) -> tuple[TrialRecord, ...]:
        """The complete ones, best first."""
        return tuple(best_first(self.trials))

    @cached_property
    def measured(self) -> tuple[TrialRecord, ...]:
        """Those that were trained on the gate's set to the end."""
        return tuple(
            trial
            for trial in self.trials
            if kind_of(trial) in (Kind.COMPLETE, Kind.GATE, Kind.BOUND)
            and trial.verdict is not None
            and trial.verdict.gate_accuracy is not None
        )

    @property
    def ended(self) -> int:
        return len(self.trials) - len(self.by_kind[Kind.OPEN])

    @property
    def gate_title(self) -> str:
        return title_of(self.search.gate.dataset)

    def attempts_ended(self, outcome: Attempt) -> tuple[AttemptRow, ...]:
        return tuple(row for row in self.attempts if row.outcome is outcome)


def collect(session: Session, *, clock: Callable[[], datetime]) -> Collected:
    """Reads a search; trials and attempts are each one consistent view.

    Args:
        session: the opened search.
        clock: the time that the page says it was made at.
    """

    def every(study: optuna.Study) -> list[FrozenTrial]:
        return study.get_trials(deepcopy=False)

    with _without_collections():
        frozen = session.board.with_study("report", every)
    every_record = [TrialRecord.of_frozen(trial) for trial in frozen]
    frozen = [t for t, of_it in zip(frozen, every_record, strict=True) if of_it.repeats is None]
    trials = tuple(searched(every_record))
    record = session.record
    return Collected(
        study=record.study_name,
        search=session.search,
        budget=record.budget,
        trials=trials,
        finalists=Finalists.of(every_record, session.search.finalists),
        curves={
            trial.number: curve
            for trial, record_of_it in zip(frozen, trials, strict=True)
            if (curve := _curve(trial, record_of_it))
        },
        frozen=tuple(frozen),
        attempts=tuple(session.board.attempts()),
        versions=record.versions,
        created_at=record.created_at,
        made_at=clock(),
    )


@contextmanager
def _without_collections() -> Iterator[None]:
    """Python's garbage collector goes through all that was read, again and again, while
    hundreds of thousands of rows are: half the work of reading 5,000 trials."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


def _curve(trial: FrozenTrial, record: TrialRecord) -> Curve:
    """Its stage-1 reports; one that measured nothing has none, only the worst score."""
    if kind_of(record) is Kind.UNTRAINED and len(trial.intermediate_values) < 2:
        return ()
    return tuple(
        sorted(
            (step, value)
            for step, value in trial.intermediate_values.items()
            if step < STAGE_2_STEP and math.isfinite(value)
        )
    )
