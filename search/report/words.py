"""Numbers and lists in sentences."""

from __future__ import annotations

from collections.abc import Sequence


def count(number: int, noun: str, plural: str = "") -> str:
    """`1 trial`, `5,000 trials`, `no trials`."""
    if number == 1:
        return f"1 {noun}"
    return f"{number:,}" + f" {plural or noun + 's'}" if number else f"no {plural or noun + 's'}"


def score(value: float) -> str:
    return f"{value:.4f}"


def percent(share: float) -> str:
    """An accuracy, `84.26 %`; no line ends within it."""
    return f"{100 * share:.2f}\N{NO-BREAK SPACE}%"


def seconds(value: float) -> str:
    """`0 s`, `0.085 s`, `3.1 s`, `26 s`, `12.5 min`, `3.2 h`."""
    if value < 1:
        return f"{value:.2g} s"
    if value < 10:
        return f"{value:.1f} s"
    if value < 180:
        return f"{value:.0f} s"
    return f"{value / 60:.1f} min" if value < 7200 else f"{value / 3600:.1f} h"


def listed(items: Sequence[str]) -> str:
    """`a`, `a and b`, `a, b and c`."""
    if len(items) < 2:
        return "".join(items)
    return f"{', '.join(items[:-1])} and {items[-1]}"


def capital(sentence: str) -> str:
    """With a capital at its beginning and a full stop at its end."""
    return f"{sentence[:1].upper()}{sentence[1:]}".rstrip(".") + "."
