"""A database user for workers: takes trials and writes results, can delete or make nothing.

The owner makes it (`nkat-search create --worker-role NAME`).  A worker that uses it can still
write wrong results; it can delete no study, no trial and no table, and make no table.
"""

from __future__ import annotations

import logging

import sqlalchemy as sa
from psycopg2 import sql
from sqlalchemy import Connection, Engine
from sqlalchemy.exc import DBAPIError, ProgrammingError

from nkat_errors import BadInput
from storage.engine import shown
from storage.optuna_internals import STUDIES, read_only_tables, table_names

_log = logging.getLogger(__name__)

LONGEST_NAME = 63
"""Bytes; Postgres cuts a longer one."""
OUR_READ_ONLY = frozenset({"nkat_search", "nkat_schema"})
OURS = frozenset({"nkat_attempt", "nkat_worker", "nkat_orphan"})


def grant_worker_role(engine: Engine, name: str, *, password: str | None) -> None:
    """Make the role unless it is there, and give it what a worker needs, no more.

    Call it again after an upgrade that made tables.  All or nothing.

    Args:
        engine: of the tables' owner, who may make roles (or the role is there already).
        name: the role's.
        password: set when given; None leaves it as it is (a new role then has none).

    Raises:
        BadInput: the name cannot be used, or the owner may not do this.
    """
    if not name or len(name.encode()) > LONGEST_NAME or "\0" in name:
        raise BadInput(f"--worker-role {name!r}: must have 1 to {LONGEST_NAME} bytes")
    if name == engine.url.username:
        raise BadInput(
            f"--worker-role {name}: is the user of --storage, who owns the tables: name another"
        )
    try:
        with engine.begin() as connection:
            _make(connection, engine, name)
            if password is not None:
                _run(connection, "ALTER ROLE {role} LOGIN PASSWORD {word}", name, word=password)
            _grant(connection, name)
            _check(connection, engine, name)
    except DBAPIError as error:
        if getattr(error.orig, "pgcode", None) == "42501":
            reason = str(error.orig).strip().splitlines()[0]
            raise BadInput(
                f"user {engine.url.username!r} may not give out the role {name!r} ({reason}): let "
                "an administrator make the role with LOGIN and a password, then run this again "
                "as the tables' owner"
            ) from None
        raise


def _make(connection: Connection, engine: Engine, name: str) -> None:
    there = connection.execute(
        sa.text("SELECT rolsuper OR rolcreaterole FROM pg_roles WHERE rolname = :name"),
        {"name": name},
    ).scalar()
    if there:
        raise BadInput(
            f"--worker-role {name}: this user of {shown(engine.url)} may do everything or make "
            "roles: name another"
        )
    if there is None:
        _run(connection, "CREATE ROLE {role} LOGIN", name)
        _log.info("role %s made", name)


def _grant(connection: Connection, name: str) -> None:
    schema = str(connection.execute(sa.text("SELECT current_schema()")).scalar_one())
    read_only = read_only_tables() | OUR_READ_ONLY
    written = (table_names() | OURS) - read_only
    _run(connection, "GRANT USAGE ON SCHEMA {schema} TO {role}", name, schema=schema)
    # Whatever it was given before.
    _run(
        connection,
        "REVOKE ALL ON ALL TABLES IN SCHEMA {schema} FROM {role}",
        name,
        schema=schema,
    )
    for table in sorted(read_only):
        _run(connection, "GRANT SELECT ON {table} TO {role}", name, table=table)
    for table in sorted(written):
        _run(connection, "GRANT SELECT, INSERT, UPDATE ON {table} TO {role}", name, table=table)
    # The budget is the owner's: workers take tickets and give them back.
    _run(connection, "GRANT SELECT, UPDATE ON {table} TO {role}", name, table="nkat_ticket")
    # Optuna locks the study's row, which asks for the right to change something in it.
    _run(connection, "GRANT UPDATE (study_id) ON {table} TO {role}", name, table=STUDIES)
    _run(connection, "GRANT DELETE ON {table} TO {role}", name, table="nkat_orphan")
    _run(
        connection,
        "GRANT USAGE ON ALL SEQUENCES IN SCHEMA {schema} TO {role}",
        name,
        schema=schema,
    )
    # Before Postgres 15 everybody may make tables in the schema `public`.
    _run(connection, "REVOKE CREATE ON SCHEMA {schema} FROM PUBLIC", name, schema=schema)


def _check(connection: Connection, engine: Engine, name: str) -> None:
    may_make = connection.execute(
        sa.text("SELECT has_schema_privilege(:name, current_schema(), 'CREATE')"), {"name": name}
    ).scalar()
    if may_make:
        raise BadInput(
            f"--worker-role {name}: may still make tables in {shown(engine.url)}: let the owner "
            "of the schema take that away (REVOKE CREATE ON SCHEMA public FROM PUBLIC)"
        )


def _run(connection: Connection, text: str, name: str, **parts: str) -> None:
    """One statement; names are quoted, the password is a literal."""
    word = parts.pop("word", None)
    filled = {key: sql.Identifier(part) for key, part in parts.items()}
    literal = {} if word is None else {"word": sql.Literal(word)}
    statement = sql.SQL(text).format(role=sql.Identifier(name), **filled, **literal)
    raw = connection.connection.driver_connection
    try:
        with raw.cursor() as cursor:  # type: ignore[union-attr]
            cursor.execute(statement)
    except Exception as error:
        # Without the statement: it may hold the password.
        raise ProgrammingError("(a grant)", None, error) from None
