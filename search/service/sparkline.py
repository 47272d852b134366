"""A curve in one line of a terminal."""

from __future__ import annotations

from collections.abc import Sequence

BLOCKS = "▁▂▃▄▅▆▇█"


def sparkline(values: Sequence[float], *, top: float, width: int = 20) -> str:
    """One block a value, the newest `width` of them, on a scale from 0 to `top`.

    Args:
        top: what a full block stands for, > 0; larger values are full blocks too.
    """
    last = len(BLOCKS) - 1
    return "".join(
        BLOCKS[min(last, max(0, int(value / top * len(BLOCKS))))] for value in values[-width:]
    )
