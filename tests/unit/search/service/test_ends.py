"""What ends a search before its budget of trials is used up."""

from __future__ import annotations

import pytest

from nkat_errors import BadInput
from search.service.ends import Ends, parse_duration


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("90s", 90), ("45m", 2700), ("45 min", 2700), ("2h", 7200), ("1.5h", 5400), ("1h30m", 5400)],
)
def test_lengths_of_time(text: str, seconds: float) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize("text", ["90", "", "2 weeks", "h", "-2h", "0s", "2h and more", "1e400s"])
def test_what_is_no_length_of_time(text: str) -> None:
    with pytest.raises(BadInput, match="no length of time"):
        parse_duration(text)


def test_a_target_and_a_time_budget() -> None:
    now = 100.0
    ends = Ends(timeout_s=60, stop_at=0.7, started_at=100.0, clock=lambda: now)
    assert ends.reached(None) is None
    assert ends.reached((3, 0.6999)) is None
    assert ends.reached((3, 0.7)) == "trial 3 reached a Global TPE score of 0.7000 >= 0.7"
    now = 160.0
    assert ends.reached((3, 0.6)) == "the time budget of 1 min 00 s is used up"
    assert (
        Ends(timeout_s=None, stop_at=None, started_at=0, clock=lambda: now).reached(None) is None
    )
