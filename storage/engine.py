"""The database's address, checked before anything is done with it."""

from __future__ import annotations

from sqlalchemy import Engine


def make_engine(url: str, *, application_name: str = "nkat-search", wait_s: float = 0.0) -> Engine:
    """An engine with a small pool that has connected once.

    Args:
        url: postgresql+psycopg2://USER:PASSWORD@HOST:PORT/DATABASE
        application_name: shown in pg_stat_activity.
        wait_s: how long to wait for a server that is not there yet, seconds.

    Raises:
        BadInput: wrong driver, host, port, user, password or database, in one sentence
            that never holds the password.
    """
    raise NotImplementedError
