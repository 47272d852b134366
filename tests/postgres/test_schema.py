"""The tables: many first starts at once, foreign versions, missing rights, waiting workers."""

from __future__ import annotations

import threading
import time

import optuna
import psycopg2
import pytest
import sqlalchemy as sa
from pg_children import crash_at, join, start

from nkat_errors import BadInput
from storage.embedded import EmbeddedPostgres
from storage.engine import make_engine
from storage.errors import SchemaMissing
from storage.schema import ensure_schema, wait_for_schema
from storage.searches import create_search

pytestmark = pytest.mark.postgres


def _first_start(url: str) -> None:
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    engine = make_engine(url)
    ensure_schema(engine)
    create_search(engine, study_name="s", search_text="a: 1", search_hash="h", budget=5)
    engine.dispose()


@pytest.mark.process
def test_eight_first_starts_at_once(empty_database_url: str) -> None:
    assert join(*[start(_first_start, empty_database_url) for _ in range(8)]) == [0] * 8
    engine = make_engine(empty_database_url)
    with engine.connect() as connection:
        count = sa.text("SELECT (SELECT count(*) FROM nkat_search), count(*) FROM nkat_ticket")
        assert tuple(connection.execute(count).one()) == (1, 5)
    engine.dispose()


def _tables(url: str) -> set[str]:
    engine = make_engine(url)
    names = set(sa.inspect(engine).get_table_names())
    engine.dispose()
    return names


def test_twice_is_once_and_optunas_own_check_agrees(empty_database_url: str) -> None:
    engine = make_engine(empty_database_url)
    ensure_schema(engine)
    before = _tables(empty_database_url)
    ensure_schema(engine)
    assert _tables(empty_database_url) == before
    engine.dispose()
    storage = optuna.storages.RDBStorage(empty_database_url, skip_table_creation=True)
    storage.remove_session()
    storage.engine.dispose()


def test_database_with_optuna_studies_is_joined(empty_database_url: str) -> None:
    storage = optuna.storages.RDBStorage(empty_database_url)
    optuna.create_study(storage=storage, study_name="mine")
    storage.remove_session()
    storage.engine.dispose()
    engine = make_engine(empty_database_url)
    ensure_schema(engine)
    with pytest.raises(BadInput, match="not made by nkat-search"):
        create_search(engine, study_name="mine", search_text="", search_hash="h", budget=1)
    engine.dispose()


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE alembic_version SET version_num = 'v2.6.0.a'",  # an older Optuna
        "UPDATE alembic_version SET version_num = 'v9.0.0.a'",  # a newer one
        # from before Alembic
        "DELETE FROM alembic_version; UPDATE version_info SET library_version = '0.9.0'",
    ],
)
def test_other_optuna_version_is_refused(empty_database_url: str, statement: str) -> None:
    storage = optuna.storages.RDBStorage(empty_database_url)
    storage.remove_session()
    with storage.engine.begin() as connection:
        connection.execute(sa.text(statement))
    storage.engine.dispose()
    before = _tables(empty_database_url)
    engine = make_engine(empty_database_url)
    with pytest.raises(BadInput, match="another Optuna version"):
        ensure_schema(engine)
    engine.dispose()
    assert _tables(empty_database_url) == before


def test_newer_tables_of_ours_are_refused(database_url: str) -> None:
    engine = make_engine(database_url)
    with engine.begin() as connection:
        connection.execute(sa.text("INSERT INTO nkat_schema (version) VALUES (99)"))
    for check in (ensure_schema, wait_for_schema):
        with pytest.raises(BadInput, match="newer nkat-search"):
            check(engine)
    engine.dispose()


def test_user_without_rights(empty_database_url: str, postgres: EmbeddedPostgres) -> None:
    address = make_engine(empty_database_url)
    with address.begin() as connection:
        connection.execute(sa.text("DROP ROLE IF EXISTS reader"))
        connection.execute(sa.text("CREATE ROLE reader LOGIN PASSWORD 'geheim'"))
    address.dispose()
    url = empty_database_url.replace("postgres@", "reader:geheim@")
    engine = make_engine(url)
    with pytest.raises(BadInput, match="may not create tables") as caught:
        ensure_schema(engine)
    engine.dispose()
    assert "geheim" not in str(caught.value)
    assert _tables(empty_database_url) == set()


def test_workers_wait_for_the_tables(empty_database_url: str) -> None:
    engine = make_engine(empty_database_url)
    with pytest.raises(SchemaMissing, match="nkat-search create"):
        wait_for_schema(engine, timeout_s=0.5)

    def make_later() -> None:
        time.sleep(0.5)
        other = make_engine(empty_database_url)
        ensure_schema(other)
        other.dispose()

    maker = threading.Thread(target=make_later)
    maker.start()
    wait_for_schema(engine, timeout_s=60)
    maker.join()
    engine.dispose()


def _die_while_making_tables(url: str, marker: str) -> None:
    # Every engine: Optuna makes its tables on one of its own.
    crash_at(sa.Engine, marker)
    engine = make_engine(url)
    ensure_schema(engine)


@pytest.mark.process
@pytest.mark.parametrize(
    "marker", ["CREATE TABLE trials", "INSERT INTO version_info", "INSERT INTO alembic_version"]
)
def test_killed_while_making_tables(empty_database_url: str, marker: str) -> None:
    assert join(start(_die_while_making_tables, empty_database_url, marker)) == [-9]
    engine = make_engine(empty_database_url)
    ensure_schema(engine)
    wait_for_schema(engine, timeout_s=0)
    engine.dispose()


def test_interrupted_step_leaves_nothing(empty_database_url: str) -> None:
    """All our tables come in one transaction."""
    engine = make_engine(empty_database_url)

    @sa.event.listens_for(engine, "before_cursor_execute")
    def interrupt(_c: object, _cursor: object, statement: str, *_rest: object) -> None:
        if "INSERT INTO nkat_schema" in statement:
            raise psycopg2.OperationalError("interrupted")

    with pytest.raises(sa.exc.OperationalError):
        ensure_schema(engine)
    engine.dispose()
    assert not {name for name in _tables(empty_database_url) if name.startswith("nkat_")}
    again = make_engine(empty_database_url)
    ensure_schema(again)
    again.dispose()


def test_tables_of_an_older_version_are_said_and_brought_up_to_date(database_url: str) -> None:
    engine = make_engine(database_url)
    with engine.begin() as connection:
        connection.execute(sa.text("ALTER TABLE nkat_attempt DROP COLUMN images_per_s"))
        connection.execute(sa.text("ALTER TABLE nkat_ticket DROP COLUMN repeats"))
        connection.execute(sa.text("DELETE FROM nkat_schema WHERE version >= 2"))
    with pytest.raises(SchemaMissing, match="its tables are those of an older nkat-search"):
        wait_for_schema(engine, 0.0)
    ensure_schema(engine)
    wait_for_schema(engine, 0.0)
    columns = {column["name"] for column in sa.inspect(engine).get_columns("nkat_attempt")}
    assert "images_per_s" in columns
    engine.dispose()
