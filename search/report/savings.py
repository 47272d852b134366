"""What stopping trials early saved, and against what."""

from __future__ import annotations

from dataclasses import dataclass

from search.export.tables import Saved, saved_by_gate
from search.report import words
from search.report.collected import Collected
from search.study.verdict import Ending


@dataclass(frozen=True, slots=True, kw_only=True)
class Savings:
    """`rows`: what stopped them, and the figures; none where nothing can be compared."""

    sentence: str
    rows: tuple[tuple[str, Saved], ...]


def savings(data: Collected) -> Savings:
    """Gate and bound apart; draws that could not be trained are no saving of theirs."""
    rows = tuple(
        (name, saved_by_gate(data.trials, ending=ending))
        for name, ending in (("gate", Ending.GATE), ("bound", Ending.BOUND))
    )
    stopped = sum(saved.stopped for _, saved in rows)
    mean = rows[0][1].stage2_seconds
    if not stopped:
        return Savings(sentence="Neither gate nor bound stopped a trial.", rows=())
    if mean is None:
        return Savings(
            sentence=f"Gate and bound stopped {words.count(stopped, 'trial')}.  What that saved "
            "cannot be said: no trial went through stage 2, so its length is not known.",
            rows=(),
        )
    hours = sum(saved.hours or 0.0 for _, saved in rows)
    spent = sum(
        trial.verdict.effort.seconds_stage1 + trial.verdict.effort.seconds_stage2
        for trial in data.trials
        if trial.verdict is not None
    )
    without = spent + 3600 * hours
    share = f", {100 * 3600 * hours / without:.0f} % of the whole" if without > 0 else ""
    return Savings(
        sentence=f"If each of the {words.count(stopped, 'stopped trial')} had gone through "
        f"stage 2 at the mean length of the {words.count(rows[0][1].passed, 'complete one')} "
        f"({words.seconds(mean)}), training would have taken {words.seconds(without)} of device "
        f"time instead of {words.seconds(spent)}: {words.seconds(3600 * hours)} saved{share}.  "
        "Stopped trials may be larger or smaller than those that passed, so this is an estimate.",
        rows=rows,
    )
