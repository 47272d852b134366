"""A trial's life on the board: leases, retries, endings, outsiders, budgets."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import optuna
import pytest
import sqlalchemy as sa
from optuna.samplers import RandomSampler, TPESampler
from optuna.trial import TrialState
from pg_children import STUDY, FakeClock, claim, drain, new_search, suggest
from sqlalchemy import Engine

from nkat_errors import BadInput
from storage.board import Board
from storage.errors import LeaseLost, StudyGone, ToldElsewhere, UnknownWorker
from storage.optuna_internals import optuna_storage
from storage.records import GaveUp, NoWork, Retry
from storage.reporting import LOST_SHOWN_LEASES
from storage.searches import set_budget
from storage.states import Command

pytestmark = pytest.mark.postgres

LEASE_S = 60


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def board(engine: Engine, clock: FakeClock) -> Iterator[Board]:
    new_search(engine, 3)
    board = Board(engine=engine, study_name=STUDY, clock=clock, max_attempts=3)
    yield board
    board.close()


@pytest.fixture
def outside(engine: Engine) -> Iterator[optuna.Study]:
    """The study as a notebook or the dashboard has it: plain Optuna."""
    storage = optuna_storage(engine)
    yield optuna.load_study(study_name=STUDY, storage=storage, sampler=RandomSampler(seed=3))
    storage.remove_session()


def _worker(board: Board, host: str = "h") -> object:
    return board.register_worker(host=host, pid=1, device="cuda:0", note="test")


# --- the ordinary way ----------------------------------------------------------------


def test_result_is_told_with_everything(board: Board, outside: optuna.Study) -> None:
    worker = _worker(board)
    claimed = claim(board, worker)
    params = board.suggest(claimed, suggest)
    board.report(claimed, step=1, value=0.4)
    board.finish(
        claimed,
        state=TrialState.COMPLETE,
        value=0.7,
        user_attrs={"outcome": "passed", "nan": math.nan},
        constraints={"gate": -0.1},
    )
    trial = outside.trials[0]
    assert trial.state == TrialState.COMPLETE
    assert (trial.value, trial.params) == (0.7, params)
    assert trial.intermediate_values == {1: 0.4}
    assert trial.constraints == {"gate": -0.1}
    assert trial.user_attrs["outcome"] == "passed"
    board.finish(claimed, state=TrialState.COMPLETE, value=0.7)  # twice is once
    assert board.counts().done == 1


def test_pruned_trial_counts_and_keeps_its_last_report(board: Board) -> None:
    worker = _worker(board)
    claimed = claim(board, worker)
    board.suggest(claimed, suggest)
    board.report(claimed, step=5, value=0.3)
    board.finish(claimed, state=TrialState.PRUNED, constraints={"gate": 0.3})
    assert [(row.state, row.value) for row in board.trials()] == [("PRUNED", 0.3)]
    assert drain(board, worker) == 2
    assert board.claim(worker, RandomSampler()) == NoWork("done")


@pytest.mark.parametrize(
    ("state", "value", "constraints"),
    [
        (TrialState.COMPLETE, None, {}),
        (TrialState.COMPLETE, math.nan, {}),
        (TrialState.PRUNED, 0.5, {}),
        (TrialState.FAIL, None, {}),
        (TrialState.PRUNED, None, {"gate": math.nan}),
    ],
)
def test_impossible_results_are_refused_and_change_nothing(
    board: Board, state: TrialState, value: float | None, constraints: dict[str, float]
) -> None:
    claimed = claim(board, _worker(board))
    with pytest.raises(ValueError, match=r"state|value|constraint"):
        board.finish(claimed, state=state, value=value, constraints=constraints)
    assert board.counts().leased == board.counts().running == 1


def test_unserialisable_attribute_rolls_the_whole_result_back(board: Board) -> None:
    claimed = claim(board, _worker(board))
    with pytest.raises(TypeError):
        board.finish(
            claimed, state=TrialState.COMPLETE, value=1.0, user_attrs={"a": 1, "b": object()}
        )
    assert board.trials()[0].user_attrs == {}
    board.finish(claimed, state=TrialState.COMPLETE, value=1.0, user_attrs={"a": 1})
    assert board.trials()[0].user_attrs == {"a": 1}


def test_progress_is_shown_and_handed_to_the_next_attempt(board: Board, clock: FakeClock) -> None:
    worker = _worker(board, "first")
    claimed = claim(board, worker)
    board.progress(claimed, stage="stage 1", dataset="cifar10", epoch=3, saved=True)
    clock.advance(5)
    board.progress(claimed, stage="stage 1", dataset="cifar10", epoch=4)
    (row,) = board.workers()
    assert (row.host, row.device, row.trial, row.attempt) == ("first", "cuda:0", 0, 1)
    assert (row.stage, row.dataset, row.epoch) == ("stage 1", "cifar10", 4)
    assert row.checkpoint_age_s == pytest.approx(5, abs=0.1)
    assert row.beat_age_s == pytest.approx(5, abs=0.1)
    board.hand_back(claimed, "SIGTERM")
    retried = claim(board, _worker(board, "second"))
    assert (retried.number, retried.attempt) == (0, 2)
    assert retried.resumed_from is not None
    assert retried.resumed_from["host"] == "first"
    assert retried.resumed_from["epoch"] == 4
    assert retried.resumed_from["outcome"] == "handed_back"


# --- losing and retrying -------------------------------------------------------------


def test_silent_worker_loses_its_trial_and_its_late_result_is_refused(
    board: Board, clock: FakeClock
) -> None:
    silent, other = _worker(board, "silent"), _worker(board, "other")
    late = claim(board, silent)
    params = board.suggest(late, suggest)
    clock.advance(LEASE_S - 1)
    assert board.reap(LEASE_S) == []
    clock.advance(2)
    (reaped,) = board.reap(LEASE_S)
    assert (reaped.number, reaped.action, reaped.token) == (0, "retry", late.token)
    assert board.reap(LEASE_S) == []

    for write in (
        lambda: board.finish(late, state=TrialState.COMPLETE, value=9.0),
        lambda: board.report(late, step=2, value=9.0),
        lambda: board.suggest(late, suggest),
        lambda: board.progress(late, stage="stage 2"),
        lambda: board.hand_back(late, "late"),
        lambda: board.fail_attempt(late, reason="late", signature="x"),
    ):
        with pytest.raises(LeaseLost):
            write()
    assert board.beat(silent).lost == {late.token}
    assert board.workers()[0].state == "alive"  # it beats again
    board.refuse_late(late, {"value": 9.0, "nan": math.nan})
    board.refuse_late(late, {"value": 9.0})
    counts = board.counts()
    assert (counts.lost, counts.late, counts.done, counts.waiting) == (1, 1, 0, 1)

    retried = claim(board, other, seed=99)
    assert (retried.number, retried.attempt) == (0, 2)
    assert board.suggest(retried, suggest) == params
    # Even while another runs the same trial, the late one cannot write.
    with pytest.raises(LeaseLost):
        board.finish(late, state=TrialState.COMPLETE, value=9.0)
    board.finish(retried, state=TrialState.COMPLETE, value=0.5)
    assert board.trials()[0].value == 0.5


def test_a_beat_keeps_the_lease(board: Board, clock: FakeClock) -> None:
    worker = _worker(board)
    claim(board, worker)
    for _ in range(5):
        clock.advance(LEASE_S - 5)
        assert board.beat(worker).lost == frozenset()
        assert board.reap(LEASE_S) == []


def test_a_reaper_with_nothing_to_do_writes_nothing(
    board: Board, engine: Engine, clock: FakeClock
) -> None:
    worker = _worker(board)
    claim(board, worker)
    board.hand_back(claim(board, worker), "x")

    def next_write() -> int:
        with engine.connect() as connection:
            return int(
                connection.execute(
                    sa.text("SELECT pg_snapshot_xmax(pg_current_snapshot())::text")
                ).scalar_one()
            )

    board.reap(LEASE_S)
    before = next_write()
    assert board.reap(LEASE_S) == []
    assert next_write() == before


def test_trial_without_parameters_is_sampled_by_its_next_worker(
    board: Board, clock: FakeClock
) -> None:
    lost = claim(board, _worker(board, "a"))
    clock.advance(LEASE_S + 1)
    board.reap(LEASE_S)
    retried = claim(board, _worker(board, "b"))
    assert retried.number == lost.number
    assert set(board.suggest(retried, suggest)) == {"depth", "top_p", "stem"}


def test_given_up_after_max_attempts(board: Board, clock: FakeClock) -> None:
    worker = _worker(board)
    for attempt in (1, 2):
        answer = board.fail_attempt(claim(board, worker), reason="oom", signature=f"s{attempt}")
        assert answer == Retry(0, attempt, 3)
    claimed = claim(board, worker)
    assert claimed.attempt == 3
    clock.advance(LEASE_S + 1)
    (reaped,) = board.reap(LEASE_S)
    assert reaped.action == "gave_up"
    row = board.trials()[0]
    assert row.state == "FAIL"
    assert "3 failed attempts" in row.user_attrs["outcome"]
    # Its ticket is free for a fresh trial: the budget stays exact.
    assert drain(board, worker) == 3
    counts = board.counts()
    assert (counts.done, counts.complete, counts.failed) == (3, 3, 1)


def test_same_failure_twice_is_not_retried(board: Board) -> None:
    worker = _worker(board)
    first = claim(board, worker)
    assert isinstance(board.fail_attempt(first, reason="NaN", signature="nan"), Retry)
    assert isinstance(board.fail_attempt(first, reason="NaN", signature="nan"), Retry)  # again
    second = claim(board, worker)
    gave_up = board.fail_attempt(second, reason="NaN", signature="nan")
    assert isinstance(gave_up, GaveUp)
    assert gave_up == board.fail_attempt(second, reason="NaN", signature="nan")
    assert "same way" in gave_up.reason
    assert board.counts().attempts == 2
    # Another trial may fail so once again.
    third = claim(board, worker)
    assert third.number == 1
    assert isinstance(board.fail_attempt(third, reason="NaN", signature="nan"), Retry)


def test_handing_back_counts_no_failure(board: Board) -> None:
    worker = _worker(board)
    for attempt in range(1, 7):
        claimed = claim(board, worker)
        assert (claimed.number, claimed.attempt) == (0, attempt)
        board.hand_back(claimed, "SIGTERM")
        board.hand_back(claimed, "SIGTERM")
    assert board.counts().failure_rate == 0.0
    assert drain(board, worker) == 3


def test_retired_worker_is_not_waited_for(board: Board, engine: Engine) -> None:
    worker = _worker(board)
    claim(board, worker)
    board.retire_worker(worker, "breaker: failed three times")
    assert [item.action for item in board.reap(LEASE_S)] == ["retry"]
    board.beat(worker)  # a straggling beat does not bring it back
    assert board.workers() == []
    with engine.connect() as connection:
        reason = connection.execute(sa.text("SELECT reason FROM nkat_worker")).scalar_one()
    assert reason.startswith("breaker")


def test_workers_that_died_idle_are_lost_and_leave_the_list(
    engine: Engine, clock: FakeClock
) -> None:
    new_search(engine, 3)
    board = Board(engine=engine, study_name=STUDY, clock=clock, lease_s=LEASE_S)
    idle, busy = _worker(board, "idle"), _worker(board, "busy")
    claim(board, busy)

    def shown() -> dict[str, str]:
        return {row.host: row.state for row in board.workers()}

    clock.advance(LEASE_S - 1)
    assert shown() == {"idle": "alive", "busy": "alive"}
    clock.advance(2)
    # With nobody there to reap, too.
    assert shown() == {"idle": "lost", "busy": "lost"}
    board.beat(busy)
    assert board.reap(LEASE_S) == []
    with engine.connect() as connection:
        states = connection.execute(sa.text("SELECT host, state FROM nkat_worker"))
        assert {row.host: row.state for row in states} == {"idle": "lost", "busy": "alive"}
    clock.advance(LOST_SHOWN_LEASES * LEASE_S + 1)
    # What has a trial in its hands is shown until somebody takes it away.
    assert shown() == {"busy": "lost"}
    assert [item.action for item in board.reap(LEASE_S)] == ["retry"]
    assert shown() == {}
    board.beat(idle)  # it was only asleep
    assert shown() == {"idle": "alive"}
    board.close()


def test_one_deadlock_forgives_nobody_another_lease(
    board: Board, engine: Engine, clock: FakeClock
) -> None:
    claim(board, _worker(board))
    clock.advance(LEASE_S + 1)
    raised = []

    @sa.event.listens_for(engine, "after_cursor_execute")
    def deadlock(_connection: Any, cursor: Any, statement: str, *_rest: Any) -> None:
        if "UPDATE nkat_attempt" in statement and not raised:
            raised.append(statement)
            cursor.execute("DO $$ BEGIN RAISE EXCEPTION USING ERRCODE = '40P01'; END $$")

    assert [item.action for item in board.reap(LEASE_S)] == ["retry"]
    assert raised


def test_nobody_is_reaped_for_an_outage_that_the_reaper_saw(
    board: Board, clock: FakeClock
) -> None:
    claim(board, _worker(board))
    clock.advance(10 * LEASE_S)
    board._note_outage()  # what a failed try of any call does (test_board_outages.py)
    assert board.reap(LEASE_S) == []
    clock.advance(LEASE_S + 1)
    assert [item.action for item in board.reap(LEASE_S)] == ["retry"]


def test_nobody_is_reaped_just_after_the_server_started(engine: Engine) -> None:
    new_search(engine, 1)
    board = Board(engine=engine, study_name=STUDY)
    worker = _worker(board)
    claim(board, worker)
    with engine.begin() as connection:
        connection.execute(sa.text("UPDATE nkat_worker SET beat_at = now() - interval '1 day'"))
    assert board.reap(100_000) == []  # the server of this test is younger than that
    assert [item.action for item in board.reap(0.001)] == ["retry"]
    board.close()


def test_unknown_worker(board: Board) -> None:
    other = "00000000-0000-0000-0000-000000000000"
    with pytest.raises(UnknownWorker):
        board.beat(other)
    with pytest.raises(UnknownWorker):
        board.claim(other, RandomSampler())


# --- outsiders -----------------------------------------------------------------------


@pytest.mark.parametrize("reap_first", [True, False])
@pytest.mark.parametrize(
    ("told", "done"), [(TrialState.COMPLETE, 1), (TrialState.PRUNED, 1), (TrialState.FAIL, 0)]
)
def test_trial_told_from_outside_while_leased(
    board: Board, outside: optuna.Study, told: TrialState, done: int, reap_first: bool
) -> None:
    worker = _worker(board)
    claimed = claim(board, worker)
    board.suggest(claimed, suggest)
    outside.tell(claimed.number, 0.1 if told == TrialState.COMPLETE else None, state=told)
    if reap_first:
        (reaped,) = board.reap(LEASE_S)
        assert reaped.action == ("closed" if done else "reopened")
        assert board.beat(worker).lost == {claimed.token}
    with pytest.raises(ToldElsewhere):
        board.finish(claimed, state=TrialState.COMPLETE, value=0.9, user_attrs={"a": 1})
    assert board.beat(worker).lost == {claimed.token}
    assert board.reap(LEASE_S) == []
    assert board.trials()[0].user_attrs == {}
    counts = board.counts()
    assert (counts.done, counts.open, counts.closed) == (done, 3 - done, 1)
    assert drain(board, worker) == 3 - done
    assert board.counts().done == 3


def test_waiting_trial_told_or_taken_from_outside(board: Board, outside: optuna.Study) -> None:
    worker = _worker(board)
    claims = [claim(board, worker) for _ in range(3)]
    for claimed in claims:
        board.suggest(claimed, suggest)
    for claimed in claims:
        board.hand_back(claimed, "x")
    storage = outside._storage
    storage.set_trial_state_values(claims[0].trial._trial_id, TrialState.COMPLETE, [0.1])
    storage.set_trial_state_values(claims[1].trial._trial_id, TrialState.FAIL)
    taken = outside.ask()
    assert taken.number == 2
    # Without any reaping: the claimer itself notices, and the budget stays exact.
    assert drain(board, worker) == 2
    assert board.counts().done == 3
    outside.tell(taken, 0.2)
    assert board.reap(LEASE_S) == []
    assert board.counts().done == 3


def test_user_enqueued_trials_come_first_and_use_tickets(
    board: Board, outside: optuna.Study
) -> None:
    outside.enqueue_trial({"depth": 5, "top_p": 0.9, "stem": "small"})
    outside.enqueue_trial({"depth": 6})
    worker = _worker(board)
    first = claim(board, worker)
    assert board.suggest(first, suggest) == {"depth": 5, "top_p": 0.9, "stem": "small"}
    board.hand_back(first, "x")
    again = claim(board, worker)
    assert (again.number, again.attempt) == (first.number, 2)
    assert board.suggest(again, suggest) == {"depth": 5, "top_p": 0.9, "stem": "small"}
    second = claim(board, worker)
    assert board.suggest(second, suggest)["depth"] == 6
    assert claim(board, worker).number == 2
    outside.enqueue_trial({"depth": 7})
    assert board.claim(worker, RandomSampler()).reason == "all_leased"  # type: ignore[union-attr]
    # A retry finds its ticket although the user's trial waits too.
    board.hand_back(again, "x")
    assert claim(board, worker).number == first.number


def test_orphan_of_a_notebook_is_released_after_a_lease(
    board: Board, outside: optuna.Study, clock: FakeClock
) -> None:
    with_parameters, empty = outside.ask(), outside.ask()
    params = suggest(with_parameters)
    assert board.reap(LEASE_S) == []
    clock.advance(LEASE_S - 1)
    assert board.reap(LEASE_S) == []
    clock.advance(2)
    assert {(r.number, r.action) for r in board.reap(LEASE_S)} == {
        (with_parameters.number, "orphan_waiting"),
        (empty.number, "orphan_failed"),
    }
    assert board.reap(LEASE_S) == []
    claimed = claim(board, _worker(board))
    assert claimed.number == with_parameters.number
    assert board.suggest(claimed, suggest) == params


def test_orphan_that_is_told_in_time_is_left_alone(
    board: Board, outside: optuna.Study, clock: FakeClock
) -> None:
    trial = outside.ask()
    board.reap(LEASE_S)
    outside.tell(trial, 0.5)
    clock.advance(2 * LEASE_S)
    assert board.reap(LEASE_S) == []
    assert board.counts().done == 0  # it was none of ours


def test_study_deleted_under_the_workers(board: Board, outside: optuna.Study) -> None:
    worker = _worker(board)
    claimed = claim(board, worker)
    optuna.delete_study(study_name=STUDY, storage=outside._storage)
    with pytest.raises(StudyGone):
        board.finish(claimed, state=TrialState.COMPLETE, value=1.0)
    with pytest.raises(StudyGone):
        board.claim(worker, RandomSampler())


# --- the search ----------------------------------------------------------------------


def test_budget_raised_and_lowered(board: Board, engine: Engine) -> None:
    worker = _worker(board)
    assert drain(board, worker) == 3
    assert set_budget(engine, STUDY, 5) == 5
    leased = claim(board, worker)
    assert set_budget(engine, STUDY, 1) == 4  # three are done, one is being worked on
    board.finish(leased, state=TrialState.COMPLETE, value=1.0)
    assert board.claim(worker, RandomSampler()) == NoWork("done")
    with pytest.raises(BadInput, match="budget"):
        set_budget(engine, STUDY, 0)


def test_lowering_keeps_the_ticket_of_a_retry(board: Board, engine: Engine) -> None:
    worker = _worker(board)
    board.hand_back(claim(board, worker), "x")
    assert set_budget(engine, STUDY, 1) == 1
    assert claim(board, worker).number == 0
    assert board.claim(worker, RandomSampler()) == NoWork("all_leased")


def test_pause_and_stop_reach_claims_and_beats(board: Board) -> None:
    worker = _worker(board)
    board.set_state("pause", "lunch")
    assert board.claim(worker, RandomSampler()) == NoWork("paused", "lunch")
    assert board.beat(worker).command == Command.PAUSE
    board.set_state("stop", "enough")
    assert board.claim(worker, RandomSampler()) == NoWork("stopped", "enough")
    board.set_state("run")
    assert board.beat(worker).message == ""
    assert claim(board, worker).number == 0


def test_failing_search_pauses_and_resuming_clears_it(
    board: Board, engine: Engine, clock: FakeClock
) -> None:
    set_budget(engine, STUDY, 20)
    worker = _worker(board)

    def fail(signature: str) -> None:
        board.fail_attempt(claim(board, worker), reason="CUDA gone", signature=signature)

    def check() -> str | None:
        clock.advance(1)
        return board.pause_if_failing(max_failure_rate=0.5, min_attempts=4)

    clock.advance(1)
    for number in range(3):
        fail(f"s{number}")
        assert check() is None  # too few to say
    board.finish(claim(board, worker), state=TrialState.COMPLETE, value=1.0)
    message = check()
    assert message is not None
    assert "3 of 4" in message
    assert "CUDA gone" in message
    assert check() is None  # said once
    assert board.claim(worker, RandomSampler()) == NoWork("paused", message)
    board.set_state("run")
    assert check() is None
    fail("t")
    assert check() is None
    assert board.counts().failure_rate == 1.0


def test_tpe_resamples_nothing_for_a_retried_trial(board: Board, clock: FakeClock) -> None:
    """Past the start-up trials, where TPESampler draws all parameters jointly."""
    set_budget(board._desk.engine, STUDY, 12)
    worker = _worker(board)
    sampler = TPESampler(seed=1, n_startup_trials=2)
    for _ in range(6):
        claimed = board.claim(worker, sampler)
        value = board.suggest(claimed, suggest)["top_p"]
        board.finish(claimed, state=TrialState.COMPLETE, value=value)
    lost = board.claim(worker, sampler)
    params = board.suggest(lost, suggest)
    clock.advance(LEASE_S + 1)
    board.reap(LEASE_S)
    retried = board.claim(_worker(board), TPESampler(seed=77, n_startup_trials=2))
    assert board.suggest(retried, suggest) == params
    assert retried.trial.number == lost.trial.number
