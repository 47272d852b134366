"""What `status` shows: read only, each call one consistent view."""

from __future__ import annotations

from collections import Counter
from typing import Any

from optuna.trial import TrialState

from storage import repeats, sql
from storage.optuna_internals import trial_id_of
from storage.records import AttemptRow, Counts, TrialRow, WorkerRow
from storage.states import Attempt, WorkerState
from storage.transaction import Transaction

LOST_SHOWN_LEASES = 10
"""A worker that was lost without a trial is shown for so many leases."""


def counts(tx: Transaction) -> Counts:
    """The search in numbers."""
    values = dict(tx.execute(sql.COUNT_ALL).one()._mapping)
    failures, attempts_ended = values.pop("rate_failures"), values.pop("rate_ended")
    trials = tx.storage.get_all_trials(tx.study_id, deepcopy=False)
    again = repeats.repeating_trials(tx)
    ended = {TrialState.COMPLETE, TrialState.PRUNED}
    states = Counter(
        trial.state
        for trial in trials
        if trial.state not in ended or trial_id_of(trial) not in again
    )
    return Counts(
        complete=states[TrialState.COMPLETE],
        pruned=states[TrialState.PRUNED],
        running=states[TrialState.RUNNING],
        waiting=states[TrialState.WAITING],
        failed=states[TrialState.FAIL],
        failure_rate=failures / attempts_ended if attempts_ended else 0.0,
        **values,
    )


def workers(tx: Transaction, *, lease_s: float | None) -> list[WorkerRow]:
    """The workers that did not sign off, living ones first, then by host and device.

    Args:
        lease_s: see `BoardReader`.
    """
    return [
        WorkerRow(
            worker_id=row.worker_id,
            host=row.host,
            pid=row.pid,
            device=row.device,
            note=row.note,
            state=WorkerState(row.state),
            reason=row.reason,
            beat_age_s=float(row.beat_age_s),
            beat_at=float(row.beat_at),
            trial=row.trial_number,
            attempt=row.attempt,
            stage=row.stage,
            dataset=row.dataset,
            epoch=row.epoch,
            images_per_s=row.images_per_s,
            checkpoint_age_s=_float(row.checkpoint_age_s),
            leased_for_s=_float(row.leased_for_s),
        )
        for row in tx.execute(sql.WORKERS, lease_s=lease_s, lost_shown_leases=LOST_SHOWN_LEASES)
    ]


def trials(tx: Transaction) -> list[TrialRow]:
    """Every trial by number, with its newest attempt."""
    newest = {row.trial_id: row._mapping for row in tx.execute(sql.NEWEST_ATTEMPTS)}
    rows = []
    for trial in tx.storage.get_all_trials(tx.study_id, deepcopy=False):
        attempt: Any = newest.get(trial_id_of(trial), {})
        rows.append(
            TrialRow(
                number=trial.number,
                state=trial.state.name,
                value=trial.value,
                params=dict(trial.params),
                user_attrs=dict(trial.user_attrs),
                reports=dict(trial.intermediate_values),
                attempts=attempt.get("attempt", 0),
                outcome=Attempt(attempt["outcome"]) if attempt else None,
                reason=attempt.get("reason", ""),
                worker_id=attempt.get("worker_id"),
                host=attempt.get("host"),
                device=attempt.get("device"),
                stage=attempt.get("stage"),
                dataset=attempt.get("dataset"),
                epoch=attempt.get("epoch"),
                checkpoint_age_s=_float(attempt.get("checkpoint_age_s")),
                seconds=_float(attempt.get("seconds")),
            )
        )
    return rows


def attempts(tx: Transaction) -> list[AttemptRow]:
    """Every attempt at every trial, in the order in which they began."""
    return [
        AttemptRow(**{**row._mapping, "outcome": Attempt(row.outcome)})
        for row in tx.execute(sql.ATTEMPTS)
    ]


def _float(value: Any) -> float | None:
    return None if value is None else float(value)
