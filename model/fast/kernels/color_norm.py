# mypy: disable-error-code="no-untyped-def,no-untyped-call,untyped-decorator,misc"
"""LayerNorm over the channels of each pixel (Triton)."""

from __future__ import annotations

import triton
import triton.language as tl

from model.fast.kernels.stem_norm import EPS


@triton.jit
def color_norm_forward(
    in_ptr,
    gain_ptr,
    bias_ptr,
    out_ptr,
    basis_ptr,
    pixels,
    C: tl.constexpr,
    OUT: tl.constexpr,
    BASIS: tl.constexpr,
    RESIDUAL: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """Of in [pixels, C], with n = LN(in) without gain and bias:

    out [pixels, OUT] = in + gain n (RESIDUAL); else its last C channels are gain n + bias, and
    those before them in.  The last C channels of basis [pixels, BASIS] are n.
    """
    pixel = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    ok = pixel < pixels
    mean = tl.zeros([BLOCK], tl.float32)
    for c in tl.static_range(C):
        mean += tl.load(in_ptr + pixel * C + c, ok, other=0.0)
    mean /= C
    variance = tl.zeros([BLOCK], tl.float32)
    for c in tl.static_range(C):
        off = tl.load(in_ptr + pixel * C + c, ok, other=0.0) - mean
        variance += off * off
    rstd = tl.rsqrt(variance / C + EPS)
    for c in tl.static_range(C):
        x = tl.load(in_ptr + pixel * C + c, ok, other=0.0)
        n = (x - mean) * rstd
        y = tl.load(gain_ptr + c) * n
        if RESIDUAL:
            y += x
        else:
            y += tl.load(bias_ptr + c)
            if OUT > C:
                tl.store(out_ptr + pixel * OUT + c, x.to(out_ptr.dtype.element_ty), ok)
        at = pixel * OUT + (OUT - C + c)
        tl.store(out_ptr + at, y.to(out_ptr.dtype.element_ty), ok)
        at = pixel * BASIS + (BASIS - C + c)
        tl.store(basis_ptr + at, n.to(basis_ptr.dtype.element_ty), ok)
