"""Calls that survive an outage of the database: what is tried again, and for how long."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

import psycopg2
import sqlalchemy.exc
import tenacity
from optuna.exceptions import StorageInternalError

from nkat_errors import BadInput
from storage.engine import is_permanent
from storage.errors import DatabaseGone

T = TypeVar("T")
_log = logging.getLogger(__name__)

OUTAGE_S = 300.0
FIRST_WAIT_S = 0.1
LONGEST_WAIT_S = 10.0
JITTER_S = 0.5  # so that 64 workers do not come back at the same instant

# SQLSTATE classes and codes after which another try may succeed.
_AWAY = (
    "08",  # connection exception
    "53",  # too many connections, out of memory, disk full
    "57P",  # shut down by an administrator, starting up
    "25006",  # read-only: the connection still leads to a demoted primary
)
"""No process can use the database at the moment."""
_MISHAPS = (
    "40",  # serialisation failure, deadlock
    "57014",  # statement timeout
    "25P02",  # in a failed transaction
    "25P03",  # idle in transaction for too long
    "55P03",  # lock timeout
)
"""Only this call failed."""
_NO_RIGHTS = "42501"

# SQLAlchemy's only mark of a transaction that ended before its `with` block did.
_ROLLED_BACK = "closed transaction inside context manager"


class TryAgain(Exception):
    """Raised inside a call that lost a race and should simply run once more."""


def is_transient(error: BaseException) -> bool:
    """True when the same call may succeed later."""
    for link in _causes(error):
        if isinstance(link, TryAgain):
            return True
        if isinstance(link, psycopg2.Error):
            return _is_away(link) or (link.pgcode or "").startswith(_MISHAPS)
        if isinstance(link, sqlalchemy.exc.PendingRollbackError | sqlalchemy.exc.TimeoutError):
            return True
        if isinstance(link, sqlalchemy.exc.ResourceClosedError):
            return True  # the connection went away between two statements
        if isinstance(link, sqlalchemy.exc.InvalidRequestError) and _ROLLED_BACK in str(link):
            return True  # by Optuna, after an error that it caught
    return False


def is_outage(error: BaseException) -> bool:
    """True when the error means that no process could use the database at that moment."""
    return any(isinstance(link, psycopg2.Error) and _is_away(link) for link in _causes(error))


def _causes(error: BaseException) -> Iterator[BaseException]:
    """The error and its causes: Optuna wraps every database error in StorageInternalError."""
    seen: set[int] = set()
    link: BaseException | None = error
    while link is not None and id(link) not in seen:
        seen.add(id(link))
        yield link
        link = getattr(link, "orig", None) or link.__cause__ or link.__context__


def _is_away(error: psycopg2.Error) -> bool:
    if error.pgcode is not None:
        return error.pgcode.startswith(_AWAY)
    if is_permanent(error):
        return False
    return isinstance(error, psycopg2.OperationalError | psycopg2.InterfaceError) or (
        # libpq gives a bare DatabaseError when the server vanishes in mid-answer.
        type(error) is psycopg2.DatabaseError
    )


def _refused_rights(error: BaseException) -> BadInput | None:
    """The error for a database user who may not do this; None for any other error."""
    for link in _causes(error):
        if isinstance(link, psycopg2.Error) and link.pgcode == _NO_RIGHTS:
            return BadInput(
                f"the database refuses this to the user of the URL ({one_line(link)}): use the "
                "user who made the search, or grant this one the same rights"
            )
    return None


@contextmanager
def explained_rights() -> Iterator[None]:
    """Turns "permission denied" into one sentence.

    Raises:
        BadInput: this database user may not do it.
    """
    try:
        yield
    except (sqlalchemy.exc.SQLAlchemyError, psycopg2.Error, StorageInternalError) as error:
        refusal = _refused_rights(error)
        if refusal is None:
            raise
        raise refusal from error


class Retrying:
    """Runs a function until it works, for a bounded time.

    Args:
        outage_s: from the first failure of a call until `DatabaseGone`, seconds, >= 0.
        give_up: asked before each further try; True ends at once (SIGTERM arrived).
        on_failure: called with each transient error, before the wait (to drop a
            session or a cache that may hold what was never committed).
        sleep: for tests.
    """

    def __init__(
        self,
        *,
        outage_s: float = OUTAGE_S,
        give_up: Callable[[], bool] | None = None,
        on_failure: Callable[[BaseException], None] | None = None,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._outage_s = outage_s
        self._give_up = give_up or (lambda: False)
        self._on_failure = on_failure or (lambda _error: None)
        self._sleep = sleep

    def __call__(self, what: str, call: Callable[[], T]) -> T:
        """Return `call()`; `what` names it in the log.

        Raises:
            DatabaseGone: still failing after the outage; the last error is its cause.
            BadInput: this database user may not do it.
        """
        for attempt in self._attempts(what):
            with attempt, explained_rights():
                return call()
        raise AssertionError("tenacity either returns or raises")  # pragma: no cover

    def _attempts(self, what: str) -> Iterator[tenacity.AttemptManager]:
        def warn(state: tenacity.RetryCallState) -> None:
            error = _error_of(state)
            wait_s = state.next_action.sleep if state.next_action else 0.0
            _log.log(
                logging.DEBUG if isinstance(error, TryAgain) else logging.WARNING,
                "database: %s failed (%s), try %d, again in %.1f s",
                what,
                one_line(error),
                state.attempt_number,
                wait_s,
                extra={"action": what, "try": state.attempt_number, "wait_s": wait_s},
            )
            self._on_failure(error)

        def gone(state: tenacity.RetryCallState) -> None:
            error = _error_of(state)
            self._on_failure(error)
            raise DatabaseGone(
                f"the database could not be used for {state.seconds_since_start or 0.0:.0f} s, "
                f"{what} was given up: {one_line(error)}"
            ) from error

        yield from tenacity.Retrying(
            retry=tenacity.retry_if_exception(is_transient),
            stop=lambda state: self._give_up() or tenacity.stop_after_delay(self._outage_s)(state),
            wait=tenacity.wait_exponential(multiplier=FIRST_WAIT_S, max=LONGEST_WAIT_S)
            + tenacity.wait_random(0, JITTER_S),
            sleep=self._sleep,
            before_sleep=warn,
            retry_error_callback=gone,
        )


def _error_of(state: tenacity.RetryCallState) -> BaseException:
    error = state.outcome.exception() if state.outcome else None
    if error is None:
        raise ValueError("tenacity asks only after a failure")
    return error


def one_line(error: BaseException | None) -> str:
    """The first line of the innermost message: no SQL, no parameters, no password.

    Innermost, because Optuna's own text about every database error misleads.
    """
    link = error
    while link is not None and not isinstance(link, psycopg2.Error):
        inner = getattr(link, "orig", None) or link.__cause__
        if inner is None:
            break
        link = inner
    text = str(link).strip()
    return text.splitlines()[0] if text else type(link).__name__
