"""`nkat-search stop`: let workers end with the trial that they have."""

from __future__ import annotations

import typer

from search.cli.common import (
    BY_HAND,
    ReasonOption,
    StateDirOption,
    StorageOption,
    StudyOption,
)


def register(app: typer.Typer) -> None:
    app.command("stop")(stop)


def stop(
    *,
    storage: StorageOption = None,
    study: StudyOption = None,
    state_dir: StateDirOption = None,
    reason: ReasonOption = BY_HAND,
) -> None:
    """Stop a search: each worker ends with the trial that it has; everything stays.

    `run` ends as after Ctrl-C: at the next epoch, with its table and exit code 130.

        nkat-search stop
        nkat-search resume && nkat-search run
    """
    from search.service.steering import steer
    from search.study.session import database, opened
    from storage.states import Command

    with database(storage, state_dir) as url, opened(url, study, role="stop") as session:
        typer.echo(steer(session, Command.STOP, reason))
