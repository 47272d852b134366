"""`nkat-search status`: trials, workers, attempts and the best score so far."""

from __future__ import annotations

from typing import Annotated

import typer

from search.cli.common import (
    JsonOption,
    StateDirOption,
    StorageOption,
    StudyOption,
    out_console,
    print_json,
)


def register(app: typer.Typer) -> None:
    app.command("status")(status)


def status(
    storage: StorageOption = None,
    study: StudyOption = None,
    state_dir: StateDirOption = None,
    watch: Annotated[
        bool, typer.Option("--watch", help="Show it again and again until Ctrl-C.")
    ] = False,
    every: Annotated[
        float,
        typer.Option("--every", metavar="SECONDS", min=0.2, help="With --watch: the interval."),
    ] = 2.0,
    all_trials: Annotated[
        bool, typer.Option("--all", help="Every trial, not only the newest ones.")
    ] = False,
    as_json: JsonOption = False,
) -> int:
    """Show a search: how many trials count, who works on what, how old each beat and
    checkpoint is, and the best Global TPE score.

        nkat-search status --watch
        nkat-search status --json | jq .workers
    """
    import time

    from rich.live import Live

    from search.service.status import NEWEST, snapshot, tables
    from search.study.session import database, opened

    trials = None if all_trials else NEWEST
    with (
        database(storage, state_dir) as url,
        opened(url, study, role="status") as session,
    ):
        if as_json:
            print_json(snapshot(session, trials=trials))
            while watch:
                time.sleep(every)
                print_json(snapshot(session, trials=trials))
            return 0
        console = out_console()
        if not watch:
            console.print(tables(snapshot(session, trials=trials)))
            return 0
        with Live(console=console, auto_refresh=False) as live:
            while True:
                live.update(tables(snapshot(session, trials=trials)), refresh=True)
                time.sleep(every)
