# mypy: disable-error-code="no-untyped-def,no-untyped-call,untyped-decorator,misc"
"""The filtered attention's backward kernels.

The keep mask comes from the forward pass as bits.  It is not found again from a
threshold: the threshold is itself one of the scores, and scores recomputed in
another tile order may differ from it in the last bit.

One program a head does everything while all keys fit its tile (`attention_backward`);
beyond that one kernel makes dq and the row term, and one dk and dv
(`attention_backward_queries`, `attention_backward_keys`).
"""

from __future__ import annotations

import triton
import triton.language as tl

from model.kernels.triton_forward import LOG2_E, dropout_keeps, row_codes
from model.kernels.value_slots import DROPOUT


@triton.jit
def kept(mask_at, first, col, row_ok, KEYS: tl.constexpr, WORDS: tl.constexpr):
    """bool [rows, KEYS]: bits first..first+KEYS-1 of the rows' masks (int32 words).

    `mask_at`: pointers to the rows' first words.  Up to two words are read per row
    and selected, which is cheaper than a load per element.
    """
    if KEYS <= 64:
        word = tl.load(mask_at + first // 32, row_ok, other=0)[:, None]
        if KEYS == 64:
            has_second = row_ok & (first // 32 + 1 < WORDS)
            second = tl.load(mask_at + first // 32 + 1, has_second, other=0)[:, None]
            word = tl.where((col < 32)[None, :], word, second)
    else:
        at = (first + col) // 32
        word = tl.load(
            mask_at[:, None] + at[None, :], row_ok[:, None] & (at < WORDS)[None, :], other=0
        )
    return ((word >> (col % 32)[None, :]) & 1) == 1


@triton.jit(do_not_specialize=["salt"])
def attention_backward(
    q_ptr,
    k_ptr,
    v_ptr,
    do_ptr,
    dq_ptr,
    dk_ptr,
    dv_ptr,
    lse_ptr,
    mask_ptr,
    bias_ptr,
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
    gb,
    gh,
    gn,
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
    BIAS: tl.constexpr,
):
    """dq, dk, dv of one head.  dq, dk and dv share the strides (gb, gh, gn).

    BIAS: also their sums over the tokens, float32 bias [B, 3, H, D]."""
    pair = tl.program_id(0)
    batch = (pair // heads).to(tl.int64)
    head = pair % heads
    col = tl.arange(0, KEYS)
    dim = tl.arange(0, DIMS)
    dim_ok = dim < HEAD_DIM
    in_block: tl.constexpr = TOKENS - 1 if EXTRA else TOKENS
    col_ok = col < in_block
    temperature = tl.load(values_ptr)
    dropout = tl.load(values_ptr + DROPOUT)
    factor = scale / temperature
    log2_factor = factor * LOG2_E
    grown = 1.0 / (1.0 - dropout)

    k_at = k_ptr + batch * kb + head * kh
    v_at = v_ptr + batch * vb + head * vh
    key_mask = col_ok[:, None] & dim_ok[None, :]
    k = tl.load(k_at + col[:, None] * kn + dim[None, :], key_mask, other=0.0)
    v = tl.load(v_at + col[:, None] * vn + dim[None, :], key_mask, other=0.0)
    dk = tl.zeros([KEYS, DIMS], tl.float32)
    dv = tl.zeros([KEYS, DIMS], tl.float32)
    k_x = tl.zeros([DIMS], tl.float32)
    v_x = tl.zeros([DIMS], tl.float32)
    dk_x = tl.zeros([DIMS], tl.float32)
    dv_x = tl.zeros([DIMS], tl.float32)
    sum_q = tl.zeros([ROWS, DIMS], tl.float32)
    if EXTRA:
        k_x = tl.load(k_at + in_block * kn + dim, dim_ok, other=0.0).to(tl.float32)
        v_x = tl.load(v_at + in_block * vn + dim, dim_ok, other=0.0).to(tl.float32)

    for start in range(0, TOKENS, ROWS):
        row = start + tl.arange(0, ROWS)
        row_ok = row < TOKENS
        row_mask = row_ok[:, None] & dim_ok[None, :]
        pair_row = pair * TOKENS + row
        q = tl.load(
            q_ptr + batch * qb + head * qh + row[:, None] * qn + dim[None, :], row_mask, other=0.0
        )
        do = tl.load(
            do_ptr + batch * ob + head * oh + row[:, None] * on + dim[None, :], row_mask, other=0.0
        )
        lse = tl.load(lse_ptr + pair_row, row_ok, other=float("inf"))
        mask_at = mask_ptr + pair_row.to(tl.int64) * WORDS
        keep = kept(mask_at, 0, col, row_ok, KEYS, WORDS)

        s = tl.dot(q, tl.trans(k), input_precision=PRECISION) * log2_factor
        p = tl.where(keep, tl.exp2(s - lse[:, None]), 0.0)
        dp = tl.dot(do, tl.trans(v), input_precision=PRECISION)
        used = p
        p_x = tl.zeros([ROWS], tl.float32)
        dp_x = tl.zeros([ROWS], tl.float32)
        used_x = p_x
        if EXTRA:
            s_x = tl.sum(q.to(tl.float32) * k_x[None, :], 1) * log2_factor
            keep_x = (tl.load(mask_at + KEYS // 32, row_ok, other=0) >> (KEYS % 32)) & 1
            p_x = tl.where(keep_x == 1, tl.exp2(s_x - lse), 0.0)
            dp_x = tl.sum(do.to(tl.float32) * v_x[None, :], 1)
            used_x = p_x
        if dropout > 0.0:
            code = row_codes(seed_ptr, salt, pair_row)
            stays = dropout_keeps(code[:, None], col[None, :], dropout)
            used = tl.where(stays, p, 0.0)
            dp = tl.where(stays, dp * grown, 0.0)
            if EXTRA:
                stays_x = dropout_keeps(code, tl.full([ROWS], KEYS, tl.int32), dropout)
                used_x = tl.where(stays_x, p_x, 0.0)
                dp_x = tl.where(stays_x, dp_x * grown, 0.0)
        mean = tl.sum(p * dp, 1) + p_x * dp_x
        ds = p * (dp - mean[:, None])
        ds_low = ds.to(q.dtype)
        dv += tl.dot(tl.trans(used.to(do.dtype)), do, input_precision=PRECISION)
        dk += tl.dot(tl.trans(ds_low), q, input_precision=PRECISION)
        dq = tl.dot(ds_low, k, input_precision=PRECISION)
        if EXTRA:
            ds_x = p_x * (dp_x - mean)
            dq += ds_x[:, None] * k_x[None, :]
            dk_x += tl.sum(ds_x[:, None] * q.to(tl.float32), 0)
            dv_x += tl.sum(used_x[:, None] * do.to(tl.float32), 0)
        dq *= factor
        if BIAS:
            sum_q += tl.where(row_ok[:, None], dq, 0.0)
        tl.store(
            dq_ptr + batch * gb + head * gh + row[:, None] * gn + dim[None, :],
            dq.to(dq_ptr.dtype.element_ty),
            row_mask,
        )

    # what is common to all of an accumulator's terms is multiplied once
    dk *= factor
    dk_x *= factor
    dv *= grown
    dv_x *= grown
    grad_at = batch * gb + head * gh + col[:, None] * gn + dim[None, :]
    tl.store(dk_ptr + grad_at, dk.to(dk_ptr.dtype.element_ty), key_mask)
    tl.store(dv_ptr + grad_at, dv.to(dv_ptr.dtype.element_ty), key_mask)
    if EXTRA:
        grad_x = batch * gb + head * gh + in_block * gn + dim
        tl.store(dk_ptr + grad_x, dk_x.to(dk_ptr.dtype.element_ty), dim_ok)
        tl.store(dv_ptr + grad_x, dv_x.to(dv_ptr.dtype.element_ty), dim_ok)
    if BIAS:
        bias_at = bias_ptr + batch * (3 * heads * HEAD_DIM) + head * HEAD_DIM + dim
        tl.store(bias_at, tl.sum(sum_q, 0), dim_ok)
        tl.store(bias_at + heads * HEAD_DIM, tl.sum(dk, 0) + dk_x, dim_ok)
        tl.store(bias_at + 2 * heads * HEAD_DIM, tl.sum(dv, 0) + dv_x, dim_ok)


@triton.jit(do_not_specialize=["salt"])
def attention_backward_queries(
    q_ptr,
    k_ptr,
    v_ptr,
    o_ptr,
    do_ptr,
    dq_ptr,
    mean_ptr,
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
    gb,
    gh,
    gn,
    fb,
    fh,
    fn,
    ob,
    oh,
    on,
    scale,
    heads,
    TOKENS: tl.constexpr,
    HEAD_DIM: tl.constexpr,
    KEYS: tl.constexpr,
    DIMS: tl.constexpr,
    ROWS: tl.constexpr,
    WORDS: tl.constexpr,
    PRECISION: tl.constexpr,
):
    """dq of ROWS queries, and mean [B*H, N] = sum(do * o), for the kernel of the keys.

    Strides: q, k, v, then dq (g), o (f) and do (o).
    """
    pair = tl.program_id(1)
    batch = (pair // heads).to(tl.int64)
    head = pair % heads
    row = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    row_ok = row < TOKENS
    dim = tl.arange(0, DIMS)
    dim_ok = dim < HEAD_DIM
    row_mask = row_ok[:, None] & dim_ok[None, :]
    pair_row = pair * TOKENS + row
    temperature = tl.load(values_ptr)
    dropout = tl.load(values_ptr + DROPOUT)
    factor = scale / temperature
    log2_factor = factor * LOG2_E
    grown = 1.0 / (1.0 - dropout)

    q = tl.load(
        q_ptr + batch * qb + head * qh + row[:, None] * qn + dim[None, :], row_mask, other=0.0
    )
    do = tl.load(
        do_ptr + batch * ob + head * oh + row[:, None] * on + dim[None, :], row_mask, other=0.0
    )
    o = tl.load(
        o_ptr + batch * fb + head * fh + row[:, None] * fn + dim[None, :], row_mask, other=0.0
    )
    mean = tl.sum(do.to(tl.float32) * o.to(tl.float32), 1)
    tl.store(mean_ptr + pair_row, mean, row_ok)
    lse = tl.load(lse_ptr + pair_row, row_ok, other=float("inf"))
    mask_at = mask_ptr + pair_row.to(tl.int64) * WORDS
    code = row_codes(seed_ptr, salt, pair_row)
    dq = tl.zeros([ROWS, DIMS], tl.float32)
    for first in range(0, TOKENS, KEYS):
        col = tl.arange(0, KEYS)
        key_mask = (first + col < TOKENS)[:, None] & dim_ok[None, :]
        at = (first + col)[:, None]
        k = tl.load(k_ptr + batch * kb + head * kh + at * kn + dim[None, :], key_mask, other=0.0)
        v = tl.load(v_ptr + batch * vb + head * vh + at * vn + dim[None, :], key_mask, other=0.0)
        keep = kept(mask_at, first, col, row_ok, KEYS, WORDS)
        keep = keep & (first + col < TOKENS)[None, :]
        s = tl.dot(q, tl.trans(k), input_precision=PRECISION) * log2_factor
        p = tl.where(keep, tl.exp2(s - lse[:, None]), 0.0)
        dp = tl.dot(do, tl.trans(v), input_precision=PRECISION)
        if dropout > 0.0:
            stays = dropout_keeps(code[:, None], (first + col)[None, :], dropout)
            dp = tl.where(stays, dp * grown, 0.0)
        ds = p * (dp - mean[:, None])
        dq += tl.dot(ds.to(k.dtype), k, input_precision=PRECISION)
    tl.store(
        dq_ptr + batch * gb + head * gh + row[:, None] * gn + dim[None, :],
        (dq * factor).to(dq_ptr.dtype.element_ty),
        row_mask,
    )


@triton.jit(do_not_specialize=["salt"])
def attention_backward_keys(
    q_ptr,
    k_ptr,
    v_ptr,
    do_ptr,
    dk_ptr,
    dv_ptr,
    mean_ptr,
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
    gb,
    gh,
    gn,
    ob,
    oh,
    on,
    scale,
    heads,
    TOKENS: tl.constexpr,
    HEAD_DIM: tl.constexpr,
    KEYS: tl.constexpr,
    DIMS: tl.constexpr,
    ROWS: tl.constexpr,
    WORDS: tl.constexpr,
    PRECISION: tl.constexpr,
):
    """dk and dv of KEYS keys: a loop over all queries."""
    pair = tl.program_id(1)
    batch = (pair // heads).to(tl.int64)
    head = pair % heads
    first = tl.program_id(0) * KEYS
    col = tl.arange(0, KEYS)
    dim = tl.arange(0, DIMS)
    dim_ok = dim < HEAD_DIM
    col_ok = first + col < TOKENS
    key_mask = col_ok[:, None] & dim_ok[None, :]
    at = (first + col)[:, None]
    temperature = tl.load(values_ptr)
    dropout = tl.load(values_ptr + DROPOUT)
    factor = scale / temperature
    log2_factor = factor * LOG2_E
    grown = 1.0 / (1.0 - dropout)
    k = tl.load(k_ptr + batch * kb + head * kh + at * kn + dim[None, :], key_mask, other=0.0)
    v = tl.load(v_ptr + batch * vb + head * vh + at * vn + dim[None, :], key_mask, other=0.0)
    dk = tl.zeros([KEYS, DIMS], tl.float32)
    dv = tl.zeros([KEYS, DIMS], tl.float32)
    for start in range(0, TOKENS, ROWS):
        row = start + tl.arange(0, ROWS)
        row_ok = row < TOKENS
        row_mask = row_ok[:, None] & dim_ok[None, :]
        pair_row = pair * TOKENS + row
        q = tl.load(
            q_ptr + batch * qb + head * qh + row[:, None] * qn + dim[None, :], row_mask, other=0.0
        )
        do = tl.load(
            do_ptr + batch * ob + head * oh + row[:, None] * on + dim[None, :], row_mask, other=0.0
        )
        lse = tl.load(lse_ptr + pair_row, row_ok, other=float("inf"))
        mean = tl.load(mean_ptr + pair_row, row_ok, other=0.0)
        mask_at = mask_ptr + pair_row.to(tl.int64) * WORDS
        keep = kept(mask_at, first, col, row_ok, KEYS, WORDS) & col_ok[None, :]
        s = tl.dot(q, tl.trans(k), input_precision=PRECISION) * log2_factor
        p = tl.where(keep, tl.exp2(s - lse[:, None]), 0.0)
        dp = tl.dot(do, tl.trans(v), input_precision=PRECISION)
        used = p
        if dropout > 0.0:
            code = row_codes(seed_ptr, salt, pair_row)
            stays = dropout_keeps(code[:, None], (first + col)[None, :], dropout)
            used = tl.where(stays, p, 0.0)
            dp = tl.where(stays, dp * grown, 0.0)
        ds = p * (dp - mean[:, None])
        dv += tl.dot(tl.trans(used.to(do.dtype)), do, input_precision=PRECISION)
        dk += tl.dot(tl.trans(ds.to(q.dtype)), q, input_precision=PRECISION)
    dk *= factor
    dv *= grown
    grad_at = batch * gb + head * gh + at * gn + dim[None, :]
    tl.store(dk_ptr + grad_at, dk.to(dk_ptr.dtype.element_ty), key_mask)
    tl.store(dv_ptr + grad_at, dv.to(dv_ptr.dtype.element_ty), key_mask)
