"""`nkat-search pause`: let trials under way end and begin no new one."""

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
    app.command("pause")(pause)


def pause(
    *,
    storage: StorageOption = None,
    study: StudyOption = None,
    state_dir: StateDirOption = None,
    reason: ReasonOption = BY_HAND,
) -> None:
    """Pause a search: trials under way end, no new one begins, everything stays.

    Workers and `run` stay and wait; they hear of it within a quarter of the lease.

        nkat-search pause --reason 'the GPUs are needed'
        nkat-search resume
    """
    from search.service.steering import steer
    from search.study.session import database, opened
    from storage.states import Command

    with database(storage, state_dir) as url, opened(url, study, role="pause") as session:
        typer.echo(steer(session, Command.PAUSE, reason))
