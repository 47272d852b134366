"""The tables, Optuna's and ours: made once, by whichever process is first."""

from __future__ import annotations

import importlib.resources
import logging
import time

import optuna
import sqlalchemy as sa
from optuna.storages import RDBStorage
from sqlalchemy import Connection, Engine
from sqlalchemy.exc import DBAPIError

from nkat_errors import BadInput
from storage import sql
from storage.engine import connect_args, raw_url, shown
from storage.errors import SchemaMissing
from storage.optuna_internals import expected_revision, found_revision, table_exists
from storage.retry import explained_rights, is_transient

_log = logging.getLogger(__name__)

POLL_S = 0.3


@explained_rights()
def ensure_schema(engine: Engine) -> None:
    """Make what is missing, under an advisory lock; any number of callers at once.

    Raises:
        BadInput: the tables are of another Optuna version or of a newer nkat-search, or
            this user may not create tables; nothing was changed.
    """
    with engine.begin() as connection:
        # Others may be making tables for longer than a statement usually takes.
        connection.execute(sa.text("SET LOCAL lock_timeout = 0"))
        connection.execute(sql.LOCK_TABLES)
        optuna_version = found_revision(connection)
        ours = our_version(connection)
        _refuse_foreign(engine, optuna_version, ours)
        missing = [step for step in _steps() if step[0] > ours]
        if optuna_version is not None and not missing:
            return
        _require_rights(connection, engine)
        if optuna_version is None:
            # On connections of its own, but within our lock: one process at a time.
            storage = RDBStorage(
                raw_url(engine),
                engine_kwargs={
                    "poolclass": sa.NullPool,
                    "connect_args": connect_args("nkat-search-schema"),
                },
            )
            storage.remove_session()
            storage.engine.dispose()
        for version, statements in missing:
            # Through the driver: SQLAlchemy would take a colon in the SQL for a parameter.
            connection.exec_driver_sql(statements)
            connection.execute(
                sa.text("INSERT INTO nkat_schema (version) VALUES (:version)"),
                {"version": version},
            )
            _log.info("database tables made, step %d", version)


@explained_rights()
def wait_for_schema(engine: Engine, timeout_s: float = 60.0) -> None:
    """Return as soon as the tables are there; a wait is announced once.

    Raises:
        SchemaMissing: not within `timeout_s` seconds.
        BadInput: they are there, of a version that this code cannot use.
    """
    deadline = time.monotonic() + timeout_s
    newest = newest_version()
    told = False
    while True:
        why = "it has no tables yet"
        try:
            with engine.connect() as connection:
                optuna_version, ours = found_revision(connection), our_version(connection)
            _refuse_foreign(engine, optuna_version, ours)
            if optuna_version is not None and ours == newest:
                return
            if ours:
                why = "its tables are those of an older nkat-search"
        except DBAPIError as error:
            if not is_transient(error):
                raise
            why = "it does not answer"
        if time.monotonic() >= deadline:
            raise SchemaMissing(
                f"the database {shown(engine.url)} is not ready after {timeout_s:.0f} s ({why}): "
                "`nkat-search create` or `nkat-search run` makes what is missing"
            )
        if not told:
            _log.warning(
                "waiting up to %.0f s for the database %s (%s): `nkat-search create` makes them",
                timeout_s,
                shown(engine.url),
                why,
            )
            told = True
        time.sleep(POLL_S)


@explained_rights()
def check_versions(engine: Engine) -> None:
    """Refuse tables that this code cannot use; tables that are missing pass.

    Raises:
        BadInput: they are of another Optuna version or of a newer nkat-search.
    """
    with engine.connect() as connection:
        _refuse_foreign(engine, found_revision(connection), our_version(connection))


def newest_version() -> int:
    """The newest step of our tables that this code knows."""
    return _steps()[-1][0]


def _steps() -> list[tuple[int, str]]:
    """(version, SQL) of every step, ascending."""
    folder = importlib.resources.files("storage.migrations")
    files = sorted(file.name for file in folder.iterdir() if file.name.endswith(".sql"))
    return [(int(name.split("_")[0]), folder.joinpath(name).read_text("utf-8")) for name in files]


def our_version(connection: Connection) -> int:
    """The newest step of our tables in this database; 0 when there are none."""
    if not table_exists(connection, "nkat_schema"):
        return 0
    found = connection.execute(sa.text("SELECT max(version) FROM nkat_schema")).scalar()
    return int(found or 0)


def _refuse_foreign(engine: Engine, optuna_version: str | None, ours: int) -> None:
    newest = newest_version()
    if ours > newest:
        raise BadInput(
            f"the database {shown(engine.url)} was made by a newer nkat-search (tables {ours}, "
            f"this one knows {newest}): install the newer one or use another database"
        )
    head = expected_revision()
    if optuna_version is not None and optuna_version != head:
        raise BadInput(
            f"the database {shown(engine.url)} holds tables of another Optuna version (revision "
            f"{optuna_version}, Optuna {optuna.__version__} needs {head}): use another database, "
            "or run `optuna storage upgrade` on it"
        )


def _require_rights(connection: Connection, engine: Engine) -> None:
    allowed = connection.execute(
        sa.text("SELECT has_schema_privilege(current_schema(), 'CREATE')")
    ).scalar()
    if not allowed:
        raise BadInput(
            f"user {engine.url.username!r} may not create tables in {shown(engine.url)}: "
            f"GRANT CREATE ON SCHEMA public TO {engine.url.username}, or use another user"
        )
