"""What the trials that have ended tell the next one."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from search.study.epochs import STAGE_2_STEP
from search.study.gains import Curve, Gains, whole_curve
from search.study.trial_record import TrialRecord

if TYPE_CHECKING:
    from optuna.trial import FrozenTrial

    from search.file.search_file import SearchFile


@dataclass(frozen=True, slots=True, kw_only=True)
class Past:
    """A search at the moment when a trial begins; plain values, for the training child.

    Args:
        best_global: its best Global TPE score; None while no trial is complete.
        best_seen: best accuracy by data set, of those that enough trials have trained
            (`bound.after` in the search file).
        gains: in stage 1, by its number of epochs (trials of another length learn at another
            pace), once enough trials have ended it (`rungs.after` or `bound.curves`).
    """

    best_global: float | None = None
    best_seen: Mapping[str, float] = field(default_factory=dict)
    gains: Mapping[int, Gains] = field(default_factory=dict)


class PastReader:
    """Reads every ended trial once, however often it is asked.

    What it says depends on the trials alone, not on who asks or when it asked before.
    """

    def __init__(self, search: SearchFile) -> None:
        self._search = search
        self._known: set[int] = set()
        self._best_global: float | None = None
        self._accuracies: dict[str, list[float]] = {}
        self._curves: dict[int, dict[int, Curve]] = {}
        self._gains: dict[int, Gains] = {}

    def read(self, trials: Iterable[FrozenTrial]) -> Past:
        """The past as these trials have it.

        Args:
            trials: COMPLETE and PRUNED ones; all of them, or those since the last call.
        """
        for trial in trials:
            if trial.number not in self._known:
                self._known.add(trial.number)
                self._add(TrialRecord.of_frozen(trial), trial.intermediate_values)
        return Past(
            best_global=self._best_global,
            best_seen={
                name: max(found)
                for name, found in self._accuracies.items()
                if len(found) >= self._search.bound.after
            },
            gains=self._learned(),
        )

    def _learned(self) -> dict[int, Gains]:
        rungs, bound = self._search.rungs, self._search.bound
        needed = [] if rungs is None else [rungs.after]
        if bound.spread is not None:
            needed.append(bound.curves)
        if not needed:
            return {}
        for epochs, curves in self._curves.items():
            known = self._gains.get(epochs)
            enough = len(curves) >= min(needed)
            if enough and (known is None or known.trials < len(curves)):
                self._gains[epochs] = Gains.of(curves)
        return dict(self._gains)

    def _add(self, trial: TrialRecord, reports: Mapping[int, float]) -> None:
        if trial.repeats is not None:
            return
        if trial.complete and trial.value is not None:
            self._best_global = max(trial.value, self._best_global or trial.value)
        if trial.verdict is not None:
            if trial.verdict.gate_accuracy is not None:
                curve = whole_curve(reports, below=STAGE_2_STEP)
                if curve is not None:
                    self._curves.setdefault(len(curve), {})[trial.number] = curve
            for name, result in trial.verdict.results.items():
                self._accuracies.setdefault(name, []).append(result.accuracy)
