"""The trial that came nearest to passing: what a search says when nothing passed."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from search.score.gate import threshold_text
from search.study.trial_record import TrialRecord, searched


@dataclass(frozen=True, slots=True, kw_only=True)
class AtTheGate:
    """How one trial stood at the gate; accuracies in 0..1, on validation images.

    Args:
        trial: its number.
        dataset: the gate's.
        score, threshold: local TPE score reached, and the one that passes.
        accuracy, accuracy_needed: the same as accuracies, at this trial's lambda.
        lam: that lambda.
    """

    trial: int
    dataset: str
    score: float
    threshold: float
    accuracy: float
    accuracy_needed: float
    lam: float

    @property
    def margin(self) -> float:
        return self.score - self.threshold

    def to_dict(self) -> dict[str, Any]:
        """For `status --json`."""
        return {
            "trial": self.trial,
            "dataset": self.dataset,
            "score": self.score,
            "threshold": self.threshold,
            "margin": self.margin,
            "accuracy": self.accuracy,
            "accuracy_needed": self.accuracy_needed,
            "lambda": self.lam,
        }

    def short(self) -> str:
        """`best gate margin -0.0440 (trial 3: accuracy 0.7351, needs 0.7933)`."""
        return (
            f"best gate margin {self.margin:+.4f} (trial {self.trial}: accuracy "
            f"{self.accuracy:.4f}, needs {self.accuracy_needed:.4f})"
        )

    def sentence(self) -> str:
        """How near it came and what was missing, with the arithmetic."""
        if self.margin >= 0:
            return (
                f"trial {self.trial} passed the gate ({self.score:.4f} on {self.dataset}, "
                f"accuracy {self.accuracy:.4f}) and came nearest"
            )
        threshold = threshold_text(self.threshold)
        return (
            f"trial {self.trial} came nearest: its local TPE score on {self.dataset} is "
            f"{self.score:.4f}, {-self.margin:.4f} below the gate of {threshold}; that "
            f"takes an accuracy of {threshold} * log10(1 + {self.lam:.4g}) = "
            f"{self.accuracy_needed:.4f}, and it reached {self.accuracy:.4f} "
            f"({100 * (self.accuracy_needed - self.accuracy):.2f} points short)"
        )


def nearest(trials: Iterable[TrialRecord]) -> TrialRecord | None:
    """The trial with the best gate margin, the earliest among equals.

    None while no trial was trained to the end on the gate's data set.
    """
    measured = [
        (trial.verdict.gate.margin, -trial.number, trial)
        for trial in searched(trials)
        if trial.verdict is not None and trial.verdict.gate_accuracy is not None
    ]
    return max(measured, key=lambda row: row[:2])[2] if measured else None


def at_the_gate(trial: TrialRecord) -> AtTheGate | None:
    """How it stood there; None where it was not trained on that set to the end."""
    verdict = trial.verdict
    if verdict is None or verdict.gate_accuracy is None:
        return None
    if verdict.gate_needs is None or verdict.lam is None:
        return None
    return AtTheGate(
        trial=trial.number,
        dataset=verdict.gate_dataset,
        score=verdict.gate.score,
        threshold=verdict.gate.threshold,
        accuracy=verdict.gate_accuracy,
        accuracy_needed=verdict.gate_needs,
        lam=verdict.lam,
    )


def best_at_the_gate(trials: Iterable[TrialRecord]) -> AtTheGate | None:
    """How the nearest trial stood at the gate."""
    found = nearest(trials)
    return None if found is None else at_the_gate(found)


def none_passed(trials: Iterable[TrialRecord]) -> str:
    """Why there is no best configuration, in one sentence without its full stop."""
    every = [trial for trial in searched(trials) if trial.state in ("complete", "pruned", "fail")]
    found = nearest(every)
    gate = None if found is None else at_the_gate(found)
    if found is None or gate is None:
        last = next((trial.outcome for trial in reversed(every) if trial.outcome), "")
        why = f"; the last one: {last}" if last else ""
        return f"none of {len(every)} ended trials was trained on the gate's data set{why}"
    if gate.margin >= 0:
        return f"no trial is complete: {gate.sentence()}, but ended early: {found.outcome}"
    return f"none of {len(every)} ended trials passed the gate: {gate.sentence()}"
