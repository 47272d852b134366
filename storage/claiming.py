"""Ticket, Optuna trial and token: leased in one transaction, all or nothing."""

from __future__ import annotations

from uuid import UUID

import sqlalchemy as sa
from optuna.exceptions import UpdateFinishedTrialError
from optuna.samplers import BaseSampler
from optuna.storages._rdb.models import TrialModel
from optuna.study import Study
from optuna.trial import Trial, TrialState
from sqlalchemy.exc import IntegrityError

from storage import sql
from storage.endings import settle_outside
from storage.errors import UnknownWorker
from storage.records import Claim, NoWork
from storage.retry import TryAgain
from storage.states import Command
from storage.transaction import Desk, Transaction

_WAITING = (
    sa.select(TrialModel.trial_id)
    .where(TrialModel.study_id == sa.bindparam("study_id"), TrialModel.state == TrialState.WAITING)
    .order_by(TrialModel.trial_id)
)


def claim(
    desk: Desk, tx: Transaction, *, worker_id: UUID, token: UUID, sampler: BaseSampler
) -> Claim | NoWork:
    """Lease one trial under a token that was never used before."""
    # A worker that claims lives: its beat counts from now.
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
        # An outsider took or finished the waiting trial; the ticket is free or done now.
        settle_outside(tx, ticket_id=ticket.ticket_id, trial_id=ticket.trial_id, token=None)

    try:
        attempt = tx.execute(
            sql.BIND, ticket=ticket.ticket_id, trial=trial._trial_id, trial_number=trial.number,
            token=token, worker=worker_id,
        ).scalar_one()  # fmt: skip
    except IntegrityError as error:
        raise TryAgain(f"trial {trial.number} got a ticket elsewhere") from error
    return _claim(tx, ticket.ticket_id, token, worker_id, trial, attempt)


def find_claim(
    desk: Desk, tx: Transaction, *, worker_id: UUID, token: UUID, sampler: BaseSampler
) -> Claim | None:
    """The claim of a commit that went through although its answer was lost, if it did."""
    found = tx.execute(sql.FIND_CLAIM, token=token).one_or_none()
    if found is None:
        return None
    trial = desk.trial(found.trial_id, sampler)
    return _claim(tx, found.ticket_id, token, worker_id, trial, found.attempt)


def _ask(tx: Transaction, study: Study) -> int:
    """What `study.ask` does, but for waiting trials whose retry another ticket stands for.

    `ask` itself would pop those too, and the two tickets would then wait for each other's
    locks.  Trials enqueued by the user go first, oldest first, as with `ask`.
    """
    study._thread_local.cached_all_trials = None  # `ask` does so: a new trial, a new look
    # Through Optuna's storage this would read every unfinished trial whole (7 statements).
    waiting: list[int] = list(tx.connection.scalars(_WAITING, {"study_id": tx.study_id}))
    # Read after the trials: who sees a trial put back also sees the ticket kept for it.
    ticketed = set(tx.execute(sql.TICKETED_TRIALS, trials=waiting).scalars()) if waiting else set()
    for trial_id in waiting:
        if trial_id not in ticketed and _pop(tx, trial_id):
            tx.unfinished()  # Optuna's cache must have met it before it can be written to
            return trial_id
    return tx.storage.create_new_trial(tx.study_id)


def _pop(tx: Transaction, trial_id: int) -> bool:
    """WAITING -> RUNNING; False when somebody else was first (waits for his commit)."""
    try:
        # A refusal must not take the rest of the claim with it.
        with tx.connection.begin_nested():
            return tx.storage.set_trial_state_values(trial_id, state=TrialState.RUNNING)
    except UpdateFinishedTrialError:
        return False


def _claim(
    tx: Transaction, ticket_id: int, token: UUID, worker_id: UUID, trial: Trial, attempt: int
) -> Claim:
    previous, reported = None, frozenset[int]()
    if attempt > 1:
        reported = frozenset(tx.storage.get_trial(trial._trial_id).intermediate_values)
        row = tx.execute(
            sql.PREVIOUS_ATTEMPT, trial=trial._trial_id, attempt=attempt
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
    )
