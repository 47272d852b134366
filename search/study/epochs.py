"""What a trial reported while it was trained: one value an epoch in stage 1, one a set in 2."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from search.score.tpe_score import weight

STAGE_2_STEP = 10_000
"""Stage-2 reports start above this step, so that a pruner never compares a mean over
several sets with a stage-1 epoch (their meanings differ)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EpochValue:
    """One report.

    Args:
        stage: 1 or 2.
        dataset: that was trained.
        epoch: from 1; None in stage 2, which reports at the end of each set.
        tpe_score: in stage 1 local, after this epoch; in stage 2 over all sets so far.
        accuracy: the same as an accuracy; None while the trial's lambda is not known.
    """

    stage: int
    dataset: str
    epoch: int | None
    tpe_score: float
    accuracy: float | None


def epoch_values(
    reports: Mapping[int, float], *, datasets: Sequence[str], lam: float | None
) -> tuple[EpochValue, ...]:
    """A trial's reports in their order.

    Args:
        reports: Optuna's intermediate values, by step; those that are not finite are left out.
        datasets: of the search, the gate's first.
        lam: the trial's lambda, where it is known.
    """
    values = []
    for step, score in sorted(reports.items()):
        index = max(0, step - STAGE_2_STEP)
        if not math.isfinite(score) or index >= len(datasets):
            continue
        values.append(
            EpochValue(
                stage=2 if index else 1,
                dataset=datasets[index],
                epoch=None if index else step,
                tpe_score=score,
                accuracy=None if lam is None or lam <= 0 else score * weight(lam),
            )
        )
    return tuple(values)
