"""Everything that this project takes from Optuna beyond its public API.

Nothing else in the project uses a private name of Optuna's or names one of its tables.
`tests/unit/storage/test_optuna_internals.py` lists what is used here and why, and says
which part an Optuna release has moved.

Two statements below go to Optuna's tables directly, through its own table models, because
its API needs many statements for the same thing: `waiting_trials` and `set_user_attrs`.
Every other access to those tables goes through Optuna.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Literal, cast

import optuna
import sqlalchemy as sa
from alembic.script import ScriptDirectory
from optuna._typing import JSONSerializable
from optuna.distributions import BaseDistribution
from optuna.storages import BaseStorage, RDBStorage
from optuna.storages._cached_storage import _CachedStorage
from optuna.storages._rdb.models import (
    StudyDirectionModel,
    StudyModel,
    StudyUserAttributeModel,
    TrialModel,
    TrialUserAttributeModel,
    VersionInfoModel,
)
from optuna.study import Study
from optuna.trial import FrozenTrial, Trial, TrialState
from sqlalchemy import Connection, Engine, orm
from sqlalchemy.dialects import postgresql

from storage.engine import connect_args, raw_url

LONGEST_STUDY_NAME = int(StudyModel.study_name.type.length)
"""Characters that Optuna's table has room for."""

# --- ids and the storage behind a study ----------------------------------------------


def trial_id_of(trial: Trial | FrozenTrial) -> int:
    """The key of a trial in the storage; its `number` counts within the study."""
    return trial._trial_id


def study_id_of(study: Study) -> int:
    """The key of a study in the storage."""
    return study._study_id


def storage_of(study: Study) -> BaseStorage:
    """The storage that a study reads and writes."""
    return study._storage


def bare_trial(study: Study, trial_id: int) -> Trial:
    """A trial without its parameters, for `optuna_dashboard.save_note`, which needs no more.

    A real `Trial` made from an id would sample its parameters again.
    """
    bare = SimpleNamespace(storage=storage_of(study), study=study, _trial_id=trial_id)
    return cast(Trial, bare)


def params_of(trial: FrozenTrial) -> dict[str, Any]:
    """A trial's parameters; of one that was enqueued and waits, those it will get."""
    return {**trial.system_attrs.get("fixed_params", {}), **trial.params}


def add_user_attrs(study: Study, trial: FrozenTrial, attrs: Mapping[str, Any]) -> None:
    """From within a sampler, which is given no `Trial` to set them on."""
    for name, value in attrs.items():
        storage_of(study).set_trial_user_attr(trial_id_of(trial), name, value)


def forget_trials_seen(study: Study) -> None:
    """Let the sampler read the trials again, as `Study.ask` does before each new trial."""
    study._thread_local.cached_all_trials = None


# --- tables --------------------------------------------------------------------------


def expected_revision() -> str:
    """Alembic's revision of the tables that the installed Optuna needs."""
    folder = Path(optuna.__file__).parent / "storages" / "_rdb" / "alembic"
    return str(ScriptDirectory(str(folder)).get_current_head())


def found_revision(connection: Connection) -> str | None:
    """Alembic's revision of Optuna's tables; None when they are not (all) there.

    Optuna makes its tables in three commits.  A process that is killed between them, or
    is making them right now, leaves no revision; so does a database from before Alembic,
    which is recognised by the version in it.
    """
    if table_exists(connection, "alembic_version"):
        found = connection.execute(sa.text("SELECT version_num FROM alembic_version")).scalar()
        if found:
            return str(found)
    if table_exists(connection, "version_info"):
        found = connection.execute(sa.text("SELECT library_version FROM version_info")).scalar()
        if found and found != optuna.__version__:
            return f"of Optuna {found}"
    return None


def table_names() -> frozenset[str]:
    """Optuna's tables, Alembic's own included."""
    return frozenset({*StudyModel.metadata.tables, "alembic_version"})


STUDIES = str(StudyModel.__tablename__)


def read_only_tables() -> frozenset[str]:
    """Optuna's tables that a worker writes nothing to: versions, and what makes a study.

    A sampler may keep something in the study's system attributes.
    """
    of_study = {
        STUDIES,
        str(StudyDirectionModel.__tablename__),
        str(StudyUserAttributeModel.__tablename__),
    }
    return frozenset({*of_study, str(VersionInfoModel.__tablename__), "alembic_version"})


def table_exists(connection: Connection, name: str) -> bool:
    """True when the session's search path holds a table of this name."""
    found = connection.execute(sa.text("SELECT to_regclass(:name)"), {"name": name}).scalar()
    return found is not None


_WAITING = (
    sa.select(TrialModel.trial_id)
    .where(TrialModel.study_id == sa.bindparam("study_id"), TrialModel.state == TrialState.WAITING)
    .order_by(TrialModel.trial_id)
)


def waiting_trials(connection: Connection, study_id: int) -> list[int]:
    """Ids of the WAITING trials, oldest first.

    Optuna's storage would read every unfinished trial whole for this (7 statements).
    """
    return list(connection.scalars(_WAITING, {"study_id": study_id}))


def set_user_attrs(connection: Connection, trial_id: int, attrs: Mapping[str, Any]) -> None:
    """What `Trial.set_user_attr` does for each of `attrs`, in one statement for all.

    Optuna's own sends two for each, and a result has some thirty.  Unlike Optuna this
    does not refuse a finished trial: tell the trial in the same savepoint, which does.

    Raises:
        TypeError: a value cannot be written as JSON.
    """
    if not attrs:
        return
    rows = [
        {"trial_id": trial_id, "key": key, "value_json": json.dumps(value)}
        for key, value in attrs.items()
    ]
    insert = postgresql.insert(TrialUserAttributeModel).values(rows)
    connection.execute(
        insert.on_conflict_do_update(
            index_elements=[TrialUserAttributeModel.trial_id, TrialUserAttributeModel.key],
            set_={"value_json": insert.excluded.value_json},
        )
    )


# --- Optuna on our engine and in our transaction ---------------------------------------


def optuna_storage(engine: Engine) -> RDBStorage:
    """Optuna's storage on `engine` itself: one pool for its statements and ours.

    The tables must be there (`ensure_schema`).  RDBStorage makes an engine of its own;
    it is replaced before anything but its version check has used it.
    """
    storage = RDBStorage(
        raw_url(engine),
        engine_kwargs={"poolclass": sa.NullPool, "connect_args": connect_args("nkat-search")},
        skip_compatibility_check=True,
        skip_table_creation=True,
    )
    storage.remove_session()
    storage.engine.dispose()
    storage.engine = engine
    storage.scoped_session = orm.scoped_session(orm.sessionmaker(bind=engine))
    return storage


@contextmanager
def joined(
    storage: RDBStorage, connection: Connection, *, savepoints: bool = True
) -> Iterator[None]:
    """In this block and thread, Optuna's writes are part of `connection`'s transaction.

    They are committed or rolled back with ours: no crash can leave a trial told but its
    ticket open, and a row lock that we hold protects both.

    Args:
        savepoints: each of Optuna's own transactions is a savepoint, so it can fail alone.
            Without, it costs no statements (half of an ask's, two thirds of a tell's), and
            any error inside Optuna rolls everything back to the innermost savepoint of ours.
    """
    storage.remove_session()
    mode: Literal["create_savepoint", "rollback_only"]
    mode = "create_savepoint" if savepoints else "rollback_only"
    session = orm.Session(bind=connection, join_transaction_mode=mode)
    storage.scoped_session.registry.set(session)
    try:
        yield
    finally:
        storage.remove_session()


def study_exists(storage: RDBStorage, study_name: str) -> bool:
    """True when Optuna knows a study of this name."""
    try:
        storage.get_study_id_from_name(study_name)
    except KeyError:
        return False
    return True


class OneLookStorage(_CachedStorage):
    """Optuna's cache, made to read other workers' trials once a transaction.

    A sampler looks several times while it draws one trial's parameters, and each look
    reads every unfinished trial (7 statements).  Our own writes make the next look
    read again.
    """

    _looked = False

    def look_again(self) -> None:
        """The next look reads."""
        self._looked = False

    def _read_trials_from_remote_storage(self, study_id: int) -> None:
        if not self._looked:
            super()._read_trials_from_remote_storage(study_id)
            self._looked = True

    def create_new_trial(self, study_id: int, template_trial: FrozenTrial | None = None) -> int:
        self.look_again()
        return super().create_new_trial(study_id, template_trial)

    def set_trial_param(
        self,
        trial_id: int,
        param_name: str,
        param_value_internal: float,
        distribution: BaseDistribution,
    ) -> None:
        self.look_again()
        super().set_trial_param(trial_id, param_name, param_value_internal, distribution)

    def set_trial_state_values(
        self, trial_id: int, state: TrialState, values: Sequence[float] | None = None
    ) -> bool:
        self.look_again()
        return super().set_trial_state_values(trial_id, state, values)

    def set_trial_intermediate_value(
        self, trial_id: int, step: int, intermediate_value: float
    ) -> None:
        self.look_again()
        super().set_trial_intermediate_value(trial_id, step, intermediate_value)

    def set_trial_user_attr(self, trial_id: int, key: str, value: Any) -> None:
        self.look_again()
        super().set_trial_user_attr(trial_id, key, value)

    def set_trial_system_attr(self, trial_id: int, key: str, value: JSONSerializable) -> None:
        self.look_again()
        super().set_trial_system_attr(trial_id, key, value)
