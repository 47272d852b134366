"""Scales: where a value lies on an axis, as a share 0..1 of its length, and its ticks."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

from search.space import Choices, FloatRange, IntRange, Parameter

TICKS = 5
"""About so many on a linear axis."""

MOST_MARKED = 9
"""An integer range of no more values than this has all of them as ticks."""

MARGIN = 0.04
"""Share of a scale left free on either side of its values."""


class Scale(Protocol):
    """One axis."""

    def place(self, value: Any) -> float | None:
        """0..1; None for a value that has no place."""
        ...

    def ticks(self) -> list[tuple[float, str]]:
        """Places and their labels."""
        ...


@dataclass(frozen=True, slots=True)
class Linear:
    """low..high, low < high.

    `whole` has no ticks between integers; `marked` are the ticks, where they are given.
    """

    low: float
    high: float
    whole: bool = False
    marked: tuple[int, ...] = ()

    def place(self, value: Any) -> float | None:
        number = _number(value)
        return None if number is None else (number - self.low) / (self.high - self.low)

    def ticks(self) -> list[tuple[float, str]]:
        span = self.high - self.low
        if self.marked:
            return [((value - self.low) / span, str(value)) for value in self.marked]
        power = 10.0 ** math.floor(math.log10(span / TICKS))
        step = next(f * power for f in (1, 2, 5, 10) if f * power >= span / TICKS * 0.8)
        if self.whole:
            step = max(1.0, round(step))
        first = math.ceil(self.low / step - 1e-9)
        last = math.floor(self.high / step + 1e-9)
        digits = max(0, -math.floor(math.log10(step) + 1e-9))
        return [
            ((n * step - self.low) / span, f"{n * step:,.{digits}f}")
            for n in range(first, last + 1)
        ]


@dataclass(frozen=True, slots=True)
class Logarithmic:
    """low..high, 0 < low < high."""

    low: float
    high: float

    def place(self, value: Any) -> float | None:
        number = _number(value)
        if number is None or number <= 0:
            return None
        return math.log(number / self.low) / math.log(self.high / self.low)

    def ticks(self) -> list[tuple[float, str]]:
        powers = range(math.floor(math.log10(self.low)), math.ceil(math.log10(self.high)) + 1)
        factors = (1, 2, 5) if math.log10(self.high / self.low) < 2.5 else (1,)
        values = [f * 10.0**power for power in powers for f in factors]
        inside = [v for v in values if self.low <= v <= self.high]
        return [(self.place(v) or 0.0, f"{v:g}") for v in inside or (self.low, self.high)]


@dataclass(frozen=True, slots=True)
class Named:
    """Values without order, side by side; of more than `most_named` only some have a tick."""

    values: tuple[Any, ...]
    most_named: int = 1_000

    def place(self, value: Any) -> float | None:
        for index, own in enumerate(self.values):
            if own == value and type(own) is type(value):
                return (index + 0.5) / len(self.values)
        return None

    def ticks(self) -> list[tuple[float, str]]:
        every = list(enumerate(self.values))
        named = spread_evenly(every, self.most_named)
        return [((i + 0.5) / len(self.values), short(v)) for i, v in named]


def around(values: Iterable[float], *, log: bool = False, whole: bool = False) -> Scale:
    """A scale that holds all these values with a little room; of none, 0..1."""
    finite = [value for value in values if math.isfinite(value)] or [0.0, 1.0]
    low, high = min(finite), max(finite)
    if log and low > 0 and high > low:
        room = (high / low) ** MARGIN
        return Logarithmic(low / room, high * room)
    room = (high - low) * MARGIN or max(abs(high), 1.0) * MARGIN
    return Linear(low - room, high + room, whole)


def scale_of(parameter: Parameter) -> Scale:
    """The axis of a searched parameter: all that it can be."""
    if isinstance(parameter, Choices):
        return Named(parameter.choices)
    if isinstance(parameter, FloatRange):
        return around((parameter.low, parameter.high), log=parameter.log)
    if isinstance(parameter, IntRange):
        ends = (parameter.low, parameter.high)
        scale = around(ends, log=parameter.log, whole=True)
        steps = range(parameter.low, parameter.high + 1, parameter.step)
        if isinstance(scale, Linear) and len(steps) <= MOST_MARKED:
            return replace(scale, marked=tuple(steps))
        return scale
    return Named(tuple(parameter.values()))


def stacked(parameter: Parameter) -> bool:
    """Whether many trials share a value, so that their marks are better spread a little."""
    return isinstance(parameter, Choices | IntRange)


def short(value: Any, length: int = 14) -> str:
    """A value as an axis or a table shows it."""
    text = f"{value:.4g}" if isinstance(value, float) else str(value)
    return text if len(text) <= length else text[: length - 1] + "…"


def spread_evenly(items: Sequence[Any], most: int) -> list[Any]:
    """At most so many of them, the first and the last included, evenly spaced."""
    if len(items) <= most:
        return list(items)
    if most < 2:
        return list(items[:most])
    return [items[round(i * (len(items) - 1) / (most - 1))] for i in range(most)]


def _number(value: Any) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value) if math.isfinite(value) else None
