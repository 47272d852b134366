"""The board: who works on which trial.  The one thing a worker talks to.

A thin face; the work is done in `claiming` (ticket + ask + token in one transaction),
`closing` (every end of an attempt), `reaping` and `reporting`.  Every call survives a
database restart: it is retried with back-off for up to `outage_s` (retry.py), and a
retried call whose first commit did go through is recognised by the attempt's token, so
nothing is counted twice.

    board = Board(engine=engine, study_name="nkat-round2")
    worker_id = board.register_worker(host="a", pid=1, device="cuda:0", note="")
    claim = board.claim(worker_id, optuna.samplers.TPESampler(seed=3))
    params = board.suggest(claim, space.suggest)
    board.report(claim, step=1, value=0.4)
    board.finish(claim, state=TrialState.COMPLETE, value=0.7, user_attrs={}, constraints={})
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from typing import Any, Literal, TypeVar
from uuid import UUID

from optuna.samplers import BaseSampler
from optuna.trial import Trial, TrialState
from sqlalchemy import Engine

from storage.records import (
    Beat,
    Claim,
    Counts,
    GaveUp,
    NoWork,
    Reaped,
    Retry,
    TrialRow,
    WorkerRow,
)

T = TypeVar("T")
Clock = Callable[[], datetime]
"""The time, timezone-aware.  None everywhere means the database's own clock."""


class Board:
    """One study's tickets, attempts and workers.

    Use one per process; `beat` may come from another thread than the rest, everything
    else from one thread at a time.

    Args:
        engine: from `make_engine`; shared with Optuna's storage.
        study_name: an existing search (`create_search`).
        clock: for tests; None is the database's clock, which all workers share.
        max_attempts: failed or lost attempts of one trial before it is FAIL, >= 1.
        outage_s: how long a call goes on trying while the database is away, seconds.
        give_up: asked between tries; True ends the retrying at once (SIGTERM).

    Raises:
        BadInput: there is no such search.
    """

    def __init__(
        self,
        *,
        engine: Engine,
        study_name: str,
        clock: Clock | None = None,
        max_attempts: int = 3,
        outage_s: float = 300.0,
        give_up: Callable[[], bool] | None = None,
    ) -> None:
        raise NotImplementedError

    # --- workers -----------------------------------------------------------------

    def register_worker(self, *, host: str, pid: int, device: str, note: str = "") -> UUID:
        """Enter a worker; the registration is its first beat.  Returns its id."""
        raise NotImplementedError

    def retire_worker(self, worker_id: UUID, reason: str) -> None:
        """Say good-bye.  What it still holds is free for the next reaper at once."""
        raise NotImplementedError

    def beat(self, worker_id: UUID, *, outage_s: float | None = None) -> Beat:
        """Say "alive" (one statement) and hear what was lost and what is wanted.

        Raises:
            UnknownWorker: the row is gone; register again.
            DatabaseGone: no answer within `outage_s` (None: the board's).
        """
        raise NotImplementedError

    # --- a trial's life ----------------------------------------------------------

    def claim(self, worker_id: UUID, sampler: BaseSampler) -> Claim | NoWork:
        """Lease a ticket and a trial for it, or say why there is none.

        Order: trials to be retried, then trials enqueued by the user, then fresh ones.
        Ticket, Optuna trial and token are one transaction: a crash leaves all or nothing.
        """
        raise NotImplementedError

    def suggest(self, claim: Claim, suggest: Callable[[Trial], T]) -> T:
        """`suggest(trial)` under the fence, in one transaction; retried with a fresh Trial.

        Raises:
            LeaseLost: nothing was written.
        """
        raise NotImplementedError

    def write(self, claim: Claim, write: Callable[[Trial], T]) -> T:
        """Any Optuna writes of this trial under the fence; `write` may run more than once."""
        raise NotImplementedError

    @contextmanager
    def fenced(self, claim: Claim) -> Iterator[Trial]:
        """The bare fence: Optuna writes in the block are one transaction with the check.

        Not retried (a block cannot be): prefer `suggest`, `report` and `write`.

        Raises:
            LeaseLost: on entry, nothing was written.
        """
        raise NotImplementedError
        yield

    def report(self, claim: Claim, *, step: int, value: float) -> None:
        """One intermediate value (`Trial.report`), fenced and retried."""
        raise NotImplementedError

    def progress(
        self,
        claim: Claim,
        *,
        stage: str,
        dataset: str | None = None,
        epoch: int | None = None,
        checkpoint_at: datetime | Literal["now"] | None = None,
    ) -> None:
        """Where the attempt is, for `status` and for the next attempt's `resumed_from`.

        checkpoint_at: "now" (the database's) when a checkpoint was just written; None
        leaves the last one standing.

        Raises:
            LeaseLost: the attempt is over.
        """
        raise NotImplementedError

    def finish(
        self,
        claim: Claim,
        *,
        state: TrialState,
        value: float | None = None,
        user_attrs: Mapping[str, Any] | None = None,
        constraints: Mapping[str, float] | None = None,
    ) -> None:
        """Tell the result: attributes, constraints, state, ticket done, in one transaction.

        Args:
            state: COMPLETE (with `value`) or PRUNED (without).
            value: finite; the study's direction is "maximize" unless it was created otherwise.
            user_attrs: JSON-able.
            constraints: name -> violation (<= 0 is feasible), finite.

        Raises:
            LeaseLost: somebody else has the trial; nothing was written.
            ToldElsewhere: it was finished from outside; nothing was written.
        """
        raise NotImplementedError

    def hand_back(self, claim: Claim, reason: str) -> None:
        """Give the trial up in good order (SIGTERM): retried, and no failure counted."""
        raise NotImplementedError

    def fail_attempt(self, claim: Claim, *, reason: str, signature: str) -> Retry | GaveUp:
        """The attempt went wrong.

        Retried until `max_attempts` failures; the same `signature` twice on one trial is
        not retried (it would fail a third time).
        """
        raise NotImplementedError

    def refuse_late(self, claim: Claim, summary: Mapping[str, Any]) -> None:
        """Log a result that came after the lease was lost; it counts for nothing."""
        raise NotImplementedError

    # --- the search --------------------------------------------------------------

    def reap(self, lease_s: float) -> list[Reaped]:
        """Take trials from silent workers and settle what outsiders changed.

        Idempotent and cheap: any number may call it, one at a time does it (advisory
        lock, the others return []).  Writes nothing when nothing is stale.  Nobody is
        reaped for a silence in which the database was away or had just started.

        Args:
            lease_s: allowed silence of a worker by the database's clock, seconds, > 0.
        """
        raise NotImplementedError

    def set_state(self, command: Literal["run", "pause", "stop"], reason: str = "") -> None:
        """Let the search run, pause or stop; "run" also starts the failure rate anew."""
        raise NotImplementedError

    def pause_if_failing(self, *, max_failure_rate: float, min_attempts: int) -> str | None:
        """Pause the search when too many attempts fail; returns the message, else None.

        Args:
            max_failure_rate: allowed (failed + lost) / ended attempts, 0..1, since the
                search was last set to run.
            min_attempts: ended attempts before the rate means anything, >= 1.
        """
        raise NotImplementedError

    # --- reading -----------------------------------------------------------------

    def counts(self) -> Counts:
        """The search in numbers (one consistent view)."""
        raise NotImplementedError

    def workers(self, *, with_retired: bool = False) -> list[WorkerRow]:
        """The workers, living first, then by host and device."""
        raise NotImplementedError

    def trials(self) -> list[TrialRow]:
        """Every trial by number."""
        raise NotImplementedError

    def live_numbers(self) -> set[int]:
        """Numbers of the trials that are RUNNING or WAITING: whose checkpoints matter."""
        raise NotImplementedError

    def close(self) -> None:
        """Release Optuna's session; the engine stays the caller's to dispose."""
        raise NotImplementedError
