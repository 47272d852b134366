"""Taking trials from silent workers, and settling what was changed from outside."""

from __future__ import annotations

import logging
from datetime import datetime, timedelta
from typing import Any, Literal

import sqlalchemy as sa
from optuna.trial import FrozenTrial, TrialState

from storage import sql
from storage.endings import failed, put_back, release_orphan, settle_outside
from storage.records import Reaped
from storage.states import Attempt, Ticket, WorkerState
from storage.transaction import Transaction

_log = logging.getLogger(__name__)

RETIRED_REASON = "its worker left without handing it back"


def reap(
    tx: Transaction, *, lease_s: float, max_attempts: int, watching_since: datetime | None
) -> list[Reaped]:
    """One round; nothing is written when nothing is wrong.

    Args:
        watching_since: silence before this moment is not counted (the caller could not
            reach the database until then, so perhaps no worker could).
    """
    if not tx.execute(sql.TRY_LOCK_REAPER).scalar_one():
        return []
    clock = tx.execute(sql.CLOCK).one()
    unfinished = tx.unfinished()
    done = [
        *_reap_silent(tx, clock, lease_s, max_attempts, watching_since),
        *_settle_changed(tx, unfinished),
        *_release_orphans(tx, unfinished, clock.now, lease_s),
    ]
    for item in done:
        _log.warning(
            "trial %d: %s (%s)",
            item.number,
            item.action,
            item.reason,
            extra={"action": item.action, "trial": item.number, "study": tx.study_name},
        )
    return done


def release_all(tx: Transaction, reason: str) -> list[int]:
    """Hand back every leased trial, without a failure, and retire every worker."""
    numbers = []
    for row in tx.execute(sql.LEASED_TICKETS).all():
        trial = tx.storage.get_trial(row.trial_id)
        if trial.state == TrialState.RUNNING:
            put_back(tx, row.ticket_id, row.trial_id, row.token, Attempt.HANDED_BACK, reason)
        else:
            settle_outside(tx, ticket_id=row.ticket_id, trial_id=row.trial_id, token=row.token)
        numbers.append(trial.number)
    tx.execute(sql.RETIRE_ALL_WORKERS, reason=reason)
    return sorted(numbers)


def _reap_silent(
    tx: Transaction,
    clock: sa.Row[Any],
    lease_s: float,
    max_attempts: int,
    watching_since: datetime | None,
) -> list[Reaped]:
    """Leased tickets whose worker has not sent a beat for a lease."""
    lease = timedelta(seconds=lease_s)
    silent_since = clock.now - lease
    watched_from = max(filter(None, (clock.server_started, watching_since)))
    if watched_from > silent_since:
        # The database itself was away within this lease: take from retired workers only.
        silent_since = datetime.min.replace(tzinfo=clock.now.tzinfo) + timedelta(days=1)
    tickets = tx.execute(sql.STALE_TICKETS, silent_since=silent_since).all()
    done = []
    for row in tickets:
        if row.worker_state == WorkerState.RETIRED:
            reason = RETIRED_REASON
        elif row.worker_state is None:
            reason = "its worker is unknown"
        else:
            reason = f"no beat from {row.host} (pid {row.pid}) for {row.silence_s:.1f} s"
        done.append(_take(tx, row, reason, max_attempts))
    # Those without a trial too; nothing is written when there are none.
    tx.execute(sql.LOSE_WORKERS, silent_since=silent_since)
    return done


def _take(tx: Transaction, row: sa.Row[Any], reason: str, max_attempts: int) -> Reaped:
    """End one silent worker's attempt; `row`'s ticket is locked."""
    trial = tx.storage.get_trial(row.trial_id)
    action: Literal["retry", "gave_up", "closed", "reopened"]
    if trial.state == TrialState.RUNNING:
        why = failed(
            tx,
            ticket_id=row.ticket_id,
            trial_id=row.trial_id,
            token=row.token,
            outcome=Attempt.LOST,
            reason=reason,
            signature=None,  # a lost worker says nothing about the parameters
            max_attempts=max_attempts,
        )
        action, reason = ("gave_up", why) if why is not None else ("retry", reason)
    else:
        action = _settle(tx, row)
        reason = f"set to {trial.state.name} from outside"
    return Reaped(trial.number, action, reason, row.token, row.worker_id)


def _settle_changed(tx: Transaction, unfinished: dict[int, FrozenTrial]) -> list[Reaped]:
    """Tickets, leased or kept for a retry, whose trial was ended or changed from outside."""
    done = []
    for bound in tx.execute(sql.BOUND_TICKETS).all():
        trial = unfinished.get(bound.trial_id)
        if trial is not None and trial.state in (TrialState.RUNNING, _expected(bound)):
            continue
        # Look again under the lock: its worker may have finished it just now.
        row = tx.execute(
            sql.LOCK_BOUND_TICKET, ticket=bound.ticket_id, trial=bound.trial_id
        ).one_or_none()
        if row is None:
            continue
        trial = tx.storage.get_trial(row.trial_id)
        if trial.state in (TrialState.RUNNING, _expected(row)):
            continue
        action = _settle(tx, row)
        reason = f"set to {trial.state.name} from outside"
        done.append(Reaped(trial.number, action, reason, row.token, row.worker_id))
    return done


def _expected(ticket: sa.Row[Any]) -> TrialState:
    return TrialState.RUNNING if ticket.state == Ticket.LEASED else TrialState.WAITING


def _settle(tx: Transaction, row: sa.Row[Any]) -> Literal["closed", "reopened", "retry"]:
    state = settle_outside(tx, ticket_id=row.ticket_id, trial_id=row.trial_id, token=row.token)
    if state in (TrialState.COMPLETE, TrialState.PRUNED):
        return "closed"
    return "retry" if state == TrialState.WAITING else "reopened"


def _release_orphans(
    tx: Transaction, unfinished: dict[int, FrozenTrial], now: datetime, lease_s: float
) -> list[Reaped]:
    """RUNNING trials without a ticket, once they have been there for a whole lease.

    Our own claims leave none; a `study.ask` in a notebook can.  Optuna's start times are
    local times of unknown zones, so the time at which we first saw a trial is stored.
    """
    running = {
        trial_id: trial
        for trial_id, trial in unfinished.items()
        if trial.state == TrialState.RUNNING
    }
    known = {row.trial_id: row.seen_at for row in tx.execute(sql.KNOWN_ORPHANS)}
    # Read after the trials, so that the ticket of a RUNNING trial is in view.
    ticketed = (
        set(tx.execute(sql.TICKETED_TRIALS, trials=list(running)).scalars()) if running else set()
    )
    done = []
    for trial_id in running.keys() - ticketed - known.keys():
        tx.execute(sql.INSERT_ORPHAN, trial=trial_id)
    for trial_id, seen_at in known.items():
        if trial_id in running and trial_id not in ticketed:
            if now - seen_at < timedelta(seconds=lease_s):
                continue
            state = release_orphan(tx, trial_id)
            if state is not None:
                waits = state == TrialState.WAITING
                done.append(
                    Reaped(
                        running[trial_id].number,
                        "orphan_waiting" if waits else "orphan_failed",
                        "RUNNING without a worker of this search",
                    )
                )
        tx.execute(sql.DELETE_ORPHAN, trial=trial_id)
    return done
