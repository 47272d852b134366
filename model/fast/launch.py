"""Launch sizes of the fast path's kernels (chosen by measurement on an H200)."""

from __future__ import annotations

from dataclasses import dataclass

import triton


@dataclass(frozen=True, slots=True, kw_only=True)
class RowLaunch:
    """How a kernel over rows is launched.

    Args:
        rows: rows a program holds at once.
        warps: of a program.  Where a program sums along rows no more than `rows`: several
            would share a row, and meet at a barrier for every sum.
        chunk: columns that a warp covers at once.
        stages: rounds of a loop whose loads are under way at once.
        few, many: at most so many programs, each then loops (kernels that keep partial
            sums); `many` from `LONG` rows on.
    """

    rows: int
    warps: int
    chunk: int = 256
    stages: int = 1
    few: int = 1 << 30
    many: int = 1 << 30

    def grid(self, rows: int) -> int:
        return min(self.few if rows < LONG else self.many, -(-rows // self.rows))


@dataclass(frozen=True, slots=True, kw_only=True)
class StemLaunch:
    """How the stem's kernels are launched.

    Args:
        programs: at most so many, each then loops; as many partial sums the next kernel
            reads, in every program.
        tile: outputs (pixels times channels) a program of a convolution takes at once.
        depth: pixels that a weight's gradient sums at once.
        norm_tile, norm_warps: of BatchNorm's kernels.
    """

    programs: int
    tile: int
    depth: int
    norm_tile: int
    norm_warps: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ProductLaunch:
    """How a product of small matrices is launched.

    Args:
        tile: side of a program's part of the result.
        inner: elements of the inner side at once.
        warps, stages: of a program and its loop.
    """

    tile: int
    inner: int
    warps: int
    stages: int


LONG = 1 << 14
"""Rows from which a kernel is bound by memory, not by latency."""

NORM = RowLaunch(rows=2, warps=1)
NORM_BACK = RowLaunch(rows=1, warps=1, stages=3, few=396, many=1056)
GELU_BACK = RowLaunch(rows=16, warps=1, few=136, many=264)
GELU_COLUMNS = 64
MOVE = RowLaunch(rows=16, warps=4)
"""Of the split heads' keys and values; chosen by registers, not by measurement."""
POOL = RowLaunch(rows=32, warps=4)
PRODUCT = ProductLaunch(tile=128, inner=64, warps=8, stages=3)
SMALL_PRODUCT = ProductLaunch(tile=64, inner=64, warps=4, stages=4)
"""For sides that tiles of 128 do not divide.  Chosen by registers and shared memory (two
programs a multiprocessor), not by measurement."""
STEM = StemLaunch(programs=128, tile=4096, depth=64, norm_tile=8192, norm_warps=8)


def width(dim: int) -> int:
    """Tile width that covers `dim` columns."""
    return max(16, int(triton.next_power_of_2(dim)))


def parts_of(rows: int) -> int:
    """How many parts a sum over `rows` rows is cut into: one while a single pass is
    short, else parts of at least 64 rows."""
    return 1 if rows <= 640 else min(64, rows // 64)
