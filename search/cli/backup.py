"""`nkat-search backup`: a whole search in one file."""

from __future__ import annotations

from pathlib import Path
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


def register(app: typer.Typer) -> None:
    app.command("backup")(backup)


def backup(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="Where to write.")],
    storage: StorageOption = None,
    state_dir: StateDirOption = None,
    with_checkpoints: Annotated[
        bool,
        typer.Option(
            "--with-checkpoints", help="Pack the checkpoints too, so that no epoch is repeated."
        ),
    ] = False,
    checkpoint_dir: CheckpointDirOption = None,
    as_json: JsonOption = False,
) -> None:
    """Write a database with all its searches to one file; the search may go on meanwhile.

    `nkat-search restore FILE` puts it into another database, on this machine or another,
    where the same `run` command continues the search.

        nkat-search backup search.backup --with-checkpoints
        nkat-search backup search.backup --storage postgresql+psycopg2://nkat:secret@db/nkat
    """
    from dataclasses import asdict

    from search.study.session import checkpoint_dir as find_checkpoint_dir
    from search.study.session import database
    from storage.backup import make_backup
    from storage.engine import make_engine

    folder = find_checkpoint_dir(checkpoint_dir, state_dir) if with_checkpoints else None
    with database(storage, state_dir) as url:
        engine = make_engine(url, application_name="nkat-backup")
        try:
            info = make_backup(engine, file, checkpoint_folder=folder)
        finally:
            engine.dispose()
    if as_json:
        print_json({"path": str(file), **asdict(info)})
        return
    studies = "; ".join(f"{name}, {progress}" for name, progress in info.studies.items())
    checkpoints = f"; {info.checkpoints} checkpoints" if with_checkpoints else ""
    size = file.stat().st_size / 1e6
    out_console().print(f"{file}: {studies}{checkpoints} ({size:.1f} MB)", soft_wrap=True)
