"""What one trial came to: measured, judged once, and never changed again.

A `Verdict` is made at a trial's end (search/objective/judge.py).  The study's value,
Optuna's constraints, the graded report and the flat attributes
(search/study/trial_attributes.py) are views of it, and readers get the same value back.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass
from statistics import fmean
from typing import Self

from search.score.gate import Gate, GateVerdict, threshold_text
from search.score.tpe_score import (
    LambdaReading,
    Lambdas,
    Scores,
    accuracy_needed,
    score_all,
)

NEVER_SCORED = 0.0
"""Graded report of a trial that measured nothing: the worst score."""

LONGEST_TEXT = 160
"""Characters of a sentence; optuna-dashboard's page of a trial does not wrap them, and
the worker's log has an error's whole text."""

FIRST_STEP = 1
"""Optuna's step of the first epoch of stage 1."""


class Ending(enum.StrEnum):
    """How a trial ended.  The last three are also the keys of their constraints."""

    OPEN = "open"  # it goes on
    COMPLETE = "complete"
    RUNG = "rung"
    GATE = "gate"
    BOUND = "bound"
    OUT_OF_MEMORY = "out_of_memory"
    DIVERGED = "diverged"
    INFEASIBLE = "infeasible"


CANNOT_TRAIN = (Ending.OUT_OF_MEMORY, Ending.DIVERGED, Ending.INFEASIBLE)


@dataclass(frozen=True, slots=True, kw_only=True)
class SetResult:
    """One data set, trained to the end.

    Args:
        accuracy: on the validation split, 0..1, of the better of raw and averaged weights.
        weights: which of them: `raw` or `ema`.
    """

    accuracy: float
    weights: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Effort:
    """What a trial cost, all attempts together: epochs trained and their wall time."""

    epochs: int = 0
    seconds_stage1: float = 0.0
    seconds_stage2: float = 0.0

    @property
    def seconds(self) -> float:
        """Of both stages."""
        return self.seconds_stage1 + self.seconds_stage2

    def epoch(self, *, stage: int, seconds: float) -> Effort:
        """With one more epoch; to the millisecond."""
        one, two = self.seconds_stage1, self.seconds_stage2
        if stage == 1:
            one = round(one + seconds, 3)
        else:
            two = round(two + seconds, 3)
        return Effort(epochs=self.epochs + 1, seconds_stage1=one, seconds_stage2=two)


@dataclass(frozen=True, slots=True, kw_only=True)
class RungStop:
    """Where a trial was stopped in the middle of stage 1; scores are local TPE scores.

    Args:
        epoch: the last one trained, from 1.
        epochs: of the whole stage.
        score: measured after that epoch.
        expected: that plus the mean gain from there to the end.
        at_most: score plus that gain and the spread that the search file allows: below the
            gate, or too low for the best Global TPE score.
        trials: that the gains were taken from.
    """

    epoch: int
    epochs: int
    score: float
    expected: float
    at_most: float
    trials: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """See the module's docstring; `Verdict.of` makes one, the judge may end it early.

    Args:
        ending: how the trial ended.
        datasets: all data sets of the search in its order, the gate's first.
        results: of those that were trained to the end.
        lambdas: the three readings; None when no network was built.
        reading: which of them divides the accuracies.
        gate: the gate's verdict; a set that was not trained to the end is judged as 0.
        scores: over all data sets, a missing one counting as 0; None without a lambda.
        effort: epochs and seconds.
        rung: where stage 1 was cut short, where that ended the trial; because of the best
            Global TPE score if there is a `to_beat`, else because of the gate.
        bound: largest Global TPE score that was still possible, where that ended the trial.
        bound_slack: what the bound added to the best accuracy seen on each set that was left;
            None where it took accuracy 1 for them, which nothing can exceed.
        to_beat: the best score of the search, which `bound` did not exceed.
        reason: why it could not be trained, where that ended it; one line.
    """

    ending: Ending
    datasets: tuple[str, ...]
    results: Mapping[str, SetResult]
    lambdas: Lambdas | None
    reading: LambdaReading
    gate: GateVerdict
    scores: Scores | None
    effort: Effort
    rung: RungStop | None = None
    bound: float | None = None
    bound_slack: float | None = None
    to_beat: float | None = None
    reason: str = ""

    @classmethod
    def of(
        cls,
        *,
        datasets: tuple[str, ...],
        results: Mapping[str, SetResult],
        lambdas: Lambdas | None,
        reading: LambdaReading,
        threshold: float,
        effort: Effort,
    ) -> Self:
        """Scores, gate and ending from what was measured.

        Args:
            threshold: local TPE score that passes the gate.

        Returns:
            One whose ending is COMPLETE when all data sets are done, GATE when the
            gate's is done and failed, else OPEN.

        Raises:
            BadInput: the lambda in use is not positive.
        """
        scores = None
        if lambdas is not None:
            accuracies = {n: results[n].accuracy if n in results else None for n in datasets}
            scores = score_all(accuracies, lambdas.of(reading))
        local = None if scores is None else scores.local[datasets[0]]
        gate = Gate(threshold=threshold).judge(local)
        ending = Ending.OPEN
        if local is not None and not gate.passed:
            ending = Ending.GATE
        elif all(name in results for name in datasets):
            ending = Ending.COMPLETE
        return cls(
            ending=ending,
            datasets=datasets,
            results=dict(results),
            lambdas=lambdas,
            reading=reading,
            gate=gate,
            scores=scores,
            effort=effort,
        )

    # -- what the study is told -------------------------------------------------------

    @property
    def complete(self) -> bool:
        """All data sets were trained; every other ending is PRUNED."""
        return self.ending is Ending.COMPLETE

    @property
    def value(self) -> float | None:
        """The Global TPE score; None when the trial is PRUNED."""
        return self.scores.global_tpe_score if self.complete and self.scores else None

    @property
    def constraints(self) -> dict[str, float]:
        """Optuna's constraints, positive when violated: the gate's, always (a missing one
        would count as feasible), and one that says why nothing could be trained.

        A trial stopped at a rung has the gate's by the score it was expected to reach, so
        that it ranks among those that were trained to the end.
        """
        found = {"gate": self.gate.constraint}
        if self.rung is not None:
            found["gate"] = self.gate.threshold - self.rung.expected
        if self.ending in CANNOT_TRAIN:
            found[self.ending.value] = 1.0
        return found

    @property
    def report(self) -> tuple[int, float] | None:
        """(step, value) for the sampler where no data set was trained to the end.

        None where one was, or was begun and stopped at a rung: its own reports, made while it
        was trained, say what it reached.
        """
        return None if self.results or self.rung else (FIRST_STEP, NEVER_SCORED)

    # -- what people ask --------------------------------------------------------------

    @property
    def gate_dataset(self) -> str:
        return self.datasets[0]

    @property
    def lam(self) -> float | None:
        """The lambda in use."""
        return None if self.lambdas is None else self.lambdas.of(self.reading)

    @property
    def gate_accuracy(self) -> float | None:
        """Accuracy on the gate's set; None where it was not trained to the end."""
        result = self.results.get(self.gate_dataset)
        return None if result is None else result.accuracy

    @property
    def gate_needs(self) -> float | None:
        """Accuracy on the gate's set that just passes, at this trial's lambda."""
        return None if self.lam is None else accuracy_needed(self.gate.threshold, self.lam)

    @property
    def mean_accuracy(self) -> float | None:
        """Over all data sets; None while one is missing."""
        if any(name not in self.results for name in self.datasets):
            return None
        return fmean(result.accuracy for result in self.results.values())

    def tpe_score(self, dataset: str) -> float | None:
        """Local TPE score on one set; None where it was not trained to the end."""
        return None if self.scores is None else self.scores.local.get(dataset)

    @property
    def outcome(self) -> str:
        """What happened and why, one short sentence without a full stop."""
        sets, done = len(self.datasets), len(self.results)
        match self.ending:
            case Ending.COMPLETE:
                return f"complete: Global TPE score {self.value:.4f} over {sets} sets"
            case Ending.RUNG if self.rung is not None:
                return f"{self._stopped_at(self.rung)}, {self._not_enough}"
            case Ending.GATE:
                return (
                    f"failed the gate: local TPE score {self.gate.score:.4f} on "
                    f"{self.gate_dataset} is below {threshold_text(self.gate.threshold)} (margin "
                    f"{self.gate.margin:+.4f}); accuracy {self.gate_accuracy:.4f}, needed "
                    f"{self.gate_needs:.4f}"
                )
            case Ending.BOUND:
                best = "accuracy 1"
                if self.bound_slack is not None:
                    best = f"the best accuracies seen + {self.bound_slack:g}"
                return (
                    f"stopped in stage 2 after {done} of {sets} sets: even with {best} on the "
                    f"rest the Global TPE score is {self.bound:.4f}, not above {self.to_beat:.4f}"
                )
            case Ending.OPEN:
                return f"goes on after {done} of {sets} sets"
            case Ending.INFEASIBLE:
                return shortened(f"infeasible: {self.reason}")
            case _:
                # A set is begun when all before it are done.
                return shortened(f"could not be trained on {self.datasets[done]}: {self.reason}")

    @staticmethod
    def _stopped_at(rung: RungStop) -> str:
        return (
            f"stopped after {rung.epoch} of {rung.epochs} epochs: local TPE score "
            f"{rung.score:.4f} can become {rung.at_most:.4f} at most (by {rung.trials} trials)"
        )

    @property
    def _not_enough(self) -> str:
        """What a trial that was stopped at a rung could not reach."""
        if self.to_beat is None:
            return f"the gate is {threshold_text(self.gate.threshold)}"
        return f"the Global TPE score {self.bound:.4f}, not above {self.to_beat:.4f}"


def shortened(words: str) -> str:
    """On one line of at most `LONGEST_TEXT` characters."""
    line = " ".join(words.split())
    return line if len(line) <= LONGEST_TEXT else line[: LONGEST_TEXT - 3] + "..."
