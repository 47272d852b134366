"""What a simulated search did: its trials, its best one over time, what it threw away.

Needs numpy alone: benchmarks/outside/ uses it as well.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

COMPLETE = "complete"
"""The ending of a trial whose sets were all trained."""


@dataclass(frozen=True, kw_only=True)
class Done:
    """A trial that was trained (in part).

    Args:
        at: GPU-seconds that all workers had spent when it ended, idle ones included.
        spent: its own GPU-seconds.
        ending: why it ended.
        measured, true: its Global TPE score with and without noise, had nothing stopped it.
    """

    at: float
    spent: float
    ending: str
    measured: float
    true: float


def chance_of(*parts: object) -> np.random.Generator:
    """Random numbers that these parts decide."""
    digest = hashlib.sha256(repr(parts).encode()).digest()
    return np.random.default_rng(int.from_bytes(digest[:8], "big"))


def incumbents(done: Sequence[Done]) -> list[tuple[float, float]]:
    """(GPU-seconds, true score) whenever another trial becomes the best one by measurement."""
    found, best = [], float("-inf")
    for one in sorted(done, key=lambda one: one.at):
        if one.ending == COMPLETE and one.measured > best:
            best = one.measured
            found.append((one.at, one.true))
    return found


def thrown_away(done: Sequence[Done]) -> tuple[str, float, float] | None:
    """What stopped the trial that would have measured best; None where it was trained whole.

    With the measured and the true score that the best trained one lacks.
    """
    winner = max(done, key=lambda one: one.measured)
    kept = max(
        (one for one in done if one.ending == COMPLETE),
        key=lambda one: one.measured,
        default=None,
    )
    if kept is None or winner.ending == COMPLETE:
        return None
    return winner.ending, winner.measured - kept.measured, winner.true - kept.true


def counts(done: Sequence[Done]) -> Mapping[str, int]:
    """Trials by ending."""
    endings = [one.ending for one in done]
    return {ending: endings.count(ending) for ending in dict.fromkeys(endings)}
