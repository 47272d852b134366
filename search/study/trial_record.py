"""A trial as reports and exports see it: plain values, no database."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol, Self

from nkat_errors import BadInput
from search.study.epochs import EpochValue, epoch_values
from search.study.redrawn import Redrawn
from search.study.trial_attributes import (
    OUTCOME,
    MissingAttribute,
    Repeat,
    TrialAttributes,
)
from search.study.verdict import Verdict

if TYPE_CHECKING:
    from optuna.trial import FrozenTrial


class TrialRowLike(Protocol):
    """What storage's TrialRow has of a trial."""

    @property
    def number(self) -> int: ...
    @property
    def state(self) -> str: ...
    @property
    def value(self) -> float | None: ...
    @property
    def params(self) -> Mapping[str, Any]: ...
    @property
    def user_attrs(self) -> Mapping[str, Any]: ...
    @property
    def reports(self) -> Mapping[int, float]: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class TrialRecord:
    """One trial.

    Args:
        number: Optuna's.
        state: `complete`, `pruned`, `fail`, `running` or `waiting`.
        value: the Global TPE score of a complete one; of a pruned one what it was told last.
        params: searched parameters by name.
        outcome: what happened, as a sentence; empty while nothing did.
        attributes: None for a trial that has not ended, was given up, or was told by others.
        missing: then, the first attribute that it lacks.
        reports: what it reported while it was trained, by step (`epoch_values`).
        repeats: the finalist that it runs again; None for a point of the search.
        redrawn: the draws of its parameters that were thrown away.
    """

    number: int
    state: str
    value: float | None
    params: Mapping[str, Any]
    outcome: str = ""
    attributes: TrialAttributes | None = None
    missing: str = OUTCOME
    reports: Mapping[int, float] = field(default_factory=dict)
    repeats: Repeat | None = None
    redrawn: Redrawn = field(default_factory=Redrawn)

    @classmethod
    def of(cls, row: TrialRowLike) -> Self:
        """From a row of the board."""
        return cls._of(row.number, row.state, row.value, row.params, row.user_attrs, row.reports)

    @classmethod
    def of_frozen(cls, trial: FrozenTrial) -> Self:
        """From Optuna's own record."""
        return cls._of(
            trial.number,
            trial.state.name,
            trial.value,
            trial.params,
            trial.user_attrs,
            trial.intermediate_values,
        )

    @classmethod
    def _of(
        cls,
        number: int,
        state: str,
        value: float | None,
        params: Mapping[str, Any],
        flat: Mapping[str, Any],
        reports: Mapping[int, float],
    ) -> Self:
        attributes, missing = None, ""
        try:
            attributes = TrialAttributes.from_flat(flat)
        except MissingAttribute as error:
            missing = error.name
        return cls(
            number=number,
            state=state.lower(),
            value=value,
            params=params,
            outcome=str(flat.get(OUTCOME) or ""),
            attributes=attributes,
            missing=missing,
            reports=reports,
            repeats=Repeat.of_flat(flat),
            redrawn=Redrawn.of_flat(flat),
        )

    @property
    def complete(self) -> bool:
        return self.state == "complete" and self.value is not None and math.isfinite(self.value)

    @property
    def verdict(self) -> Verdict | None:
        return None if self.attributes is None else self.attributes.verdict

    def epochs(self, datasets: Sequence[str]) -> tuple[EpochValue, ...]:
        """Its reports; `datasets` are the search's, the gate's first."""
        verdict = self.verdict
        lam = None if verdict is None or verdict.lambdas is None else verdict.lam
        return epoch_values(self.reports, datasets=datasets, lam=lam)

    def whole(self) -> TrialAttributes:
        """Its attributes.

        Raises:
            BadInput: it lacks one.
        """
        if self.attributes is None:
            raise BadInput(
                f"trial {self.number} has no attribute {self.missing!r}: it was not made by this "
                "search, or did not end in it"
            )
        return self.attributes


def searched(trials: Iterable[TrialRecord]) -> list[TrialRecord]:
    """The points of the search: what is counted, compared and learned from.

    Runs of finalists are left out.  They tell nothing about another point, and among the
    best they would be a second draw for those that have one already.
    """
    return [trial for trial in trials if trial.repeats is None]


def best_first(trials: Iterable[TrialRecord]) -> list[TrialRecord]:
    """The complete trials of the search, best Global TPE score first, earlier ones first
    among equals."""
    return sorted(
        (trial for trial in searched(trials) if trial.complete),
        key=lambda trial: (-(trial.value or 0.0), trial.number),
    )
