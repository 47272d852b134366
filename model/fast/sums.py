"""Calls of the summing kernels."""

from __future__ import annotations

import triton
from torch import Tensor

from model.fast.kernels import column_sums as sum_kernels
from model.fast.launch import parts_of
from model.kernels.triton_launch import launch

_BLOCK = 128
_ROWS = 32
_SCALAR_BLOCK = 1024


def column_sums(given: Tensor, out: Tensor, *, columns: int | None = None) -> None:
    """out [groups, columns] = given [groups, rows, all columns] summed over the rows.

    Long sums take two passes, so that they do not hang on a few programs.

    Args:
        columns: the first so many; None takes all.
    """
    groups, rows, _ = given.shape
    columns = given.shape[2] if columns is None else columns
    parts = parts_of(rows)
    if parts > 1:
        between = out.new_empty(groups, parts, columns)
        _sum(given, between, columns, parts)
        given, parts = between, 1
    _sum(given, out, columns, parts)


def _sum(given: Tensor, out: Tensor, columns: int, parts: int) -> None:
    groups, rows, _ = given.shape
    grid = (triton.cdiv(columns, _BLOCK), parts, groups)
    launch(sum_kernels.column_sums, grid)(
        given,
        out,
        rows,
        triton.cdiv(rows, parts),
        given.stride(1),
        given.stride(0),
        out.stride(0),
        columns,
        BLOCK=_BLOCK,
        ROWS=_ROWS,
    )


def scalar_sums(
    *,
    dscale: Tensor,
    dfactor: Tensor,
    mean: Tensor,
    rstd: Tensor,
    theta_weights: Tensor,
    out: Tensor,
    depth: int,
) -> None:
    """See `sum_kernels.scalar_sums`."""
    launch(sum_kernels.scalar_sums, (depth,))(
        dscale,
        dfactor,
        mean,
        rstd,
        theta_weights,
        out,
        dscale.shape[1],
        depth,
        BLOCK=_SCALAR_BLOCK,
    )
