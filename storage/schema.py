"""The tables: Optuna's and ours, made once whoever comes first."""

from __future__ import annotations

from sqlalchemy import Engine


def ensure_schema(engine: Engine) -> None:
    """Make what is missing, under an advisory lock; any number may call it at once.

    Raises:
        BadInput: the tables are of another Optuna version or of a newer nkat-search, or
            this user may not create tables; nothing was changed.
    """
    raise NotImplementedError


def wait_for_schema(engine: Engine, timeout_s: float = 60.0) -> None:
    """Return as soon as the tables are there.

    Raises:
        SchemaMissing: not within `timeout_s` seconds.
        BadInput: they are there, of a version that this code cannot use.
    """
    raise NotImplementedError
