"""Scores of several seeds: mean, standard deviation, and the source's targets."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from search.score.explain import TARGET
from search.score.tpe_score import Scores, score_all

TARGETS: dict[str, float] = {
    "global_tpe_score": TARGET,
    "consistency": 0.80,
    "robustness": 0.75,
}
"""The source's goals, by score over all data sets; Generalization has none."""

OVER_ALL = ("global_tpe_score", "consistency", "robustness", "generalization")
"""The scores over all data sets."""

Judgement = Literal["PASS", "FAIL"]


@dataclass(frozen=True, slots=True, kw_only=True)
class MeanStd:
    """Mean and sample standard deviation (n - 1) of numbers.

    Args:
        mean: None for no number at all.
        std: None for fewer than two.
    """

    mean: float | None
    std: float | None

    @classmethod
    def of(cls, values: Iterable[float | None]) -> MeanStd:
        """None and NaN (a training that broke down) are left out."""
        known = [value for value in values if value is not None and math.isfinite(value)]
        return cls(
            mean=statistics.fmean(known) if known else None,
            std=statistics.stdev(known) if len(known) > 1 else None,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class SeedScores:
    """All scores of several seeds.

    Args:
        per_seed: the scores of each seed over all data sets.
        local: local TPE score by data set, over the seeds.
        over_all: by name of `OVER_ALL`, over the seeds.
    """

    per_seed: tuple[Scores, ...]
    local: dict[str, MeanStd]
    over_all: dict[str, MeanStd]

    @classmethod
    def of(cls, accuracies: Mapping[str, Sequence[float | None]], lam: float) -> SeedScores:
        """From accuracies by data set and seed; None where a training broke down, which
        counts as 0 in the Global TPE score of its seed.

        Args:
            accuracies: equally many for every data set, 0..1.
            lam: the lambda in use.
        """
        rows = zip(*accuracies.values(), strict=True)
        per_seed = tuple(score_all(dict(zip(accuracies, row, strict=True)), lam) for row in rows)
        return cls(
            per_seed=per_seed,
            local={name: MeanStd.of(one.local[name] for one in per_seed) for name in accuracies},
            over_all={
                name: MeanStd.of(getattr(one, name) for one in per_seed) for name in OVER_ALL
            },
        )


def judge(name: str, mean: float | None) -> Judgement | None:
    """Whether the mean of a score reaches its target; None for one without a target."""
    if name not in TARGETS:
        return None
    return "PASS" if mean is not None and mean >= TARGETS[name] else "FAIL"
