# mypy: disable-error-code="no-untyped-def,no-untyped-call,untyped-decorator,misc"
"""Which keys a query keeps, found in registers without a sort (Triton device functions).

One tile holds every score of its rows, so both filters need row reductions only.
Scores are compared as floats; the search walks the bits of an order-preserving integer
code of them, so it is exact after 32 steps whatever the scores are.

A row's last key may stand apart as one value a row (`s_x`): 17, 65 and 257 tokens
then fit tiles of 16, 64 and 256 instead of twice that.  It has the highest index,
so among equal scores it comes last.  Where there is none it is -inf.

Semantics: `model.kernels.reference.reference_keep`.
"""

from __future__ import annotations

import triton
import triton.language as tl

FEW = tl.constexpr(8)
SOME = tl.constexpr(16)
"""Largest top_k of the two quick paths, and the widths of their tables of largest values."""

SHORT = tl.constexpr(32)
"""Longest row whose table of largest values is as wide as the row: table and scores then
lie alike in registers, and no round of the search has to move its maxima."""


@triton.jit
def float_from_code(code):
    """The float32 whose order-preserving code (uint32) is `code`."""
    bits = tl.where(code >= 0x80000000, code ^ 0x80000000, code ^ 0xFFFFFFFF)
    return bits.to(tl.float32, bitcast=True)


@triton.jit
def keep_few(s, s_x, top_k, top_p, row_ok, M: tl.constexpr, SLOTS: tl.constexpr):
    """Largest `top_k` <= SLOTS values by repeated maxima, then top-p over those.

    Every round finds the next smaller distinct value, so `top_k` rounds give the
    survivors when no two of them (nor the next key) are equal; otherwise `exact`
    is 0 and the caller searches.

    Returns (threshold [M]: keep scores >= it, exact: scalar).
    """
    slot = tl.arange(0, SLOTS)
    value = tl.full([M], float("inf"), tl.float32)
    highest = tl.maximum(tl.max(s, 1), s_x)
    total = tl.zeros([M], tl.float32)
    values = tl.full([M, SLOTS], float("inf"), tl.float32)
    before = tl.full([M, SLOTS], float("inf"), tl.float32)
    for r in range(top_k):
        inside = tl.max(tl.where(s < value[:, None], s, float("-inf")), 1)
        value = tl.maximum(inside, tl.where(s_x < value, s_x, float("-inf")))
        here = (slot == r)[None, :]
        values = tl.where(here, value[:, None], values)
        before = tl.where(here, total[:, None], before)
        total += tl.exp2(value - highest)
    count = tl.sum((s >= value[:, None]).to(tl.int32), 1) + (s_x >= value).to(tl.int32)
    wrong = (count != top_k) & row_ok
    exact = tl.max(wrong.to(tl.int32), 0) == 0
    wanted = tl.where(top_p < 1.0, top_p * total, float("inf"))
    kept = before < wanted[:, None]
    threshold = tl.min(tl.where(kept, values, float("inf")), 1)
    return threshold, exact


@triton.jit
def keep_by_rank(s, s_x, top_k, M: tl.constexpr):
    """First `top_k` (1 <= top_k < keys) by falling score, equal ones by rising index."""
    code = tl.zeros([M], tl.uint32)
    for step in range(32):
        bit = (tl.full([M], 1, tl.uint32) << (31 - step)).to(tl.uint32)
        candidate = code | bit
        limit = float_from_code(candidate)
        count = tl.sum((s >= limit[:, None]).to(tl.int32), 1) + (s_x >= limit).to(tl.int32)
        code = tl.where(count >= top_k, candidate, code)
    limit = float_from_code(code)
    above = s > limit[:, None]
    equal = s == limit[:, None]
    room = top_k - tl.sum(above.to(tl.int32), 1) - (s_x > limit).to(tl.int32)
    place = tl.cumsum(equal.to(tl.int32), 1)
    keep = above | (equal & (place <= room[:, None]))
    equal_inside = tl.sum(equal.to(tl.int32), 1)
    keep_x = (s_x > limit) | ((s_x == limit) & (equal_inside < room))
    return keep, keep_x


@triton.jit
def keep_by_mass(s, s_x, keep, keep_x, top_p, M: tl.constexpr):
    """Of the kept: the smallest first part whose mass reaches `top_p` < 1 of theirs."""
    highest = tl.maximum(
        tl.max(tl.where(keep, s, float("-inf")), 1), tl.where(keep_x, s_x, float("-inf"))
    )
    mass = tl.where(keep, tl.exp2(s - highest[:, None]), 0.0)
    mass_x = tl.where(keep_x, tl.exp2(s_x - highest), 0.0)
    wanted = top_p * (tl.sum(mass, 1) + mass_x)
    code = tl.zeros([M], tl.uint32)
    for step in range(32):
        bit = (tl.full([M], 1, tl.uint32) << (31 - step)).to(tl.uint32)
        candidate = code | bit
        limit = float_from_code(candidate)
        reached = tl.sum(tl.where(s >= limit[:, None], mass, 0.0), 1)
        reached += tl.where(s_x >= limit, mass_x, 0.0)
        code = tl.where(reached >= wanted, candidate, code)
    limit = float_from_code(code)
    above = keep & (s > limit[:, None])
    equal = keep & (s == limit[:, None])
    mass_above = tl.sum(tl.where(above, mass, 0.0), 1)
    mass_above += tl.where(keep_x & (s_x > limit), mass_x, 0.0)
    earlier = (tl.cumsum(equal.to(tl.int32), 1) - 1).to(tl.float32)
    each = tl.exp2(limit - highest)
    room = wanted - mass_above
    kept = above | (equal & ((earlier * each[:, None] < room[:, None]) | (earlier < 0.5)))
    equal_inside = tl.sum(equal.to(tl.int32), 1).to(tl.float32)
    at_limit = (s_x == limit) & ((equal_inside * each < room) | (equal_inside < 0.5))
    return kept, keep_x & ((s_x > limit) | at_limit)


@triton.jit
def filtered(s, s_x, row_ok, top_k, top_p, KEYS: tl.constexpr, M: tl.constexpr):
    """The scores, -inf where top-k, then top-p of what is left, drops a key.

    `top_k` >= KEYS and `top_p` >= 1 are exact no-ops.  Scores of padding are -inf.
    Scores come in units of log2(e), so that 2^score is the weight.
    """
    lowest = float("-inf")
    filters_rank = top_k < KEYS
    exact = top_k < 0  # false, as a traced value
    threshold = tl.full([M], lowest, tl.float32)
    if s.shape[1] <= SHORT:
        if filters_rank & (top_k <= s.shape[1]):
            threshold, exact = keep_few(s, s_x, top_k, top_p, row_ok, M, s.shape[1])
    elif filters_rank & (top_k <= FEW):
        threshold, exact = keep_few(s, s_x, top_k, top_p, row_ok, M, FEW)
    elif filters_rank & (top_k <= SOME):
        threshold, exact = keep_few(s, s_x, top_k, top_p, row_ok, M, SOME)
    if exact == 0:
        keep = s > lowest
        keep_x = s_x > lowest
        if filters_rank:
            keep, keep_x = keep_by_rank(s, s_x, top_k, M)
        if top_p < 1.0:
            keep, keep_x = keep_by_mass(s, s_x, keep, keep_x, top_p, M)
        s = tl.where(keep, s, lowest)
        s_x = tl.where(keep_x, s_x, lowest)
    else:
        s = tl.where(s >= threshold[:, None], s, lowest)
        s_x = tl.where(s_x >= threshold, s_x, lowest)
    return s, s_x
