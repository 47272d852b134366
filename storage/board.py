"""The board: who works on which trial.  It is all that a worker talks to.

A thin face; the work is done in `claiming` (ticket, ask and token in one transaction),
`endings` (every end of an attempt), `reaping` and `reporting`.  Every call survives a
database restart: it is retried with back-off for up to `outage_s` (retry.py).  A retried
call whose first commit did go through is recognised by the attempt's token, so nothing is
counted twice.

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
from collections.abc import Callable, Mapping
from typing import Any, TypeVar
from uuid import UUID, uuid4

from optuna.samplers import BaseSampler
from optuna.trial import Trial, TrialState

from storage import claiming, endings, sql
from storage.errors import ToldElsewhere
from storage.housekeeping import Housekeeper
from storage.records import Claim, GaveUp, NoWork, Retry
from storage.transaction import Transaction

T = TypeVar("T")
_log = logging.getLogger(__name__)


class Board(Housekeeper):
    """One study's tickets, attempts and workers.

    Use one per process; `beat` may be called from another thread than the rest, everything
    else from one thread at a time.  The constructor is `Housekeeper`'s.
    """

    def claim(self, worker_id: UUID, sampler: BaseSampler) -> Claim | NoWork:
        """Lease a ticket and a trial for it, or say why there is none.

        Order: trials to be retried, then trials enqueued by the user, then fresh ones.
        Ticket, Optuna trial and token are one transaction: a crash leaves all or nothing.

        Raises:
            UnknownWorker: the worker has no row; register again.
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
            about = _about(claimed, "claim") | {"worker": str(worker_id)}
            _log.info("trial %d, attempt %d", claimed.number, claimed.attempt, extra=about)
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
            endings.require_lease(tx, claim)
            return write(self._fresh(claim))

        result = self._desk.run("write", work, lean=True)
        claim.stale = False
        return result

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
        images_per_s: float | None = None,
        saved: bool = False,
    ) -> None:
        """Where the attempt is, for `status` and for the next attempt's `resumed_from`.

        Args:
            images_per_s: how fast its last epoch was; None leaves what is known.
            saved: a checkpoint was just written; its time is the database's now.

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
                images_per_s=images_per_s,
                saved=saved,
            )
            if done.rowcount == 0:
                endings.require_lease(tx, claim)

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
            value: finite; the study maximises it.
            user_attrs: JSON-able.
            constraints: name -> violation (<= 0 is feasible), finite.

        Raises:
            LeaseLost: another worker has the trial; nothing was written.
            ToldElsewhere: it was finished from outside; nothing was written.
        """
        attrs, violations = dict(user_attrs or {}), dict(constraints or {})
        endings.check_result(state=state, value=value, constraints=violations)

        def work(tx: Transaction) -> ToldElsewhere | None:
            return endings.finish(
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
        _log.info("trial %d told: %s", claim.number, state.name, extra=_about(claim, "finish"))

    def hand_back(self, claim: Claim, reason: str) -> None:
        """Give the trial back in good order (SIGTERM): retried, and no failure counted.

        Raises:
            LeaseLost: another worker has the trial; nothing was written.
        """
        _raise(self._desk.run("hand back", lambda tx: endings.hand_back(tx, claim, reason)))
        about = _about(claim, "hand_back")
        _log.info("trial %d handed back: %s", claim.number, reason, extra=about)

    def fail_attempt(self, claim: Claim, *, reason: str, signature: str | None) -> Retry | GaveUp:
        """The attempt went wrong.

        Retried until `max_attempts` failures; the same `signature` twice on one trial is
        not retried (it would fail a third time).

        Args:
            signature: names the cause; None is a cause from outside (a killed process),
                which says nothing about the trial.

        Raises:
            LeaseLost: another worker has the trial; nothing was written.
        """

        def work(tx: Transaction) -> Retry | GaveUp | ToldElsewhere:
            return endings.fail_attempt(
                tx, claim, reason=reason, signature=signature, max_attempts=self.max_attempts
            )

        answer = self._desk.run("fail", work)
        if isinstance(answer, ToldElsewhere):
            raise answer
        about = _about(claim, "fail") | {"answer": type(answer).__name__}
        _log.warning(
            "trial %d, attempt %d failed: %s", claim.number, claim.attempt, reason, extra=about
        )
        return answer

    def refuse_late(self, claim: Claim, summary: Mapping[str, Any]) -> None:
        """Record a result that came after the lease was lost; it does not count."""
        self._desk.statement(
            "late", sql.LATE, token=claim.token, summary=json.dumps(dict(summary), default=str)
        )
        about = _about(claim, "late")
        _log.warning("trial %d: a late result was refused", claim.number, extra=about)

    def _fresh(self, claim: Claim) -> Trial:
        """The claim's trial, made again when it may remember what was never committed.

        Marked stale until the caller's transaction has been committed.
        """
        if claim.stale:
            claim.trial = self._desk.trial(claim.trial_id, claim.trial.study.sampler)
        claim.stale = True
        return claim.trial


def _raise(error: ToldElsewhere | None) -> None:
    if error is not None:
        raise error


def _about(claim: Claim, action: str) -> dict[str, object]:
    return {
        "action": action,
        "trial": claim.number,
        "attempt": claim.attempt,
        "token": str(claim.token),
    }
