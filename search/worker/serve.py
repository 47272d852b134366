"""What `nkat-search worker` does: one worker on one device, or one per GPU."""

from __future__ import annotations

import logging
import os
import signal
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from search.exit_codes import EXIT_INTERRUPTED, EXIT_TERMINATED
from search.logs import LogFormat, set_up_logging
from search.study.sampler import new_sampler
from search.study.session import Session, checkpoint_dir, database, opened
from search.worker.child import ChildSettings
from search.worker.devices import gpu_count, threads_per_worker
from search.worker.life_sign import life_sign
from search.worker.loop import Ending, Worker, WorkerSettings
from search.worker.pool import WorkerPool
from search.worker.signals import StopRequest, signal_when_parent_dies, stop_on_signals
from storage.errors import DatabaseGone

log = logging.getLogger(__name__)

POOL_TICK_S = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerOptions:
    """The command's options (see `nkat-search worker --help`)."""

    storage: str | None
    study: str | None
    device: str
    data_dir: Path | None
    state_dir: Path | None
    checkpoint_dir: Path | None
    threads: int | None
    cpu_workers: int
    grace_s: float
    wait_s: float
    log_format: LogFormat
    rehearsal: str | None
    with_parent: bool


def serve_worker(options: WorkerOptions) -> int:
    """Works until the search is done (0) or a signal comes (143, 130)."""
    set_up_logging(log_format=options.log_format)
    if options.with_parent:
        signal_when_parent_dies(signal.SIGTERM)
    device = options.device
    if device == "auto":
        gpus = gpu_count()
        if gpus > 1:
            return _serve_all(options, [f"cuda:{i}" for i in range(gpus)])
        device = "cuda:0" if gpus else "cpu"
    stop = StopRequest()
    with (
        stop_on_signals(stop),
        life_sign() as alive,
        database(options.storage, options.state_dir) as url,
        opened(
            url,
            options.study,
            role="worker",
            wait_s=options.wait_s,
            # Asked during an outage of the database: then this is the loop.
            give_up=_asked_to_stop(stop, alive),
        ) as session,
    ):
        try:
            ending = _make_worker(options, session, device, stop, alive).run()
        except DatabaseGone as error:
            if not stop:
                raise
            # Asked to stop while the database was away: the lease hands the trial on.
            log.warning("%s", error)
            ending = Ending.STOPPED
    log.info("%s", ending.value)
    if ending is Ending.STOPPED:
        return EXIT_INTERRUPTED if stop.reason == "SIGINT" else EXIT_TERMINATED
    return 0


def _make_worker(
    options: WorkerOptions,
    session: Session,
    device: str,
    stop: StopRequest,
    alive: Callable[[], None],
) -> Worker:
    folder = checkpoint_dir(options.checkpoint_dir, options.state_dir)
    return Worker(
        board=session.board,
        search=session.search,
        new_sampler=partial(new_sampler, session.search),
        child=ChildSettings(
            search_text=session.record.search_text,
            device=device,
            data_dir=options.data_dir,
            checkpoint_dir=folder,
            study_name=session.record.study_name,
            checkpoint_salt=session.checkpoint_salt,
            threads=_threads(options, device),
            log_format=options.log_format,
            rehearsal=options.rehearsal,
        ),
        settings=WorkerSettings(
            host=socket.gethostname(), pid=os.getpid(), device=device, grace_s=options.grace_s
        ),
        checkpoints=session.checkpoints(folder),
        stop=stop,
        alive=alive,
        clock=time.monotonic,
        sleep=time.sleep,
    )


def _asked_to_stop(stop: StopRequest, alive: Callable[[], None]) -> Callable[[], bool]:
    def asked() -> bool:
        alive()
        return stop.count > 0

    return asked


def _threads(options: WorkerOptions, device: str) -> int | None:
    """CPU threads of torch; None leaves torch's choice, which OMP_NUM_THREADS makes."""
    if options.threads is not None or device != "cpu" or os.environ.get("OMP_NUM_THREADS"):
        return options.threads
    return threads_per_worker(options.cpu_workers)


def _serve_all(options: WorkerOptions, devices: list[str]) -> int:
    """One worker process per GPU, watched; a signal stops them all in good order."""
    arguments = ["worker", "--with-parent", "--grace", str(options.grace_s)]
    arguments += ["--wait", str(options.wait_s), "--log-format", options.log_format]
    for name, value in (
        ("--storage", options.storage),
        ("--study", options.study),
        ("--data-dir", options.data_dir),
        ("--state-dir", options.state_dir),
        ("--checkpoint-dir", options.checkpoint_dir),
        ("--threads", options.threads),
        ("--rehearsal", options.rehearsal),
    ):
        if value is not None:
            arguments += [name, str(value)]
    stop = StopRequest()
    with stop_on_signals(stop):
        pool = WorkerPool(
            commands={d.replace(":", ""): [*arguments, "--device", d] for d in devices},
            log_folder=None,
            clock=time.monotonic,
        )
        failures: list[str] = []
        try:
            while not stop and not pool.all_ended:
                failures += pool.tick()
                time.sleep(POOL_TICK_S)
        finally:
            pool.stop(grace_s=options.grace_s + 5)
    if stop:
        return EXIT_INTERRUPTED if stop.reason == "SIGINT" else EXIT_TERMINATED
    for line in failures:
        log.error("%s", line)
    return 1 if failures else 0
