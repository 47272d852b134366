# mypy: disable-error-code="no-untyped-def,no-untyped-call,untyped-decorator,misc"
"""GELU (exact, by erf) forward and backward, and sums over rows (Triton)."""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def gelu_parts(x):
    """Phi(x) and gelu'(x) = Phi(x) + x phi(x), float32.

    erf by Abramowitz and Stegun 7.1.26 (off by less than 1.5e-7): it needs the one
    exponential that phi needs anyway, where the library's erf has two branches of its own.
    """
    e = tl.exp(-0.5 * x * x)
    t = 1.0 / (1.0 + 0.3275911 * 0.7071067811865476 * tl.abs(x))
    poly = t * (1.421413741 + t * (-1.453152027 + t * 1.061405429))
    poly = t * (0.254829592 + t * (-0.284496736 + poly))
    tail = 0.5 * poly * e
    phi = tl.where(x >= 0.0, 1.0 - tail, tail)
    return phi, phi + x * e * 0.3989422804014327


@triton.jit
def gelu_forward(pre_ptr, out_ptr, count, BLOCK: tl.constexpr):
    """out = gelu(pre), and pre = gelu'(pre) in place for the backward pass."""
    at = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    ok = at < count
    x = tl.load(pre_ptr + at, ok, other=0.0).to(tl.float32)
    phi, slope = gelu_parts(x)
    tl.store(out_ptr + at, (x * phi).to(out_ptr.dtype.element_ty), ok)
    tl.store(pre_ptr + at, slope.to(pre_ptr.dtype.element_ty), ok)


@triton.jit
def gelu_backward(
    slope_ptr,
    grad_ptr,
    partial_ptr,
    rows,
    COLS: tl.constexpr,
    BLOCK: tl.constexpr,
    ROWS: tl.constexpr,
):
    """grad *= slope in place, [groups, rows, COLS]; partial: float32 [groups, programs(0),
    COLS], each program's column sums (the gradient of the bias before it).  Program (rows,
    columns, group)."""
    group = tl.program_id(2).to(tl.int64)
    slope_ptr += group * rows * COLS
    grad_ptr += group * rows * COLS
    partial_ptr += group * tl.num_programs(0) * COLS
    col = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    col_ok = col < COLS
    total = tl.zeros([ROWS, BLOCK], tl.float32)
    for start in range(tl.program_id(0) * ROWS, rows, tl.num_programs(0) * ROWS):
        row = start + tl.arange(0, ROWS)
        ok = (row < rows)[:, None] & col_ok[None, :]
        at = row.to(tl.int64)[:, None] * COLS + col[None, :]
        slope = tl.load(slope_ptr + at, ok, other=0.0).to(tl.float32)
        grad = tl.load(grad_ptr + at, ok, other=0.0).to(tl.float32) * slope
        tl.store(grad_ptr + at, grad.to(grad_ptr.dtype.element_ty), ok)
        total += grad
    tl.store(partial_ptr + tl.program_id(0) * COLS + col, tl.sum(total, 0), col_ok)
