"""Real processes for tests of the board: quick to start, and killed for real.

`crash_at` lets a child die by SIGKILL right after a given statement was executed, that is
inside the transaction: the windows in which other systems lose trials.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from multiprocessing.process import BaseProcess
from typing import Any

import optuna
import sqlalchemy as sa
from optuna.samplers import RandomSampler, TPESampler
from optuna.trial import Trial, TrialState
from sqlalchemy import Engine
from warm_processes import CONTEXT

from storage.board import Board
from storage.engine import make_engine
from storage.records import Claim, NoWork
from storage.searches import create_search

STUDY = "a study"
JOIN_S = 60


class FakeClock:
    """A clock that moves when it is told to; starts an hour ahead of the real one.

    Ahead, because nobody is reaped for a time in which the server was not up yet.
    """

    def __init__(self) -> None:
        self.now = datetime.now(UTC) + timedelta(hours=1)

    def __call__(self) -> datetime:
        return self.now

    def advance(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)


def new_search(engine: Engine, budget: int, **extra: Any) -> None:
    """A search named STUDY."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    given = {"study_name": STUDY, "search_text": "seed: 0\n", "search_hash": "h0"}
    create_search(engine, budget=budget, **{**given, **extra})


def suggest(trial: Trial) -> dict[str, Any]:
    """A small space with one parameter of each kind."""
    return {
        "depth": trial.suggest_int("depth", 5, 9),
        "top_p": trial.suggest_float("top_p", 0.8, 0.95),
        "stem": trial.suggest_categorical("stem", ["off", "tiny", "small"]),
    }


def claim(board: Board, worker: Any, seed: int = 0) -> Claim:
    """A claim that must succeed."""
    claimed = board.claim(worker, TPESampler(seed=seed, n_startup_trials=2))
    assert isinstance(claimed, Claim), claimed
    return claimed


def drain(board: Board, worker: Any, *, state: TrialState = TrialState.COMPLETE) -> int:
    """Work until there is nothing left; the number of trials finished."""
    number, sampler = 0, RandomSampler(seed=7)
    while True:
        claimed = board.claim(worker, sampler)
        if isinstance(claimed, NoWork):
            return number
        params = board.suggest(claimed, suggest)
        value = params["top_p"] if state == TrialState.COMPLETE else None
        board.finish(claimed, state=state, value=value)
        number += 1


def start(function: Callable[..., None], *arguments: Any) -> BaseProcess:
    """Run a module-level function in a fresh process."""
    process = CONTEXT.Process(target=function, args=arguments, daemon=True)
    process.start()
    return process


def join(*processes: BaseProcess) -> list[int | None]:
    """The exit codes; -9 is a process that was killed."""
    for process in processes:
        process.join(JOIN_S)
    codes = [process.exitcode for process in processes]
    for process in processes:
        process.close()
    return codes


@contextmanager
def on_board(url: str, **extra: Any) -> Iterator[Board]:
    """A board on an engine of its own, both closed in the end."""
    engine = make_engine(url, wait_s=30)
    board = Board(engine=engine, study_name=STUDY, **extra)
    try:
        yield board
    finally:
        board.close()
        engine.dispose()


def crash_at(engine: Engine | type[Engine], marker: str) -> None:
    """Die by SIGKILL as soon as a statement holding `marker` has been executed."""

    @sa.event.listens_for(engine, "after_cursor_execute")
    def die(_connection: Any, _cursor: Any, statement: str, *_rest: Any) -> None:
        if marker in statement:
            os.kill(os.getpid(), signal.SIGKILL)


def worker_that_dies(url: str, step: str, marker: str) -> None:
    """Go through a trial and die at `marker` within `step`, or right after `step` if empty."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    engine = make_engine(url)
    board = Board(engine=engine, study_name=STUDY)
    worker = board.register_worker(host="doomed", pid=os.getpid(), device="cpu")

    def fuse(name: str) -> None:
        if name == step and marker:
            crash_at(engine, marker)

    def after(name: str) -> None:
        if name == step:
            os.kill(os.getpid(), signal.SIGKILL)

    fuse("claim")
    claimed = claim(board, worker, seed=os.getpid())
    after("claim")
    fuse("suggest")
    board.suggest(claimed, suggest)
    after("suggest")
    fuse("report")
    board.report(claimed, step=1, value=0.5)
    after("report")
    fuse("finish")
    board.finish(
        claimed,
        state=TrialState.COMPLETE,
        value=0.5,
        user_attrs={"a": 1, "b": 2},
        constraints={"gate": -0.1},
    )
    after("finish")


def reaper_that_dies(url: str, marker: str, hours_ahead: float) -> None:
    """Reap with a clock far ahead and die at `marker`."""
    engine = make_engine(url)
    ahead = datetime.now(UTC) + timedelta(hours=hours_ahead)
    board = Board(engine=engine, study_name=STUDY, clock=lambda: ahead)
    crash_at(engine, marker)
    board.reap(60)
