"""Where each run-time value of the attention stands in the vector that its kernels read.

The host writes values by these names, kernels read them by the same.
"""

from __future__ import annotations

from typing import TypeVar

import triton.language as tl

V = TypeVar("V")

TEMPERATURE = tl.constexpr(0)
TOP_K = tl.constexpr(1)
TOP_P = tl.constexpr(2)
DROPOUT = tl.constexpr(3)
ATTENTION_VALUES = 4


def by_slot(count: int, *values: tuple[tl.constexpr, V]) -> list[V]:
    """The values in the order of their slots 0..count-1, each of which is given once."""
    placed = {int(slot.value): value for slot, value in values}
    if sorted(placed) != list(range(count)) or len(values) != count:
        raise ValueError(
            f"slots {[slot.value for slot, _ in values]} given, 0..{count - 1} wanted"
        )
    return [placed[slot] for slot in range(count)]
