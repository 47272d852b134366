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
import time
from pathlib import Path
from typing import Annotated

import typer

from nkat_errors import BadInput, NkatError
from search.cli.common import StorageOption, need_storage
from search.worker.life_sign import FOLDER_VARIABLE, newest_sign_s

CONNECT_TIMEOUT_S = 5
STATEMENT_TIMEOUT_S = 5
LOOP_AGE_S = 300.0
"""A round may take that long: a slow sampler, a connection that does not answer."""
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
    process: Annotated[
        bool,
        typer.Option(
            "--process",
            help="Ask only whether the process goes round its loop (--max-age, 300): for a "
            "liveness probe, which must not end workers when the database is away.",
        ),
    ] = False,
) -> int:
    """Exit 0 when this host's worker or orchestrator was heard of within its lease,
    1 when it was not (or the database does not answer).  Made for containers.

        nkat-search healthcheck
        nkat-search healthcheck --process
    """
    if process:
        folder = os.environ.get(FOLDER_VARIABLE)
        if not folder:
            raise BadInput(
                f"--process needs {FOLDER_VARIABLE}, the folder in which the processes of this "
                "machine show that they live"
            )
        typer.echo(check_process(Path(folder), max_age_s=max_age or LOOP_AGE_S))
        return 0
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


def check_process(folder: Path, *, max_age_s: float) -> str:
    """One line about a process that goes round its loop, whatever the database does.

    Raises:
        Unhealthy: none has shown a sign of life, or not lately.
    """
    age_s = newest_sign_s(folder, now=time.time())
    if age_s is None:
        raise Unhealthy(f"no process has shown a sign of life in {folder} yet")
    if age_s > max_age_s:
        raise Unhealthy(f"the last sign of life is {age_s:.0f} s old, allowed are {max_age_s:g} s")
    return f"a sign of life {age_s:.1f} s ago"


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
