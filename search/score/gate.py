"""Stage 1's door: only a trial with a high enough local TPE score goes on."""

from __future__ import annotations

import math
from dataclasses import dataclass

SOURCE_GATE = ("cifar10", 0.60)
"""The source's data set and threshold, where no file names others."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What the gate said.

    Args:
        passed: stage 2 may start.
        score: the local TPE score that was judged (0 where there was none).
        margin: score - threshold; negative for a failure.
    """

    passed: bool
    score: float
    margin: float

    @property
    def constraint(self) -> float:
        """threshold - score, in Optuna's sense: a value above 0 is infeasible."""
        return -self.margin


@dataclass(frozen=True, slots=True, kw_only=True)
class Gate:
    """Passes a local TPE score >= threshold."""

    threshold: float

    def judge(self, score: float | None) -> Verdict:
        """A missing or NaN score (diverged, out of memory) is judged as 0, so that
        the record stays graded and finite, which the sampler needs to learn."""
        value = score if score is not None and math.isfinite(score) else 0.0
        margin = value - self.threshold
        return Verdict(passed=margin >= 0, score=value, margin=margin)
