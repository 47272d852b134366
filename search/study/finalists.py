"""The best trials are run again, and the winner is chosen among them by the new runs alone.

The best of many trials owes part of its score to luck: it was chosen for it.  New runs, with
other training seeds, were not, so their mean is an honest estimate, and their spread says how
sure the choice is.  What is run again, and what came of it, follows from the trials alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import fmean
from typing import TYPE_CHECKING, Any

import optuna
from optuna.trial import FrozenTrial, TrialState

from search.score.probability_best import pooled_deviation, probabilities_best
from search.study.trial_attributes import Repeat
from search.study.trial_record import TrialRecord, best_first

if TYPE_CHECKING:
    from search.file.search_file import SearchFile
    from search.file.sections import FinalistsSection
    from storage.housekeeping import Housekeeper


@dataclass(frozen=True, slots=True, kw_only=True)
class Finalist:
    """One of the best trials.

    Args:
        trial: its number.
        score: Global TPE score of its run in the search, for which it was chosen.
        scores: of its new runs that are complete.
        out: why it is counted out; empty while it is not.
        probability: that it is the best of those that are not counted out; None while runs
            are open.
    """

    trial: int
    score: float
    scores: tuple[float, ...]
    out: str = ""
    probability: float | None = None

    @property
    def mean(self) -> float | None:
        """Of its new runs."""
        return fmean(self.scores) if self.scores else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Finalists:
    """All of them.

    Args:
        runs: new runs that each is to have.
        ranked: those not counted out: by mean once every run has ended, by the score of the
            search before.
        out: those counted out.
        open: runs that have not ended.
        deviation: standard deviation of one run, pooled over `ranked`; None while runs are
            open.
        seconds: device time of the runs that have ended.
    """

    runs: int
    ranked: tuple[Finalist, ...]
    out: tuple[Finalist, ...]
    open: int
    deviation: float | None
    seconds: float

    @classmethod
    def of(
        cls, trials: Sequence[TrialRecord], section: FinalistsSection | None
    ) -> Finalists | None:
        """As the trials have it; None where no new run was entered yet."""
        runs = _runs(trials)
        if section is None or not runs:
            return None
        found, open_runs, seconds = [], 0, 0.0
        for best in finalists(trials, section):
            scores, out = [], ""
            for number in range(1, section.runs + 1):
                run = runs.get(Repeat(trial=best.number, run=number))
                if run is None or run.state in ("running", "waiting"):
                    open_runs += 1
                elif run.complete and run.value is not None:
                    scores.append(run.value)
                else:
                    out = out or run.outcome or f"run {number} ended as {run.state}"
                if run is not None and run.verdict is not None:
                    seconds += run.verdict.effort.seconds
            found.append(
                Finalist(trial=best.number, score=best.value or 0.0, scores=tuple(scores), out=out)
            )
        ranked = [one for one in found if not one.out]
        deviation = None
        if ranked and not open_runs:
            every = [one.scores for one in ranked]
            deviation = pooled_deviation(every)
            chances = probabilities_best(every) or (None,) * len(every)
            ranked = [
                replace(one, probability=chance)
                for one, chance in zip(ranked, chances, strict=True)
            ]
            ranked.sort(key=lambda one: (-fmean(one.scores), one.trial))
        return cls(
            runs=section.runs,
            ranked=tuple(ranked),
            out=tuple(one for one in found if one.out),
            open=open_runs,
            deviation=deviation,
            seconds=seconds,
        )

    @property
    def winner(self) -> Finalist | None:
        """None while runs are open, or when every finalist is counted out."""
        return self.ranked[0] if self.ranked and not self.open else None

    def to_dict(self) -> dict[str, Any]:
        """For `--json` and best.yaml."""
        return {
            "runs": self.runs,
            "open": self.open,
            "seconds": self.seconds,
            "deviation": self.deviation,
            "ranked": [
                {
                    "trial": one.trial,
                    "score": one.score,
                    "scores": list(one.scores),
                    "mean": one.mean,
                    "probability": one.probability,
                }
                for one in self.ranked
            ],
            "out": [{"trial": one.trial, "score": one.score, "why": one.out} for one in self.out],
        }

    def sentence(self) -> str:
        """What came of it, without a full stop."""
        every = len(self.ranked) + len(self.out)
        lost = "".join(f"; trial {one.trial} is counted out ({one.out})" for one in self.out)
        if self.open:
            total = every * self.runs
            return f"finalists: {total - self.open} of {total} new runs have ended{lost}"
        if self.winner is None or self.deviation is None:
            return f"finalists: none of {every} is left{lost}"
        others = "".join(
            f"; trial {one.trial} {one.mean:.4f} ({_percent(one.probability)})"
            for one in self.ranked[1:]
        )
        return (
            f"of {every} finalist{'s' * (every > 1)}, each run {self.runs} more times, trial "
            f"{self.winner.trial} wins: mean Global TPE score {self.winner.mean:.4f} "
            f"(standard deviation of a run {self.deviation:.4f}), the best of them "
            f"with a probability of {_percent(self.winner.probability)}{others}{lost}"
        )


def finalists(trials: Iterable[TrialRecord], section: FinalistsSection) -> list[TrialRecord]:
    """The best of the search that passed its gate; trials told by others have no verdict."""
    passed = [t for t in best_first(trials) if t.verdict is not None and t.verdict.complete]
    return passed[: section.count]


def winner_first(trials: Sequence[TrialRecord], search: SearchFile) -> list[TrialRecord]:
    """The complete trials of the search: the finalists as their new runs rank them, once all
    of these have ended, then the others by their score."""
    ranked = best_first(trials)
    found = Finalists.of(trials, search.finalists)
    if found is None or found.winner is None:
        return ranked
    place = {one.trial: rank for rank, one in enumerate(found.ranked)}
    return sorted(ranked, key=lambda trial: place.get(trial.number, len(place)))


def missing_runs(trials: Iterable[FrozenTrial], section: FinalistsSection) -> list[FrozenTrial]:
    """The runs that finalists lack, to be entered; one that was entered is never again,
    whatever came of it."""
    every = {trial.number: trial for trial in trials}
    records = [TrialRecord.of_frozen(trial) for trial in every.values()]
    runs = _runs(records)
    wanted = [
        Repeat(trial=best.number, run=number)
        for number in range(1, section.runs + 1)
        for best in finalists(records, section)
    ]
    return [
        optuna.trial.create_trial(
            state=TrialState.WAITING,
            params=every[repeat.trial].params,
            distributions=every[repeat.trial].distributions,
            user_attrs=repeat.to_flat(),
        )
        for repeat in wanted
        if repeat not in runs
    ]


def enter_finalists(board: Housekeeper, search: SearchFile) -> int:
    """Once the budget is used up: enters the finalists' runs, whoever comes first.

    Returns:
        Trials still to be done; 0 when the search is over.
    """
    section = search.finalists
    if section is None:
        return 0
    return board.enter_repeats(lambda trials: missing_runs(trials, section))


def _runs(trials: Iterable[TrialRecord]) -> Mapping[Repeat, TrialRecord]:
    return {trial.repeats: trial for trial in trials if trial.repeats is not None}


def _percent(probability: float | None) -> str:
    return "?" if probability is None else f"{100 * probability:.0f} %"
