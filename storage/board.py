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

import json
import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from typing import Any, Literal, TypeVar
from uuid import UUID, uuid4

import optuna
from optuna.samplers import BaseSampler, RandomSampler
from optuna.trial import Trial, TrialState
from sqlalchemy import Engine

from storage import claiming, reaping, reporting, sql
from storage import endings as closing
from storage.errors import ToldElsewhere, UnknownWorker
from storage.records import (
    AttemptRow,
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
from storage.searches import load_search
from storage.states import Command
from storage.transaction import Clock, Desk, Transaction

T = TypeVar("T")
_log = logging.getLogger(__name__)


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
        if max_attempts < 1:
            raise ValueError(f"{max_attempts=}: must be at least 1")
        record = load_search(engine, study_name)
        self.study_name = study_name
        self.record = record
        self.max_attempts = max_attempts
        self._reader = RandomSampler()  # draws nothing: a study wants a sampler
        self._outage_seen = False
        self._watching_since: datetime | None = None
        self._desk = Desk(
            engine=engine,
            study_name=study_name,
            study_id=record.study_id,
            clock=clock,
            outage_s=outage_s,
            give_up=give_up,
            on_outage=self._note_outage,
        )

    # --- workers -----------------------------------------------------------------

    def register_worker(self, *, host: str, pid: int, device: str, note: str = "") -> UUID:
        """Enter a worker; the registration is its first beat.  Returns its id."""
        worker_id = uuid4()
        self._desk.statement(
            "register",
            sql.INSERT_WORKER,
            worker=worker_id,
            host=host,
            pid=pid,
            device=device,
            note=note,
        )
        return worker_id

    def worker_rank(self, worker_id: UUID) -> int:
        """How many workers entered this study before this one: 0, 1, 2, ...

        A seed made of it differs between workers and is the same when a search with one
        worker is repeated.
        """
        (row,) = self._desk.statement("rank", sql.WORKERS_BEFORE, worker=worker_id)
        return int(row.before)

    def retire_worker(self, worker_id: UUID, reason: str) -> None:
        """Say good-bye.  What it still holds is free for the next reaper at once."""
        self._desk.statement("retire", sql.RETIRE_WORKER, worker=worker_id, reason=reason)

    def set_worker_reason(self, worker_id: UUID, reason: str) -> None:
        """Say what does not work in a worker that goes on all the same ("" for nothing)."""
        self._desk.statement("reason", sql.SET_WORKER_REASON, worker=worker_id, reason=reason)

    def beat(self, worker_id: UUID, *, outage_s: float | None = None) -> Beat:
        """Say "alive" (one statement) and hear what was lost and what is wanted.

        Raises:
            UnknownWorker: the row is gone; register again.
            DatabaseGone: no answer within `outage_s` (None: the board's).
        """
        rows = self._desk.statement("beat", sql.BEAT, outage_s=outage_s, worker=worker_id)
        if not rows:
            raise UnknownWorker(f"worker {worker_id} is not registered in {self.study_name!r}")
        (row,) = rows
        return Beat(frozenset(row.lost), Command(row.command), row.reason)

    # --- a trial's life ----------------------------------------------------------

    def claim(self, worker_id: UUID, sampler: BaseSampler) -> Claim | NoWork:
        """Lease a ticket and a trial for it, or say why there is none.

        Order: trials to be retried, then trials enqueued by the user, then fresh ones.
        Ticket, Optuna trial and token are one transaction: a crash leaves all or nothing.
        """
        token = uuid4()
        tried = False

        def work(tx: Transaction) -> Claim | NoWork:
            nonlocal tried
            desk, again, tried = self._desk, tried, True
            if again:
                found = claiming.find_claim(
                    desk, tx, worker_id=worker_id, token=token, sampler=sampler
                )
                if found is not None:
                    return found
            return claiming.claim(desk, tx, worker_id=worker_id, token=token, sampler=sampler)

        claimed = self._desk.run("claim", work, lean=True)
        if isinstance(claimed, Claim):
            _log.info(
                "trial %d, attempt %d",
                claimed.number,
                claimed.attempt,
                extra={"action": "claim", "worker": str(worker_id), **_about(claimed)},
            )
        return claimed

    def suggest(self, claim: Claim, suggest: Callable[[Trial], T]) -> T:
        """`suggest(trial)` under the fence, in one transaction; retried with a fresh Trial.

        Raises:
            LeaseLost: nothing was written.
        """
        return self.write(claim, suggest)

    def write(self, claim: Claim, write: Callable[[Trial], T]) -> T:
        """Any Optuna writes of this trial under the fence; `write` may run more than once."""

        def work(tx: Transaction) -> T:
            closing.require_lease(tx, claim)
            return write(self._fresh(claim))

        result = self._desk.run("write", work, lean=True)
        claim.stale = False
        return result

    @contextmanager
    def fenced(self, claim: Claim) -> Iterator[Trial]:
        """The bare fence: Optuna writes in the block are one transaction with the check.

        Not retried (a block cannot be): prefer `suggest`, `report` and `write`.

        Raises:
            LeaseLost: on entry, nothing was written.
        """
        with self._desk.open() as tx:
            closing.require_lease(tx, claim)
            yield self._fresh(claim)
        claim.stale = False

    def report(self, claim: Claim, *, step: int, value: float) -> None:
        """One intermediate value (`Trial.report`), fenced and retried."""

        def work(trial: Trial) -> None:
            trial.report(value, step)

        self.write(claim, work)

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

        def work(tx: Transaction) -> None:
            done = tx.execute(
                sql.PROGRESS,
                token=claim.token,
                stage=stage,
                dataset=dataset,
                epoch=epoch,
                checkpointed=checkpoint_at == "now",
                checkpoint_at=None if checkpoint_at == "now" else checkpoint_at,
            )
            if done.rowcount == 0:
                closing.require_lease(tx, claim)

        self._desk.run("progress", work)

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
        attrs, violations = dict(user_attrs or {}), dict(constraints or {})
        closing.check_result(state=state, value=value, constraints=violations)

        def work(tx: Transaction) -> ToldElsewhere | None:
            return closing.finish(
                tx,
                claim,
                lambda: self._fresh(claim),
                state=state,
                value=value,
                user_attrs=attrs,
                constraints=violations,
            )

        _raise(self._desk.run("finish", work, lean=True))
        claim.stale = False
        _log.info(
            "trial %d told: %s",
            claim.number,
            state.name,
            extra={"action": "finish", **_about(claim)},
        )

    def hand_back(self, claim: Claim, reason: str) -> None:
        """Give the trial up in good order (SIGTERM): retried, and no failure counted."""
        _raise(self._desk.run("hand back", lambda tx: closing.hand_back(tx, claim, reason)))
        _log.info(
            "trial %d handed back: %s",
            claim.number,
            reason,
            extra={"action": "hand_back", **_about(claim)},
        )

    def fail_attempt(self, claim: Claim, *, reason: str, signature: str | None) -> Retry | GaveUp:
        """The attempt went wrong.

        Retried until `max_attempts` failures; the same `signature` twice on one trial is
        not retried (it would fail a third time).  None is a cause from outside (a killed
        process), which says nothing about the trial.
        """

        def work(tx: Transaction) -> Retry | GaveUp | ToldElsewhere:
            return closing.fail_attempt(
                tx, claim, reason=reason, signature=signature, max_attempts=self.max_attempts
            )

        answer = self._desk.run("fail", work)
        if isinstance(answer, ToldElsewhere):
            raise answer
        _log.warning(
            "trial %d, attempt %d failed: %s",
            claim.number,
            claim.attempt,
            reason,
            extra={"action": "fail", "answer": type(answer).__name__, **_about(claim)},
        )
        return answer

    def refuse_late(self, claim: Claim, summary: Mapping[str, Any]) -> None:
        """Log a result that came after the lease was lost; it counts for nothing."""
        self._desk.statement(
            "late", sql.LATE, token=claim.token, summary=json.dumps(dict(summary), default=str)
        )
        _log.warning(
            "trial %d: a late result was refused",
            claim.number,
            extra={"action": "late", **_about(claim)},
        )

    # --- the search --------------------------------------------------------------

    def reap(self, lease_s: float) -> list[Reaped]:
        """Take trials from silent workers and settle what outsiders changed.

        Idempotent and cheap: any number may call it, one at a time does it (advisory
        lock, the others return []).  Writes nothing when nothing is stale.  Nobody is
        reaped for a silence in which the database was away or had just started.

        Args:
            lease_s: allowed silence of a worker by the database's clock, seconds, > 0.
        """
        if lease_s <= 0:
            raise ValueError(f"{lease_s=}: must be positive")

        def work(tx: Transaction) -> list[Reaped]:
            if self._outage_seen:
                self._watching_since = tx.execute(sql.CLOCK).one().now
                self._outage_seen = False
            return reaping.reap(
                tx,
                lease_s=lease_s,
                max_attempts=self.max_attempts,
                watching_since=self._watching_since,
            )

        return self._desk.run("reap", work)

    def release_all(self, reason: str) -> list[int]:
        """Take every trial from its worker without a failure; returns their numbers.

        For a search that was moved: its workers are on another machine, or gone.
        """
        return self._desk.run("release", lambda tx: reaping.release_all(tx, reason))

    def set_state(self, command: Literal["run", "pause", "stop"], reason: str = "") -> None:
        """Let the search run, pause or stop; "run" also starts the failure rate anew."""
        self._desk.statement(
            "set state", sql.SET_COMMAND, command=Command(command).value, reason=reason
        )

    def pause_if_failing(self, *, max_failure_rate: float, min_attempts: int) -> str | None:
        """Pause the search when too many attempts fail; returns the message, else None.

        Args:
            max_failure_rate: allowed failed / ended attempts, 0..1, since the search was
                last set to run.  Lost attempts (a host was taken away) are left out, but for
                those that used up their trial's tries.
            min_attempts: ended attempts before the rate means anything, >= 1.
        """
        (row,) = self._desk.statement("failure rate", sql.FAILURE_RATE)
        if row.command != Command.RUN or row.ended < max(min_attempts, 1):
            return None
        if row.failures / row.ended <= max_failure_rate:
            return None
        message = (
            f"paused: {row.failures} of {row.ended} attempts failed "
            f"(allowed {max_failure_rate:.0%}); the last one: {row.last_reason}"
        )
        self._desk.statement("pause", sql.PAUSE_IF_RUNNING, reason=message)
        _log.error("%s", message, extra={"action": "pause", "study": self.study_name})
        return message

    # --- reading -----------------------------------------------------------------

    def counts(self) -> Counts:
        """The search in numbers (one consistent view)."""
        return self._desk.run("counts", reporting.counts, snapshot=True)

    def workers(self, *, with_retired: bool = False) -> list[WorkerRow]:
        """The workers, living first, then by host and device."""

        def work(tx: Transaction) -> list[WorkerRow]:
            return reporting.workers(tx, with_retired=with_retired)

        return self._desk.run("workers", work, snapshot=True)

    def trials(self) -> list[TrialRow]:
        """Every trial by number."""
        return self._desk.run("trials", reporting.trials, snapshot=True)

    def attempts(self) -> list[AttemptRow]:
        """Every attempt at every trial, in the order in which they began."""
        return self._desk.run("attempts", reporting.attempts, snapshot=True)

    def best(self) -> tuple[int, float] | None:
        """Number and value of the best COMPLETE trial, None while there is none."""
        return self._desk.run("best", self._best, snapshot=True)

    def state(self) -> tuple[Command, str]:
        """What the search wants of its workers, and why."""
        record = load_search(self._desk.engine, self.study_name)
        return record.command, record.reason

    def with_study(self, what: str, work: Callable[[optuna.Study], T]) -> T:
        """`work(study)` on Optuna's study in one transaction, retried as everything here.

        For readers and writers of notes; `work` may run more than once.
        """
        return self._desk.run(what, lambda _tx: work(self._desk.study(self._reader)))

    def over_numbers(self) -> set[int]:
        """Numbers of the trials that are over for good: whose checkpoints can go."""

        def work(tx: Transaction) -> set[int]:
            trials = tx.storage.get_all_trials(tx.study_id, deepcopy=False)
            return {trial.number for trial in trials if trial.state.is_finished()}

        return self._desk.run("finished trials", work)

    def resumable_numbers(self) -> set[int]:
        """Numbers of the trials that a checkpoint can be of use to: unfinished, and drawn."""

        def work(tx: Transaction) -> set[int]:
            return {trial.number for trial in tx.unfinished().values() if trial.params}

        return self._desk.run("resumable trials", work)

    def close(self) -> None:
        """Release Optuna's session; the engine stays the caller's to dispose."""
        self._desk.forget()

    # --- inside ------------------------------------------------------------------

    def _fresh(self, claim: Claim) -> Trial:
        """The claim's trial, made anew when it may remember what was never committed.

        Marked stale until the caller's transaction has been committed.
        """
        if claim.stale:
            claim.trial = self._desk.trial(claim.trial_id, claim.trial.study.sampler)
        claim.stale = True
        return claim.trial

    def _best(self, tx: Transaction) -> tuple[int, float] | None:
        complete = tx.storage.get_all_trials(
            tx.study_id, deepcopy=False, states=(TrialState.COMPLETE,)
        )
        ranked = [(t.value, -t.number) for t in complete if t.value is not None]
        if not ranked:
            return None
        value, number = max(ranked)
        return -number, value

    def _note_outage(self) -> None:
        self._outage_seen = True


def _raise(error: ToldElsewhere | None) -> None:
    if error is not None:
        raise error


def _about(claim: Claim) -> dict[str, object]:
    return {"trial": claim.number, "attempt": claim.attempt, "token": str(claim.token)}
