"""What the orchestrator saw of a search at one moment; metrics and webhook are made from it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from search.study.nearest import AtTheGate
from search.study.trial_record import TrialRecord, best_first
from storage.records import Counts, WorkerRow

STATES = ("run", "pause", "stop", "done")


@dataclass(frozen=True, kw_only=True)
class Observation:
    """See the module's docstring.

    Args:
        study: its name.
        state: one of `STATES`.
        message: why it is paused or stopped.
        counts: the search in numbers.
        ended: its ended trials, by number.
        gate: how the trial nearest to passing stood at the gate.
        workers: those that did not sign off, the orchestrator's own row left out.
    """

    study: str
    state: str
    message: str
    counts: Counts
    ended: Mapping[int, TrialRecord]
    gate: AtTheGate | None
    workers: Sequence[WorkerRow]

    @cached_property
    def best(self) -> TrialRecord | None:
        """The trial of the best Global TPE score."""
        return next(iter(best_first(self.ended.values())), None)


Observer = Callable[[Observation], None]
"""Called every few seconds and once at the end; must be quick and must not raise."""
