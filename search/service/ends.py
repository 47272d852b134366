"""When a search ends before its budget of trials: a time budget, a target."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

from nkat_errors import BadInput
from search.terminal import duration

_SECONDS = {"s": 1, "m": 60, "min": 60, "h": 3600, "d": 86400}


def parse_duration(text: str) -> float:
    """Seconds of `90s`, `45m`, `2h`, `1.5h` or `1h30m`.

    Raises:
        BadInput: it is none of these, or not above 0.
    """
    parts = re.findall(r"(\d+(?:\.\d+)?)\s*(min|[smhd])", text.strip())
    whole = "".join(number + unit for number, unit in parts)
    seconds = sum(float(number) * _SECONDS[unit] for number, unit in parts)
    if whole != re.sub(r"\s+", "", text) or seconds <= 0:
        raise BadInput(f"{text!r} is no length of time: write 90s, 45m, 2h or 1h30m")
    return seconds


@dataclass(frozen=True, slots=True, kw_only=True)
class Ends:
    """What ends a search early; None for what does not.

    Args:
        timeout_s: seconds from `started_at`.
        stop_at: a Global TPE score that is enough.
        started_at: of the clock.
        clock: monotonic seconds.
    """

    timeout_s: float | None
    stop_at: float | None
    started_at: float
    clock: Callable[[], float]

    def reached(self, best: tuple[int, float] | None) -> str | None:
        """Why the search ends now, as a sentence; None while it goes on.

        Args:
            best: number and Global TPE score of the best trial.
        """
        if self.stop_at is not None and best is not None and best[1] >= self.stop_at:
            return f"trial {best[0]} reached a Global TPE score of {best[1]:.4f} >= {self.stop_at}"
        if self.timeout_s is not None and self.clock() - self.started_at >= self.timeout_s:
            return f"the time budget of {duration(self.timeout_s)} is used up"
        return None
