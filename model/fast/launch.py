"""Launch sizes of the fast path's kernels (chosen by measurement on an H200)."""

from __future__ import annotations

from dataclasses import dataclass

import triton


@dataclass(frozen=True, slots=True, kw_only=True)
class RowLaunch:
    """How a kernel over rows is launched.

    Args:
        rows: rows a program holds at once.
        warps: of a program.
        programs: at most so many, each then loops (kernels that keep partial sums).
    """

    rows: int
    warps: int
    programs: int

    def grid(self, rows: int) -> int:
        return min(self.programs, -(-rows // self.rows))


NORM = RowLaunch(rows=4, warps=4, programs=1 << 30)
NORM_BACK = RowLaunch(rows=4, warps=4, programs=528)
GELU_BACK = RowLaunch(rows=16, warps=4, programs=264)
GELU_COLUMNS = 128
POOL = RowLaunch(rows=8, warps=8, programs=1 << 30)


def width(dim: int) -> int:
    """Tile width that covers `dim` columns."""
    return max(16, int(triton.next_power_of_2(dim)))


def parts_of(rows: int) -> int:
    """How many parts a sum over `rows` rows is cut into: one while a single pass is
    short, else parts of at least 64 rows."""
    return 1 if rows <= 640 else min(64, rows // 64)
