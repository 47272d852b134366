"""`nkat-search run`: the whole two-stage search on this machine, in one command."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from search.cli.common import (
    DataDirOption,
    EnqueueOption,
    FromStudyOption,
    LogFormatOption,
    StateDirOption,
    StopAtOption,
    StorageOption,
    TimeoutOption,
    note_console,
    out_console,
)
from search.cli.observer_options import (
    MetricsHostOption,
    MetricsPortOption,
    NotifyOption,
    TrackerOption,
)
from search.cli.worker import CheckpointDirOption
from search.logs import LogFormat


def register(app: typer.Typer) -> None:
    app.command("run")(run)


def run(
    config: Annotated[
        Path | None,
        typer.Option(
            "--config",
            metavar="FILE",
            help="Search file (default: ./search.yaml; without one, the shipped search.yaml with "
            "a GPU, else the shipped laptop.yaml).",
        ),
    ] = None,
    data_dir: DataDirOption = None,
    storage: StorageOption = None,
    state_dir: StateDirOption = None,
    checkpoint_dir: CheckpointDirOption = None,
    workers: Annotated[
        int | None,
        typer.Option(
            "--workers",
            envvar="NKAT_WORKERS",
            metavar="N",
            help="Worker processes (default: one per GPU; without one, one per core, 4 at most).",
        ),
    ] = None,
    out: Annotated[
        Path, typer.Option("--out", metavar="FILE", help="The best configuration goes here.")
    ] = Path("best.yaml"),
    dashboard_port: Annotated[
        int,
        typer.Option(
            "--dashboard-port", metavar="PORT", min=0, max=65535, help="optuna-dashboard; 0: none."
        ),
    ] = 8080,
    metrics_port: MetricsPortOption = None,
    metrics_host: MetricsHostOption = "127.0.0.1",
    notify: NotifyOption = None,
    tracker: TrackerOption = None,
    log_format: LogFormatOption = LogFormat.TEXT,
    force_new: Annotated[
        bool,
        typer.Option(
            "--force-new",
            help="Start a new study (NAME-2, ...) where the name is taken, for example by "
            "another search file.",
        ),
    ] = False,
    synthetic: Annotated[
        bool,
        typer.Option(
            "--synthetic", envvar="NKAT_SYNTHETIC", help="Rendered images instead of real ones."
        ),
    ] = False,
    timeout: TimeoutOption = None,
    stop_at: StopAtOption = None,
    enqueue: EnqueueOption = None,
    from_study: FromStudyOption = None,
    grace: Annotated[
        float,
        typer.Option(
            "--grace", metavar="SECONDS", min=0, help="After Ctrl-C: time for an epoch to end."
        ),
    ] = 20.0,
) -> int:
    """Run the whole search on this machine and end with best.yaml.

    Starts an embedded Postgres (unless --storage names a database), makes the study,
    starts optuna-dashboard and its workers, shows progress, prints the table and
    exports the best trial.  Ctrl-C stops cleanly; the same command goes on where it
    stopped.  More machines can help: `nkat-search worker` with the same --storage.

        nkat-search run --data-dir ~/images
        nkat-search run --config configs/laptop.yaml --workers 1
        nkat-search run --timeout 2h --stop-at 0.70 --enqueue best.yaml
    """
    from search.service.run import RunOptions, run_search

    return run_search(
        RunOptions(
            config=config,
            data_dir=data_dir,
            storage=storage,
            state_dir=state_dir,
            checkpoint_dir=checkpoint_dir,
            workers=workers,
            out=out,
            dashboard_port=dashboard_port,
            metrics_port=metrics_port,
            metrics_host=metrics_host,
            notify=notify,
            trackers=tracker or (),
            log_format=log_format,
            force_new=force_new,
            synthetic=synthetic,
            grace_s=grace,
            timeout=timeout,
            stop_at=stop_at,
            enqueue=enqueue or (),
            from_study=from_study or (),
        ),
        notes=note_console(),
        results=out_console(),
    )
