"""A worker or reaper killed (SIGKILL) between any two steps leaves all or nothing."""

from __future__ import annotations

from collections import Counter

import pytest
import sqlalchemy as sa
from optuna.trial import TrialState
from pg_children import (
    STUDY,
    FakeClock,
    claim,
    drain,
    join,
    new_search,
    on_board,
    reaper_that_dies,
    start,
    suggest,
    worker_that_dies,
)
from sqlalchemy import Engine

pytestmark = [pytest.mark.postgres, pytest.mark.process]

BUDGET = 4

CRASHES = [
    # step, statement in it; "" is right after the step
    ("claim", "FOR UPDATE SKIP LOCKED", "ticket locked, nothing asked"),
    ("claim", "INSERT INTO trials", "Optuna's trial made, not bound"),
    ("claim", "INSERT INTO nkat_attempt", "bound, not committed"),
    ("claim", "", "claimed, nothing suggested"),
    ("suggest", "INSERT INTO trial_params", "some parameters, not committed"),
    ("suggest", "", "parameters suggested"),
    ("report", "INSERT INTO trial_intermediate_values", "report not committed"),
    ("finish", "INSERT INTO trial_user_attributes", "some attributes, not committed"),
    ("finish", "INSERT INTO trial_values", "told, not committed"),
    ("finish", "UPDATE nkat_ticket SET state = 'done'", "ticket done, not committed"),
    ("finish", "", "all committed"),
]


@pytest.mark.parametrize(("step", "marker", "meaning"), CRASHES, ids=[c[2] for c in CRASHES])
def test_worker_killed_between_steps(
    engine: Engine, database_url: str, step: str, marker: str, meaning: str
) -> None:
    new_search(engine, BUDGET)
    assert join(start(worker_that_dies, database_url, step, marker)) == [-9]

    clock = FakeClock()
    with on_board(database_url, clock=clock) as board:
        before = board.counts()
        # Trial and ticket agree at once: no orphan, no half-told trial.
        assert before.running == before.leased
        assert before.complete == before.done
        assert before.waiting == 0
        first = board.trials()[:1]

        reaped = board.reap(60)
        assert len(reaped) == before.leased
        worker = board.register_worker(host="next", pid=1, device="cpu")
        drain(board, worker)
        after = board.counts()
        assert (after.budget, after.done, after.complete) == (BUDGET, BUDGET, BUDGET)
        assert (after.running, after.waiting, after.leased, after.open) == (0, 0, 0, 0)
        # The lost trial itself was retried: no number is wasted, its parameters stand.
        assert [row.number for row in board.trials()] == list(range(BUDGET))
        if first and first[0].params:
            assert board.trials()[0].params == first[0].params


@pytest.mark.parametrize(
    "marker", ["UPDATE trials SET state", "SET outcome =", "state = 'open', trial_id ="]
)
def test_reaper_killed_between_steps(engine: Engine, database_url: str, marker: str) -> None:
    new_search(engine, BUDGET)
    with on_board(database_url) as board:
        lost = claim(board, board.register_worker(host="silent", pid=1, device="cpu"))
        params = board.suggest(lost, suggest)

    assert join(start(reaper_that_dies, database_url, marker, 2.0)) == [-9]

    clock = FakeClock()
    with on_board(database_url, clock=clock) as board:
        assert board.counts().leased == board.counts().running == 1
        assert [item.action for item in board.reap(60)] == ["retry"]
        assert board.reap(60) == []
        worker = board.register_worker(host="next", pid=1, device="cpu")
        retried = claim(board, worker)
        assert (retried.number, retried.attempt) == (lost.number, 2)
        assert board.suggest(retried, suggest) == params
        board.finish(retried, state=TrialState.COMPLETE, value=1.0)
        drain(board, worker)
        assert board.counts().complete == BUDGET


def _hold_and_work(url: str, state: str) -> None:
    with on_board(url) as board:
        drain(board, board.register_worker(host="h", pid=1, device="cpu"), state=TrialState[state])


@pytest.mark.parametrize("state", ["COMPLETE", "PRUNED"])
def test_budget_is_exact_with_many_workers(engine: Engine, database_url: str, state: str) -> None:
    """Also when the gate prunes everything: Optuna's own callback never ends then."""
    new_search(engine, 23)
    codes = join(*[start(_hold_and_work, database_url, state) for _ in range(6)])
    assert codes == [0] * 6
    with on_board(database_url) as board:
        counts = board.counts()
        assert counts.done == counts.complete + counts.pruned == counts.attempts == 23
        assert [row.number for row in board.trials()] == list(range(23))


def _claim_and_leave(url: str) -> None:
    with on_board(url) as board:
        claim(board, board.register_worker(host="popper", pid=1, device="cpu"))


def test_one_waiting_trial_many_poppers(engine: Engine, database_url: str) -> None:
    new_search(engine, 6)
    with on_board(database_url) as board:
        worker = board.register_worker(host="h", pid=1, device="cpu")
        waiting = claim(board, worker)
        board.hand_back(waiting, "test")
    assert join(*[start(_claim_and_leave, database_url) for _ in range(6)]) == [0] * 6
    with engine.connect() as connection:
        attempts = Counter(
            connection.execute(
                sa.text("SELECT trial_number FROM nkat_attempt WHERE study_name = :s"),
                {"s": STUDY},
            ).scalars()
        )
    # The waiting one was taken once more, the five others are fresh and different.
    assert attempts == {0: 2, 1: 1, 2: 1, 3: 1, 4: 1, 5: 1}
