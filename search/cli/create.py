"""`nkat-search create`: the study in a database, for workers on any machine."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from nkat_errors import BadInput
from search.cli.common import (
    DataDirOption,
    EnqueueOption,
    FromStudyOption,
    JsonOption,
    StateDirOption,
    StorageOption,
    note_console,
    out_console,
    print_json,
    read_password,
    say_warnings,
)


def register(app: typer.Typer) -> None:
    app.command("create")(create)


def create(
    *,
    config: Annotated[
        Path | None,
        typer.Option(
            "--config",
            metavar="FILE",
            help="The search file (default: ./search.yaml; without one, the shipped search.yaml "
            "with a GPU here, else the shipped laptop.yaml).",
        ),
    ] = None,
    storage: StorageOption = None,
    state_dir: StateDirOption = None,
    data_dir: DataDirOption = None,
    force_new: Annotated[
        bool,
        typer.Option("--force-new", help="Make a new study (NAME-2, ...) if the name is taken."),
    ] = False,
    enqueue: EnqueueOption = None,
    from_study: FromStudyOption = None,
    wait: Annotated[
        float,
        typer.Option(
            "--wait", metavar="SECONDS", min=0, help="How long to wait for the database."
        ),
    ] = 60.0,
    worker_role: Annotated[
        str | None,
        typer.Option(
            "--worker-role",
            envvar="NKAT_WORKER_ROLE",
            metavar="NAME",
            help="Make this database user for workers, who may delete and create nothing.",
        ),
    ] = None,
    worker_password_file: Annotated[
        Path | None,
        typer.Option(
            "--worker-password-file",
            envvar="NKAT_WORKER_PASSWORD_FILE",
            metavar="FILE",
            help="Its password, which is set; left out: as it is.",
        ),
    ] = None,
    json: JsonOption = False,
) -> None:
    """Make a search's study; workers take it from there.

    The data sets are looked for first, and what was found (a stand-in included) is
    stored with the search file.  A study of the same search file goes on, on the same sets;
    n_trials may be raised.  Workers need nothing but --storage.

        nkat-search create --storage postgresql+psycopg2://nkat:secret@db/nkat
        nkat-search create --config configs/laptop.yaml --data-dir ~/images
    """
    from search.file.data_choice import settle
    from search.file.load import load_search_file
    from search.file.shipped import default_search_file
    from search.service.warm_start import with_first_trials
    from search.study.create import create_study, settled_in_study
    from search.study.session import database
    from search.worker.devices import gpu_count
    from storage.engine import make_engine
    from storage.worker_role import grant_worker_role

    if worker_password_file is not None and worker_role is None:
        raise BadInput("--worker-password-file needs --worker-role NAME, whose password it is")
    password = None if worker_password_file is None else read_password(worker_password_file)
    search_file = load_search_file(config or default_search_file(gpu=bool(gpu_count())))
    with database(storage, state_dir, make=True) as url:
        engine = make_engine(url, application_name="nkat-create", wait_s=wait)
        try:
            notes = note_console()
            settled = settled_in_study(engine, search_file, force_new=force_new) or settle(
                search_file, data_dir=data_dir, tell=notes.print
            )
            say_warnings([*search_file.warnings, *settled.notes])
            begun = with_first_trials(
                settled.search_file,
                files=enqueue or (),
                studies=from_study or (),
                engine=engine,
            )
            record = create_study(engine, begun, force_new=force_new)
            if worker_role is not None:
                grant_worker_role(engine, worker_role, password=password)
        finally:
            engine.dispose()
    if json:
        print_json(
            {
                "study": record.study_name,
                "created": record.created,
                "budget": record.budget,
                "search_hash": record.search_hash,
                "cut_down": search_file.cut_down,
                "notes": list(settled.notes),
                "datasets": {name: info.to_dict() for name, info in settled.infos.items()},
            }
        )
        return
    what = "made" if record.created else "goes on"
    cut_down = ", CUT DOWN" if search_file.cut_down else ""
    out_console().print(
        f"study {record.study_name} {what}: {record.budget} trials{cut_down}", soft_wrap=True
    )
