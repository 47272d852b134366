"""`nkat-search run`: the whole search on one machine, in one command.

Database, study, dashboard, one worker per GPU, progress, and at the end a table and
best.yaml.  Running it again goes on where it stopped.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from nkat_errors import NkatError
from search.file.search_file import SearchFile
from search.logs import LogFormat
from search.service.dashboard_process import DashboardProcess
from search.service.ends import Ends
from search.service.live import LiveTrials
from search.service.live_report import LiveReport
from search.service.next_steps import going_on
from search.service.observation import Observer
from search.service.orchestrator import NOTE, Orchestrator
from search.service.progress import SearchProgress
from search.service.steering import RESUME
from search.study.session import Session
from search.terminal import plain
from search.worker.devices import threads_per_worker, worker_devices
from search.worker.pool import WorkerPool
from search.worker.signals import StopRequest
from storage.states import Command

TICK_S = 0.5
DASHBOARD_PORT = 8080


class SearchEnded(NkatError):
    """The search cannot go on; the message says why and what to do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunPlan:
    """What `run` was asked for.

    Args:
        url: the database.
        study: the study's name.
        state_dir: logs go to its `logs` folder.
        checkpoint_dir: for checkpoints.
        data_dir: prepared data sets, or None.
        workers: number of worker processes; None for one per GPU (one on CPU).
        dashboard_port: 0 for none.
        grace_s: time for an epoch to end after Ctrl-C.
        log_format: of the workers' and the dashboard's logs.
        ends: what ends the search before its budget of trials.
    """

    url: str
    study: str
    state_dir: Path
    checkpoint_dir: Path
    data_dir: Path | None
    workers: int | None
    dashboard_port: int
    grace_s: float
    log_format: LogFormat
    ends: Ends


def run_to_end(
    plan: RunPlan,
    session: Session,
    *,
    stop: StopRequest,
    console: Console,
    page: DashboardProcess | None,
    report: LiveReport,
    observers: Sequence[Observer] = (),
) -> str:
    """Runs workers until the budget is used up, an early end is reached or a signal comes.

    Args:
        page: the dashboard, whose news are shown.
        report: renewed while the search runs.
        observers: see `Orchestrator`.

    Returns:
        Why it ended early; empty when the budget is used up or after a signal.

    Raises:
        BadInput: a worker says that the input cannot work.
        SearchEnded: every worker gave up, or the search paused itself.
    """
    orchestrator = Orchestrator(
        board=session.board,
        search=session.search,
        record=session.record,
        checkpoints=session.checkpoints(plan.checkpoint_dir),
        clock=time.monotonic,
        observers=observers,
    )
    pool = WorkerPool(
        commands=worker_commands(plan),
        log_folder=plan.state_dir / "logs",
        environment={"NKAT_STORAGE": plan.url},
        clock=time.monotonic,
    )
    counts = session.board.counts()
    progress = SearchProgress(
        console=console,
        title=session.record.study_name,
        done=counts.ended,
        live=LiveTrials(board=session.board, search=session.search, clock=time.monotonic),
    )
    if line := going_on(counts):
        console.print(plain(line), soft_wrap=True)
    progress.say_cost(counts, len(worker_devices(workers=plan.workers)))
    try:
        with progress:
            return _watch(
                session, orchestrator, pool, progress, plan.ends, stop, console, page, report
            )
    finally:
        if stop:
            line = (
                f"stopping: epochs under way may end, at most {plan.grace_s:g} s; again: at once"
            )
            console.print(plain(line), soft_wrap=True)
        pool.stop(grace_s=plan.grace_s + 5)
        orchestrator.close(stop.reason or "the run is over")


def _watch(
    session: Session,
    orchestrator: Orchestrator,
    pool: WorkerPool,
    progress: SearchProgress,
    ends: Ends,
    stop: StopRequest,
    console: Console,
    page: DashboardProcess | None,
    report: LiveReport,
) -> str:
    while not stop:
        news = None if page is None else page.news()
        if news is not None:
            console.print(plain(news), soft_wrap=True)
        for line in pool.tick():
            console.print(plain(line, "red"), soft_wrap=True)
        counts = orchestrator.tick()
        workers = [row for row in session.board.workers() if row.note != NOTE]
        best = session.board.best()
        progress.update(
            counts,
            best,
            workers,
            gate=orchestrator.gate,
            warning=_paused(orchestrator) or orchestrator.warning,
        )
        if counts.over:
            return ""
        if why := ends.reached(best):
            # Workers on other machines end too.
            session.board.set_state("stop", why)
            return why
        if line := report.tick(counts):
            console.print(plain(line), soft_wrap=True)
        if orchestrator.command is Command.STOP:
            stop(f"the search was stopped ({orchestrator.message})")
            return ""
        if orchestrator.failing:
            raise SearchEnded(
                f"the search has {orchestrator.message}; mend the cause, then run the same "
                "command again"
            )
        if pool.all_ended:
            raise SearchEnded(
                f"every worker has ended with {counts.left} trials to go; "
                "run the same command again to go on"
            )
        time.sleep(TICK_S)
    return ""


def _paused(orchestrator: Orchestrator) -> str:
    """Somebody paused the search: `run` waits with its workers."""
    if orchestrator.command is not Command.PAUSE or orchestrator.failing:
        return ""
    return f"the search is paused ({orchestrator.message}): {RESUME}"


def worker_commands(plan: RunPlan) -> dict[str, list[str]]:
    """One `nkat-search worker` per device."""
    devices = worker_devices(workers=plan.workers)
    threads = threads_per_worker(len(devices))
    commands = {}
    for index, device in enumerate(devices):
        arguments = ["worker", "--with-parent", "--study", plan.study, "--device", device]
        arguments += ["--checkpoint-dir", str(plan.checkpoint_dir)]
        arguments += ["--grace", str(plan.grace_s), "--threads", str(threads)]
        arguments += ["--log-format", plan.log_format]
        if plan.data_dir is not None:
            arguments += ["--data-dir", str(plan.data_dir)]
        commands[f"worker-{index}"] = arguments
    return commands


def dashboard(plan: RunPlan) -> DashboardProcess | nullcontext[None]:
    """optuna-dashboard beside the search, or nothing where none is wanted."""
    if plan.dashboard_port == 0:
        return nullcontext()
    return DashboardProcess(
        url=plan.url,
        port=plan.dashboard_port,
        log_path=plan.state_dir / "logs" / "dashboard.log",
        log_format=plan.log_format,
    )


def cut_down_line(search: SearchFile) -> str:
    """What a terminal says of a cut-down search; empty for a full one."""
    if not search.cut_down:
        return ""
    return "CUT DOWN: subsets, few epochs, a lower gate; these scores are not the full search's"
