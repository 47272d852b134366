"""`nkat-search resume`: let a paused or stopped search go on."""

from __future__ import annotations

import typer

from search.cli.common import StateDirOption, StorageOption, StudyOption


def register(app: typer.Typer) -> None:
    app.command("resume")(resume)


def resume(
    *,
    storage: StorageOption = None,
    study: StudyOption = None,
    state_dir: StateDirOption = None,
) -> None:
    """Let a paused or stopped search go on.

    Mend the cause first where a search paused itself because its attempts kept failing: its
    failure rate is counted anew from here.  Workers that a stop has ended must be started
    again.

        nkat-search resume
    """
    from search.service.steering import steer
    from search.study.session import database, opened
    from storage.states import Command

    with database(storage, state_dir) as url, opened(url, study, role="resume") as session:
        typer.echo(steer(session, Command.RUN))
