"""`nkat-search worker`: take trials from a study and train them on one device."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from search.cli.common import (
    DataDirOption,
    LogFormatOption,
    StateDirOption,
    StorageOption,
    StudyOption,
)
from search.logs import LogFormat

CheckpointDirOption = Annotated[
    Path | None,
    typer.Option(
        "--checkpoint-dir",
        metavar="DIR",
        help="Folder of checkpoints; shared by the workers, so that another can go on with a "
        "lost trial (or NKAT_CHECKPOINT_DIR; default: checkpoints in the state folder).",
    ),
]


def register(app: typer.Typer) -> None:
    app.command("worker")(worker)


def worker(
    storage: StorageOption = None,
    study: StudyOption = None,
    device: Annotated[
        str,
        typer.Option(
            "--device",
            metavar="NAME",
            help="`cuda:0`, `cpu`, or `auto`: one worker process per GPU it sees, else the CPU.",
        ),
    ] = "auto",
    data_dir: DataDirOption = None,
    state_dir: StateDirOption = None,
    checkpoint_dir: CheckpointDirOption = None,
    threads: Annotated[
        int | None, typer.Option("--threads", metavar="N", min=1, help="CPU threads of torch.")
    ] = None,
    cpu_workers: Annotated[
        int,
        typer.Option(
            "--cpu-workers",
            envvar="NKAT_WORKERS",
            metavar="N",
            min=0,
            help="CPU workers that share this machine's cores; without --threads and "
            "OMP_NUM_THREADS each takes its part.",
        ),
    ] = 1,
    grace: Annotated[
        float,
        typer.Option(
            "--grace",
            metavar="SECONDS",
            min=0,
            help="After SIGTERM or Ctrl-C: time for the epoch under way to end and be saved.",
        ),
    ] = 20.0,
    wait: Annotated[
        float,
        typer.Option(
            "--wait", metavar="SECONDS", min=0, help="How long to wait for database and study."
        ),
    ] = 60.0,
    log_format: LogFormatOption = LogFormat.TEXT,
    rehearsal: Annotated[
        str | None,
        typer.Option("--rehearsal", metavar="JSON", hidden=True, help="A rehearsal's plan."),
    ] = None,
    with_parent: Annotated[
        bool,
        typer.Option("--with-parent", hidden=True, help="Stop when the parent process dies."),
    ] = False,
) -> int:
    """Take trials from a study and train them, until the search is done.

    Any number of workers may work on one study, on any number of machines; each needs
    the database and the data.  SIGTERM or Ctrl-C saves a checkpoint and hands the trial
    back; kill -9 costs at most the epochs since the last checkpoint.

        nkat-search worker --storage postgresql+psycopg2://nkat:secret@db/nkat
        nkat-search worker --device cuda:1 --data-dir ~/images
    """
    from search.worker.serve import WorkerOptions, serve_worker

    return serve_worker(
        WorkerOptions(
            storage=storage,
            study=study,
            device=device,
            data_dir=data_dir,
            state_dir=state_dir,
            checkpoint_dir=checkpoint_dir,
            threads=threads,
            cpu_workers=cpu_workers,
            grace_s=grace,
            wait_s=wait,
            log_format=log_format,
            rehearsal=rehearsal,
            with_parent=with_parent,
        )
    )
