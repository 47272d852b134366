"""The timeline: pauses cut out, losses end at the last sign of life, waits counted."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any
from uuid import UUID

import pytest

from search.report.timeline import WorkingTime, timeline
from storage.records import AttemptRow
from storage.states import Attempt

ZERO = datetime(2026, 11, 24, tzinfo=UTC)


def at(seconds: float) -> datetime:
    return ZERO + timedelta(seconds=seconds)


def attempt(
    number: int,
    start: float,
    end: float | None,
    *,
    worker: int = 1,
    again: int = 1,
    outcome: Attempt = Attempt.PRUNED,
    seen: float | None = None,
) -> AttemptRow:
    return AttemptRow(
        number=number,
        attempt=again,
        worker_id=UUID(int=worker),
        outcome=outcome,
        reason="",
        stage=None,
        first_stage=None,
        started_at=at(start),
        ended_at=None if end is None else at(end),
        last_seen_at=None if seen is None else at(seen),
    )


def drawn(*attempts: AttemptRow, now: float = 1000) -> Any:
    data: Any = SimpleNamespace(attempts=attempts, made_at=at(now))
    return timeline(data)


def test_working_time_leaves_pauses_out() -> None:
    work = WorkingTime.of([(at(0), at(100)), (at(50), at(120)), (at(125), at(200))])
    assert work.seconds == 200, "a gap of 5 s is no pause"
    assert work.pauses == ()
    work = WorkingTime.of([(at(0), at(100)), (at(5000), at(5100))])
    assert (work.seconds, work.pauses) == (200, (100,))
    assert [work.until(at(s)) for s in (-5, 0, 60, 3000, 5050, 9000)] == [0, 0, 60, 100, 150, 200]


def test_losses_and_retries_are_marked_and_told() -> None:
    figure = drawn(
        attempt(0, 0, 100),
        attempt(1, 0, 130, worker=2, outcome=Attempt.LOST, seen=60),
        attempt(1, 104, 200, again=2, outcome=Attempt.COMPLETE),
        attempt(2, 104, None, worker=3, outcome=Attempt.RUNNING),
        now=200,
    )
    assert figure.sentence == (
        "3 workers made 4 attempts in 3.3 min of work, 1.8 of them at work at a time; 1 trial had "
        "to go on elsewhere, after a wait of 44 s (median) from the last sign of life."
    )
    (panel,) = figure.panels
    svg = str(panel.svg)
    assert svg.count('class="stretch') == 4  # one path a kind
    assert 'class="marks broken"' in svg
    assert "Attempts of 3 workers over 3.3 min of work" in svg


def test_a_search_that_stood_still_shows_the_pause() -> None:
    figure = drawn(attempt(0, 0, 100), attempt(1, 90_000, 90_100))
    (panel,) = figure.panels
    assert "Dashed: 1 pause cut out." in panel.caption
    assert "200 s of work" in figure.sentence or "3.3 min" in figure.sentence


@pytest.mark.parametrize("workers", [1, 40])
def test_any_number_of_workers(workers: int) -> None:
    figure = drawn(*(attempt(n, n, n + 10, worker=n) for n in range(workers)))
    svg = str(figure.panels[0].svg)
    assert svg.count('class="tick"') < 40
    assert f">{workers}</text>" in svg, "the last worker has its number"


def test_one_attempt_of_no_length() -> None:
    assert drawn(attempt(0, 5, 5)).panels
    nothing = drawn()
    assert (nothing.panels, nothing.sentence) == ((), "No worker has begun a trial yet.")
