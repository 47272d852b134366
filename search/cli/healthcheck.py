"""`nkat-search healthcheck`: is this container's worker or orchestrator heard of?

A process that runs proves little; a beat that reached the database does.  The check
looks at the newest beat that this host sent, by the database's clock, and calls it
healthy while nobody would take its trial away yet.  It runs every few seconds in
every container, so it uses the bare driver: SQLAlchemy and Optuna would take ten
times as long to import as the question takes to ask.
"""

from __future__ import annotations

import os
import socket
import sys
from pathlib import Path
from typing import Annotated

import typer

from nkat_errors import BadInput, NkatError
from search.cli.common import StorageOption, need_storage

CONNECT_TIMEOUT_S = 5
STATEMENT_TIMEOUT_S = 5
DEFAULT_LEASE_S = 60.0
"""A search file's own default (`service.lease_s`)."""

NEWEST_BEAT = """
SELECT w.note, w.device, w.state, w.reason,
       extract(epoch FROM clock_timestamp() - w.beat_at) AS age_s, s.search_text
FROM nkat_worker w JOIN nkat_search s USING (study_name)
WHERE w.host = %(host)s
ORDER BY (w.state = 'retired'), w.beat_at DESC
LIMIT 1
"""
"""One host may drive several GPUs, one worker each: it is healthy while one of them is
(ending the container would end the others).  Living ones come before retired ones."""


class Unhealthy(NkatError):
    """Nobody has heard of this host for too long: exit code 1."""


def register(app: typer.Typer) -> None:
    app.command("healthcheck")(healthcheck)


def healthcheck(
    storage: StorageOption = None,
    host: Annotated[
        str | None,
        typer.Option("--host", metavar="NAME", help="Whose beat; left out, this host's."),
    ] = None,
    max_age: Annotated[
        float | None,
        typer.Option(
            "--max-age", metavar="SECONDS", min=1, help="Left out: the search file's lease."
        ),
    ] = None,
) -> int:
    """Exit 0 when this host's worker or orchestrator was heard of within its lease,
    1 when it was not (or the database does not answer).  Made for containers.

        nkat-search healthcheck
    """
    typer.echo(check(storage=storage, host=host or socket.gethostname(), max_age_s=max_age))
    return 0


def check(*, storage: str | None, host: str, max_age_s: float | None) -> str:
    """One line about a healthy host.

    Args:
        storage: --storage; None takes NKAT_STORAGE.
        host: as the worker registered itself.
        max_age_s: allowed age of the newest beat, seconds; None is the search's lease.

    Raises:
        Unhealthy: no beat, an old one, a worker that said good-bye, no database.
    """
    import psycopg2

    url = need_storage(storage or os.environ.get("NKAT_STORAGE"))
    try:
        connection = psycopg2.connect(
            url.replace("postgresql+psycopg2://", "postgresql://", 1),
            connect_timeout=CONNECT_TIMEOUT_S,
            application_name="nkat-healthcheck",
            options=f"-c statement_timeout={STATEMENT_TIMEOUT_S * 1000}",
            password=_password(),
        )
        try:
            with connection.cursor() as cursor:
                cursor.execute(NEWEST_BEAT, {"host": host})
                row = cursor.fetchone()
        finally:
            connection.close()
    except psycopg2.Error as error:
        first_line = str(error).strip().splitlines()[0]
        raise Unhealthy(f"the database does not answer: {first_line}") from None
    if row is None:
        raise Unhealthy(f"no worker has registered from host {host}")
    note, device, state, reason, age_s, search_text = row
    name = f"{note or 'worker'} on {host} ({device})"
    allowed_s = lease_of(search_text) if max_age_s is None else max_age_s
    if state == "retired":
        raise Unhealthy(f"{name} said good-bye: {reason or 'no reason given'}")
    if age_s > allowed_s:
        raise Unhealthy(f"{name} was last heard of {age_s:.0f} s ago, allowed are {allowed_s:g} s")
    return f"{name} was heard of {age_s:.1f} s ago"


def lease_of(search_text: str) -> float:
    """`service.lease_s` of a stored search file, seconds."""
    from ruamel.yaml import YAML

    loaded = YAML(typ="safe").load(search_text)
    service = loaded.get("service") if isinstance(loaded, dict) else None
    return float((service or {}).get("lease_s", DEFAULT_LEASE_S))


def _password() -> str | None:
    file = os.environ.get("NKAT_STORAGE_PASSWORD_FILE")
    if not file:
        return None
    try:
        return Path(file).read_text(encoding="utf-8").rstrip("\r\n")
    except OSError as error:
        raise BadInput(f"NKAT_STORAGE_PASSWORD_FILE: cannot read {file} ({error})") from error


if __name__ == "__main__":
    from search.cli import main

    sys.exit(main(["healthcheck", *sys.argv[1:]]))
