"""`nkat-search orchestrate`: the housekeeper of a search that runs on several machines."""

from __future__ import annotations

from typing import Annotated

import typer

from search.cli.common import (
    LogFormatOption,
    StateDirOption,
    StopAtOption,
    StorageOption,
    StudyOption,
    TimeoutOption,
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
    app.command("orchestrate")(orchestrate)


def orchestrate(
    storage: StorageOption = None,
    study: StudyOption = None,
    state_dir: StateDirOption = None,
    checkpoint_dir: CheckpointDirOption = None,
    until_done: Annotated[
        bool,
        typer.Option(
            "--until-done", help="End with the search; without it, keep watching for a new budget."
        ),
    ] = False,
    wait: Annotated[
        float,
        typer.Option(
            "--wait", metavar="SECONDS", min=0, help="How long to wait for database and study."
        ),
    ] = 60.0,
    timeout: TimeoutOption = None,
    stop_at: StopAtOption = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Let a paused or stopped search run again, first.")
    ] = False,
    metrics_port: MetricsPortOption = None,
    metrics_host: MetricsHostOption = "127.0.0.1",
    notify: NotifyOption = None,
    tracker: TrackerOption = None,
    log_format: LogFormatOption = LogFormat.TEXT,
) -> int:
    """Watch over a search: give lost trials to other workers, pause a search whose
    attempts keep failing, write the dashboard's notes, delete old checkpoints.

    Workers do without it (they reap as well, and the budget is exact in any case);
    `nkat-search run` has it built in.

        nkat-search orchestrate --storage postgresql+psycopg2://nkat:secret@db/nkat
    """
    import logging
    import time

    from search.logs import set_up_logging
    from search.service.ends import Ends, parse_duration
    from search.service.metrics_endpoint import metrics_served
    from search.service.notify import notified
    from search.service.orchestrator import Orchestrator
    from search.service.tracking import asked_for, tracked
    from search.study.session import checkpoint_dir as find_checkpoint_dir
    from search.study.session import database, opened
    from search.worker.life_sign import life_sign
    from search.worker.signals import StopRequest, stop_on_signals

    set_up_logging(log_format=log_format)
    ends = Ends(
        timeout_s=None if timeout is None else parse_duration(timeout),
        stop_at=stop_at,
        started_at=time.monotonic(),
        clock=time.monotonic,
    )
    stop = StopRequest()
    checkpoints = find_checkpoint_dir(checkpoint_dir, state_dir)

    def round_over(seconds: float) -> None:
        alive()
        time.sleep(seconds)

    def give_up() -> bool:  # asked during an outage of the database
        alive()
        return bool(stop)

    with (
        stop_on_signals(stop),
        life_sign() as alive,
        database(storage, state_dir) as url,
        opened(url, study, role="orchestrator", wait_s=wait, give_up=give_up) as session,
        metrics_served(
            host=metrics_host,
            port=session.search.service.metrics_port if metrics_port is None else metrics_port,
            checkpoint_dir=checkpoints,
        ) as metrics,
        notified(notify or session.search.service.notify) as notifier,
        tracked(
            asked_for(tracker or (), session.search),
            record=session.record,
            search=session.search,
        ) as trackers,
    ):
        if resume:
            session.board.set_state("run")
        logging.getLogger(__name__).info(
            "watching over %s: %d trials", session.record.study_name, session.record.budget
        )
        Orchestrator(
            board=session.board,
            search=session.search,
            record=session.record,
            checkpoints=session.checkpoints(checkpoints),
            clock=time.monotonic,
            observers=[one.observe for one in (metrics, notifier, *trackers) if one is not None],
        ).run(stop=stop, until_done=until_done, ends=ends, sleep=round_over)
    return 0
