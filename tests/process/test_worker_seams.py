"""The seams of a worker: its child, its checkpoints, its database, its log; real ones all."""

from __future__ import annotations

import json
import signal
import subprocess
import time
from contextlib import suppress
from pathlib import Path

import psutil
import pytest
from nkat_command import done, nkat, started
from process_helpers import (
    LEASE_S,
    QUICK,
    SLOW,
    Service,
    search_file,
    service,
    training_child,
    wait_for,
)

from search.objective.simulated_trainer import Rehearsal
from search.objective.two_stages import Progress
from storage.checkpoints import CheckpointStore
from storage.embedded import EmbeddedPostgres
from storage.states import Attempt

pytestmark = [pytest.mark.process, pytest.mark.postgres]


def store_of(tested: Service) -> CheckpointStore:
    record = tested.board.record
    return CheckpointStore(
        folder=tested.folder / "checkpoints", study_name=record.study_name, salt=record.salt
    )


def test_a_child_that_reported_a_failure_is_replaced(database_url: str, tmp_path: Path) -> None:
    """After a CUDA error nothing works in that process any more: it must not be used again."""
    always = Rehearsal(epoch_s=0.0, epochs=2, crash_rate=1.0)
    with service(database_url, tmp_path, search_file(trials=4), always) as tested:
        worker = tested.start()
        children: set[int] = set()

        def ended() -> bool:
            with suppress(AssertionError, psutil.Error):
                children.add(training_child(worker).pid)
            return worker.poll() is not None

        wait_for("the worker to stop itself", ended)
        assert tested.board.counts().failed_attempts == 3
        assert len(children) == 3


def damaged_head(store: CheckpointStore) -> bytes:
    return b"\x00\x00\x00\x05"


def other_version(store: CheckpointStore) -> bytes:
    head = json.dumps({"results": {}, "from_a_later_version": 1}).encode()
    return len(head).to_bytes(4, "big") + head


def other_state(store: CheckpointStore) -> bytes:
    blob = store.load(0)
    assert blob is not None
    progress, _ = Progress.unpack(blob)
    return progress.pack(b"not a state")


@pytest.mark.parametrize("payload", [damaged_head, other_version, other_state])
def test_a_checkpoint_that_cannot_be_loaded_is_a_warning_and_a_fresh_start(
    database_url: str, tmp_path: Path, payload: object
) -> None:
    assert callable(payload)
    with service(database_url, tmp_path, search_file(trials=1), SLOW) as tested:
        first = tested.start()
        tested.wait_for_epoch("1", "cifar10", 2)
        first.terminate()
        first.wait(20)
        store = store_of(tested)
        assert store.save(0, payload(store))
        assert tested.start(QUICK).wait(60) == 0
        tested.check_exact()
        assert tested.attempts_of(0) == [Attempt.HANDED_BACK, Attempt.COMPLETE]
        assert "trial 0 starts again" in tested.log(1)


def test_a_truncated_checkpoint_is_the_same(database_url: str, tmp_path: Path) -> None:
    with service(database_url, tmp_path, search_file(trials=1), SLOW) as tested:
        first = tested.start()
        tested.wait_for_epoch("1", "cifar10", 2)
        first.terminate()
        first.wait(20)
        for path in store_of(tested).files():
            path.write_bytes(path.read_bytes()[:-20])
        assert tested.start(QUICK).wait(60) == 0
        assert tested.attempts_of(0) == [Attempt.HANDED_BACK, Attempt.COMPLETE]
        assert "damaged" in tested.log(1)


@pytest.mark.slow
def test_an_outage_of_the_database_is_not_the_childs_silence(
    database_url: str, tmp_path: Path, postgres: EmbeddedPostgres
) -> None:
    stall_s = 2.0
    # An epoch takes less than the stall's limit, the outage several times that, stage 1 longer
    # still; the gate lets nothing pass, so that the search ends then.
    plan = Rehearsal(epoch_s=0.05, epochs=300)
    search = search_file(trials=1, stall_s=stall_s, threshold=0.75)
    with service(database_url, tmp_path, search, plan) as tested:
        worker = tested.start()
        tested.wait_for_epoch("1", "cifar10", 2)
        child = training_child(worker).pid
        postgres.restart(pause_s=3 * stall_s)
        tested.wait_for_epoch("1", "cifar10", 150)
        assert training_child(worker).pid == child
        tested.wait_until_done()
        tested.check_exact()
        counts = tested.board.counts()
        assert (counts.failed_attempts, counts.lost, counts.attempts) == (0, 0, 1)


@pytest.mark.slow
def test_bad_input_is_said_even_when_the_lease_was_lost_meanwhile(
    database_url: str, tmp_path: Path
) -> None:
    with service(database_url, tmp_path, search_file(trials=1), QUICK) as tested:
        tested.board.set_state("pause", "until the child is ready")
        options = [*tested.worker_options, "--data-dir", "nowhere"]  # it would train for real
        log = tmp_path / "real.log"
        with started("worker", *options, folder=tmp_path, storage=database_url, log=log) as worker:
            wait_for("the child", lambda: has_child(worker))
            child = training_child(worker)
            wait_for("torch", lambda: any("libtorch" in m.path for m in child.memory_maps()))
            wait_for("the end of its imports", lambda: sleeps(child))  # it waits for a job
            child.suspend()
            tested.board.set_state("run")
            wait_for("the parameters", lambda: any(t.params for t in tested.board.trials()))
            time.sleep(0.5)  # the job is sent, its worker listens
            worker.send_signal(signal.SIGSTOP)
            child.resume()  # and says that there are no images
            wait_for("the lease to be over", lambda: bool(tested.board.reap(LEASE_S)), 30)
            worker.send_signal(signal.SIGCONT)
            assert worker.wait(60) == 2
        last = log.read_text().splitlines()[-1]
        assert "nowhere" in last


def sleeps(process: psutil.Process) -> bool:
    """Whether it does nothing for half a second; one that only gets no core is no sleeper."""
    for _ in range(10):
        if process.status() != psutil.STATUS_SLEEPING:
            return False
        time.sleep(0.05)
    return True


def has_child(worker: subprocess.Popen[str]) -> bool:
    try:
        training_child(worker)
    except (AssertionError, psutil.Error):
        return False
    return True


@pytest.mark.slow
def test_a_checkpoint_folder_that_works_again_is_used_again(
    database_url: str, tmp_path: Path
) -> None:
    blocked = tmp_path / "checkpoints"
    blocked.write_text("a file where the folder should be")
    with service(database_url, tmp_path, search_file(trials=2), SLOW) as tested:
        worker = tested.start()

        def troubles() -> list[str]:
            return [w.reason for w in tested.board.workers() if w.reason]

        wait_for("a refused checkpoint", lambda: bool(troubles()))
        assert "checkpoints are off" in troubles()[0]
        shown = done(nkat("status", storage=database_url, env={"COLUMNS": "200"}))
        assert "checkpoints are off" in " ".join(shown.split())
        blocked.unlink()
        wait_for("a checkpoint", lambda: bool(store_of(tested).files()))
        wait_for("status to know", lambda: not troubles())
        tested.wait_until_done()
        assert worker.wait(30) == 0
        log = tested.log(0)
        assert log.count("goes on without checkpoints") == 1
        assert log.count("checkpoints work again") == 1


@pytest.mark.slow
def test_each_event_is_one_line_in_the_log(database_url: str, tmp_path: Path) -> None:
    flaky = Rehearsal(epoch_s=0.1, epochs=4)
    with service(database_url, tmp_path, search_file(trials=2), flaky) as tested:
        worker = tested.start()
        tested.wait_for_epoch("1", "cifar10", 1)
        training_child(worker).kill()
        tested.wait_until_done()
        assert worker.wait(30) == 0
        log = tested.log(0)
        assert log.count("trial 0, attempt 1: depth=") == 1
        assert log.count("trial 0, attempt 1") == 2  # its start and its failure
        assert log.count("SIGKILL") == 1
        assert log.count("trial 0 will be retried") == 1
        assert log.count("trial 1, attempt 1") == 1
        assert log.count("complete: Global TPE score") == 2


@pytest.mark.slow
def test_a_lost_trial_is_one_line_in_the_orchestrators_log(
    database_url: str, tmp_path: Path
) -> None:
    with service(database_url, tmp_path, search_file(trials=1), SLOW) as tested:
        worker = tested.start()
        tested.wait_for_epoch("1", "cifar10", 1)
        log = tmp_path / "orchestrator.log"
        with started(
            "orchestrate", "--study", "tested", folder=tmp_path, storage=database_url, log=log
        ) as orchestrator:
            wait_for("the orchestrator", lambda: "watching over" in log.read_text())
            worker.kill()
            wait_for("the reaping", lambda: "no beat from" in log.read_text(), 30)
            time.sleep(LEASE_S)  # for a second line, if there were one
            assert log.read_text().count("no beat from") == 1
            orchestrator.terminate()
            orchestrator.wait(30)
