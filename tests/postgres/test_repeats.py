"""Trials that are run again once the budget is used up: entered once, counted apart."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

import pytest
import sqlalchemy as sa
from optuna.samplers import RandomSampler
from optuna.trial import FrozenTrial, TrialState, create_trial
from pg_children import STUDY, claim, crash_at, drain, join, new_search, on_board, start, suggest
from sqlalchemy import Engine

from storage.board import Board
from storage.engine import make_engine
from storage.records import GaveUp, NoWork, Retry
from storage.searches import load_search, set_budget

pytestmark = pytest.mark.postgres

BUDGET = 4


def plan(trials: Sequence[FrozenTrial]) -> list[FrozenTrial]:
    """Each of the two best trials twice."""
    seen = Counter(trial.user_attrs.get("again") for trial in trials)
    first = [t for t in trials if t.state == TrialState.COMPLETE and "again" not in t.user_attrs]
    best = sorted(first, key=lambda trial: -(trial.value or 0.0))[:2]
    return [
        create_trial(
            state=TrialState.WAITING,
            params=trial.params,
            distributions=trial.distributions,
            user_attrs={"again": trial.number},
        )
        for trial in best
        for _ in range(2 - seen[trial.number])
    ]


@pytest.fixture
def board(engine: Engine) -> Iterator[Board]:
    new_search(engine, BUDGET)
    board = Board(engine=engine, study_name=STUDY, max_attempts=2)
    yield board
    board.close()


def searched(board: Board) -> Any:
    """A worker that has used up the budget."""
    worker = board.register_worker(host="h", pid=1, device="cpu")
    assert drain(board, worker) == BUDGET
    return worker


def test_nothing_is_entered_while_tickets_are_open(board: Board) -> None:
    worker = board.register_worker(host="h", pid=1, device="cpu")
    assert board.enter_repeats(plan) == BUDGET
    last = claim(board, worker)
    board.suggest(last, suggest)
    drain(board, worker)
    assert board.enter_repeats(plan) == 1
    assert board.counts().repeats == 0
    board.finish(last, state=TrialState.COMPLETE, value=0.1)
    assert board.enter_repeats(plan) == 4


def test_they_are_run_with_the_same_parameters_and_counted_apart(board: Board) -> None:
    worker = searched(board)
    before, best = board.counts(), board.best()
    assert before.over
    assert board.claim(worker, RandomSampler()) == NoWork("done")
    assert board.enter_repeats(plan) == 4
    assert board.enter_repeats(plan) == 4  # still to be done; nothing entered twice
    counts = board.counts()
    assert (counts.budget, counts.done, counts.repeats, counts.left) == (BUDGET, BUDGET, 4, 4)
    assert (counts.wanted, counts.over) == ("4 trials + 4 repeats", False)
    trials = {row.number: row for row in board.trials()}
    for _ in range(4):
        claimed = claim(board, worker)
        assert claimed.attempt == 1
        params = board.suggest(claimed, suggest)
        assert params == trials[claimed.user_attrs["again"]].params
        board.finish(claimed, state=TrialState.COMPLETE, value=9.0)
    assert board.claim(worker, RandomSampler()) == NoWork("done")
    assert board.enter_repeats(plan) == 0
    after = board.counts()
    assert (after.done, after.complete, after.repeats_done) == (BUDGET, BUDGET, 4)
    assert after.over
    assert board.best() == best  # not the 9.0 of a run that nobody searched for


def test_resizing_leaves_them_out(board: Board, engine: Engine) -> None:
    worker = searched(board)
    board.enter_repeats(plan)
    assert load_search(engine, STUDY).budget == BUDGET
    assert set_budget(engine, STUDY, BUDGET) == BUDGET
    assert set_budget(engine, STUDY, 1) == BUDGET
    assert board.counts().repeats == 4
    assert set_budget(engine, STUDY, BUDGET + 2) == BUDGET + 2
    assert drain(board, worker) == 6
    counts = board.counts()
    assert (counts.done, counts.repeats_done, counts.over) == (BUDGET + 2, 4, True)


def test_one_that_is_given_up_takes_its_ticket_along(board: Board) -> None:
    worker = searched(board)
    board.enter_repeats(plan)
    claimed = claim(board, worker)
    assert isinstance(board.fail_attempt(claimed, reason="r", signature=None), Retry)
    retried = claim(board, worker)
    assert (retried.number, retried.attempt) == (claimed.number, 2)
    assert retried.user_attrs == claimed.user_attrs
    assert isinstance(board.fail_attempt(retried, reason="r", signature=None), GaveUp)
    assert isinstance(board.fail_attempt(retried, reason="r", signature=None), GaveUp)  # again
    assert drain(board, worker) == 3  # and no fresh trial in its place
    counts = board.counts()
    assert (counts.done, counts.repeats, counts.failed, counts.over) == (BUDGET, 3, 1, True)
    assert board.enter_repeats(plan) == 0


def test_of_two_callers_one_enters(board: Board, database_url: str) -> None:
    searched(board)
    gate, found = threading.Barrier(2), []

    def call() -> None:
        with on_board(database_url) as mine:
            gate.wait(30)
            found.append(mine.enter_repeats(plan))

    callers = [threading.Thread(target=call) for _ in range(2)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join(60)
    assert found == [4, 4]
    assert board.counts().repeats == 4
    assert Counter(row.user_attrs.get("again") for row in board.trials())[None] == BUDGET


def _enter_and_die(url: str, marker: str) -> None:
    engine = make_engine(url)
    board = Board(engine=engine, study_name=STUDY)
    crash_at(engine, marker)
    board.enter_repeats(plan)


@pytest.mark.process
@pytest.mark.parametrize(
    "marker", ["INSERT INTO trial_user_attributes", "INSERT INTO nkat_ticket"]
)
def test_killed_while_they_are_entered(board: Board, database_url: str, marker: str) -> None:
    worker = searched(board)
    assert join(start(_enter_and_die, database_url, marker)) == [-9]
    assert len(board.trials()) == BUDGET
    assert board.counts().over
    assert board.enter_repeats(plan) == 4
    assert drain(board, worker) == 4


def test_a_search_from_before_there_were_any_goes_on(board: Board, engine: Engine) -> None:
    from storage.schema import ensure_schema, wait_for_schema

    with engine.begin() as connection:
        connection.execute(sa.text("ALTER TABLE nkat_ticket DROP COLUMN repeats"))
        connection.execute(sa.text("DELETE FROM nkat_schema WHERE version > 2"))
    with pytest.raises(Exception, match="its tables are those of an older nkat-search"):
        wait_for_schema(engine, timeout_s=0)
    ensure_schema(engine)
    wait_for_schema(engine, timeout_s=0)
    searched(board)
    assert board.enter_repeats(plan) == 4
