"""The database's address, checked before anything is done with it, and the engine for it."""

from __future__ import annotations

import logging
import time

import psycopg2
import sqlalchemy as sa
from sqlalchemy.engine import URL, Engine, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError

from nkat_errors import BadInput

_log = logging.getLogger(__name__)

DRIVER = "postgresql+psycopg2"
EXAMPLE = f"{DRIVER}://USER:PASSWORD@HOST:5432/DATABASE"
SECRET_QUERY_KEYS = ("password", "passfile", "sslpassword", "sslkey", "options")

CONNECT_TIMEOUT_S = 10
STATEMENT_TIMEOUT_S = 60
LOCK_TIMEOUT_S = 30
IDLE_IN_TRANSACTION_TIMEOUT_S = 60
"""A client that hangs inside a transaction would hold Optuna's one study row for ever."""
SHORTEST_IDLE_S = 2.0
"""A busy machine may take that long between two statements."""
POOL_SIZE, MAX_OVERFLOW = 2, 2
"""Two: the work and the beat.  20 workers stay under Postgres' default of 100."""
POOL_RECYCLE_S = 1800
RECONNECT_PAUSE_S = 0.5


def make_engine(url: str, *, application_name: str = "nkat-search", wait_s: float = 0.0) -> Engine:
    """An engine with a small pool that has connected once.

    Every session runs in UTC, with time limits on statements, locks and idle
    transactions, and with keepalives, so that a dead peer is noticed within a minute.

    Args:
        url: postgresql+psycopg2://USER:PASSWORD@HOST:PORT/DATABASE
        application_name: shown in pg_stat_activity.
        wait_s: how long to wait for a server that is not there yet, seconds.

    Raises:
        BadInput: wrong driver, host, port, user, password or database, in one sentence
            that never holds the password.
    """
    parsed = check_url(url)
    engine = sa.create_engine(
        parsed,
        pool_pre_ping=True,
        pool_size=POOL_SIZE,
        max_overflow=MAX_OVERFLOW,
        pool_recycle=POOL_RECYCLE_S,
        pool_timeout=CONNECT_TIMEOUT_S,
        connect_args=connect_args(application_name),
    )
    deadline = time.monotonic() + wait_s
    told = False
    while True:
        try:
            with engine.connect():
                return engine
        except DBAPIError as error:
            engine.dispose()
            if time.monotonic() < deadline and not is_permanent(error):
                if not told:
                    _log.warning("waiting up to %.0f s for the database %s", wait_s, shown(parsed))
                    told = True
                time.sleep(RECONNECT_PAUSE_S)
                continue
            # `from None`: the driver's own text may repeat parts of the address.
            raise BadInput(_why_not(parsed, error)) from None


def check_url(url: str) -> URL:
    """Parse `url`.

    Raises:
        BadInput: it cannot be used; with a corrected one where there is one, and never with
            the password.
    """
    try:
        parsed = make_url(url)
    except (ArgumentError, ValueError):
        raise BadInput(f"this is not a database URL: it must look like {EXAMPLE}") from None
    if parsed.drivername != DRIVER:
        if parsed.get_backend_name() in ("postgresql", "postgres"):
            raise BadInput(
                f"the database URL must name the driver {DRIVER.split('+')[1]}: write "
                f"{shown(parsed.set(drivername=DRIVER))}"
            )
        raise BadInput(
            f"the database must be Postgres, not {parsed.drivername!r}: the URL must look like "
            f"{EXAMPLE}"
        )
    if "@" in (parsed.host or "") or "@" in (parsed.database or ""):
        raise BadInput("the user or password in the database URL holds an '@': write it as %40")
    if not parsed.database:
        raise BadInput(f"the database URL {shown(parsed)} names no database: add /DATABASE")
    return parsed


def shown(url: URL) -> str:
    """The URL as it may be printed: the password is ***, secrets in the query are gone."""
    query = {k: v for k, v in url.query.items() if k not in SECRET_QUERY_KEYS}
    return url.set(query=query).render_as_string(hide_password=True)


def raw_url(engine: Engine) -> str:
    """The whole address with its password, in Optuna's form: never print it.

    Optuna fills in a {SCHEMA_VERSION} template, so other braces must be doubled.
    """
    url = engine.url.render_as_string(hide_password=False)
    return url.replace("{", "{{").replace("}", "}}")


def connect_args(application_name: str) -> dict[str, object]:
    """libpq's options of every connection, Optuna's too."""
    milliseconds = 1000
    return {
        "application_name": application_name[:63],  # Postgres cuts it there, with a notice
        "connect_timeout": CONNECT_TIMEOUT_S,
        "keepalives": 1,
        "keepalives_idle": 20,  # seconds
        "keepalives_interval": 10,  # seconds
        "keepalives_count": 3,
        "tcp_user_timeout": 40 * milliseconds,
        "options": " ".join(
            (
                "-c timezone=UTC",
                f"-c statement_timeout={STATEMENT_TIMEOUT_S * milliseconds}",
                f"-c lock_timeout={LOCK_TIMEOUT_S * milliseconds}",
                "-c idle_in_transaction_session_timeout="
                f"{IDLE_IN_TRANSACTION_TIMEOUT_S * milliseconds}",
            )
        ),
    }


# Before there is a session, psycopg2 gives no SQLSTATE, only libpq's text.  These parts of
# it are the same in every version.
_PERMANENT = (
    ("password authentication failed", "refuses the password of user {user!r}"),
    ("no password supplied", "wants a password for user {user!r}, and the URL has none"),
    ("pg_hba.conf", "does not let user {user!r} in from here (pg_hba.conf)"),
    ('role "', "has no user {user!r}"),
    ('database "', "has no database {database!r}: create it first"),
    ("permission denied for database", "does not let user {user!r} use {database!r}"),
    ("could not translate host name", "has a name that cannot be resolved"),
    ("server does not support SSL", "does not speak SSL: remove sslmode from the URL"),
    ("invalid connection option", "cannot be used: the URL has an unknown option"),
)


def is_permanent(error: BaseException) -> bool:
    """True for a refused connection that waiting will not help (password, name, rights)."""
    text = str(getattr(error, "orig", error))
    return any(part in text for part, _ in _PERMANENT if "host name" not in part)


def _why_not(url: URL, error: DBAPIError) -> str:
    text = str(error.orig)
    where = f"the database server of {shown(url)}"
    for part, meaning in _PERMANENT:
        if part in text:
            return f"{where} {meaning.format(user=url.username, database=url.database)}"
    if isinstance(error.orig, psycopg2.OperationalError):
        cause = "refused" if "refused" in text else "no server there"
        if "timeout" in text or "timed out" in text:
            cause = f"no answer within {CONNECT_TIMEOUT_S} s"
        if "too many clients" in text or "remaining connection slots" in text:
            cause = "all its connections are taken"
        return f"{where} cannot be reached ({cause}): start it, or correct host and port"
    return f"{where} cannot be used ({type(error.orig).__name__})"


def limit_idle_transactions(engine: Engine, limit_s: float) -> None:
    """Disconnect a client that stops inside a transaction, after `limit_s` seconds.

    It may hold the row of its trial, which no reaper could take then, or Optuna's study row.
    """

    def set_limit(connection: psycopg2.extensions.connection, _record: object) -> None:
        with connection.cursor() as cursor:
            limit_ms = round(limit_s * 1000)
            cursor.execute("SET idle_in_transaction_session_timeout = %s", (limit_ms,))
        connection.commit()

    sa.event.listen(engine, "connect", set_limit)
    engine.dispose()  # the next connections are new ones


def idle_limit_s(lease_s: float) -> float:
    """Half a lease, so that a stopped worker is cut off before its lease is over."""
    return min(max(lease_s / 2, SHORTEST_IDLE_S), IDLE_IN_TRANSACTION_TIMEOUT_S)
