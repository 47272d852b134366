# mypy: disable-error-code="no-untyped-def,no-untyped-call,untyped-decorator,misc"
"""Sums over rows: gradients of biases, norms and the blocks' scalars (Triton)."""

from __future__ import annotations

import triton
import triton.language as tl

from model.fast.kernels.layer_norm import theta_parts


@triton.jit(do_not_specialize=["rows", "rows_per_part", "columns"])
def column_sums(
    in_ptr,
    out_ptr,
    rows,
    rows_per_part,
    row_stride,
    in_stride,
    out_stride,
    columns,
    BLOCK: tl.constexpr,
    ROWS: tl.constexpr,
):
    """out[g, part, c] = sum of in[g, r, c] over the part's rows: program (columns, part, g).

    in[g] starts at g * in_stride with `row_stride` between rows; out[g] at
    g * out_stride with `columns` between parts.
    """
    col = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    col_ok = col < columns
    part = tl.program_id(1)
    group = tl.program_id(2).to(tl.int64)
    total = tl.zeros([ROWS, BLOCK], tl.float32)
    last = tl.minimum((part + 1) * rows_per_part, rows)
    for start in range(part * rows_per_part, last, ROWS):
        row = start + tl.arange(0, ROWS)
        ok = (row < last)[:, None] & col_ok[None, :]
        at = group * in_stride + row.to(tl.int64)[:, None] * row_stride + col[None, :]
        total += tl.load(in_ptr + at, ok, other=0.0).to(tl.float32)
    tl.store(out_ptr + group * out_stride + part * columns + col, tl.sum(total, 0), col_ok)


@triton.jit
def scalar_sums(
    dscale_ptr,
    dfactor_ptr,
    mean_ptr,
    rstd_ptr,
    theta_weight_ptr,
    out_ptr,
    rows,
    depth,
    BLOCK: tl.constexpr,
):
    """Gradients of a layer's four scalars, out [4, depth]: program = layer.

    dscale [2 depth + 1, rows]: row 2l+1 of the attention branch of layer l, 2l+2 of its
    MLP branch; dfactor [depth, rows]; mean and rstd [2 depth + 1, rows].
    """
    layer = tl.program_id(0)
    attention = tl.zeros([BLOCK], tl.float32)
    mlp = tl.zeros([BLOCK], tl.float32)
    alpha = tl.zeros([BLOCK], tl.float32)
    beta = tl.zeros([BLOCK], tl.float32)
    own = (2 * layer).to(tl.int64) * rows
    for start in range(0, rows, BLOCK):
        row = start + tl.arange(0, BLOCK)
        ok = row < rows
        attention += tl.load(dscale_ptr + own + rows + row, ok, other=0.0)
        mlp += tl.load(dscale_ptr + own + 2 * rows + row, ok, other=0.0)
        given = tl.load(dfactor_ptr + layer.to(tl.int64) * rows + row, ok, other=0.0)
        tanh, sigmoid = theta_parts(
            tl.load(mean_ptr + own + row, ok, other=0.0),
            tl.load(rstd_ptr + own + row, ok, other=1.0),
        )
        alpha += given * tanh
        beta += given * sigmoid
    weight = tl.load(theta_weight_ptr + layer)
    tl.store(out_ptr + layer, tl.sum(attention, 0))
    tl.store(out_ptr + depth + layer, tl.sum(mlp, 0))
    tl.store(out_ptr + 2 * depth + layer, weight * tl.sum(alpha, 0))
    tl.store(out_ptr + 3 * depth + layer, weight * tl.sum(beta, 0))
