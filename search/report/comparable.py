"""Which scores tell trials apart: those at the gate, or where most trials are stopped before
it, those after the last epoch that enough of them reached."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

from search.report import words
from search.report.collected import Collected
from search.study.trial_record import TrialRecord

FEWEST = 20
"""Trials to compare; with fewer than these at the gate, an earlier epoch is looked for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparable:
    """Trials with local TPE scores on the gate's set after equally many epochs.

    Args:
        epoch: from 1; None for the end of stage 1.
        trials: in the order of their numbers.
        scores: by a trial's number.
        where: for a sentence: `on CIFAR-10`, or `on CIFAR-10 after epoch 1`.
    """

    epoch: int | None
    trials: tuple[TrialRecord, ...]
    scores: Mapping[int, float]
    where: str

    @classmethod
    def of(cls, data: Collected) -> Self:
        at_gate = {t.number: t.verdict.gate.score for t in data.measured if t.verdict is not None}
        epoch = None if len(at_gate) >= FEWEST else _last_epoch(data)
        where = f"on {data.gate_title}"
        if epoch is None:
            return cls(epoch=None, trials=data.measured, scores=at_gate, where=where)
        scores = {
            number: value
            for number, curve in data.curves.items()
            for step, value in curve
            if step == epoch
        }
        return cls(
            epoch=epoch,
            trials=tuple(trial for trial in data.trials if trial.number in scores),
            scores=scores,
            where=f"{where} after epoch {epoch}",
        )

    @property
    def count(self) -> str:
        """`7 trials`."""
        return words.count(len(self.trials), "trial")


def _last_epoch(data: Collected) -> int | None:
    """Of stage 1, that at least `FEWEST` trials reached; None where none did."""
    reached: dict[int, int] = {}
    for curve in data.curves.values():
        for step, _ in curve:
            reached[step] = reached.get(step, 0) + 1
    return max((step for step, trials in reached.items() if trials >= FEWEST), default=None)
