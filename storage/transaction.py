"""One database transaction that holds our statements and Optuna's together."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from typing import Any, TypeVar

import optuna
import sqlalchemy as sa
from optuna.samplers import BaseSampler
from optuna.storages import BaseStorage, RDBStorage
from optuna.trial import FrozenTrial, Trial, TrialState
from sqlalchemy import Connection, CursorResult, Engine

from storage.errors import StudyGone
from storage.optuna_internals import OneLookStorage, joined, optuna_storage, trial_id_of
from storage.retry import OUTAGE_S, Retrying, TryAgain, is_outage

T = TypeVar("T")
Clock = Callable[[], datetime]
"""The time, timezone-aware.  None everywhere means the database's own clock."""

UNFINISHED = (TrialState.RUNNING, TrialState.WAITING)


@cache
def _names(statement: sa.TextClause) -> tuple[str, ...]:
    """The :names in a statement."""
    return tuple(statement.compile().params)


@dataclass(frozen=True, slots=True, kw_only=True)
class Transaction:
    """What code inside a transaction may use.

    Args:
        storage: Optuna's; its writes belong to this transaction.
        now: the injected time, None for the database's.
    """

    connection: Connection
    storage: BaseStorage
    study_name: str
    study_id: int
    now: datetime | None

    def execute(self, statement: sa.TextClause, **values: Any) -> CursorResult[Any]:
        """Run one of `storage.sql`'s statements; :study and :now are filled in."""
        known = {"study": self.study_name, "now": self.now, **values}
        return self.connection.execute(statement, {k: known[k] for k in _names(statement)})

    def trial_state(self, trial_id: int) -> TrialState:
        """Optuna's state of a trial, from the database."""
        return self.storage.get_trial(trial_id).state

    def unfinished(self) -> dict[int, FrozenTrial]:
        """RUNNING and WAITING trials by id, oldest first (do not change them)."""
        trials = self.storage.get_all_trials(self.study_id, deepcopy=False, states=UNFINISHED)
        return {trial_id_of(trial): trial for trial in trials}


class Desk:
    """Opens transactions on one study and retries them.

    Args:
        engine: from `make_engine`.
        on_outage: called when a try failed because the database was away (`is_outage`).
    """

    def __init__(
        self,
        *,
        engine: Engine,
        study_name: str,
        study_id: int,
        clock: Clock | None = None,
        outage_s: float = OUTAGE_S,
        give_up: Callable[[], bool] | None = None,
        on_outage: Callable[[], None] | None = None,
    ) -> None:
        self.engine = engine
        self.study_name = study_name
        self.study_id = study_id
        self._clock = clock
        self._on_outage = on_outage or (lambda: None)
        self._rdb: RDBStorage | None = None
        self._cached: OneLookStorage | None = None
        self._study: optuna.Study | None = None
        self._retrying = Retrying(
            outage_s=outage_s, give_up=give_up, on_failure=self._forget_after
        )

    def run(
        self,
        what: str,
        work: Callable[[Transaction], T],
        *,
        snapshot: bool = False,
        lean: bool = False,
    ) -> T:
        """`work` in a transaction, again when the database fails under it.

        `work` must be safe to run twice: after a commit whose answer was lost it runs on
        what that commit left.

        Args:
            lean: no savepoints around Optuna's writes (see `joined`): for the calls that
                every trial makes.

        Raises:
            DatabaseGone: see `Retrying`.
            StudyGone: the study was deleted meanwhile.
        """

        def once() -> T:
            with self.open(snapshot=snapshot, lean=lean) as transaction:
                return work(transaction)

        return self._retrying(what, once)

    @contextmanager
    def open(self, *, snapshot: bool = False, lean: bool = False) -> Iterator[Transaction]:
        """A bare transaction, not retried.

        Args:
            snapshot: all reads see the database at one moment.
            lean: see `run`.
        """
        cached = self._shared_storage()
        cached.look_again()
        with self.engine.connect() as connection:
            if snapshot:
                connection.execution_options(isolation_level="REPEATABLE READ")
            try:
                with (
                    connection.begin() as outer,
                    joined(self._need_rdb(), connection, savepoints=not lean),
                ):
                    yield Transaction(
                        connection=connection,
                        storage=cached,
                        study_name=self.study_name,
                        study_id=self.study_id,
                        now=self._clock() if self._clock else None,
                    )
                    if not outer.is_active:
                        # Leaving the block would commit nothing, without an error.
                        raise TryAgain("Optuna caught an error and rolled back")
            except KeyError as error:
                self.forget()
                if self._is_gone():
                    raise StudyGone(
                        f"the study {self.study_name!r} was deleted or renamed meanwhile"
                    ) from error
                raise
            except BaseException:
                # Optuna's cache may hold a trial that was rolled back.
                self.forget()
                raise

    def statement(self, what: str, statement: sa.TextClause, **values: Any) -> list[sa.Row[Any]]:
        """One statement of ours alone, without Optuna: safe from any thread."""
        now = self._clock() if self._clock else None
        known = {"study": self.study_name, "now": now, **values}

        def once() -> list[sa.Row[Any]]:
            with self.engine.begin() as connection:
                result = connection.execute(statement, {k: known[k] for k in _names(statement)})
                return list(result.all()) if result.returns_rows else []

        return self._retrying(what, once)

    def study(self, sampler: BaseSampler) -> optuna.Study:
        """Optuna's study with this sampler, on the shared storage."""
        storage = self._shared_storage()
        if self._study is None or self._study.sampler is not sampler:
            self._study = optuna.load_study(
                study_name=self.study_name, storage=storage, sampler=sampler
            )
        return self._study

    def trial(self, trial_id: int, sampler: BaseSampler) -> Trial:
        """A live trial as the database has it now."""
        study = self.study(sampler)
        # Optuna's cache must know a trial before parameters can be set on it.
        self._shared_storage().get_all_trials(self.study_id, deepcopy=False, states=UNFINISHED)
        return Trial(study, trial_id)

    def forget(self) -> None:
        """Drop what Optuna remembers; the next use reads it again."""
        self._cached = self._study = None
        if self._rdb is not None:
            self._rdb.remove_session()

    def _forget_after(self, error: BaseException) -> None:
        if is_outage(error):
            self._on_outage()

    def _need_rdb(self) -> RDBStorage:
        if self._rdb is None:
            self._rdb = optuna_storage(self.engine)
        return self._rdb

    def _shared_storage(self) -> OneLookStorage:
        if self._cached is None:
            self._cached = OneLookStorage(self._need_rdb())
        return self._cached

    def _is_gone(self) -> bool:
        rdb = self._need_rdb()
        try:
            return rdb.get_study_id_from_name(self.study_name) != self.study_id
        except KeyError:
            return True
        finally:
            rdb.remove_session()
