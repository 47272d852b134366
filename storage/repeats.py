"""Trials that are run again once the budget is used up, each with a ticket of its own.

Such a ticket is made with its trial and never goes to another one: when the trial is given
up the ticket goes with it, so nothing is searched beyond the budget.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from optuna.trial import FrozenTrial, TrialState

from storage import sql
from storage.transaction import Transaction

Plan = Callable[[Sequence[FrozenTrial]], Sequence[FrozenTrial]]
"""From all trials of the study, in Optuna's own records, to WAITING ones that are missing.

It may be asked more than once, and must find nothing missing in what it asked for before.
"""


def enter_repeats(tx: Transaction, plan: Plan) -> int:
    """Enter what the plan misses if every ticket is done; returns tickets that are not.

    The lock is that of resizing, and it is taken before anything is read: of two callers
    the second finds what the first entered.
    """
    tx.execute(sql.LOCK_SEARCHES)
    unfinished = int(tx.execute(sql.UNFINISHED_TICKETS).scalar_one())
    if unfinished:
        return unfinished
    missing = plan(tx.storage.get_all_trials(tx.study_id, deepcopy=False))
    for trial in missing:
        if trial.state != TrialState.WAITING:
            raise ValueError(f"{trial.state=}: a trial to be run is WAITING")
        trial_id = tx.storage.create_new_trial(tx.study_id, template_trial=trial)
        tx.execute(sql.ADD_REPEAT, trial=trial_id)
    return len(missing)


def repeating_trials(tx: Transaction) -> frozenset[int]:
    """Ids of the trials with such a ticket."""
    return frozenset(tx.execute(sql.REPEATING_TRIALS).scalars())
