"""The plain values that `Board` gives and takes (no behaviour, no database)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any, Literal
from uuid import UUID

from storage.optuna_internals import trial_id_of
from storage.states import Attempt, Command, WorkerState

if TYPE_CHECKING:
    from optuna.trial import Trial


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchRecord:
    """One search as it stands in the database.

    Args:
        study_name: its name, also Optuna's.
        study_id: Optuna's id of it.
        search_text: the search file, byte for byte.
        search_hash: the caller's hash of what must not change within a study.
        budget: tickets, that is how many COMPLETE + PRUNED trials it searches with; those
            that are run again at the end are none of them.
        versions: package name -> version at creation.
        command: what its workers are to do.
        reason: why it is paused or stopped; empty when it runs.
        created: True when this very call made it.
    """

    study_name: str
    study_id: int
    search_text: str
    search_hash: str
    budget: int
    versions: Mapping[str, str]
    command: Command
    reason: str
    created_at: datetime
    created: bool = False

    @property
    def salt(self) -> str:
        """Tells this study from an earlier one of the same name (`CheckpointStore`)."""
        return self.created_at.isoformat()


@dataclass(slots=True, kw_only=True)
class Claim:
    """A trial leased to a worker.

    Every method of `Board` that takes a claim checks `token` first: when the ticket has
    another one, the lease is lost.

    Args:
        ticket: id of the unit of budget that this trial fills when it ends.
        token: names this attempt, and nothing else ever.
        trial: Optuna's live trial; write to it only inside `Board.write` or
            `Board.suggest`.
        attempt: 1 for the first go at this trial, 2 for the first retry, ...
        resumed_from: how far the previous attempt came (keys attempt, outcome, reason,
            host, stage, dataset, epoch, checkpoint_at), None for a first attempt.
        reported_steps: steps of intermediate values that earlier attempts reported.
        user_attrs: what the trial carried when it was leased; empty for a fresh one.
    """

    ticket: int
    token: UUID
    worker_id: UUID
    trial: Trial
    attempt: int
    resumed_from: Mapping[str, Any] | None = None
    reported_steps: frozenset[int] = frozenset()
    user_attrs: Mapping[str, Any] = field(default_factory=dict)
    stale: bool = field(default=False, repr=False)
    """`trial` remembers writes that may not have been committed: make it again."""

    @property
    def number(self) -> int:
        """Optuna's trial number, 0, 1, 2, ...: the same in every attempt."""
        return self.trial.number

    @property
    def trial_id(self) -> int:
        """Optuna's key of the trial in the database."""
        return trial_id_of(self.trial)


@dataclass(frozen=True, slots=True)
class NoWork:
    """There is nothing to do now.

    `done`: the budget is used up.  `paused`, `stopped`: the search was told to.
    `all_leased`: other workers have what is left; ask again later, one may be lost.
    """

    reason: Literal["done", "paused", "stopped", "all_leased"]
    message: str = ""


@dataclass(frozen=True, slots=True)
class Beat:
    """What the database answers to a beat.

    Args:
        lost: tokens taken from this worker (reaped, or closed from outside), ever.
        command: what the search wants of its workers.
        message: the reason of a pause or stop.
    """

    lost: frozenset[UUID]
    command: Command
    message: str = ""


@dataclass(frozen=True, slots=True)
class Retry:
    """The trial waits for its next attempt; `failures` of `max_attempts` are used."""

    number: int
    failures: int
    max_attempts: int


@dataclass(frozen=True, slots=True)
class GaveUp:
    """The trial is FAIL and its ticket is open for a fresh one; `reason` says why."""

    number: int
    reason: str


@dataclass(frozen=True, slots=True)
class Reaped:
    """One thing that a reaper did.

    action: `retry` (back to WAITING), `gave_up` (FAIL, fresh ticket), `closed` (finished
    from outside; counted), `reopened` (finished from outside as FAIL), `orphan_waiting` and
    `orphan_failed` (RUNNING in Optuna with no ticket).
    """

    number: int
    action: Literal["retry", "gave_up", "closed", "reopened", "orphan_waiting", "orphan_failed"]
    reason: str
    token: UUID | None = None
    worker_id: UUID | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Counts:
    """The search in numbers.

    Tickets: budget + repeats = done + repeats_done + leased + open.  `done` is what counts;
    repeats are trials that are run again once the budget is used up.  Trials: complete and
    pruned without repeats (together `done`), running, waiting and failed with them.
    Attempts: all ever begun; lost, handed_back, failed_attempts, late by how they ended.
    failure_rate: failed / ended attempts since the last resume, 0 when none; a lost one
    counts when its trial was given up with it.
    """

    budget: int
    done: int
    leased: int
    open: int
    complete: int
    pruned: int
    running: int
    waiting: int
    failed: int
    attempts: int
    retries: int
    lost: int
    failed_attempts: int
    handed_back: int
    closed: int
    late: int
    failure_rate: float
    repeats: int = 0
    repeats_done: int = 0

    @property
    def ended(self) -> int:
        """Trials and repeats that have ended, those given up left out."""
        return self.done + self.repeats_done

    @property
    def left(self) -> int:
        """What is still to be done, of all that was entered."""
        return self.budget + self.repeats - self.ended

    @property
    def over(self) -> bool:
        """Nothing is left."""
        return self.left <= 0

    def state(self, command: Command) -> str:
        """`done`, `run`, `pause` or `stop`: a search with nothing left is done, whatever it
        was last told."""
        return "done" if self.over else command.value

    @property
    def wanted(self) -> str:
        """`50 trials`, or `50 trials + 6 repeats`."""
        return f"{self.budget} trials" + (f" + {self.repeats} repeats" if self.repeats else "")


NO_DEVICE = "none"
"""Of an orchestrator's row among the workers."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerRow:
    """A worker for `status`; ages in seconds before the database's now.

    Args:
        beat_at: its last beat, seconds since 1970.
        images_per_s: of its attempt's last epoch.
    """

    worker_id: UUID
    host: str
    pid: int
    device: str
    note: str
    state: WorkerState
    reason: str
    beat_age_s: float
    beat_at: float
    trial: int | None
    attempt: int | None
    stage: str | None
    dataset: str | None
    epoch: int | None
    images_per_s: float | None
    checkpoint_age_s: float | None
    leased_for_s: float | None

    @property
    def trains(self) -> bool:
        """An orchestrator does not."""
        return self.device != NO_DEVICE


@dataclass(frozen=True, slots=True, kw_only=True)
class AttemptRow:
    """One worker's go at one trial.

    Args:
        stage: where it was last seen (`1`, `2`), None when it reported nothing.
        first_stage: where it first reported progress.
        last_seen_at: the last beat of its worker before the attempt ended.
    """

    number: int
    attempt: int
    worker_id: UUID
    outcome: Attempt
    reason: str
    stage: str | None
    first_stage: str | None
    started_at: datetime
    ended_at: datetime | None
    last_seen_at: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class TrialRow:
    """A trial for `status`: Optuna's state, value and reports (by step), its newest attempt."""

    number: int
    state: str
    value: float | None
    params: Mapping[str, Any]
    user_attrs: Mapping[str, Any] = field(default_factory=dict)
    reports: Mapping[int, float] = field(default_factory=dict)
    attempts: int = 0
    outcome: Attempt | None = None
    reason: str = ""
    worker_id: UUID | None = None
    host: str | None = None
    device: str | None = None
    stage: str | None = None
    dataset: str | None = None
    epoch: int | None = None
    checkpoint_age_s: float | None = None
    seconds: float | None = None
