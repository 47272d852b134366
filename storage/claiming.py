"""Ticket, Optuna trial and token: leased in one transaction, all or nothing."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from uuid import UUID

from optuna.exceptions import UpdateFinishedTrialError
from optuna.samplers import BaseSampler
from optuna.study import Study
from optuna.trial import Trial, TrialState
from sqlalchemy.exc import IntegrityError

from storage import sql
from storage.endings import settle_outside
from storage.errors import UnknownWorker
from storage.optuna_internals import forget_trials_seen, trial_id_of, waiting_trials
from storage.records import Claim, NoWork
from storage.retry import TryAgain
from storage.states import Command
from storage.transaction import Desk, Transaction


def claim(
    desk: Desk, tx: Transaction, *, worker_id: UUID, token: UUID, sampler: BaseSampler
) -> Claim | NoWork:
    """Lease one trial under a token that was never used before."""
    # A claim is a beat too.
    search = tx.execute(sql.BEAT, worker=worker_id).one_or_none()
    if search is None:
        raise UnknownWorker(f"worker {worker_id} is not registered in {tx.study_name!r}")
    if search.command == Command.PAUSE:
        return NoWork("paused", search.reason)
    if search.command == Command.STOP:
        return NoWork("stopped", search.reason)

    while True:
        ticket = tx.execute(sql.PICK_TICKET).one_or_none()
        if ticket is None:
            left = tx.execute(sql.UNFINISHED_TICKETS).scalar_one()
            return NoWork("all_leased") if left else NoWork("done")
        if ticket.trial_id is None:
            trial = Trial(desk.study(sampler), _ask(tx, desk.study(sampler)))
            break
        if _pop(tx, ticket.trial_id):
            trial = desk.trial(ticket.trial_id, sampler)
            break
        # Someone outside took or finished the waiting trial; its ticket is free or done now.
        settle_outside(tx, ticket_id=ticket.ticket_id, trial_id=ticket.trial_id, token=None)

    try:
        attempt = tx.execute(
            sql.BIND, ticket=ticket.ticket_id, trial=trial_id_of(trial), trial_number=trial.number,
            token=token, worker=worker_id,
        ).scalar_one()  # fmt: skip
    except IntegrityError as error:
        raise TryAgain(f"trial {trial.number} got a ticket elsewhere") from error
    fresh = ticket.trial_id is None
    return _claim(tx, ticket.ticket_id, token, worker_id, trial, attempt, fresh=fresh)


def find_claim(
    desk: Desk, tx: Transaction, *, worker_id: UUID, token: UUID, sampler: BaseSampler
) -> Claim | None:
    """The claim of an earlier try that was committed although its answer was lost; or None."""
    found = tx.execute(sql.FIND_CLAIM, token=token).one_or_none()
    if found is None:
        return None
    trial = desk.trial(found.trial_id, sampler)
    return _claim(tx, found.ticket_id, token, worker_id, trial, found.attempt, fresh=False)


def _ask(tx: Transaction, study: Study) -> int:
    """What `study.ask` does, except that it leaves trials alone that have a ticket.

    `ask` itself would pop those too, and the two tickets would then wait for each other's
    locks.  Trials enqueued by the user go first, oldest first, as with `ask`.
    """
    forget_trials_seen(study)
    waiting = waiting_trials(tx.connection, tx.study_id)
    # Read after the trials, so that a trial that was put back has its ticket in view.
    ticketed = set(tx.execute(sql.TICKETED_TRIALS, trials=waiting).scalars()) if waiting else set()
    for oldest in waiting:
        if oldest not in ticketed and _pop(tx, oldest):
            tx.unfinished()  # Optuna's cache must know it before it can be written to
            return oldest
    return tx.storage.create_new_trial(tx.study_id)


def _pop(tx: Transaction, trial_id: int) -> bool:
    """WAITING -> RUNNING; False when another worker was first (waits for its commit)."""
    try:
        # A refusal must not roll back the rest of the claim.
        with tx.connection.begin_nested():
            return tx.storage.set_trial_state_values(trial_id, state=TrialState.RUNNING)
    except UpdateFinishedTrialError:
        return False


def _claim(
    tx: Transaction,
    ticket_id: int,
    token: UUID,
    worker_id: UUID,
    trial: Trial,
    attempt: int,
    *,
    fresh: bool,
) -> Claim:
    previous, reported = None, frozenset[int]()
    attrs: Mapping[str, Any] = {}
    if not fresh:
        known = tx.storage.get_trial(trial_id_of(trial))
        reported, attrs = frozenset(known.intermediate_values), known.user_attrs
    if attempt > 1:
        row = tx.execute(
            sql.PREVIOUS_ATTEMPT, trial=trial_id_of(trial), attempt=attempt
        ).one_or_none()
        previous = None if row is None else dict(row._mapping)
    return Claim(
        ticket=ticket_id,
        token=token,
        worker_id=worker_id,
        trial=trial,
        attempt=attempt,
        resumed_from=previous,
        reported_steps=reported,
        user_attrs=attrs,
    )
