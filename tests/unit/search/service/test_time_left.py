"""The time left, and a curve in one line."""

from __future__ import annotations

from typing import Any

from search.service.progress import time_left_s
from search.service.sparkline import sparkline
from storage.records import Counts

COUNTS: dict[str, Any] = {
    "budget": 50, "done": 10, "leased": 2, "open": 38, "complete": 1, "pruned": 9, "running": 2,
    "waiting": 0, "failed": 0, "attempts": 12, "retries": 0, "lost": 0, "failed_attempts": 0,
    "handed_back": 0, "closed": 0, "late": 0, "failure_rate": 0.0,
}  # fmt: skip


def test_the_last_trials_say_how_long_the_next_ones_take() -> None:
    counts = Counts(**COUNTS)
    assert time_left_s(counts, (), 2) is None
    # 38 trials that nobody has begun and two that are half done, two at a time.
    assert time_left_s(counts, (10.0, 30.0), 2) == 20.0 * 39 / 2
    assert time_left_s(counts, (20.0,), 0) == 20.0 * 39  # between two workers' lives
    assert time_left_s(Counts(**(COUNTS | {"done": 50, "running": 0})), (20.0,), 2) == 0.0


def test_a_curve_is_drawn_on_the_gates_scale() -> None:
    assert sparkline((0.0, 0.3, 0.59, 0.6, 0.9), top=0.6) == "\u2581\u2585\u2588\u2588\u2588"
    assert len(sparkline([0.5] * 40, top=0.6)) == 20
    assert sparkline((-0.1,), top=0.6) == "\u2581"
