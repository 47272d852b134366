"""Worker processes that do not train: one drives our board, one plain `study.optimize`.

Both make the same trials: the six parameters of the search file, one intermediate value,
the real user attributes and the gate's constraint of a trial, from a formula.  What the
formula takes is in none of the times.
"""

from __future__ import annotations

import hashlib
import json
import os
import signal
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import optuna
import sqlalchemy as sa
from optuna.samplers import TPESampler
from optuna.storages import RDBStorage
from optuna.study import MaxTrialsCallback
from optuna.trial import TrialState

from search.file.load import parse_search_text
from search.file.search_file import SearchFile
from search.objective.messages import Finished
from search.objective.simulated_trainer import Rehearsal, RehearsedSetTrainer
from search.worker.signals import signal_when_parent_dies
from storage.board import Board
from storage.engine import connect_args, make_engine
from storage.records import NoWork

IDLE_POLL_S = 0.2
"""Between two looks while others hold the last trials."""
APPLICATION = "service-load"
"""What the workers' connections are called in pg_stat_activity."""
COUNTED = (TrialState.COMPLETE, TrialState.PRUNED)


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """One worker's task; picklable.

    Args:
        url, study: where the trials are.
        search_text: the search file.
        budget: trials that shall count in the end.
        seed: of this worker's sampler.
        pace_s: length of a made-up training between ask and tell, seconds.
        delay_s: before the first ask, so that paced workers do not move in step.
        out: file for the `Record`.
    """

    url: str
    study: str
    search_text: str
    budget: int
    seed: int
    pace_s: float
    delay_s: float
    out: Path


@dataclass(slots=True)
class Record:
    """What one worker measured, a value per trial: seconds and numbers of SQL statements.

    `service_s` is all the time of a trial that its worker spent on the service.
    """

    ask_s: list[float] = field(default_factory=list)
    tell_s: list[float] = field(default_factory=list)
    service_s: list[float] = field(default_factory=list)
    ask_sql: list[int] = field(default_factory=list)
    tell_sql: list[int] = field(default_factory=list)
    began: float = 0.0
    ended: float = 0.0


class Statements:
    """Counts the SQL statements that an engine sends."""

    def __init__(self, engine: sa.Engine) -> None:
        self.count = 0
        sa.event.listen(engine, "before_cursor_execute", self._one)

    def _one(self, *_: object) -> None:
        self.count += 1


class Results:
    """What a trial with given parameters reports, as the real objective would."""

    def __init__(self, search: SearchFile) -> None:
        self._trainer = RehearsedSetTrainer(search=search, plan=Rehearsal())

    def of(self, params: dict[str, Any]) -> tuple[float, Finished]:
        """The gate's score (the intermediate value) and the end of the trial."""
        ending = self._trainer.finished(params)
        return ending.verdict.gate.score, ending


def ours(order: Order, barrier: Any) -> None:
    """Claim, suggest, finish, as search/worker/loop.py does; beats and reaps when due."""
    search, record = _prepared(order)
    results = Results(search)
    # One name for the connections of all; the real workers' is nkat-worker.
    engine = make_engine(order.url, application_name=APPLICATION)
    statements = Statements(engine)
    board = Board(engine=engine, study_name=order.study)
    worker = board.register_worker(host="load", pid=os.getpid(), device="none")
    sampler = TPESampler(seed=order.seed)
    board.counts()  # a new process reads the whole study once; a worker lives for days
    barrier.wait()
    record.began = time.time()
    time.sleep(order.delay_s)
    beat_due, extra_s = 0.0, 0.0
    while True:
        if time.monotonic() >= beat_due:
            began = time.perf_counter()
            board.beat(worker)
            board.reap(search.service.lease_s)
            beat_due = time.monotonic() + search.service.lease_s / 4
            extra_s += time.perf_counter() - began
        began, sql = time.perf_counter(), statements.count
        claim = board.claim(worker, sampler)
        if isinstance(claim, NoWork):
            if claim.reason == "done":
                break
            time.sleep(IDLE_POLL_S)
            continue
        params = board.suggest(claim, search.space.suggest)
        asked, asked_sql = time.perf_counter(), statements.count
        board.ended_trials()  # a worker tells its child what there is to beat
        extra_s += time.perf_counter() - asked
        score, ending = results.of(params)
        time.sleep(order.pace_s)
        telling, telling_sql = time.perf_counter(), statements.count
        board.report(claim, step=1, value=score)
        board.finish(
            claim,
            state=TrialState.COMPLETE if ending.verdict.complete else TrialState.PRUNED,
            value=ending.verdict.value,
            user_attrs=ending.attributes(attempt=claim.attempt, worker=str(worker)),
            constraints=ending.verdict.constraints,
        )
        told = time.perf_counter()
        _note(record, asked - began, told - telling, extra_s)
        record.ask_sql.append(asked_sql - sql)
        record.tell_sql.append(statements.count - telling_sql)
        extra_s = 0.0
    _close(record, order)
    board.retire_worker(worker, "the load is over")
    board.close()
    engine.dispose()


def plain(order: Order, barrier: Any) -> None:
    """`study.optimize` on an RDBStorage, the same sampler, Optuna's own budget callback."""
    search, record = _prepared(order)
    results = Results(search)
    storage = RDBStorage(
        order.url,
        engine_kwargs={"pool_pre_ping": True, "connect_args": connect_args(APPLICATION)},
        skip_table_creation=True,
    )
    statements = Statements(storage.engine)
    study = optuna.load_study(
        study_name=order.study, storage=storage, sampler=TPESampler(seed=order.seed)
    )
    study.get_trials(deepcopy=False)
    marks: dict[str, float] = {}
    ask = study.ask

    def timed_ask(*arguments: Any, **options: Any) -> optuna.Trial:
        marks["began"], marks["sql"] = time.perf_counter(), statements.count
        return ask(*arguments, **options)

    def objective(trial: optuna.Trial) -> float:
        params = search.space.suggest(trial)
        marks["ask_s"] = time.perf_counter() - marks["began"]
        record.ask_sql.append(statements.count - int(marks["sql"]))
        score, ending = results.of(params)
        time.sleep(order.pace_s)
        marks["telling"], marks["sql"] = time.perf_counter(), statements.count
        trial.report(score, 1)
        for key, value in ending.attributes(attempt=1, worker=study_worker).items():
            trial.set_user_attr(key, value)
        for key, violation in ending.verdict.constraints.items():
            trial.set_constraint(key, violation)
        if ending.verdict.value is None:
            raise optuna.TrialPruned
        return ending.verdict.value

    tell = optuna.study._optimize._tell_with_warning

    def timed_tell(*arguments: Any, **options: Any) -> Any:
        answer = tell(*arguments, **options)
        marks["told"] = time.perf_counter()
        record.tell_sql.append(statements.count - int(marks["sql"]))
        return answer

    budget = MaxTrialsCallback(order.budget, states=COUNTED)

    def after(study: optuna.Study, trial: optuna.trial.FrozenTrial) -> None:
        budget(study, trial)
        extra_s = time.perf_counter() - marks["told"]
        _note(record, marks["ask_s"], marks["told"] - marks["telling"], extra_s)

    study_worker = f"{os.getpid()}-{order.seed}"
    study.ask = timed_ask  # type: ignore[method-assign]
    optuna.study._optimize._tell_with_warning = timed_tell
    barrier.wait()
    record.began = time.time()
    time.sleep(order.delay_s)
    study.optimize(objective, callbacks=[after])
    _close(record, order)
    storage.engine.dispose()


def _prepared(order: Order) -> tuple[SearchFile, Record]:
    signal_when_parent_dies(signal.SIGKILL)
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    return parse_search_text(order.search_text), Record()


def _note(record: Record, ask_s: float, tell_s: float, extra_s: float) -> None:
    record.ask_s.append(ask_s)
    record.tell_s.append(tell_s)
    record.service_s.append(ask_s + tell_s + extra_s)


def _close(record: Record, order: Order) -> None:
    record.ended = time.time()
    order.out.write_text(json.dumps(asdict(record)))


def own_seed(seed: int, worker: int) -> int:
    """A sampler seed of this worker's own (one seed for all would draw the same points)."""
    return int.from_bytes(hashlib.sha256(f"{seed}/{worker}".encode()).digest()[:4], "big")
