"""Requests to stop: which signals are one request, and which are two."""

from __future__ import annotations

import pytest

from search.worker.signals import StopRequest


@pytest.mark.parametrize(
    ("signals", "count"),
    [
        ([("SIGTERM", 0.0)], 1),
        ([("SIGTERM", 0.0), ("SIGTERM", 0.1)], 1),
        ([("SIGTERM", 0.0), ("SIGTERM", 0.1), ("SIGTERM", 9.0)], 2),
        ([("SIGINT", 0.0), ("SIGINT", 0.5)], 2),
        ([("SIGTERM", 0.0), ("SIGINT", 0.5)], 2),
    ],
)
def test_sigterms_of_one_moment_are_one_request(
    signals: list[tuple[str, float]], count: int
) -> None:
    times = iter([at for _, at in signals])
    stop = StopRequest(clock=lambda: next(times))
    for name, _ in signals:
        stop(name)
    assert stop.count == count
