"""Every end of an attempt: the fence first, then trial, attempt and ticket together."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from optuna.exceptions import UpdateFinishedTrialError
from optuna.trial import Trial, TrialState

from storage import sql
from storage.errors import LeaseLost, ToldElsewhere
from storage.optuna_internals import set_user_attrs, trial_id_of
from storage.records import Claim, GaveUp, Retry
from storage.states import ENDINGS, Attempt, Ticket, ticket_after_outside
from storage.transaction import Transaction


@dataclass(frozen=True, slots=True)
class Ended:
    """The attempt was over already, ended under its own token."""

    outcome: Attempt
    reason: str
    gave_up: bool


def fence(tx: Transaction, claim: Claim) -> Ended | None:
    """Lock the ticket and check the token; None means that the lease holds.

    Raises:
        LeaseLost: the trial is, or was, another worker's.
    """
    ticket = tx.execute(sql.LOCK_TICKET, ticket=claim.ticket).one_or_none()
    if ticket is not None and ticket.state == Ticket.LEASED and ticket.token == claim.token:
        return None
    attempt = tx.execute(sql.ATTEMPT, token=claim.token).one_or_none()
    if attempt is None:
        raise LeaseLost(f"trial {claim.number}: this attempt is unknown to the database")
    outcome = Attempt(attempt.outcome)
    if outcome in (Attempt.LOST, Attempt.RUNNING):
        raise LeaseLost(f"trial {claim.number} was taken from this worker: {attempt.reason}")
    if outcome == Attempt.CLOSED:
        raise ToldElsewhere(f"trial {claim.number} was ended from outside: {attempt.reason}")
    return Ended(outcome, attempt.reason, attempt.gave_up)


def require_lease(tx: Transaction, claim: Claim) -> None:
    """`fence` for writes during an attempt, which an attempt that has ended may not make."""
    ended = fence(tx, claim)
    if ended is not None:
        raise LeaseLost(f"trial {claim.number}: this attempt is over ({ended.outcome})")


def outside_change(tx: Transaction, claim: Claim) -> ToldElsewhere | None:
    """Settle the ticket when someone outside changed the leased trial; returns the error.

    The caller raises it after the commit, or the settling would be rolled back.
    """
    trial_id = claim.trial_id
    state = tx.trial_state(trial_id)
    if state == TrialState.RUNNING:
        return None
    settle_outside(tx, ticket_id=claim.ticket, trial_id=trial_id, token=claim.token)
    return ToldElsewhere(
        f"trial {claim.number} was set to {state.name} from outside while it was leased; "
        "this result was not written"
    )


def finish(
    tx: Transaction,
    claim: Claim,
    fresh_trial: Callable[[], Trial],
    *,
    state: TrialState,
    value: float | None,
    user_attrs: Mapping[str, Any],
    constraints: Mapping[str, float],
) -> ToldElsewhere | None:
    """Tell the result and finish the ticket; twice with one token is once."""
    ended = fence(tx, claim)
    if ended is not None:
        if ended.outcome in (Attempt.COMPLETE, Attempt.PRUNED):
            return None  # the first commit went through, its answer was lost
        raise LeaseLost(f"trial {claim.number}: this attempt is over ({ended.outcome})")
    trial = fresh_trial()
    try:
        with tx.connection.begin_nested():
            set_user_attrs(tx.connection, trial_id_of(trial), user_attrs)
            for key, violation in constraints.items():
                trial.set_constraint(key, violation)
            trial.study.tell(trial, value, state=state)
    except (UpdateFinishedTrialError, ValueError):
        # Optuna refuses a trial that is no longer RUNNING.  A look beforehand would cost as
        # many statements as telling the result.
        changed = outside_change(tx, claim)
        if changed is None:
            raise
        return changed
    outcome = Attempt.COMPLETE if state == TrialState.COMPLETE else Attempt.PRUNED
    _end(tx, claim.token, outcome)
    tx.execute(sql.FINISH_TICKET, ticket=claim.ticket)
    return None


def check_result(
    *, state: TrialState, value: float | None, constraints: Mapping[str, float]
) -> None:
    """ValueError for a result that Optuna would refuse after part of it is written."""
    if state not in (TrialState.COMPLETE, TrialState.PRUNED):
        raise ValueError(f"{state=}: a trial ends COMPLETE or PRUNED; see also fail_attempt")
    if state == TrialState.COMPLETE and (value is None or not math.isfinite(value)):
        raise ValueError(f"{value=}: a COMPLETE trial needs a finite value")
    if state == TrialState.PRUNED and value is not None:
        raise ValueError(f"{value=}: a PRUNED trial's value is its last report")
    for key, violation in constraints.items():
        if not math.isfinite(violation):
            raise ValueError(f"constraint {key!r} = {violation}: must be finite")


def hand_back(tx: Transaction, claim: Claim, reason: str) -> ToldElsewhere | None:
    """Back to WAITING without a failure."""
    ended = fence(tx, claim)
    if ended is not None:
        if ended.outcome == Attempt.HANDED_BACK:
            return None
        raise LeaseLost(f"trial {claim.number}: this attempt is over ({ended.outcome})")
    changed = outside_change(tx, claim)
    if changed is None:
        put_back(tx, claim.ticket, claim.trial_id, claim.token, Attempt.HANDED_BACK, reason)
    return changed


def fail_attempt(
    tx: Transaction, claim: Claim, *, reason: str, signature: str | None, max_attempts: int
) -> Retry | GaveUp | ToldElsewhere:
    """Retry or give up after a failure that the worker itself reports."""
    ended = fence(tx, claim)
    if ended is None:
        changed = outside_change(tx, claim)
        if changed is not None:
            return changed
        why = failed(
            tx,
            ticket_id=claim.ticket,
            trial_id=claim.trial_id,
            token=claim.token,
            outcome=Attempt.FAILED,
            reason=reason,
            signature=signature,
            max_attempts=max_attempts,
        )
    elif ended.outcome == Attempt.FAILED:
        why = ended.reason if ended.gave_up else None
    else:
        raise LeaseLost(f"trial {claim.number}: this attempt is over ({ended.outcome})")
    if why is not None:
        return GaveUp(claim.number, why)
    failures = tx.execute(sql.FAILURES_OF_TRIAL, trial=claim.trial_id, signature=None).one()
    return Retry(claim.number, failures.failures, max_attempts)


def failed(
    tx: Transaction,
    *,
    ticket_id: int,
    trial_id: int,
    token: UUID,
    outcome: Attempt,
    reason: str,
    signature: str | None,
    max_attempts: int,
) -> str | None:
    """End a failed or lost attempt under its ticket's lock; why it is not retried, or None."""
    before = tx.execute(sql.FAILURES_OF_TRIAL, trial=trial_id, signature=signature).one()
    if before.same:
        why = f"failed twice in the same way: {reason}"
    elif before.failures + 1 >= max_attempts:
        why = f"given up after {before.failures + 1} failed attempts: {reason}"
    else:
        put_back(tx, ticket_id, trial_id, token, outcome, reason, signature)
        return None
    tx.storage.set_trial_user_attr(trial_id, "outcome", why)
    tx.storage.set_trial_state_values(trial_id, state=TrialState.FAIL)
    _end(tx, token, outcome, why, signature, gave_up=True)
    _reopen(tx, ticket_id, None)
    return why


def put_back(
    tx: Transaction,
    ticket_id: int,
    trial_id: int,
    token: UUID,
    outcome: Attempt,
    reason: str,
    signature: str | None = None,
) -> None:
    """RUNNING -> WAITING: the same trial, number and parameters; its ticket waits with it."""
    state = ENDINGS[outcome].trial
    if state != TrialState.WAITING:
        raise ValueError(f"{outcome} does not put a trial back")
    tx.storage.set_trial_state_values(trial_id, state=state)
    _end(tx, token, outcome, reason, signature)
    _reopen(tx, ticket_id, trial_id)


def settle_outside(
    tx: Transaction, *, ticket_id: int, trial_id: int, token: UUID | None
) -> TrialState:
    """Make the ticket (locked by the caller) agree with a trial that was changed outside.

    Told COMPLETE or PRUNED: counted.  FAIL: a fresh trial.  WAITING: kept for its retry.
    RUNNING without our lease: someone else runs it, so the ticket goes to another trial.
    """
    state = tx.trial_state(trial_id)
    if token is not None:
        _end(tx, token, Attempt.CLOSED, f"set to {state.name} from outside")
    if state.is_finished() and ticket_after_outside(state) == Ticket.DONE:
        tx.execute(sql.FINISH_TICKET, ticket=ticket_id)
    else:
        keep = trial_id if state == TrialState.WAITING else None
        _reopen(tx, ticket_id, keep)
    return state


def release_orphan(tx: Transaction, trial_id: int) -> TrialState | None:
    """A RUNNING trial that has no ticket: WAITING when it has parameters, else FAIL."""
    trial = tx.storage.get_trial(trial_id)
    state = TrialState.WAITING if trial.params else TrialState.FAIL
    try:
        with tx.connection.begin_nested():
            tx.storage.set_trial_state_values(trial_id, state=state)
    except UpdateFinishedTrialError:
        return None  # its owner finished it just now
    return state


def _reopen(tx: Transaction, ticket_id: int, trial_id: int | None) -> None:
    """For a retry of this trial, or (None) for a fresh one, which no ticket of a repeat gets."""
    if trial_id is None:
        tx.execute(sql.DROP_REPEAT, ticket=ticket_id)
    tx.execute(sql.REOPEN_TICKET, ticket=ticket_id, trial=trial_id)


def _end(
    tx: Transaction,
    token: UUID,
    outcome: Attempt,
    reason: str = "",
    signature: str | None = None,
    *,
    gave_up: bool = False,
) -> None:
    tx.execute(
        sql.END_ATTEMPT,
        token=token, outcome=outcome.value, reason=reason, signature=signature, gave_up=gave_up,
    )  # fmt: skip
