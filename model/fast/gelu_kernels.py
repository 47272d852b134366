# mypy: disable-error-code="no-untyped-def,no-untyped-call,untyped-decorator,misc"
"""GELU (exact, by erf) forward and backward, and sums over rows (Triton)."""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def gelu_forward(pre_ptr, out_ptr, count, BLOCK: tl.constexpr):
    """out = pre * Phi(pre), element by element."""
    at = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    ok = at < count
    x = tl.load(pre_ptr + at, ok, other=0.0).to(tl.float32)
    out = 0.5 * x * (1.0 + tl.erf(x * 0.7071067811865476))
    tl.store(out_ptr + at, out.to(out_ptr.dtype.element_ty), ok)


@triton.jit
def gelu_backward(
    pre_ptr,
    grad_ptr,
    partial_ptr,
    rows,
    COLS: tl.constexpr,
    BLOCK: tl.constexpr,
    ROWS: tl.constexpr,
):
    """grad *= gelu'(pre) in place, [rows, COLS]; partial: float32 [programs(0), COLS],
    each program's column sums (the gradient of the bias before it)."""
    col = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    col_ok = col < COLS
    total = tl.zeros([ROWS, BLOCK], tl.float32)
    for start in range(tl.program_id(0) * ROWS, rows, tl.num_programs(0) * ROWS):
        row = start + tl.arange(0, ROWS)
        ok = (row < rows)[:, None] & col_ok[None, :]
        at = row.to(tl.int64)[:, None] * COLS + col[None, :]
        x = tl.load(pre_ptr + at, ok, other=0.0).to(tl.float32)
        grad = tl.load(grad_ptr + at, ok, other=0.0).to(tl.float32)
        slope = 0.5 * (1.0 + tl.erf(x * 0.7071067811865476))
        slope += x * tl.exp(-0.5 * x * x) * 0.3989422804014327
        grad = grad * slope
        tl.store(grad_ptr + at, grad.to(grad_ptr.dtype.element_ty), ok)
        total += grad
    tl.store(partial_ptr + tl.program_id(0) * COLS + col, tl.sum(total, 0), col_ok)
