"""Launch sizes of the fast path's kernels."""

from __future__ import annotations

import triton

ROWS = 4
"""Rows a program of the row kernels holds at once."""

MOST_PROGRAMS = 528
"""Programs of a kernel that keeps partial sums: four for each of 132 multiprocessors."""

LARGEST_PARTS = 32
"""Parts that a long sum over rows is cut into."""


def row_programs(rows: int) -> int:
    return min(MOST_PROGRAMS, -(-rows // ROWS))


def width(dim: int) -> int:
    """Tile width that covers `dim` columns."""
    return max(16, int(triton.next_power_of_2(dim)))


def parts_of(rows: int) -> int:
    """How many parts a sum over `rows` rows is cut into: at least 64 rows each."""
    return max(1, min(LARGEST_PARTS, rows // 64))
