"""`nkat-search dashboard`: optuna-dashboard of the search's database."""

from __future__ import annotations

from typing import Annotated

import typer

from search.cli.common import LogFormatOption, StateDirOption, StorageOption
from search.logs import LogFormat


def register(app: typer.Typer) -> None:
    app.command("dashboard")(dashboard)


def dashboard(
    *,
    storage: StorageOption = None,
    state_dir: StateDirOption = None,
    host: Annotated[
        str,
        typer.Option("--host", metavar="ADDRESS", help="Beyond this machine only with a login."),
    ] = "127.0.0.1",
    port: Annotated[
        int, typer.Option("--port", metavar="N", min=0, max=65535, help="0 chooses a free one.")
    ] = 8080,
    wait: Annotated[
        float,
        typer.Option(
            "--wait", metavar="SECONDS", min=0, help="How long to wait for database and tables."
        ),
    ] = 60.0,
    log_format: LogFormatOption = LogFormat.TEXT,
    with_parent: Annotated[
        bool,
        typer.Option("--with-parent", hidden=True, help="Stop when the parent process dies."),
    ] = False,
) -> None:
    """Serve optuna-dashboard until Ctrl-C, read-only, on this machine.

    It waits for a database that is empty yet.  NKAT_DASHBOARD_USER and
    NKAT_DASHBOARD_PASSWORD_FILE set a login (needed for a --host beyond loopback);
    NKAT_DASHBOARD_EDITABLE=1 lets its own edits through.  Behind a proxy,
    NKAT_DASHBOARD_TRUSTED_PROXY names it, so that wrong logins are counted by the clients'
    own addresses.

        nkat-search dashboard
        nkat-search dashboard --storage postgresql+psycopg2://nkat:secret@db/nkat --port 8081
    """
    from search.dashboard.server import editable_from, login_from, serve, trusted_proxy_from
    from search.logs import set_up_logging
    from search.study.session import database

    if with_parent:
        import signal

        from search.worker.signals import signal_when_parent_dies

        signal_when_parent_dies(signal.SIGTERM)
    set_up_logging(log_format=log_format)
    login, editable = login_from(), editable_from()
    proxy = trusted_proxy_from()
    with database(storage, state_dir) as url:
        serve(
            storage_url=url,
            host=host,
            port=port,
            login=login,
            editable=editable,
            trusted_proxy=proxy,
            wait_s=wait,
        )
