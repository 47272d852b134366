"""What stopping trials early saved, and against what."""

from __future__ import annotations

from dataclasses import dataclass

from search.report import words
from search.report.collected import Collected
from search.study.saved import S_PER_HOUR, Saved, saved_hours


@dataclass(frozen=True, slots=True, kw_only=True)
class Savings:
    """`rows`: what stopped trials, and the figures; none where nothing was stopped."""

    sentence: str
    rows: tuple[tuple[str, Saved], ...]


def savings(data: Collected) -> Savings:
    """By what stopped them; draws that could not be trained are no saving."""
    found = saved_hours(data.trials)
    names = words.listed(list(found.by))
    if not found.stopped:
        return Savings(sentence=f"No trial was stopped by {names}.", rows=())
    rows = tuple(found.by.items())
    if found.hours is None or found.stage2_ratio is None:
        return Savings(
            sentence=f"{words.count(found.stopped, 'trial')} ended early.  What a stage 2 that "
            "was not begun would have taken cannot be said: no trial went through it.",
            rows=rows,
        )
    saved, spent = S_PER_HOUR * found.hours, S_PER_HOUR * found.spent_hours
    share = f", {100 * saved / (spent + saved):.0f} % of the whole" if spent + saved > 0 else ""
    return Savings(
        sentence=f"{words.count(found.stopped, 'trial')} ended early.  Had each done what stands "
        f"beside it, training would have taken {words.seconds(spent + saved)} of device time "
        f"instead of {words.seconds(spent)}: {words.seconds(saved)} saved{share}.  Stage 2 is "
        f"taken as {found.stage2_ratio:.2f} times a trial's own stage 1, as in the "
        f"{words.count(found.complete, 'complete one')}; no second is counted twice.",
        rows=rows,
    )
