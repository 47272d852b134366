"""The training child: takes jobs from its parent, trains, says how it goes.

It never sees the database.  It dies with its parent (the kernel sends it SIGKILL
when the parent is gone), and it ignores Ctrl-C, which a terminal sends to the
whole group: the parent decides what an interrupt means.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path

from nkat_errors import BadInput, NkatError
from search.file.load import parse_search_text
from search.file.search_file import SearchFile
from search.logs import LogFormat, log_to_stderr, set_log_context
from search.objective.messages import Event, Failed, Job, Order, Ready, Stop
from search.objective.two_stages import SetTrainer, TwoStageObjective
from search.worker.signals import signal_when_parent_dies
from storage.checkpoints import CheckpointStore


@dataclass(frozen=True, slots=True, kw_only=True)
class ChildSettings:
    """What a child needs to start; picklable.

    Args:
        search_text: the search file, as stored with the study.
        device: torch's name, such as `cuda:0` or `cpu`.
        data_dir: folder of prepared data sets, or None.
        checkpoint_dir: folder of the checkpoints of all studies.
        study_name, checkpoint_salt: whose checkpoints these are.
        threads: CPU threads of torch; None leaves torch's choice.
        worker: the worker's id, for the log.
        log_format: of its log lines.
        rehearsal: a rehearsal's plan as JSON
            (search/objective/simulated_trainer.py); None trains for real.
    """

    search_text: str
    device: str
    data_dir: Path | None
    checkpoint_dir: Path
    study_name: str
    checkpoint_salt: str
    threads: int | None = None
    worker: str = ""
    log_format: LogFormat = LogFormat.TEXT
    rehearsal: str | None = None


def die_with_parent(parent_pid: int) -> None:
    """Asks the kernel for SIGKILL when the parent dies; exits if it already has."""
    signal_when_parent_dies(signal.SIGKILL)
    if os.getppid() != parent_pid:
        os._exit(1)


def make_trainer(search: SearchFile, settings: ChildSettings) -> tuple[SetTrainer, Ready]:
    """The real trainer, or the rehearsal's."""
    if settings.rehearsal is not None:
        from search.objective.simulated_trainer import Rehearsal, RehearsedSetTrainer

        plan = Rehearsal.from_json(settings.rehearsal)
        return RehearsedSetTrainer(search=search, plan=plan), Ready(device="rehearsal")
    import torch

    from search.objective.torch_trainer import TorchSetTrainer

    if settings.threads is not None:
        torch.set_num_threads(settings.threads)
    trainer = TorchSetTrainer(search=search, device=settings.device, data_dir=settings.data_dir)
    return trainer, Ready(device=trainer.device_name, versions={"torch": str(torch.__version__)})


def child_main(connection: Connection, settings: ChildSettings, parent_pid: int) -> None:
    """The process's whole life: get ready, then job after job until `Stop` or the end."""
    die_with_parent(parent_pid)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    log_to_stderr("WARNING", settings.log_format)
    set_log_context(worker=settings.worker or None)
    # A parent that is gone ends the child, quietly: the next owner trains this trial.
    with contextlib.suppress(BrokenPipeError, EOFError, ConnectionResetError):
        _serve(connection, settings)


def _serve(connection: Connection, settings: ChildSettings) -> None:
    orders: list[Order] = []

    def emit(event: Event) -> None:
        connection.send(event)

    def stopping() -> bool:
        while connection.poll():
            orders.append(connection.recv())
        return any(isinstance(order, Stop) for order in orders)

    try:
        search = parse_search_text(settings.search_text)
        trainer, ready = make_trainer(search, settings)
        objective = TwoStageObjective(
            search=search,
            trainer=trainer,
            checkpoints=CheckpointStore(
                folder=settings.checkpoint_dir,
                study_name=settings.study_name,
                salt=settings.checkpoint_salt,
            ),
            clock=time.monotonic,
        )
    except Exception as error:
        emit(_failure(error))
        return
    emit(ready)
    while True:
        order = orders.pop(0) if orders else connection.recv()
        if isinstance(order, Stop):
            return
        _run_job(objective, order, emit, stopping)


def _run_job(
    objective: TwoStageObjective,
    job: Job,
    emit: Callable[[Event], None],
    stopping: Callable[[], bool],
) -> None:
    set_log_context(trial=job.trial_number, attempt=job.attempt)
    try:
        objective.run(job, emit, stopping)
    except (BrokenPipeError, EOFError, ConnectionResetError):
        raise
    except Exception as error:
        emit(_failure(error))


def _failure(error: Exception) -> Failed:
    """Equal causes get equal signatures: the exception's type and where it was raised."""
    frames = traceback.extract_tb(error.__traceback__)
    place = f"{Path(frames[-1].filename).name}:{frames[-1].name}" if frames else "?"
    bad_input = isinstance(error, BadInput)
    text = str(error) if isinstance(error, NkatError) else f"{type(error).__name__}: {error}"
    return Failed(
        reason=text.splitlines()[0] if text else type(error).__name__,
        signature=f"{type(error).__name__}@{place}",
        traceback="".join(traceback.format_exception(error)),
        bad_input=bad_input,
    )
