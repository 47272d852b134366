"""`nkat-search restore`: a backup put into a database, to continue its searches."""

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
    app.command("restore")(restore)


def restore(
    file: Annotated[
        Path, typer.Argument(metavar="FILE", help="A file that `nkat-search backup` wrote.")
    ],
    storage: StorageOption = None,
    state_dir: StateDirOption = None,
    checkpoint_dir: CheckpointDirOption = None,
    force: Annotated[
        bool, typer.Option("--force", help="Replace what is in the database.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Put a backup into an empty database (the embedded one unless --storage names another).

    Trials that had a worker when the backup was made wait for a new one, and continue from
    their checkpoints where the backup has them.  Then continue the search with the same
    `run` command, or with workers.

        nkat-search restore search.backup
        nkat-search run --data-dir ~/images
    """
    from dataclasses import asdict

    from search.study.session import checkpoint_dir as find_checkpoint_dir
    from search.study.session import database
    from storage.backup import Archive, restore_backup
    from storage.engine import make_engine

    # The file first: a wrong one should not leave an empty database behind.
    with Archive(file) as archive, database(storage, state_dir, make=True) as url:
        engine = make_engine(url, application_name="nkat-restore")
        try:
            done = restore_backup(
                engine,
                archive,
                checkpoint_folder=find_checkpoint_dir(checkpoint_dir, state_dir),
                force=force,
            )
        finally:
            engine.dispose()
    if as_json:
        print_json({"path": str(file), **asdict(done)})
        return
    console = out_console()
    for name, progress in done.info.studies.items():
        waiting = len(done.released.get(name, []))
        note = f"; {waiting} trials that were under way wait for a worker" if waiting else ""
        console.print(f"study {name} restored: {progress}{note}", soft_wrap=True)
    if done.checkpoints or done.strays:
        strays = f", {done.strays} unusable ones deleted" if done.strays else ""
        console.print(f"{done.checkpoints} checkpoints{strays}", soft_wrap=True)
