"""A long random walk over everything that can happen, watched by triggers in the database.

Every change of a ticket, an attempt and an Optuna trial must be one of the legal moves of
`storage.states`, and the sums must hold after every single step.
"""

from __future__ import annotations

import contextlib
import random
from collections.abc import Callable

import optuna
import pytest
import sqlalchemy as sa
from optuna.samplers import RandomSampler
from optuna.trial import TrialState
from pg_children import STUDY, FakeClock, drain, new_search, suggest
from sqlalchemy import Engine

from storage.board import Board
from storage.errors import LeaseLost
from storage.optuna_internals import optuna_storage
from storage.records import Claim
from storage.states import ATTEMPT_MOVES, TICKET_MOVES, TRIAL_MOVES, Attempt, Ticket

pytestmark = pytest.mark.postgres

BUDGET = 12
STEPS = 100
LEASE_S = 60

AUDIT = """
    CREATE TABLE audit (kind text, old text, new text);
    CREATE FUNCTION audit() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
        IF to_jsonb(OLD)->>TG_ARGV[0] <> to_jsonb(NEW)->>TG_ARGV[0] THEN
            INSERT INTO audit VALUES
                (TG_TABLE_NAME, to_jsonb(OLD)->>TG_ARGV[0], to_jsonb(NEW)->>TG_ARGV[0]);
        END IF;
        RETURN NULL; END $$;
    CREATE TRIGGER a AFTER UPDATE ON nkat_ticket FOR EACH ROW EXECUTE FUNCTION audit('state');
    CREATE TRIGGER a AFTER UPDATE ON nkat_attempt FOR EACH ROW EXECUTE FUNCTION audit('outcome');
    CREATE TRIGGER a AFTER UPDATE ON trials FOR EACH ROW EXECUTE FUNCTION audit('state');
"""


@pytest.mark.parametrize("seed", [1, 2])
def test_random_walk(engine: Engine, seed: int) -> None:
    new_search(engine, BUDGET)
    with engine.begin() as connection:
        connection.exec_driver_sql(AUDIT)
    random_ = random.Random(seed)
    clock = FakeClock()
    board = Board(engine=engine, study_name=STUDY, clock=clock, max_attempts=3)
    storage = optuna_storage(engine)
    outside = optuna.load_study(study_name=STUDY, storage=storage)
    sampler = RandomSampler(seed=seed)
    workers = [board.register_worker(host=f"h{i}", pid=i, device="cpu") for i in range(4)]
    claims: list[Claim] = []  # lost ones stay in: late calls are part of the walk

    def pick() -> Claim:
        return random_.choice(claims)

    def claim() -> None:
        claimed = board.claim(random_.choice(workers), sampler)
        if isinstance(claimed, Claim):
            claims.append(claimed)

    def finish() -> None:
        state = random_.choice([TrialState.COMPLETE, TrialState.PRUNED])
        board.finish(pick(), state=state, value=0.5 if state == TrialState.COMPLETE else None)

    def tell_outside() -> None:
        state = random_.choice([TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL])
        number = pick().number
        if outside.trials[number].state == TrialState.RUNNING:
            outside.tell(number, 0.1 if state == TrialState.COMPLETE else None, state=state)

    steps: list[tuple[int, Callable[[], object]]] = [
        (8, claim),
        (3, finish),
        (3, lambda: board.suggest(pick(), suggest)),
        (2, lambda: board.hand_back(pick(), "SIGTERM")),
        (2, lambda: board.fail_attempt(pick(), reason="r", signature=random_.choice("abc"))),
        (1, tell_outside),
        (3, lambda: clock.advance(LEASE_S / 2)),
        (3, lambda: board.beat(random_.choice(workers))),
        (3, lambda: board.reap(LEASE_S)),
        (1, lambda: outside.enqueue_trial({"depth": 5})),
    ]
    weights = [weight for weight, _ in steps]
    claim()
    for _ in range(STEPS):
        ((_, step),) = random_.choices(steps, weights)
        with contextlib.suppress(LeaseLost):
            step()
        counts = board.counts()
        assert counts.budget == counts.done + counts.leased + counts.open == BUDGET
        if step is not tell_outside:
            # A lease that is never over: only what outsiders changed can be settled.
            assert {reaped.action for reaped in board.reap(1e9)} <= {"closed", "reopened"}
            counts = board.counts()
            assert counts.done == counts.complete + counts.pruned
            assert counts.leased == counts.running

    clock.advance(10 * LEASE_S)
    board.reap(LEASE_S)
    drain(board, board.register_worker(host="last", pid=9, device="cpu"))
    counts = board.counts()
    assert counts.done == counts.complete + counts.pruned == BUDGET
    assert counts.running == 0
    with engine.connect() as connection:
        moves = set(connection.execute(sa.text("SELECT DISTINCT kind, old, new FROM audit")))
    for kind, old, new in moves:
        if kind == "trials":
            # Optuna makes an enqueued trial RUNNING for a moment, then WAITING.
            assert TrialState[new] in TRIAL_MOVES[TrialState[old]], (old, new)
        elif kind == "nkat_ticket":
            assert Ticket(new) in TICKET_MOVES[Ticket(old)], (old, new)
        else:
            assert Attempt(new) in ATTEMPT_MOVES[Attempt(old)], (old, new)
    assert {kind for kind, _, _ in moves} == {"nkat_ticket", "nkat_attempt", "trials"}
    board.close()
    storage.remove_session()
