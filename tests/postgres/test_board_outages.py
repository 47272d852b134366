"""The database restarts, drops connections or swallows an answer: nothing is lost or doubled."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterator
from typing import Any

import optuna
import psycopg2
import pytest
import sqlalchemy as sa
from optuna.samplers import RandomSampler
from optuna.trial import TrialState
from pg_children import STUDY, claim, drain, join, new_search, on_board, start, suggest
from sqlalchemy import Engine

from storage.board import Board
from storage.embedded import EmbeddedPostgres
from storage.engine import make_engine
from storage.errors import DatabaseGone
from storage.optuna_internals import optuna_storage
from storage.records import Claim, GaveUp, Retry

pytestmark = pytest.mark.postgres

BUDGET = 6


@pytest.fixture
def board(engine: Engine) -> Iterator[Board]:
    new_search(engine, BUDGET)
    board = Board(engine=engine, study_name=STUDY, outage_s=60)
    yield board
    board.close()


def lose_next_answer(engine: Engine) -> list[int]:
    """The next commit is done, but its answer is lost with the connection, as TCP may do it.

    The list says how many commits were still answered so.
    """
    real, lost = engine.dialect.do_commit, [0]

    def commit(connection: Any) -> None:
        real(connection)
        if not lost[0]:
            lost[0] += 1
            connection.close()
            raise psycopg2.OperationalError("server closed the connection unexpectedly")

    engine.dialect.do_commit = commit  # type: ignore[method-assign]
    return lost


def cut_all_connections(url: str) -> None:
    """pg_terminate_backend on everybody else in this database."""
    engine = make_engine(url, application_name="cutter")
    with engine.begin() as connection:
        connection.execute(
            sa.text(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                "WHERE datname = current_database() AND pid <> pg_backend_pid()"
            )
        )
    engine.dispose()


def cut_once_at(engine: Engine, url: str, marker: str) -> list[str]:
    """Cut the connection right after the first statement that holds `marker`."""
    seen: list[str] = []

    @sa.event.listens_for(engine, "after_cursor_execute")
    def cut(_connection: Any, _cursor: Any, statement: str, *_rest: Any) -> None:
        if marker in statement and not seen:
            seen.append(statement)
            cut_all_connections(url)

    return seen


def test_claim_whose_answer_was_lost_is_found_again(board: Board, engine: Engine) -> None:
    worker = board.register_worker(host="h", pid=1, device="cpu")
    lost = lose_next_answer(engine)
    claimed = claim(board, worker)
    assert lost == [1]
    counts = board.counts()
    assert (counts.leased, counts.running, counts.attempts) == (1, 1, 1)
    params = board.suggest(claimed, suggest)
    board.finish(claimed, state=TrialState.COMPLETE, value=params["top_p"])
    assert drain(board, worker) == BUDGET - 1
    assert board.counts().complete == BUDGET


def test_parameters_whose_answer_was_lost_are_the_same(board: Board, engine: Engine) -> None:
    claimed = claim(board, board.register_worker(host="h", pid=1, device="cpu"))
    lost = lose_next_answer(engine)
    params = board.suggest(claimed, suggest)
    assert lost == [1]
    assert board.trials()[0].params == params


def test_result_whose_answer_was_lost_counts_once(board: Board, engine: Engine) -> None:
    claimed = claim(board, board.register_worker(host="h", pid=1, device="cpu"))
    board.suggest(claimed, suggest)
    lost = lose_next_answer(engine)
    board.finish(
        claimed,
        state=TrialState.COMPLETE,
        value=0.5,
        user_attrs={"a": 1},
        constraints={"gate": -0.5},
    )
    assert lost == [1]
    counts = board.counts()
    assert (counts.done, counts.complete, counts.attempts) == (1, 1, 1)


def test_endings_whose_answers_were_lost(board: Board, engine: Engine) -> None:
    worker = board.register_worker(host="h", pid=1, device="cpu")
    claimed = claim(board, worker)
    assert lose_next_answer(engine) == [0]
    board.hand_back(claimed, "SIGTERM")
    claimed = claim(board, worker)
    lose_next_answer(engine)
    assert board.fail_attempt(claimed, reason="r", signature="s") == Retry(0, 1, 3)
    claimed = claim(board, worker)
    lose_next_answer(engine)
    assert isinstance(board.fail_attempt(claimed, reason="r", signature="s"), GaveUp)
    counts = board.counts()
    assert (counts.failed_attempts, counts.handed_back, counts.failed) == (2, 1, 1)
    assert drain(board, worker) == BUDGET


@pytest.mark.parametrize(
    ("step", "marker"),
    [
        ("claim", "FOR UPDATE SKIP LOCKED"),
        ("claim", "INSERT INTO trials"),
        ("claim", "INSERT INTO nkat_attempt"),
        ("suggest", "INSERT INTO trial_params"),
        ("finish", "INSERT INTO trial_values"),
        ("finish", "UPDATE nkat_ticket SET state = 'done'"),
    ],
)
def test_connection_cut_inside_a_transaction(
    board: Board,
    engine: Engine,
    database_url: str,
    step: str,
    marker: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    worker = board.register_worker(host="h", pid=1, device="cpu")
    cut: list[str] = []

    def fuse(name: str) -> None:
        if name == step:
            cut.extend([""])
            cut_once_at(engine, database_url, marker)

    caplog.set_level(logging.WARNING, "storage")
    fuse("claim")
    claimed = claim(board, worker)
    fuse("suggest")
    params = board.suggest(claimed, suggest)
    fuse("finish")
    board.finish(claimed, state=TrialState.COMPLETE, value=0.5, user_attrs={"a": 1})
    assert cut
    # Said, with what is needed to search a log.
    retries = [record for record in caplog.records if hasattr(record, "wait_s")]
    assert retries
    assert all(record.levelno == logging.WARNING for record in retries)
    counts = board.counts()
    assert (counts.done, counts.complete, counts.running, counts.attempts) == (1, 1, 0, 1)
    assert board.trials()[0].params == params
    # Optuna's cache forgot what was rolled back.
    assert drain(board, worker) == BUDGET - 1
    assert [row.number for row in board.trials()] == list(range(BUDGET))


def test_parameter_set_by_an_outsider_wins_for_both(board: Board, engine: Engine) -> None:
    """Optuna swallows the second insert and would go on with a value that is not stored."""
    claimed = claim(board, board.register_worker(host="h", pid=1, device="cpu"))
    depths = optuna.distributions.IntDistribution(5, 9)

    def suggest_late(trial: optuna.Trial) -> dict[str, Any]:
        storage = optuna_storage(engine)
        if "depth" not in storage.get_trial(trial._trial_id).params:
            storage.set_trial_param(trial._trial_id, "depth", 8, depths)
        storage.remove_session()
        return suggest(trial)

    assert board.suggest(claimed, suggest_late)["depth"] == 8
    assert board.trials()[0].params["depth"] == 8


def test_error_that_optuna_swallows_last_is_noticed(board: Board, engine: Engine) -> None:
    """The parameter that clashes is the last statement: no later one would fail."""
    claimed = claim(board, board.register_worker(host="h", pid=1, device="cpu"))
    depths = optuna.distributions.IntDistribution(5, 9)

    def suggest_late(trial: optuna.Trial) -> int:
        storage = optuna_storage(engine)
        if "depth" not in storage.get_trial(trial._trial_id).params:
            storage.set_trial_param(trial._trial_id, "depth", 8, depths)
        storage.remove_session()
        return trial.suggest_int("depth", 5, 9)

    assert board.suggest(claimed, suggest_late) == 8
    board.finish(claimed, state=TrialState.COMPLETE, value=0.5)
    assert board.trials()[0].params == {"depth": 8}


def _work_slowly(url: str) -> None:
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    with on_board(url, outage_s=60) as board:
        worker = board.register_worker(host="h", pid=1, device="cpu")
        sampler = RandomSampler()
        while isinstance(claimed := board.claim(worker, sampler), Claim):
            board.suggest(claimed, suggest)
            for step in range(5):
                time.sleep(0.02)
                board.beat(worker)
                board.report(claimed, step=step, value=0.1)
            board.finish(claimed, state=TrialState.COMPLETE, value=0.5)


@pytest.mark.process
@pytest.mark.parametrize("mode", ["fast", "immediate"])
def test_server_restarts_under_working_processes(
    engine: Engine, database_url: str, postgres: EmbeddedPostgres, mode: str
) -> None:
    """Down for a second, twice; "immediate" is a crash with recovery."""
    budget = 24
    new_search(engine, budget)
    workers = [start(_work_slowly, database_url) for _ in range(3)]
    watch = Board(engine=engine, study_name=STUDY)
    for done in (1, 10):
        while watch.counts().done < done:
            time.sleep(0.05)
        postgres.restart(mode=mode, pause_s=1.0)
    watch.close()
    assert join(*workers) == [0, 0, 0]
    with on_board(database_url) as board:
        counts = board.counts()
        assert (counts.done, counts.complete, counts.running) == (budget, budget, 0)
        assert (counts.attempts, counts.lost) == (budget, 0)  # not even a retry was needed


def test_beat_survives_a_restart_and_the_reaper_waits_a_lease_after_it(
    board: Board, postgres: EmbeddedPostgres
) -> None:
    worker = board.register_worker(host="h", pid=1, device="cpu")
    claim(board, worker)
    lease_s = 1.5
    down = threading.Thread(target=postgres.restart, kwargs={"pause_s": 2.0})
    down.start()
    time.sleep(0.3)
    board.beat(worker)  # blocks until the server is back
    down.join()
    assert board.reap(lease_s) == []


def test_long_absence_ends_in_one_sentence(board: Board, engine: Engine) -> None:
    worker = board.register_worker(host="h", pid=1, device="cpu")
    impatient = Board(engine=engine, study_name=STUDY, outage_s=0.5)
    engine.dispose()
    engine.dialect.connect = _refuse  # type: ignore[method-assign]
    begun = time.monotonic()
    with pytest.raises(DatabaseGone, match="beat was given up: no route"):
        impatient.beat(worker)
    assert time.monotonic() - begun < 10


def _refuse(*_args: object, **_kwargs: object) -> object:
    raise psycopg2.OperationalError("no route to host")


def test_give_up_ends_the_retrying_at_once(engine: Engine) -> None:
    new_search(engine, 1)
    board = Board(engine=engine, study_name=STUDY, give_up=lambda: True)
    worker = board.register_worker(host="h", pid=1, device="cpu")
    engine.dispose()
    engine.dialect.connect = _refuse  # type: ignore[method-assign]
    with pytest.raises(DatabaseGone):
        board.beat(worker)
    board.close()
