"""`nkat-search database`: the embedded Postgres for workers on other machines."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from search.cli.common import StateDirOption, read_password


def register(app: typer.Typer) -> None:
    app.command("database")(database)


def database(
    *,
    password_file: Annotated[
        Path,
        typer.Option(
            "--password-file",
            envvar="NKAT_STORAGE_PASSWORD_FILE",
            metavar="FILE",
            help="The password that others come in with.",
        ),
    ],
    state_dir: StateDirOption = None,
    listen: Annotated[
        str, typer.Option("--listen", metavar="ADDRESS", help="Address to listen on.")
    ] = "0.0.0.0",
    port: Annotated[
        int, typer.Option("--port", min=0, max=65535, metavar="PORT", help="0: a free one.")
    ] = 0,
    host: Annotated[
        str | None,
        typer.Option(
            "--host", metavar="NAME", help="Under which others reach this machine (its own name)."
        ),
    ] = None,
    url_file: Annotated[
        Path | None,
        typer.Option(
            "--url-file", metavar="FILE", help="Gets the address when the database answers."
        ),
    ] = None,
) -> int:
    """Serve the state folder's Postgres over TCP until SIGTERM, for clusters without one.

    Only the user `nkat` gets in, with the password.  The connection is not encrypted: for
    networks of your own.  Prints the address, which is NKAT_STORAGE for all other commands
    (with NKAT_STORAGE_PASSWORD_FILE beside it).

        nkat-search database --password-file secret --url-file storage_url
    """
    import os
    import socket
    import time

    from nkat_errors import NkatError
    from search.study.session import ended_by_signals
    from search.study.session import state_dir as find_state_dir
    from storage.embedded.network import served_over_tcp
    from storage.embedded.process import running_pid

    folder = find_state_dir(state_dir) / "postgres"
    with (
        ended_by_signals(),
        served_over_tcp(
            data_dir=folder,
            listen=listen,
            port=port,
            password=read_password(password_file),
            host=host or socket.getfqdn(),
        ) as url,
    ):
        if url_file is not None:
            half = url_file.with_name(f"{url_file.name}.{os.getpid()}")
            half.write_text(url + "\n")
            half.replace(url_file)  # whoever reads it finds it whole
        typer.echo(url)
        while running_pid(folder.absolute()) is not None:
            time.sleep(1)
    raise NkatError(f"the database server ended; its log is {folder / 'server.log'}")
