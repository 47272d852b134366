"""What is tried again, for how long, and what the log says."""

from __future__ import annotations

import logging

import optuna
import psycopg2
import psycopg2.errors
import pytest
import sqlalchemy.exc

from storage.errors import DatabaseGone
from storage.retry import LONGEST_WAIT_S, Retrying, TryAgain, is_transient, one_line

GONE = psycopg2.OperationalError("server closed the connection unexpectedly\nmore lines")


def _wrapped(error: Exception) -> Exception:
    """As Optuna gives it: StorageInternalError from SQLAlchemy's error around the driver's."""
    inner = sqlalchemy.exc.OperationalError("SELECT 1", {"password": "geheim"}, error)
    outer = optuna.exceptions.StorageInternalError("typically happens due to invalid data")
    outer.__cause__ = inner
    return outer


@pytest.mark.parametrize(
    "error",
    [
        GONE,
        _wrapped(GONE),
        psycopg2.InterfaceError("connection already closed"),
        psycopg2.DatabaseError("SSL connection has been closed unexpectedly"),
        psycopg2.OperationalError("could not translate host name: it comes back in compose"),
        sqlalchemy.exc.PendingRollbackError("rollback first"),
        sqlalchemy.exc.TimeoutError("pool"),
        TryAgain(),
    ],
)
def test_worth_another_try(error: Exception) -> None:
    assert is_transient(error)


@pytest.mark.parametrize(
    "error",
    [
        psycopg2.OperationalError('FATAL:  password authentication failed for user "x"'),
        psycopg2.OperationalError('FATAL:  database "x" does not exist'),
        psycopg2.ProgrammingError("syntax error"),
        psycopg2.IntegrityError("duplicate key"),
        _wrapped(psycopg2.DataError("value too long")),
        optuna.exceptions.UpdateFinishedTrialError(),
        KeyError("trial"),
        ValueError(),
    ],
)
def test_not_worth_another_try(error: Exception) -> None:
    assert not is_transient(error)
    calls = []

    def call() -> None:
        calls.append(1)
        raise error

    with pytest.raises(type(error)):
        Retrying(sleep=lambda _s: None)("x", call)
    assert calls == [1]


def test_waits_grow_have_jitter_and_are_bounded(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING, "storage")
    waits: list[float] = []
    failures: list[BaseException] = []
    left = [12]

    def call() -> str:
        left[0] -= 1
        if left[0]:
            raise _wrapped(GONE)
        return "ok"

    retrying = Retrying(outage_s=1e9, sleep=waits.append, on_failure=failures.append)
    assert retrying("claim", call) == "ok"
    assert len(waits) == len(failures) == 11
    assert waits[0] < 1 < waits[6]
    assert max(waits) <= LONGEST_WAIT_S + 0.5
    assert len(set(waits)) == 11
    warnings = [record for record in caplog.records if record.levelno == logging.WARNING]
    assert len(warnings) == 11
    assert "claim failed (server closed the connection unexpectedly)" in warnings[0].message
    assert "geheim" not in caplog.text
    assert "invalid data" not in caplog.text
    assert warnings[3].action == "claim"  # type: ignore[attr-defined]


def test_the_end_of_patience() -> None:
    def call() -> None:
        raise _wrapped(GONE)

    with pytest.raises(DatabaseGone, match="claim was given up: server closed") as caught:
        Retrying(outage_s=0.0, sleep=lambda _s: None)("claim", call)
    assert isinstance(caught.value.__cause__, optuna.exceptions.StorageInternalError)
    with pytest.raises(DatabaseGone):
        Retrying(give_up=lambda: True, sleep=lambda _s: None)("claim", call)


def test_a_lost_race_is_no_warning(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING, "storage")
    left = [3]

    def call() -> None:
        left[0] -= 1
        if left[0]:
            raise TryAgain("race")

    Retrying(sleep=lambda _s: None)("claim", call)
    assert caplog.records == []


def test_one_line() -> None:
    assert one_line(_wrapped(GONE)) == "server closed the connection unexpectedly"
    assert one_line(sqlalchemy.exc.TimeoutError("")) == "TimeoutError"
