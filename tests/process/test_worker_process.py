"""The chaos ring: real workers, a real Postgres, real signals; the training is a formula."""

from __future__ import annotations

import json
import os
import signal
import socket
import stat
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest
import sqlalchemy as sa
from process_helpers import (
    FAST,
    LEASE_S,
    QUICK,
    SLOW,
    Service,
    search_file,
    service,
    training_child,
    wait_for,
)

from search.cli import main
from search.cli.healthcheck import Unhealthy, check, check_process
from search.file.sections import BoundSection, FinalistsSection
from search.objective.simulated_trainer import Rehearsal
from search.space import Choices, Space
from search.study.finalists import Finalists
from search.study.trial_record import TrialRecord
from storage.embedded import EmbeddedPostgres
from storage.engine import make_engine
from storage.states import Attempt

pytestmark = [pytest.mark.process, pytest.mark.postgres]


def params_of(tested: Service, number: int) -> dict[str, object]:
    (row,) = [t for t in tested.board.trials() if t.number == number]
    return dict(row.params)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("stage", "dataset"), [("1", "cifar10"), ("2", "fashion_mnist")], ids=["stage 1", "stage 2"]
)
def test_a_killed_workers_trial_goes_on_elsewhere_with_the_same_parameters(
    database_url: str, tmp_path: Path, stage: str, dataset: str
) -> None:
    with service(database_url, tmp_path, search_file(trials=1), SLOW) as tested:
        first = tested.start()
        tested.wait_for_epoch(stage, dataset, 2)
        before = params_of(tested, 0)
        child = training_child(first)
        first.kill()
        wait_for("the child to die with its parent", lambda: not child.is_running(), 5)
        tested.start(FAST)
        tested.wait_until_done()
        tested.check_exact()
        assert params_of(tested, 0) == before
        assert tested.attempts_of(0) == [Attempt.LOST, Attempt.COMPLETE]
        second = tested.board.attempts()[1]
        assert second.first_stage == stage  # stage 1 is not repeated
        assert "attempt 2" in tested.log(1)


def test_a_log_in_json_names_worker_trial_and_attempt(database_url: str, tmp_path: Path) -> None:
    with service(database_url, tmp_path, search_file(trials=2), QUICK) as tested:
        tested.start(None, "--log-format", "json")
        tested.wait_until_done()
        tested.workers[0].wait(20)
        lines = [json.loads(line) for line in tested.log(0).splitlines()]
        (worker,) = {str(a.worker_id) for a in tested.board.attempts()}
        attempts = {(a.number, a.attempt) for a in tested.board.attempts()}
    assert {"time", "level", "logger", "message"} <= lines[0].keys()
    of_trials = [line for line in lines if "trial" in line]
    assert {(line["trial"], line["attempt"]) for line in of_trials} == attempts
    assert {line["worker"] for line in lines} == {worker}
    assert "trial" not in lines[-1]
    assert lines[-1]["message"] == "the search is done"


def test_workers_alone_run_the_finalists_to_their_end(database_url: str, tmp_path: Path) -> None:
    search = replace(
        search_file(trials=5),
        finalists=FinalistsSection(count=2, runs=2),
        # What trials of the search are held to, a finalist's run is not.
        bound=BoundSection(kind="best_seen", slack=0.0, after=1),
    )
    with service(database_url, tmp_path, search, QUICK) as tested:
        workers = [tested.start() for _ in range(2)]
        for worker in workers:
            assert worker.wait(60) == 0
        counts = tested.board.counts()
        assert (counts.done, counts.repeats, counts.repeats_done) == (5, 4, 4)
        trials = [TrialRecord.of(row) for row in tested.board.trials()]
        found = Finalists.of(trials, search.finalists)
        assert found is not None
        assert len(found.ranked) == 2
        assert found.winner is not None
        assert found.deviation is not None
        assert found.deviation > 0  # each run had a seed of its own
        best = tested.board.best()
        assert best is not None
        assert best[0] in {one.trial for one in found.ranked}


def test_sigterm_saves_and_hands_the_trial_back(database_url: str, tmp_path: Path) -> None:
    with service(database_url, tmp_path, search_file(trials=1), SLOW) as tested:
        first = tested.start()
        tested.wait_for_epoch("1", "cifar10", 1)
        first.terminate()
        assert first.wait(20) == 128 + signal.SIGTERM
        assert tested.attempts_of(0) == [Attempt.HANDED_BACK]
        counts = tested.board.counts()
        assert (counts.waiting, counts.failed_attempts, counts.lost) == (1, 0, 0)
        tested.start(FAST)  # at once: nobody has to wait for a lease
        tested.wait_until_done()
        tested.check_exact()


def test_ctrl_c_does_the_same_with_its_own_exit_code(database_url: str, tmp_path: Path) -> None:
    with service(database_url, tmp_path, search_file(trials=1), SLOW) as tested:
        first = tested.start()
        tested.wait_for_epoch("1", "cifar10", 1)
        first.send_signal(signal.SIGINT)
        assert first.wait(20) == 128 + signal.SIGINT
        assert tested.attempts_of(0) == [Attempt.HANDED_BACK]


@pytest.mark.slow
def test_a_worker_that_comes_back_too_late_is_refused_and_goes_on(
    database_url: str, tmp_path: Path
) -> None:
    with service(database_url, tmp_path, search_file(trials=3), SLOW) as tested:
        sleeper = tested.start()
        tested.wait_for_epoch("2", "mnist", 1)
        sleeper.send_signal(signal.SIGSTOP)  # its child trains on, to the end
        other = tested.start()
        wait_for(
            "another worker to take the trial",
            lambda: len(tested.attempts_of(0)) == 2,
            LEASE_S * 6 + 20,
        )
        wait_for("the other's result", lambda: tested.board.counts().done >= 1)
        sleeper.send_signal(signal.SIGCONT)
        tested.wait_until_done()
        tested.check_exact()
        assert tested.attempts_of(0)[0] is Attempt.LOST
        assert tested.board.counts().late == 1
        assert sleeper.wait(30) == other.wait(30) == 0
        assert "given up" in tested.log(0)


@pytest.mark.slow
def test_a_killed_training_child_costs_an_attempt_not_the_worker(
    database_url: str, tmp_path: Path
) -> None:
    with service(database_url, tmp_path, search_file(trials=1), SLOW) as tested:
        worker = tested.start()
        tested.wait_for_epoch("1", "cifar10", 2)
        training_child(worker).kill()
        tested.wait_until_done()
        tested.check_exact()
        assert worker.wait(30) == 0
        assert tested.attempts_of(0) == [Attempt.FAILED, Attempt.COMPLETE]
        assert "SIGKILL" in tested.board.attempts()[0].reason


def test_a_hanging_training_is_ended_and_retried(database_url: str, tmp_path: Path) -> None:
    search = search_file(trials=1, stall_s=2.0, max_worker_failures=10)
    with service(database_url, tmp_path, search, SLOW) as tested:
        worker = tested.start(Rehearsal(epoch_s=0.0, epochs=3, hang_rate=1.0))
        wait_for("the stall to be seen", lambda: tested.attempts_of(0)[:1] == [Attempt.FAILED])
        worker.kill()
        worker.wait()
        tested.start(QUICK)
        tested.wait_until_done()
        tested.check_exact()
        assert "said nothing" in tested.board.attempts()[0].reason


def test_a_worker_that_keeps_failing_stops_itself_with_one_line(
    database_url: str, tmp_path: Path
) -> None:
    always = Rehearsal(epoch_s=0.0, epochs=2, crash_rate=1.0)
    with service(database_url, tmp_path, search_file(trials=4), always) as tested:
        worker = tested.start()
        assert worker.wait(60) == 1
        last = tested.log(0).splitlines()[-1]
        assert "stopped itself after 3 failures in a row" in last
        assert "rehearsed accident" in last
        counts = tested.board.counts()
        assert counts.running == 0
        # The same accident twice on one trial: given up, a fresh trial took its ticket.
        assert counts.failed == 1
        assert tested.board.workers() == []
        engine = make_engine(database_url)
        with engine.connect() as connection:
            reason = connection.execute(sa.text("SELECT reason FROM nkat_worker")).scalar_one()
        engine.dispose()
        assert "stopped itself" in reason


def test_the_same_failure_twice_gives_a_trial_up_and_the_budget_stays_exact(
    database_url: str, tmp_path: Path
) -> None:
    always = Rehearsal(epoch_s=0.0, epochs=2, crash_rate=1.0)
    search = search_file(trials=2, max_worker_failures=100)
    with service(database_url, tmp_path, search, QUICK) as tested:
        worker = tested.start(always)
        wait_for("two given up", lambda: tested.board.counts().failed >= 2)
        worker.kill()
        worker.wait()
        tested.start(QUICK)
        tested.wait_until_done()
        tested.check_exact()


@pytest.mark.slow
def test_a_database_restart_costs_no_trial_and_no_worker(
    database_url: str, tmp_path: Path, postgres: EmbeddedPostgres
) -> None:
    with service(database_url, tmp_path, search_file(trials=2), SLOW) as tested:
        workers = [tested.start(), tested.start()]
        tested.wait_for_epoch("1", "cifar10", 2)
        postgres.restart(pause_s=2 * LEASE_S)  # away for longer than a lease
        tested.wait_until_done()
        tested.check_exact()
        assert [w.wait(30) for w in workers] == [0, 0]
        counts = tested.board.counts()
        assert (counts.lost, counts.failed_attempts, counts.attempts) == (0, 0, 2)


def test_four_workers_started_twice_end_at_exactly_the_budget(
    database_url: str, tmp_path: Path
) -> None:
    with service(database_url, tmp_path, search_file(trials=10), QUICK) as tested:
        first = [tested.start() for _ in range(4)]
        wait_for("three trials", lambda: tested.board.counts().done >= 3)
        for worker in first[:2]:
            worker.terminate()
        second = [tested.start() for _ in range(2)]
        tested.wait_until_done()
        assert {w.wait(30) for w in second} == {0}
        third = tested.start()  # a finished search gives a new worker nothing
        assert third.wait(60) == 0
        tested.check_exact()


def test_a_gate_that_passes_nothing_still_ends(database_url: str, tmp_path: Path) -> None:
    search = search_file(trials=3, threshold=0.75)
    table = tmp_path / "table.csv"
    sets = "accuracy_cifar10,accuracy_mnist,accuracy_fashion_mnist,accuracy_emnist_letters"
    table.write_text(f"depth,temperature,{sets}\n5,0.7,0.1,0.9,0.9,0.9\n")
    plan = Rehearsal(epoch_s=0.0, epochs=1, table=str(table))
    with service(database_url, tmp_path, search, plan) as tested:
        assert tested.start().wait(60) == 0
        tested.check_exact()
        assert tested.board.counts().pruned == 3


def test_an_infeasible_draw_is_told_at_once_and_counts(database_url: str, tmp_path: Path) -> None:
    search = search_file(trials=4)
    # 16 tokens at patch 2 behind the stem, 64 without one and at patch 4: 256 is never kept.
    search = replace(
        search,
        space=Space({**search.space.parameters, "conv_stem": Choices(("off", "tiny"))}),
        limits=search.limits.model_copy(update={"tokens": 100}),
    )
    with service(database_url, tmp_path, search, QUICK) as tested:
        for stem in ("off", "tiny", "off", "tiny"):
            params = {"depth": 5, "temperature": 0.7, "conv_stem": stem}
            tested.board.with_study("enqueue", lambda study, p=params: study.enqueue_trial(p))  # type: ignore[misc]
        assert tested.start().wait(60) == 0
        tested.check_exact()
        trials = tested.board.with_study("trials", lambda study: study.get_trials())
        for trial in (trials[0], trials[2]):
            assert trial.state.name == "PRUNED"
            assert trial.intermediate_values == {1: 0.0}
            assert trial.constraints == {"gate": 0.05, "infeasible": 1.0}
            assert trial.user_attrs["outcome"] == (
                "infeasible: 256 tokens are more than limits.tokens = 100"
            )
        assert [trials[n].state.name for n in (1, 3)] == ["COMPLETE", "COMPLETE"]
        # Never trained: no epoch was reported, so the attempt was in no stage.
        stages = {a.number: a.stage for a in tested.board.attempts()}
        assert (stages[0], stages[1]) == (None, "2")


def test_a_read_only_checkpoint_folder_is_a_message_and_a_run_without_checkpoints(
    database_url: str, tmp_path: Path
) -> None:
    (tmp_path / "checkpoints").write_text("a file where the folder should be")
    with service(database_url, tmp_path, search_file(trials=1), QUICK) as tested:
        assert tested.start().wait(60) == 0
        tested.check_exact()
        assert "goes on without checkpoints" in tested.log(0)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_without_write_permission_is_the_same(database_url: str, tmp_path: Path) -> None:
    folder = tmp_path / "checkpoints"
    folder.mkdir()
    folder.chmod(stat.S_IRUSR | stat.S_IXUSR)
    with service(database_url, tmp_path, search_file(trials=1), QUICK) as tested:
        assert tested.start().wait(60) == 0
        tested.check_exact()


def test_checkpoints_are_gone_when_the_search_is_over(database_url: str, tmp_path: Path) -> None:
    with service(database_url, tmp_path, search_file(trials=2), QUICK) as tested:
        assert tested.start().wait(60) == 0
        assert list((tmp_path / "checkpoints").rglob("*.ckpt")) == []


def test_a_user_enqueued_trial_is_trained_first_and_counts(
    database_url: str, tmp_path: Path
) -> None:
    with service(database_url, tmp_path, search_file(trials=2), QUICK) as tested:
        wanted = {"depth": 7, "temperature": 0.75}
        tested.board.with_study("enqueue", lambda study: study.enqueue_trial(wanted))
        assert tested.start().wait(60) == 0
        tested.check_exact()
        assert params_of(tested, 0) == wanted


@pytest.mark.slow
def test_an_outage_of_the_database_is_no_death_of_the_process(
    postgres: EmbeddedPostgres,
    database_url: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What Kubernetes asks: alive (the process) all the while, ready (the beat) not."""
    alive = tmp_path / "alive"
    with service(database_url, tmp_path, search_file(trials=1), SLOW) as tested:
        monkeypatch.setenv("NKAT_ALIVE_DIR", str(alive))  # of the health check
        tested.variables = {"NKAT_ALIVE_DIR": str(alive)}  # of the worker
        worker = tested.start()
        tested.wait_for_epoch("1", "cifar10", 1)
        sign = alive / str(worker.pid)
        outage = threading.Thread(target=postgres.restart, kwargs={"pause_s": 6})
        outage.start()
        try:
            wait_for("the outage", lambda: postgres.pid is None, 20)
            gone_at = time.time()
            wait_for("a sign without a database", lambda: sign.stat().st_mtime > gone_at + 2, 6)
            assert postgres.pid is None
            assert main(["healthcheck", "--process", "--max-age", "5"]) == 0
            with pytest.raises(Unhealthy, match="does not answer"):
                check(storage=database_url, host=socket.gethostname(), max_age_s=None)
        finally:
            outage.join()
        tested.wait_until_done()
        assert worker.wait(20) == 0
        assert not sign.exists()
    with pytest.raises(Unhealthy, match="no process has shown"):
        check_process(alive, max_age_s=20)
