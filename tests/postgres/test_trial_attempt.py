"""A trial in a worker's hands, and what lost attempts say of a search."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path
from uuid import UUID

import pytest
from optuna.samplers import RandomSampler
from pg_children import STUDY, FakeClock, claim, new_search, suggest
from sqlalchemy import Engine

from search.objective.messages import EpochDone, Finished, PlainPath
from search.score.tpe_score import Lambdas
from search.study.trial_attributes import TrialFacts
from search.study.verdict import Effort, SetResult, Verdict
from search.worker.attempt import TrialAttempt
from storage.board import Board
from storage.checkpoints import CheckpointStore
from storage.records import NoWork

pytestmark = pytest.mark.postgres

LEASE_S = 60


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def board(engine: Engine, clock: FakeClock) -> Iterator[Board]:
    new_search(engine, 20)
    board = Board(engine=engine, study_name=STUDY, clock=clock, max_attempts=3)
    yield board
    board.close()


def worker_of(board: Board, host: str = "h") -> UUID:
    return board.register_worker(host=host, pid=1, device="cuda:0", note="test")


def attempt_at(board: Board, folder: Path, seconds: list[float]) -> TrialAttempt:
    claimed = claim(board, worker_of(board))
    board.suggest(claimed, suggest)
    return TrialAttempt(
        board=board,
        claim=claimed,
        checkpoints=CheckpointStore(folder=folder, study_name=STUDY),
        clock=lambda: seconds[0],
        set_trouble=lambda text: None,
    )


def epoch(number: int) -> EpochDone:
    return EpochDone(
        stage=1,
        dataset="cifar10",
        epoch=number,
        epochs=40,
        accuracy=0.5,
        images_per_s=3515.4,
        report=(number, 0.4),
    )


FINISHED = Finished(
    verdict=Verdict.of(
        datasets=("cifar10", "mnist"),
        results={"cifar10": SetResult(accuracy=0.5, weights="raw")},
        lambdas=Lambdas(theory=20.0, counted=28.0, parameters=8.4),
        reading="theory",
        threshold=0.6,
        effort=Effort(epochs=40, seconds_stage1=400.0),
    ),
    facts=TrialFacts(parameters=8_400_000, tokens=16, device="a GPU"),
)


def test_progress_is_a_line_an_epoch_or_one_in_half_a_minute(
    board: Board, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, logger="search.worker")
    seconds = [0.0]
    attempt = attempt_at(board, tmp_path, seconds)
    for number in range(1, 13):  # an epoch takes 10 s
        seconds[0] += 10
        attempt.hear(epoch(number))
    lines = [record.getMessage() for record in caplog.records]
    assert lines == [
        f"trial 0: stage 1, cifar10, epoch {number}/40, accuracy 0.5000, 3,515 images/s"
        for number in (3, 6, 9, 12)
    ]
    caplog.clear()
    for number in range(13, 16):  # now 100 s
        seconds[0] += 100
        attempt.hear(epoch(number))
    assert len(caplog.records) == 3


def test_a_trial_on_the_plain_path_is_loud_once_and_keeps_the_reason(
    board: Board, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    attempt = attempt_at(board, tmp_path, [0.0])
    reasons = {"cifar10": "precision is fp32", "mnist": "precision is fp32"}
    for dataset, reason in reasons.items():
        attempt.hear(PlainPath(dataset=dataset, reason=reason))
    attempt.finish(FINISHED)
    (line,) = [record for record in caplog.records if record.levelno == logging.WARNING]
    assert line.getMessage().startswith("SLOW: trial 0 trains without the captured GPU step")
    assert line.getMessage().endswith("precision is fp32")
    assert board.trials()[0].user_attrs["plain_path"] == reasons


def test_lost_attempts_of_preempted_hosts_do_not_pause_a_search(
    board: Board, clock: FakeClock
) -> None:
    def check() -> str | None:
        return board.pause_if_failing(max_failure_rate=0.5, min_attempts=4)

    for _ in range(8):  # each host is taken away once, each trial goes on elsewhere
        worker = worker_of(board)
        board.suggest(claim(board, worker), suggest)
    clock.advance(LEASE_S + 1)
    assert len(board.reap(LEASE_S)) == 8
    assert board.counts().lost == 8
    assert check() is None
    assert board.counts().failure_rate == 0.0

    # A trial that loses every host it gets may be what kills them: given up, it counts.
    for _ in range(2):
        for _ in range(8):
            claim(board, worker_of(board))
        clock.advance(LEASE_S + 1)
        board.reap(LEASE_S)
    assert board.counts().failed == 8
    message = check()
    assert message is not None
    assert "8 of 8 attempts failed" in message
    assert isinstance(board.claim(worker_of(board), RandomSampler()), NoWork)
