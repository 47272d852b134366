# mypy: disable-error-code="no-untyped-def,no-untyped-call,untyped-decorator,misc"
"""The filtered attention's forward kernel, and what it shares with the backward ones."""

from __future__ import annotations

import triton
import triton.language as tl

from model.kernels.triton_filter import filtered
from model.kernels.value_slots import DROPOUT, TEMPERATURE, TOP_K, TOP_P

LOG2_E = tl.constexpr(1.4426950408889634)


@triton.jit
def row_codes(seed_ptr, salt, row):
    """uint32 per row: Philox of (seed, salt, row).  The seed lies in device memory, so
    that a replayed CUDA graph draws anew when it has moved on."""
    seed = tl.load(seed_ptr) + salt.to(tl.int64) * 0x9E3779B97F4A7C1
    return tl.randint(seed, row).to(tl.uint32, bitcast=True)


@triton.jit
def dropout_keeps(code, col, dropout):
    """True with probability 1 - `dropout`, for every pair of a row's code and a column.

    A Philox draw per row, mixed with the column by two multiplications: many times
    cheaper than a Philox draw per weight, and as even as dropout needs.
    """
    x = code ^ (col.to(tl.uint32) * 0x9E3779B1)
    x = (x ^ (x >> 15)) * 0x846CA68B
    return x >= (dropout * 4294967296.0).to(tl.uint32)


@triton.jit(do_not_specialize=["salt"])
def attention_forward(
    q_ptr,
    k_ptr,
    v_ptr,
    o_ptr,
    lse_ptr,
    mask_ptr,
    values_ptr,
    seed_ptr,
    salt,
    qb,
    qh,
    qn,
    kb,
    kh,
    kn,
    vb,
    vh,
    vn,
    ob,
    oh,
    on,
    scale,
    heads,
    TOKENS: tl.constexpr,
    HEAD_DIM: tl.constexpr,
    KEYS: tl.constexpr,
    EXTRA: tl.constexpr,
    DIMS: tl.constexpr,
    ROWS: tl.constexpr,
    WORDS: tl.constexpr,
    PRECISION: tl.constexpr,
):
    """ROWS queries of one head: o [B, H, N, D] by strides, log2-sum-exp2 [B*H, N] (of
    scores in units of log2 e) and the keep mask int16 [B*H, N, WORDS].  values:
    temperature, top_k, top_p, dropout."""
    pair = tl.program_id(1)
    batch = (pair // heads).to(tl.int64)
    head = pair % heads
    row = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    row_ok = row < TOKENS
    col = tl.arange(0, KEYS)
    dim = tl.arange(0, DIMS)
    dim_ok = dim < HEAD_DIM
    in_block: tl.constexpr = TOKENS - 1 if EXTRA else TOKENS
    col_ok = col < in_block

    temperature = tl.load(values_ptr + TEMPERATURE)
    top_k = tl.load(values_ptr + TOP_K).to(tl.int32)
    top_p = tl.load(values_ptr + TOP_P)
    dropout = tl.load(values_ptr + DROPOUT)

    q_at = q_ptr + batch * qb + head * qh
    k_at = k_ptr + batch * kb + head * kh
    v_at = v_ptr + batch * vb + head * vh
    q = tl.load(
        q_at + row[:, None] * qn + dim[None, :], row_ok[:, None] & dim_ok[None, :], other=0.0
    )
    # k is read transposed, [DIMS, KEYS], as the product wants it
    k = tl.load(
        k_at + col[None, :] * kn + dim[:, None], col_ok[None, :] & dim_ok[:, None], other=0.0
    )
    factor = scale / temperature * LOG2_E
    s = tl.dot(q, k, input_precision=PRECISION) * factor
    if in_block < KEYS:
        s = tl.where(col_ok[None, :], s, float("-inf"))
    if EXTRA:
        k_x = tl.load(k_at + in_block * kn + dim, dim_ok, other=0.0).to(tl.float32)
        s_x = tl.sum(q.to(tl.float32) * k_x[None, :], 1) * factor
    else:
        s_x = tl.full([ROWS], float("-inf"), tl.float32)

    highest = tl.maximum(tl.max(s, 1), s_x)  # always kept
    s, s_x = filtered(s, s_x, row_ok, top_k, top_p, TOKENS, ROWS)

    p = tl.exp2(s - highest[:, None])
    p_x = tl.exp2(s_x - highest)
    total = tl.sum(p, 1) + p_x
    pair_row = pair * TOKENS + row
    tl.store(lse_ptr + pair_row, highest + tl.log2(total), row_ok)

    mask_at = mask_ptr + pair_row.to(tl.int64) * WORDS
    if KEYS <= 32:
        flags = tl.where(s > float("-inf"), (1 << (col % 16))[None, :], 0)
        first = tl.sum(tl.where((col < 16)[None, :], flags, 0), 1)
        tl.store(mask_at, first.to(tl.int16), row_ok)
        if KEYS == 32:
            tl.store(mask_at + 1, (tl.sum(flags, 1) - first).to(tl.int16), row_ok)
    else:
        # a product with powers of two packs 16 bits into one word
        word = tl.arange(0, KEYS // 16 if KEYS >= 256 else 16)
        power = tl.exp2((col % 16).to(tl.float32))[:, None]
        packing = tl.where((col // 16)[:, None] == word[None, :], power, 0.0)
        bits = tl.where(s > float("-inf"), 1.0, 0.0)
        words = tl.dot(bits.to(tl.float16), packing.to(tl.float16))
        inside: tl.constexpr = KEYS // 16 if KEYS // 16 < WORDS else WORDS
        tl.store(
            mask_at[:, None] + word[None, :],
            words.to(tl.int32).to(tl.int16),
            row_ok[:, None] & (word < inside)[None, :],
        )
    if EXTRA:
        tl.store(mask_at + KEYS // 16, (s_x > float("-inf")).to(tl.int16), row_ok)

    if dropout > 0.0:
        code = row_codes(seed_ptr, salt, pair_row)
        p = tl.where(dropout_keeps(code[:, None], col[None, :], dropout), p, 0.0)
        extra_col = tl.full([ROWS], KEYS, tl.int32)
        p_x = tl.where(dropout_keeps(code, extra_col, dropout), p_x, 0.0)
        total = total * (1.0 - dropout)
    v = tl.load(
        v_at + col[:, None] * vn + dim[None, :], col_ok[:, None] & dim_ok[None, :], other=0.0
    )
    o = tl.dot(p.to(v.dtype), v, input_precision=PRECISION)
    if EXTRA:
        v_x = tl.load(v_at + in_block * vn + dim, dim_ok, other=0.0).to(tl.float32)
        o += p_x[:, None] * v_x[None, :]
    o = o * (1.0 / total)[:, None]
    tl.store(
        o_ptr + batch * ob + head * oh + row[:, None] * on + dim[None, :],
        o.to(o_ptr.dtype.element_ty),
        row_ok[:, None] & dim_ok[None, :],
    )
