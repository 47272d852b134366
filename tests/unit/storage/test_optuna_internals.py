"""What `storage/optuna_internals.py` needs of Optuna beyond its public API, part by part.

A release that moves one of these fails here with the name of the part and its use.
"""

from __future__ import annotations

import ast
import importlib
import inspect
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import optuna
import pytest
import sqlalchemy as sa
from optuna.storages import RDBStorage

ROOT = Path(__file__).parents[3]
MODULE = "storage/optuna_internals.py"
PRIVATE_ATTRIBUTES = {"_trial_id", "_study_id", "_storage", "_thread_local", "_backend"}


def needed(name: str, used_for: str) -> Any:
    """`package.module:attribute.attribute`, or a failure that says what moved."""
    module, _, path = name.partition(":")
    try:
        found: Any = importlib.import_module(module)
        for part in path.split("."):
            found = getattr(found, part)
    except (ImportError, AttributeError) as error:
        pytest.fail(moved(name, used_for, str(error)))
    return found


def moved(what: str, used_for: str, detail: str) -> str:
    return (
        f"Optuna {optuna.__version__} has no {what} as before ({detail}); {MODULE} uses it to "
        f"{used_for}: change it there"
    )


@pytest.fixture
def storage() -> Iterator[RDBStorage]:
    made = RDBStorage("sqlite://")
    # Python's sqlite3 begins transactions by rules of its own: let SQLAlchemy do it.
    with made.engine.connect() as connection:
        connection.connection.dbapi_connection.isolation_level = None  # type: ignore[union-attr]
    sa.event.listen(made.engine, "begin", lambda connection: connection.exec_driver_sql("BEGIN"))
    yield made
    made.remove_session()
    made.engine.dispose()


@pytest.mark.parametrize(
    ("name", "parameters", "used_for"),
    [
        ("optuna._typing:JSONSerializable", None, "type system attributes"),
        (
            "optuna.storages._cached_storage:_CachedStorage.__init__",
            ["self", "backend"],
            "cache finished trials",
        ),
        (
            "optuna.storages._cached_storage:_CachedStorage._read_trials_from_remote_storage",
            ["self", "study_id"],
            "read other workers' trials once a transaction",
        ),
        *[
            (
                f"optuna.storages._cached_storage:_CachedStorage.{method}",
                ["self", *parameters],
                "read again after a write of our own",
            )
            for method, parameters in {
                "create_new_trial": ["study_id", "template_trial"],
                "set_trial_param": [
                    "trial_id",
                    "param_name",
                    "param_value_internal",
                    "distribution",
                ],
                "set_trial_state_values": ["trial_id", "state", "values"],
                "set_trial_intermediate_value": ["trial_id", "step", "intermediate_value"],
                "set_trial_user_attr": ["trial_id", "key", "value"],
                "set_trial_system_attr": ["trial_id", "key", "value"],
            }.items()
        ],
        ("optuna.trial:Trial.__init__", ["self", "study", "trial_id"], "make a trial from its id"),
    ],
)
def test_names_and_parameters(name: str, parameters: list[str] | None, used_for: str) -> None:
    found = needed(name, used_for)
    if parameters is not None:
        has = list(inspect.signature(found).parameters)
        assert has == parameters, moved(name, used_for, f"its parameters are {has}")


@pytest.mark.parametrize(
    ("model", "table", "columns", "used_for"),
    [
        ("StudyModel", "studies", {"study_name"}, "know how long a study's name may be"),
        ("TrialModel", "trials", {"trial_id", "study_id", "state"}, "list WAITING trials"),
        (
            "TrialUserAttributeModel",
            "trial_user_attributes",
            {"trial_id", "key", "value_json"},
            "write a result's attributes in one statement",
        ),
    ],
)
def test_tables(model: str, table: str, columns: set[str], used_for: str) -> None:
    name = f"optuna.storages._rdb.models:{model}"
    found = needed(name, used_for).__table__
    has = set(found.columns.keys())
    assert found.name == table, moved(name, used_for, f"its table is {found.name!r}")
    assert columns <= has, moved(name, used_for, f"its columns are {sorted(has)}")
    if table == "trial_user_attributes":
        unique = [
            {column.name for column in constraint.columns}
            for constraint in found.constraints
            if isinstance(constraint, sa.UniqueConstraint)
        ]
        told = moved(name, used_for, f"its unique columns are {unique}")
        assert {"trial_id", "key"} in unique, told


def test_ids_and_the_storage_behind_a_study(storage: RDBStorage) -> None:
    from storage.optuna_internals import bare_trial, storage_of, study_id_of, trial_id_of

    study = optuna.create_study(study_name="a", storage=storage)
    trial = study.ask()
    assert study_id_of(study) == storage.get_study_id_from_name("a")
    assert trial_id_of(trial) == trial_id_of(study.trials[0])
    assert storage_of(study).get_trial(trial_id_of(trial)).number == trial.number
    bare = bare_trial(study, trial_id_of(trial))
    assert trial_id_of(bare) == trial_id_of(trial)


def test_the_sampler_can_be_made_to_look_again(storage: RDBStorage) -> None:
    from storage.optuna_internals import forget_trials_seen

    study = optuna.create_study(storage=storage)
    kept = study._thread_local.cached_all_trials = []
    told = moved("Study._thread_local.cached_all_trials", "draw from fresh trials", "it is unused")
    assert study._get_trials(deepcopy=False, use_cache=True) is kept, told
    study.ask()
    forget_trials_seen(study)
    assert len(study._get_trials(deepcopy=False, use_cache=True)) == 1, told


def test_revisions_are_those_that_optuna_itself_finds(storage: RDBStorage) -> None:
    from storage import optuna_internals

    used_for = "refuse tables of another Optuna version"
    folder = Path(optuna.__file__).parent / "storages/_rdb/alembic"
    assert folder.is_dir(), moved(str(folder), used_for, "the folder is gone")
    assert optuna_internals.expected_revision() == storage.get_head_version()
    with storage.engine.connect() as connection:
        tables = set(sa.inspect(connection).get_table_names())
        revision = connection.execute(sa.text("SELECT version_num FROM alembic_version")).scalar()
        library = connection.execute(sa.text("SELECT library_version FROM version_info")).scalar()
    assert revision == storage.get_current_version()
    assert library == optuna.__version__
    assert tables == optuna_internals.table_names()


def test_optuna_writes_in_our_transaction(storage: RDBStorage) -> None:
    """RDBStorage must go through `engine` and `scoped_session`, which we replace."""
    from storage.optuna_internals import joined, study_exists

    used_for = "write trial and ticket in one transaction"
    for savepoints in (True, False):
        with storage.engine.connect() as connection, connection.begin() as ours:
            with joined(storage, connection, savepoints=savepoints):
                optuna.create_study(study_name="rolled back", storage=storage)
                assert study_exists(storage, "rolled back")
            ours.rollback()
        told = moved("RDBStorage.scoped_session", used_for, "a write escaped the rollback")
        assert not study_exists(storage, "rolled back"), told


def test_one_look_a_transaction(storage: RDBStorage) -> None:
    from storage.optuna_internals import OneLookStorage

    cached = OneLookStorage(storage)
    study_id = storage.get_study_id_from_name(
        optuna.create_study(study_name="a", storage=storage).study_name
    )
    statements: list[str] = []

    @sa.event.listens_for(storage.engine, "after_cursor_execute")
    def count(_connection: Any, _cursor: Any, statement: str, *_rest: Any) -> None:
        statements.append(statement)

    def reads() -> int:
        statements.clear()
        cached.get_all_trials(study_id, deepcopy=False)
        return len(statements)

    assert reads() > 0
    told = moved("_CachedStorage._read_trials_from_remote_storage", "save reads", "it is unused")
    assert reads() == 0, told
    trial_id = cached.create_new_trial(study_id)
    assert reads() > 0
    assert reads() == 0
    cached.set_trial_user_attr(trial_id, "a", 1)
    assert reads() > 0
    cached.look_again()
    assert reads() > 0


def test_nothing_else_uses_private_names_of_optuna() -> None:
    found = []
    for folder in ("search", "model", "storage"):
        for path in (ROOT / folder).rglob("*.py"):
            if path == ROOT / MODULE:
                continue
            found += [f"{path.relative_to(ROOT)}:{use}" for use in _private_uses(path)]
    assert found == [], f"private names of Optuna belong in {MODULE}"


def _private_uses(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text())):
        names: list[str] = []
        if isinstance(node, ast.ImportFrom):
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        for name in names:
            package, *parts = name.split(".")
            if package == "optuna" and any(part.startswith("_") for part in parts):
                yield f"{node.lineno} {name}"
        if isinstance(node, ast.Attribute) and node.attr in PRIVATE_ATTRIBUTES:
            own = isinstance(node.value, ast.Name) and node.value.id == "self"
            if not own:
                yield f"{node.lineno} .{node.attr}"
        if isinstance(node, ast.keyword) and node.arg in PRIVATE_ATTRIBUTES:
            yield f"{node.value.lineno} {node.arg}="
