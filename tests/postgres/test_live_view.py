"""What `run` shows while it runs, of a search in a real database."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime
from pathlib import Path

import pytest
from report_searches import GOOD, LAMBDAS, Told, report_search, told
from rich.console import Console
from sqlalchemy import Engine

from search.cli import main
from search.objective.judge import Judge
from search.service.live import LiveTrials, recent_seconds
from search.service.progress import SearchProgress, time_left_s, worker_line
from search.study.nearest import AtTheGate
from search.study.session import opened
from storage.records import AttemptRow

pytestmark = pytest.mark.postgres

ROUND2 = Path(__file__).parents[2] / "benchmarks" / "data" / "round2-fast.nkat"

GATE = AtTheGate(
    trial=3, dataset="cifar10", score=0.5560, threshold=0.6, accuracy=0.7351,
    accuracy_needed=0.7933, lam=20.0,
)  # fmt: skip


@pytest.fixture
def one(engine: Engine) -> Iterator[Told]:
    with told(engine, report_search(trials=6)) as made:
        yield made


def live(one: Told) -> LiveTrials:
    times = iter(range(10_000))
    return LiveTrials(board=one.board, search=one.search, clock=lambda: 10.0 * next(times))


def view(one: Told, *, terminal: bool, warning: str = "") -> str:
    console = Console(width=120, force_terminal=terminal, color_system=None)
    with (
        console.capture() as captured,
        SearchProgress(console=console, title="t", done=0, live=live(one)) as progress,
    ):
        for _ in range(2):
            progress.update(
                one.board.counts(), one.board.best(), one.board.workers(), gate=GATE,
                warning=warning,
            )  # fmt: skip
    return captured.get()


def test_a_worker_shows_its_trials_curve_against_the_gate(one: Told) -> None:
    claimed = one.claim()
    judge = Judge(search=one.search, lambdas=LAMBDAS)
    for epoch, accuracy in enumerate((0.3, 0.5, 0.7), start=1):
        one.board.report(claimed, step=epoch, value=judge.local(accuracy))
        one.board.progress(claimed, stage="1", dataset="cifar10", epoch=epoch)
    (row,) = one.board.workers()
    line = worker_line(row, live(one))
    assert line.startswith("cpu on here: trial 0, stage 1, cifar10 epoch 3 of 5  ")
    assert line.endswith(f" {judge.local(0.7):.3f} (gate 0.6)")
    assert len(line.split("  ")[1].split(" ")[0]) == 3  # a block an epoch


def test_ended_trials_and_what_stopping_saved(one: Told) -> None:
    one.end(GOOD)
    one.end({"cifar10": 0.7})
    text = view(one, terminal=True)
    assert "trial 0 complete: Global TPE score 0.6977" in text
    assert "trial 1 failed the gate" in text
    assert "stopping early saved" in text
    assert "left" in text


def test_the_time_left_of_a_recorded_search_after_a_fifth_of_it(database_url: str) -> None:
    """benchmarks/data/round2-fast.nkat: 50 trials on one H100, by one worker."""
    assert main(["restore", str(ROUND2), "--storage", database_url, "--force"]) == 0
    with opened(database_url, None, role="test") as session:
        attempts = sorted((a for a in session.board.attempts() if a.ended_at), key=ended_at)
        counts = session.board.counts()
    whole = [a for a in attempts if a.outcome in ("complete", "pruned")]
    assert len(whole) == counts.done == 50
    fifth = whole[50 // 5 - 1]
    so_far = [a for a in attempts if ended_at(a) <= ended_at(fifth)]
    left = [a for a in attempts if ended_at(a) > ended_at(fifth)]
    then = replace(counts, done=50 // 5, running=0, leased=0)
    said = time_left_s(then, recent_seconds(so_far), 1)
    assert said == pytest.approx(sum(seconds(a) for a in left), rel=0.2)


def ended_at(attempt: AttemptRow) -> datetime:
    assert attempt.ended_at is not None
    return attempt.ended_at


def seconds(attempt: AttemptRow) -> float:
    return (ended_at(attempt) - attempt.started_at).total_seconds()


def test_a_log_gets_a_line_a_trial_and_a_warning_once(one: Told) -> None:
    one.end(GOOD)
    text = view(one, terminal=False, warning="[/] nothing passes")
    lines = text.splitlines()
    assert lines[0] == "WARNING: [/] nothing passes"
    assert len(lines) == 3
    assert re.fullmatch(r"about \d+ s a trial so far: about \d+ s for 5 more", lines[1])
    assert lines[2].startswith("1/6 trials; 1 complete")
    assert "best gate margin -0.0440" in lines[2]
