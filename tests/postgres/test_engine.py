"""Addresses that cannot work: one sentence each, and the password nowhere."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path

import psycopg2
import pytest
import sqlalchemy as sa
from sqlalchemy.engine import make_url

from nkat_errors import BadInput
from storage.embedded import EmbeddedPostgres
from storage.engine import make_engine

pytestmark = pytest.mark.postgres

SECRET = "s3cr:t/pä%40ss"
QUOTED = "s3cr%3At%2Fp%C3%A4%2540ss"


@pytest.fixture
def with_password(postgres: EmbeddedPostgres, empty_database_url: str) -> Iterator[str]:
    """A URL of a role whose password the server really checks."""
    rules = Path(postgres.data_dir) / "pg_hba.conf"
    old = rules.read_text()
    engine = make_engine(empty_database_url)
    with engine.begin() as connection:
        connection.execute(sa.text("DROP ROLE IF EXISTS locked"))
        connection.execute(sa.text(f"CREATE ROLE locked LOGIN PASSWORD '{SECRET}'"))
        rules.write_text(f"local all locked scram-sha-256\nlocal all shut reject\n{old}")
        connection.execute(sa.text("SELECT pg_reload_conf()"))
    time.sleep(0.3)  # the postmaster reads the rules when it gets the signal
    yield empty_database_url.replace("postgres@", f"locked:{QUOTED}@")
    rules.write_text(old)
    with engine.begin() as connection:
        connection.execute(sa.text("SELECT pg_reload_conf()"))
        connection.execute(sa.text("DROP ROLE locked"))
    engine.dispose()


def _refusal(url: str) -> str:
    with pytest.raises(BadInput) as caught:
        make_engine(url)
    message = str(caught.value)
    assert "\n" not in message
    for secret in ("s3cr", "wr0ng"):
        assert secret not in message
        assert secret not in repr(caught.value.__context__ and caught.value.__cause__)
    return message


def test_right_and_wrong_passwords(with_password: str) -> None:
    make_engine(with_password).dispose()
    assert "refuses the password" in _refusal(with_password.replace(QUOTED, "wr0ng"))
    assert "wants a password" in _refusal(with_password.replace(f":{QUOTED}", ""))
    assert "pg_hba.conf" in _refusal(with_password.replace("locked", "shut"))


def test_missing_role_and_database(empty_database_url: str) -> None:
    assert "no user 'nobody_here'" in _refusal(
        empty_database_url.replace("postgres@", "nobody_here:wr0ng@")
    )
    missing = make_url(empty_database_url).set(database="gone").render_as_string()
    assert "no database 'gone'" in _refusal(missing)


def test_no_server_there(tmp_path: Path) -> None:
    message = _refusal("postgresql+psycopg2://u:wr0ng@127.0.0.1:9/db")
    assert "refused" in message
    assert "u:***@127.0.0.1:9/db" in message
    assert "cannot be reached" in _refusal(f"postgresql+psycopg2://u:wr0ng@/db?host={tmp_path}")
    assert "cannot be resolved" in _refusal("postgresql+psycopg2://u:wr0ng@nohost.invalid/db")


def test_sessions_are_in_utc_with_limits(database_url: str) -> None:
    engine = make_engine(database_url, application_name="probe")
    names = ("timezone", "statement_timeout", "lock_timeout", "application_name")
    with engine.connect() as connection:
        shown = [connection.execute(sa.text(f"SHOW {name}")).scalar() for name in names]
        idle = connection.execute(sa.text("SHOW idle_in_transaction_session_timeout")).scalar()
    engine.dispose()
    assert shown == ["UTC", "1min", "30s", "probe"]
    assert idle == "1min"


def test_waits_for_a_server_that_is_not_there_yet(postgres: EmbeddedPostgres) -> None:
    restart = threading.Thread(target=postgres.restart, kwargs={"pause_s": 1.0})
    restart.start()
    deadline = time.monotonic() + 20
    while True:  # until it is really down
        try:
            psycopg2.connect(postgres.url.replace("+psycopg2", "")).close()
        except psycopg2.OperationalError:
            break
        assert time.monotonic() < deadline
    make_engine(postgres.url, wait_s=30).dispose()
    restart.join()
