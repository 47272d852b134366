"""What is searched, as data: one range or list of choices per parameter.

Every parameter of a trial is suggested at once, before any training: one that
was first suggested in stage 2 would be unknown for the trials the gate stopped,
and the sampler would treat it apart for ever.  The encoding is flat (no
parameter depends on another), for the same reason.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from optuna.trial import BaseTrial

Value = None | bool | int | float | str

LISTED_VALUES = 64
"""An integer range of more values than this is checked at its ends only."""


class Parameter(Protocol):
    """One searched parameter."""

    def suggest(self, trial: BaseTrial, name: str) -> Value:
        """The trial's value; a retried trial gets the one it had."""
        ...

    def values(self) -> list[Value]:
        """Values to check a file with: all of a short list or range, both ends of a
        continuous or long one."""
        ...

    def has(self, value: Value) -> bool:
        """Whether a trial could get this value."""
        ...

    def apart(self, a: Value, b: Value) -> float:
        """How far two of its values are apart: 0 equal, 1 the two ends (or another choice)."""
        ...

    def to_plain(self) -> dict[str, Any]:
        """As it stands in a search file."""
        ...


@dataclass(frozen=True, slots=True)
class Choices:
    """One of a list, without order."""

    choices: tuple[Value, ...]

    def suggest(self, trial: BaseTrial, name: str) -> Value:
        value: Value = trial.suggest_categorical(name, self.choices)
        return value

    def values(self) -> list[Value]:
        return list(self.choices)

    def has(self, value: Value) -> bool:
        return any(value == choice and type(value) is type(choice) for choice in self.choices)

    def apart(self, a: Value, b: Value) -> float:
        return 0.0 if a == b and type(a) is type(b) else 1.0

    def to_plain(self) -> dict[str, Any]:
        return {"choices": list(self.choices)}


@dataclass(frozen=True, slots=True, kw_only=True)
class IntRange:
    """low, low + step, ... high; both ends included."""

    low: int
    high: int
    step: int = 1
    log: bool = False

    def suggest(self, trial: BaseTrial, name: str) -> Value:
        return trial.suggest_int(name, self.low, self.high, step=self.step, log=self.log)

    def values(self) -> list[Value]:
        steps = range(self.low, self.high + 1, self.step)
        return list(steps) if len(steps) <= LISTED_VALUES else [self.low, self.high]

    def has(self, value: Value) -> bool:
        return (
            isinstance(value, int)
            and not isinstance(value, bool)
            and self.low <= value <= self.high
            and (value - self.low) % self.step == 0
        )

    def apart(self, a: Value, b: Value) -> float:
        return _share_of_range(self, a, b)

    def to_plain(self) -> dict[str, Any]:
        plain: dict[str, Any] = {"low": self.low, "high": self.high}
        if self.step != 1:
            plain["step"] = self.step
        if self.log:
            plain["log"] = True
        return plain


@dataclass(frozen=True, slots=True, kw_only=True)
class FloatRange:
    """low..high, continuous or in steps; on a logarithmic scale if `log`."""

    low: float
    high: float
    step: float | None = None
    log: bool = False

    def suggest(self, trial: BaseTrial, name: str) -> Value:
        return trial.suggest_float(name, self.low, self.high, step=self.step, log=self.log)

    def values(self) -> list[Value]:
        return [self.low, self.high] if self.low != self.high else [self.low]

    def has(self, value: Value) -> bool:
        """A step is not looked at: values between two steps count as had."""
        return (
            isinstance(value, int | float)
            and not isinstance(value, bool)
            and self.low <= value <= self.high
        )

    def apart(self, a: Value, b: Value) -> float:
        return _share_of_range(self, a, b)

    def to_plain(self) -> dict[str, Any]:
        plain: dict[str, Any] = {"low": self.low, "high": self.high}
        if self.step is not None:
            plain["step"] = self.step
        if self.log:
            plain["log"] = True
        return plain


def _share_of_range(span: IntRange | FloatRange, a: Value, b: Value) -> float:
    """|a - b| / (high - low), of the logarithms on a logarithmic scale."""
    if not isinstance(a, int | float) or not isinstance(b, int | float):
        return 0.0 if a == b else 1.0
    if a == b:
        return 0.0
    if span.log:
        return abs(math.log(a / b)) / math.log(span.high / span.low)
    return abs(a - b) / (span.high - span.low)


@dataclass(frozen=True, slots=True)
class Space:
    """All searched parameters, by the name of the configuration field they set."""

    parameters: Mapping[str, Parameter]

    def suggest(self, trial: BaseTrial) -> dict[str, Value]:
        """A value for EVERY parameter (call it once, before any training)."""
        return {name: part.suggest(trial, name) for name, part in self.parameters.items()}

    def near(self, a: Mapping[str, Value], b: Mapping[str, Value], distance: float) -> bool:
        """Whether two points agree in every parameter, to a share `distance` of its range.

        Points that lack a parameter are near nothing.
        """
        return all(
            name in a and name in b and part.apart(a[name], b[name]) <= distance
            for name, part in self.parameters.items()
        )
