"""Real worker processes on a real database, for tests that injure them."""

from __future__ import annotations

import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
from nkat_command import command, environment
from warm_processes import warm_up

from search.file.load import parse_search_text
from search.file.search_file import SearchFile
from search.objective.simulated_trainer import Rehearsal
from storage.board import Board
from storage.engine import make_engine
from storage.searches import create_search
from storage.states import Attempt

LEASE_S = 3.0
SLOW = Rehearsal(epoch_s=0.2, epochs=8)
"""Leaves time to hit an epoch under way."""
FAST = Rehearsal(epoch_s=0.0, epochs=8)
"""Goes on from the checkpoints of `SLOW`, without its waiting."""
QUICK = Rehearsal(epoch_s=0.0, epochs=2)
SEARCH = """
study: tested
n_trials: {trials}
lambda: counted
gate: {{dataset: cifar10, threshold: {threshold}}}
datasets:
  - {{name: cifar10}}
  - {{name: mnist}}
  - {{name: fashion_mnist}}
  - {{name: emnist_letters}}
space:
  depth: {{low: 5, high: 9}}
  temperature: {{low: 0.6, high: 1.0}}
service:
  lease_s: {lease_s}
  checkpoint_every_s: 0
  stall_s: {stall_s}
  max_attempts: 5
  max_worker_failures: {max_worker_failures}
  max_failure_rate: 1.0
"""


def search_file(
    *,
    trials: int,
    threshold: float = 0.05,
    stall_s: float = 60.0,
    max_worker_failures: int = 3,
) -> SearchFile:
    return parse_search_text(
        SEARCH.format(
            trials=trials,
            threshold=threshold,
            lease_s=LEASE_S,
            stall_s=stall_s,
            max_worker_failures=max_worker_failures,
        )
    )


def wait_for(what: str, condition: Callable[[], bool], timeout_s: float = 60.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError(f"waited {timeout_s:.0f} s in vain for {what}")
        time.sleep(0.05)


@dataclass
class Service:
    """A study, its board and the workers started on it."""

    url: str
    folder: Path
    search: SearchFile
    plan: Rehearsal
    board: Board
    workers: list[subprocess.Popen[bytes]] = field(default_factory=list)
    variables: dict[str, str] = field(default_factory=dict)

    def start(self, plan: Rehearsal | None = None, *extra: str) -> subprocess.Popen[bytes]:
        plan = plan or self.plan
        options = [*self.worker_options, "--rehearsal", plan.to_json(), "--with-parent", *extra]
        with self.log_path(len(self.workers)).open("wb") as log:
            worker = subprocess.Popen(
                command("worker", *options),
                stdout=log,
                stderr=log,
                env=environment(storage=self.url, env=self.variables),
                start_new_session=True,
            )
        self.workers.append(worker)
        return worker

    @property
    def worker_options(self) -> list[str]:
        folder = self.folder / "checkpoints"
        return ["--study", "tested", "--device", "cpu", "--checkpoint-dir", str(folder)]

    def log_path(self, index: int) -> Path:
        return self.folder / f"worker-{index}.log"

    def log(self, index: int) -> str:
        return self.log_path(index).read_text()

    def attempts_of(self, number: int) -> list[Attempt]:
        """How the attempts of a trial ended, in order."""
        return [a.outcome for a in self.board.attempts() if a.number == number]

    def wait_for_epoch(self, stage: str, dataset: str, epoch: int) -> None:
        """Until some worker has saved that epoch (or a later one of the set)."""

        def there() -> bool:
            return any(
                w.stage == stage
                and w.dataset == dataset
                and (w.epoch or 0) >= epoch
                and w.checkpoint_age_s is not None
                for w in self.board.workers()
            )

        wait_for(f"epoch {epoch} of {dataset}", there)

    def wait_until_done(self, timeout_s: float = 120.0) -> None:
        def done() -> bool:
            self.board.reap(LEASE_S)
            counts = self.board.counts()
            return counts.done >= counts.budget

        wait_for("the end of the search", done, timeout_s)

    def check_exact(self) -> None:
        """Rules 1 to 3: the budget is exact, nothing is left, each result counts once."""
        counts = self.board.counts()
        assert counts.complete + counts.pruned == counts.done == counts.budget
        assert counts.running == counts.waiting == 0
        endings = [a.number for a in self.board.attempts() if a.outcome in ("complete", "pruned")]
        assert len(endings) == len(set(endings)) == counts.budget


@contextmanager
def service(url: str, folder: Path, search: SearchFile, plan: Rehearsal) -> Iterator[Service]:
    warm_up()
    engine = make_engine(url)
    create_search(
        engine,
        study_name="tested",
        search_text=search.to_yaml(),
        search_hash=search.hash(),
        budget=search.n_trials,
    )
    board = Board(engine=engine, study_name="tested", max_attempts=search.service.max_attempts)
    made = Service(url=url, folder=folder, search=search, plan=plan, board=board)
    try:
        yield made
    finally:
        for worker in made.workers:
            if worker.poll() is None:
                worker.send_signal(signal.SIGCONT)
                worker.kill()
            worker.wait()
        board.close()
        engine.dispose()


def training_child(worker: subprocess.Popen[Any]) -> psutil.Process:
    """The worker's child that trains."""
    for child in psutil.Process(worker.pid).children():
        if "spawn_main" in " ".join(child.cmdline()):
            return child
    raise AssertionError("the worker has no training child")
