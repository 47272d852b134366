"""An ended trial as a tracker's run: parameters, curves, scores, tags; plain values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Self

from search.space import Value
from search.study.trial_record import TrialRecord
from search.study.verdict import Verdict

EPOCH_SCORE = "epoch_tpe_score"
"""Local TPE score after each epoch of stage 1, by data set."""
SO_FAR = "global_tpe_score_so_far"
"""Global TPE score over the data sets trained so far, in stage 2."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """One value of a curve."""

    name: str
    step: int
    value: float


@dataclass(frozen=True, slots=True, kw_only=True)
class TrackedRun:
    """See the module's docstring.

    Args:
        number: the trial's.
        params: searched parameters, by name.
        points: its curves, in the order of training.
        scores: what the trial came to, by name.
        tags: what happened, in words, by name.
        failed: it was given up, or measured nothing.
        seconds: of training, both stages.
    """

    number: int
    params: Mapping[str, Value]
    points: Sequence[Point] = ()
    scores: Mapping[str, float] = field(default_factory=dict)
    tags: Mapping[str, str] = field(default_factory=dict)
    failed: bool = False
    seconds: float = 0.0

    @property
    def name(self) -> str:
        """Sorts as the number does."""
        return f"trial-{self.number:04d}"

    @classmethod
    def of(cls, trial: TrialRecord, *, datasets: Sequence[str], study: str) -> Self:
        """An ended trial.

        Args:
            datasets: of the search, the gate's first.
            study: its name.
        """
        verdict = trial.verdict
        tags = {"study": study, "trial": str(trial.number), "state": trial.state}
        if trial.outcome:
            tags["outcome"] = trial.outcome
        scores: dict[str, float] = {}
        if verdict is not None:
            tags["ending"] = verdict.ending.value
            scores = _scores(verdict)
        if trial.attributes is not None and trial.attributes.facts is not None:
            facts = trial.attributes.facts
            tags |= {"device": facts.device, "code_version": facts.code_version}
            tags |= {
                f"stand_in_for.{data.stand_in_for}": data.name
                for data in facts.data
                if data.stand_in_for is not None
            }
            scores |= {"parameters": float(facts.parameters), "tokens": float(facts.tokens)}
        return cls(
            number=trial.number,
            params=dict(trial.params),
            points=tuple(_points(trial, datasets)),
            scores=scores,
            tags={name: text for name, text in tags.items() if text},
            failed=verdict is None or trial.state not in ("complete", "pruned"),
            seconds=0.0 if verdict is None else verdict.effort.seconds,
        )


def _points(trial: TrialRecord, datasets: Sequence[str]) -> list[Point]:
    points = []
    for one in trial.epochs(datasets):
        if one.epoch is not None:
            name, step = f"{EPOCH_SCORE}/{one.dataset}", one.epoch
        else:
            name, step = SO_FAR, datasets.index(one.dataset) + 1
        points.append(Point(name=name, step=step, value=one.tpe_score))
    return points


def _scores(verdict: Verdict) -> dict[str, float]:
    found: dict[str, float | None] = {}
    if verdict.complete and verdict.scores is not None:
        found |= {
            "global_tpe_score": verdict.scores.global_tpe_score,
            "mean_accuracy": verdict.mean_accuracy,
            "consistency": verdict.scores.consistency,
            "robustness": verdict.scores.robustness,
            "generalization": verdict.scores.generalization,
        }
    if verdict.gate_accuracy is not None:
        found |= {"gate_score": verdict.gate.score, "gate_margin": verdict.gate.margin}
    for name, result in verdict.results.items():
        found |= {
            f"accuracy/{name}": result.accuracy,
            f"tpe_score/{name}": verdict.tpe_score(name),
        }
    found |= {
        "lambda": verdict.lam,
        "epochs": verdict.effort.epochs,
        "seconds_stage1": verdict.effort.seconds_stage1,
        "seconds_stage2": verdict.effort.seconds_stage2,
    }
    return {name: float(value) for name, value in found.items() if value is not None}
