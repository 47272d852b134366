"""Stage 1's door: only a trial with a high enough local TPE score goes on."""

from __future__ import annotations

import math
from dataclasses import dataclass

SOURCE_GATE = ("cifar10", 0.60)
"""The source's data set and threshold, where no file names others."""


def threshold_text(threshold: float) -> str:
    """`0.60`, or as many digits as it takes: a rounded threshold would be another."""
    text = f"{threshold:.2f}"
    return text if float(text) == threshold else f"{threshold:g}"


@dataclass(frozen=True, slots=True, kw_only=True)
class GateVerdict:
    """What the gate said.

    Args:
        score: the local TPE score that was judged (0 where there was none).
        threshold: the score that passes.
    """

    score: float
    threshold: float

    @property
    def margin(self) -> float:
        """score - threshold; negative for a failure."""
        return self.score - self.threshold

    @property
    def passed(self) -> bool:
        """Stage 2 may start."""
        return self.margin >= 0

    @property
    def constraint(self) -> float:
        """threshold - score, in Optuna's sense: a value above 0 is infeasible."""
        return -self.margin


@dataclass(frozen=True, slots=True, kw_only=True)
class Gate:
    """Passes a local TPE score >= threshold."""

    threshold: float

    def judge(self, score: float | None) -> GateVerdict:
        """A missing or NaN score (diverged, out of memory) is judged as 0, so that
        the record stays graded and finite, which the sampler needs to learn."""
        value = score if score is not None and math.isfinite(score) else 0.0
        return GateVerdict(score=value, threshold=self.threshold)
