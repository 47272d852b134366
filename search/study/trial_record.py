"""A finished trial as reports and exports see it: plain values, no database."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol, Self

from nkat_errors import BadInput

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


@dataclass(frozen=True, slots=True, kw_only=True)
class TrialRecord:
    """One trial.

    Args:
        number: Optuna's.
        state: `complete`, `pruned`, `fail`, `running` or `waiting`.
        value: the Global TPE score of a complete one.
        params: searched parameters by name.
        user_attrs: flat attributes (accuracy_<set>, tpe_<set>, gate_margin, ...).
    """

    number: int
    state: str
    value: float | None
    params: Mapping[str, Any]
    user_attrs: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, row: TrialRowLike) -> Self:
        """From a row of the board."""
        return cls(
            number=row.number,
            state=row.state.lower(),
            value=row.value,
            params=row.params,
            user_attrs=row.user_attrs,
        )

    @classmethod
    def of_frozen(cls, trial: FrozenTrial) -> Self:
        """From Optuna's own record."""
        complete = trial.state.name == "COMPLETE"
        return cls(
            number=trial.number,
            state=trial.state.name.lower(),
            value=trial.value if complete else None,
            params=trial.params,
            user_attrs=trial.user_attrs,
        )

    @property
    def complete(self) -> bool:
        return self.state == "complete" and self.value is not None and math.isfinite(self.value)

    def number_of(self, attribute: str) -> float | None:
        """A numeric attribute; None when it is absent or NaN."""
        value = self.user_attrs.get(attribute)
        if isinstance(value, int | float) and math.isfinite(value):
            return float(value)
        return None


def best_first(trials: Iterable[TrialRecord]) -> list[TrialRecord]:
    """The complete trials, best Global TPE score first, earlier ones first among equals."""
    return sorted(
        (trial for trial in trials if trial.complete),
        key=lambda trial: (-(trial.value or 0.0), trial.number),
    )


def pick(trials: Iterable[TrialRecord], *, number: int | None, top: int) -> list[TrialRecord]:
    """The trial of a number, or the best `top` ones.

    Raises:
        BadInput: no such trial, one that is not complete, or none complete at all.
    """
    every = list(trials)
    if top < 1:
        raise BadInput(f"--top {top}: must be >= 1")
    if number is not None:
        for trial in every:
            if trial.number == number:
                if trial.complete:
                    return [trial]
                outcome = trial.user_attrs.get("outcome", "it has no score over all data sets")
                raise BadInput(f"trial {number} is {trial.state}, not complete: {outcome}")
        raise BadInput(f"trial {number} does not exist; there are {len(every)} trials")
    ranked = best_first(every)
    if not ranked:
        raise BadInput(
            f"no trial is complete yet ({len(every)} trials so far): nothing passed the gate and "
            "stage 2, so there is no configuration to export"
        )
    return ranked[:top]
