"""Device time that stopping trials early saved, by what stopped them.

Every figure is a difference to a stated counterfactual: what the same trial would have
cost if that one thing had not stopped it.  Trials differ 17-fold in cost, so a trial is
measured by its own stage 1: stage 2 takes a nearly constant multiple of it (1.81 to 1.82
in a search of 39 trials), which the complete trials of the study give.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from search.study.trial_record import TrialRecord, searched
from search.study.verdict import Ending, Verdict

S_PER_HOUR = 3600.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Saved:
    """What one kind of stop saved.

    Args:
        stopped: trials that it ended.
        hours: device-hours not spent; None while the counterfactual cannot be computed.
        counterfactual: what those trials would have done otherwise, a phrase.
    """

    stopped: int
    hours: float | None
    counterfactual: str

    def to_dict(self) -> dict[str, Any]:
        return {
            "stopped": self.stopped,
            "hours": self.hours,
            "counterfactual": self.counterfactual,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class SavedHours:
    """All of it; no second is counted twice, so the parts can be added.

    Args:
        by: rungs, gate, bound.
        spent_hours: device-hours of all trials that ended.
        stage2_ratio: length of stage 2 by that of stage 1, of the complete trials; None
            while there is none.
        complete: how many those are.
    """

    by: dict[str, Saved]
    spent_hours: float
    stage2_ratio: float | None
    complete: int

    @property
    def stopped(self) -> int:
        """Trials, each by the one thing that ended it."""
        return sum(part.stopped for part in self.by.values())

    @property
    def hours(self) -> float | None:
        """All of it; None while a part is not known."""
        hours = [part.hours for part in self.by.values()]
        return None if None in hours else sum(part for part in hours if part is not None)

    def to_dict(self) -> dict[str, Any]:
        """For `--json` and best.yaml."""
        return {
            "hours": self.hours,
            "spent_hours": self.spent_hours,
            "stage2_ratio": self.stage2_ratio,
            "complete": self.complete,
            "by": {name: part.to_dict() for name, part in self.by.items()},
        }

    def sentence(self) -> str:
        """One line without a full stop; empty while nothing was stopped."""
        if not self.stopped:
            return ""
        parts = [
            f"{name} {'?' if part.hours is None else f'{part.hours:.3f}'} ({part.stopped})"
            for name, part in self.by.items()
            if part.stopped or part.hours or part.hours is None
        ]
        if self.hours is None:
            return (
                f"stopped early: {', '.join(parts)}; what that saved is known once a trial "
                "is complete"
            )
        return (
            f"stopping early saved {self.hours:.3f} device-hours beside {self.spent_hours:.3f} "
            f"spent, by what stopped (trials): {', '.join(parts)}"
        )


def saved_hours(trials: Iterable[TrialRecord]) -> SavedHours:
    """From the trials of a search, ended or not; runs of finalists are none of its cost."""
    every = [(t, t.verdict) for t in searched(trials) if t.verdict is not None]
    complete = [verdict for trial, verdict in every if trial.complete]
    stopped = [verdict for trial, verdict in every if trial.state == "pruned"]
    ratio = _ratio(complete)
    rungs = [verdict for verdict in stopped if verdict.ending is Ending.RUNG]
    by_gate = [verdict for verdict in rungs if verdict.to_beat is None]
    by_best = [verdict for verdict in rungs if verdict.to_beat is not None]
    gate = [verdict for verdict in stopped if verdict.ending is Ending.GATE]
    bound = [verdict for verdict in stopped if verdict.ending is Ending.BOUND]
    long = "" if ratio is None else f", {ratio:.2f} times its stage 1 as in the complete trials"
    return SavedHours(
        by={
            "rungs": Saved(
                stopped=len(rungs),
                hours=sum(_stage1_s(v) - v.effort.seconds_stage1 for v in rungs) / S_PER_HOUR,
                counterfactual="the rest of stage 1, each epoch as long as its own before; the "
                "gate or the bound would then have ended it",
            ),
            "gate": Saved(
                stopped=len(gate),
                hours=_hours([*gate, *by_gate], ratio),
                counterfactual=f"all of stage 2{long}, also for those that a rung stopped because "
                "of the gate; the bound might have ended it sooner",
            ),
            "bound": Saved(
                stopped=len(bound),
                hours=_hours([*bound, *by_best], ratio),
                counterfactual=(
                    f"the rest of stage 2, the whole of which takes{long[1:]}"
                    if long
                    else "the rest of stage 2"
                )
                + "; all of it for those that a rung stopped because of the best score",
            ),
        },
        spent_hours=sum(verdict.effort.seconds for _, verdict in every) / S_PER_HOUR,
        stage2_ratio=ratio,
        complete=len(complete),
    )


def _ratio(complete: list[Verdict]) -> float | None:
    stage1 = sum(verdict.effort.seconds_stage1 for verdict in complete)
    stage2 = sum(verdict.effort.seconds_stage2 for verdict in complete)
    return stage2 / stage1 if stage1 > 0 else None


def _hours(stopped: list[Verdict], ratio: float | None) -> float | None:
    """Stage 2 of these trials, less what they spent in it."""
    if ratio is None:
        return None if stopped else 0.0
    left = (_stage1_s(v) * ratio - v.effort.seconds_stage2 for v in stopped)
    return sum(max(0.0, seconds) for seconds in left) / S_PER_HOUR


def _stage1_s(verdict: Verdict) -> float:
    """Length of the whole stage 1, foreseen where a rung cut it short."""
    rung = verdict.rung
    share = 1.0 if rung is None else rung.epoch / rung.epochs
    return verdict.effort.seconds_stage1 / share
