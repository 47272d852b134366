"""Reading a search: counts, workers, trials, attempts.  Each call is one consistent view."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import optuna
from optuna.samplers import RandomSampler
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy import Engine

from storage import repeats, reporting
from storage.optuna_internals import trial_id_of
from storage.records import AttemptRow, Counts, TrialRow, WorkerRow
from storage.retry import OUTAGE_S
from storage.searches import load_search
from storage.states import Command
from storage.transaction import Clock, Desk, Transaction

T = TypeVar("T")


class BoardReader:
    """What `status` and `export` need of a search; a database user who may only read will do.

    Args:
        engine: from `make_engine`; shared with Optuna's storage.
        study_name: an existing search (`create_search`).
        lease_s: workers that are silent for longer are shown as lost, and leave the list
            after `reporting.LOST_SHOWN_LEASES` such times, > 0; None shows all of them as
            the last reaper left them.
        clock: for tests; None is the database's clock, which all workers share.
        outage_s: how long a call is retried while the database is away, seconds.
        give_up: asked between tries; True ends the retrying at once (SIGTERM).

    Raises:
        BadInput: there is no such search.
    """

    def __init__(
        self,
        *,
        engine: Engine,
        study_name: str,
        lease_s: float | None = None,
        clock: Clock | None = None,
        outage_s: float = OUTAGE_S,
        give_up: Callable[[], bool] | None = None,
    ) -> None:
        self.record = load_search(engine, study_name)
        self.study_name = study_name
        self._lease_s = lease_s
        self._outage_seen = False
        self._reader = RandomSampler()  # draws nothing: a study must have a sampler
        self._desk = Desk(
            engine=engine,
            study_name=study_name,
            study_id=self.record.study_id,
            clock=clock,
            outage_s=outage_s,
            give_up=give_up,
            on_outage=self._note_outage,
        )

    def counts(self) -> Counts:
        """The search in numbers."""
        return self._desk.run("counts", reporting.counts, snapshot=True)

    def workers(self) -> list[WorkerRow]:
        """The workers that did not sign off, living ones first, then by host and device."""

        def work(tx: Transaction) -> list[WorkerRow]:
            return reporting.workers(tx, lease_s=self._lease_s)

        return self._desk.run("workers", work, snapshot=True)

    def trials(self) -> list[TrialRow]:
        """Every trial by number."""
        return self._desk.run("trials", reporting.trials, snapshot=True)

    def attempts(self) -> list[AttemptRow]:
        """Every attempt at every trial, in the order in which they began."""
        return self._desk.run("attempts", reporting.attempts, snapshot=True)

    def best(self) -> tuple[int, float] | None:
        """Number and value of the COMPLETE trial of the largest value (of equals, the
        first); None while there is none.  One that was run again counts by its first run."""

        def work(tx: Transaction) -> tuple[int, float] | None:
            complete = tx.storage.get_all_trials(
                tx.study_id, deepcopy=False, states=(TrialState.COMPLETE,)
            )
            again = repeats.repeating_trials(tx)
            ranked = [
                (t.value, -t.number)
                for t in complete
                if t.value is not None and trial_id_of(t) not in again
            ]
            if not ranked:
                return None
            value, number = max(ranked)
            return -number, value

        return self._desk.run("best", work, snapshot=True)

    def ended_trials(self) -> list[FrozenTrial]:
        """Optuna's own records (no copies) of the trials that count: COMPLETE and PRUNED."""
        counting = (TrialState.COMPLETE, TrialState.PRUNED)

        def work(tx: Transaction) -> list[FrozenTrial]:
            return tx.storage.get_all_trials(tx.study_id, deepcopy=False, states=counting)

        return self._desk.run("ended trials", work, snapshot=True)

    def state(self) -> tuple[Command, str]:
        """What the search wants of its workers, and why."""
        record = load_search(self._desk.engine, self.study_name)
        return record.command, record.reason

    def over_numbers(self) -> set[int]:
        """Numbers of the trials that are over for good, whose checkpoints can be deleted."""

        def work(tx: Transaction) -> set[int]:
            trials = tx.storage.get_all_trials(tx.study_id, deepcopy=False)
            return {trial.number for trial in trials if trial.state.is_finished()}

        return self._desk.run("finished trials", work)

    def resumable_numbers(self) -> set[int]:
        """Numbers of the trials that a checkpoint can be of use to: unfinished, and drawn."""

        def work(tx: Transaction) -> set[int]:
            return {trial.number for trial in tx.unfinished().values() if trial.params}

        return self._desk.run("resumable trials", work)

    def with_study(self, what: str, work: Callable[[optuna.Study], T]) -> T:
        """`work(study)` on Optuna's study in one transaction; it may run more than once.

        Args:
            what: names the call in the log.
        """
        return self._desk.run(what, lambda _tx: work(self._desk.study(self._reader)))

    def close(self) -> None:
        """Release Optuna's session; the engine stays the caller's to dispose."""
        self._desk.forget()

    def _note_outage(self) -> None:
        self._outage_seen = True
