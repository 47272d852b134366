"""`nkat-search study`: the studies of a database."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from search.cli.common import (
    JsonOption,
    StateDirOption,
    StorageOption,
    out_console,
    print_json,
)
from search.cli.worker import CheckpointDirOption
from search.terminal import plain

study = typer.Typer(
    no_args_is_help=True,
    help="""List, show, compare and delete the studies of a database.

    nkat-search study list
    nkat-search study show nkat-round2 --csv > epochs.csv
    nkat-search study compare nkat-round2 nkat-round3
""",
)

NameArgument = Annotated[str, typer.Argument(metavar="STUDY", help="Name of the study.")]


def register(app: typer.Typer) -> None:
    app.add_typer(study, name="study")


@study.command("list")
def list_studies(
    *,
    storage: StorageOption = None,
    state_dir: StateDirOption = None,
    json: JsonOption = False,
) -> None:
    """Show every study of the database, the newest first.

    nkat-search study list
    nkat-search study list --json | jq '.[].name'
    """
    from dataclasses import asdict

    from search.study.overview import studies
    from search.study.session import database
    from search.terminal import WideTable

    with database(storage, state_dir) as url:
        lines = studies(url)
    if json:
        print_json([asdict(line) for line in lines])
        return
    if not lines:
        out_console().print("no study in this database; `nkat-search create` makes one")
        return
    table = WideTable()
    table.column("study", left=True)
    table.column("made (UTC)", left=True)
    table.column("state", left=True)
    for heading in ("trials", "complete", "best Global\nTPE score", "workers"):
        table.column(heading)
    for line in lines:
        table.row(
            line.name,
            f"{line.created_at:%Y-%m-%d %H:%M}",
            line.state,
            f"{line.done} of {line.budget}",
            line.complete,
            "none" if line.best is None else f"{line.best:.4f}",
            line.workers,
        )
    out_console().print(table)


@study.command()
def show(
    name: Annotated[
        str | None,
        typer.Argument(metavar="[STUDY]", help="Name; left out, the newest of the database."),
    ] = None,
    *,
    storage: StorageOption = None,
    state_dir: StateDirOption = None,
    csv: Annotated[
        bool,
        typer.Option("--csv", help="Every trial's values after each epoch, as CSV on stdout."),
    ] = False,
    json: JsonOption = False,
) -> None:
    """Show a study's trials: scores, parameters, what happened.

    With --csv one line for each epoch of each trial: stage 1 has the local TPE score after
    each epoch, stage 2 the score of all sets so far at the end of each set.  The test images
    are not in it; accuracies are of validation images.

        nkat-search study show
        nkat-search study show nkat-round2 --csv > epochs.csv
    """
    from dataclasses import asdict

    from nkat_errors import BadInput
    from search.export.tables import epoch_frame, report_dict, summary_lines, trial_table
    from search.study.session import database, opened
    from search.study.trial_record import TrialRecord

    if csv and json:
        raise BadInput("--csv and --json: give one of the two")
    with database(storage, state_dir) as url, opened(url, name, role="study") as session:
        trials = [TrialRecord.of(row) for row in session.board.trials()]
        search = session.search
    if csv:
        epoch_frame(trials, search).to_csv(sys.stdout, index=False)
        return
    if json:
        epochs = {
            str(trial.number): [asdict(value) for value in trial.epochs(search.names)]
            for trial in trials
        }
        print_json({**report_dict(trials, search), "epochs": epochs})
        return
    console = out_console()
    console.print(plain(f"study {session.record.study_name}", "bold"))
    if any(trial.state in ("complete", "pruned", "fail") for trial in trials):
        console.print(trial_table(trials, search))
    for line in summary_lines(trials, search):
        console.print(plain(line), soft_wrap=True)


@study.command()
def compare(
    first: NameArgument,
    second: NameArgument,
    *,
    storage: StorageOption = None,
    state_dir: StateDirOption = None,
    json: JsonOption = False,
) -> None:
    """Show two studies of one database side by side, and how their search files differ.

    One run of each says little: two searches of the same file differ too.

        nkat-search study compare nkat-round2 nkat-round3
    """
    from search.study.overview import compare as side_by_side
    from search.study.session import database, opened
    from search.terminal import WideTable

    with (
        database(storage, state_dir) as url,
        opened(url, first, role="study") as one,
        opened(url, second, role="study") as other,
    ):
        found = side_by_side(one, other)
    if json:
        print_json(found.to_dict())
        return
    table = WideTable()
    table.column("", left=True)
    for heading in (first, second, "difference"):
        table.column(heading)
    for what, left, right in found.rows():
        difference = None if left is None or right is None else f"{right - left:+.4g}"
        table.row(what, *(_short(value) for value in (left, right)), difference)
    console = out_console()
    console.print(table)
    for figures in (found.first, found.second):
        params = ", ".join(f"{key} {_short(value)}" for key, value in figures.best.params.items())
        console.print(
            plain(f"{figures.name}: best is trial {figures.best.number} ({params})"),
            soft_wrap=True,
        )
    heading = "their search files differ:" if found.difference else "their search files are equal"
    console.print(plain(heading))
    for line in found.difference:
        console.print(plain(f"  {line}"), soft_wrap=True)


@study.command()
def delete(
    name: NameArgument,
    *,
    storage: StorageOption = None,
    state_dir: StateDirOption = None,
    checkpoint_dir: CheckpointDirOption = None,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
) -> None:
    """Delete a study for good: its trials, its record of workers and attempts, its checkpoints.

    Asks first.  A study that workers are working on is not deleted: stop them before.

        nkat-search study delete nkat-tryout
        nkat-search study delete nkat-tryout --yes
    """
    from search.study.overview import delete_study
    from search.study.session import checkpoint_dir as find_checkpoint_dir
    from search.study.session import database

    def ask(what: str) -> None:
        if not yes:
            _confirm(name, what)

    folder = find_checkpoint_dir(checkpoint_dir, state_dir)
    with database(storage, state_dir) as url:
        removed = delete_study(url, name, folder=folder, ask=ask)
    trials = "1 trial" if removed == 1 else f"{removed} trials"
    out_console().print(plain(f"deleted: study {name}, checkpoints of {trials}"), soft_wrap=True)


def _confirm(name: str, what: str) -> None:
    from nkat_errors import BadInput

    if not sys.stdin.isatty():
        raise BadInput(f"study {name} was not deleted: nobody to ask here, give --yes")
    if not typer.confirm(f"Delete {what}, for good?"):
        raise BadInput(f"study {name} was not deleted")


def _short(value: object) -> str:
    if value is None:
        return "none"
    return f"{value:.4g}" if isinstance(value, float) else str(value)
