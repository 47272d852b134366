# mypy: disable-error-code="no-untyped-def,no-untyped-call,untyped-decorator,misc"
"""Clipping, AdamW, averaged weights and the bf16 copies in one pass (Triton).

All weights lie in one flat buffer, matrices first.  Each element is read and written
once: 36 bytes, the whole optimiser's floor.
"""

from __future__ import annotations

import triton
import triton.language as tl

from model.fast.kernels.slots import (
    AVERAGE,
    BETA_1,
    BETA_2,
    CLIP,
    CORRECTION_1,
    CORRECTION_2,
    EPOCH_STEP,
    EPS,
    LR,
    RUN_STEP,
    SCHEDULE_COLUMNS,
    WEIGHT_DECAY,
)

BLOCK = 1024
"""Elements a program takes; the layout's sections are multiples of it."""

SUM_BLOCK = 4096
"""Elements a program of the sum of squares takes at once."""

PARTS = 512
"""Programs that sum the gradient's squares, and partial sums that they leave."""


@triton.jit
def squared_sums(low_ptr, high_ptr, partial_ptr, low_count, high_count, BLOCK: tl.constexpr):
    """partial [programs]: sums of squares of both gradient buffers."""
    total = tl.zeros([BLOCK], tl.float32)
    step = tl.num_programs(0) * BLOCK
    for start in range(tl.program_id(0) * BLOCK, low_count, step):
        at = start + tl.arange(0, BLOCK)
        g = tl.load(low_ptr + at, at < low_count, other=0.0).to(tl.float32)
        total += g * g
    for start in range(tl.program_id(0) * BLOCK, high_count, step):
        at = start + tl.arange(0, BLOCK)
        g = tl.load(high_ptr + at, at < high_count, other=0.0)
        total += g * g
    tl.store(partial_ptr + tl.program_id(0), tl.sum(total, 0))


@triton.jit
def clip_factor(partial_ptr, recipe_ptr, PARTS: tl.constexpr):
    """What the gradient is multiplied by, from its partial sums of squares."""
    norm = tl.sqrt(tl.sum(tl.load(partial_ptr + tl.arange(0, PARTS)), 0))
    clip = tl.load(recipe_ptr + CLIP)
    # as torch.nn.utils.clip_grad_norm_; a NaN norm makes every weight NaN, and is seen
    factor = tl.where(clip > 0.0, clip / (norm + 1e-6), 1.0)
    return tl.where(factor > 1.0, 1.0, factor)


@triton.jit
def adamw_step(
    weight_ptr,
    low_grad_ptr,
    high_grad_ptr,
    first_ptr,
    second_ptr,
    average_ptr,
    copy_ptr,
    partial_ptr,
    table_ptr,
    counter_ptr,
    recipe_ptr,
    skipped,
    low_count,
    decayed,
    trained,
    BLOCK: tl.constexpr,
    PARTS: tl.constexpr,
):
    """One block of the flat buffer: clip, AdamW, average, copy in the products' type.

    The first `skipped` elements are Muon's.  Those from `trained` on are not trained
    (BatchNorm's statistics): averaged only.
    recipe: clip (0: off), weight decay, beta1, beta2, eps.
    """
    start = skipped + tl.program_id(0) * BLOCK
    at = start + tl.arange(0, BLOCK)
    row = table_ptr + tl.load(counter_ptr + RUN_STEP) * SCHEDULE_COLUMNS
    weight = tl.load(weight_ptr + at)
    if start < trained:
        factor = clip_factor(partial_ptr, recipe_ptr, PARTS)
        if start < low_count:
            g = tl.load(low_grad_ptr + at).to(tl.float32)
        else:
            g = tl.load(high_grad_ptr + at - low_count)
        g = g * factor
        lr = tl.load(row + LR)
        beta1 = tl.load(recipe_ptr + BETA_1)
        beta2 = tl.load(recipe_ptr + BETA_2)
        if start < decayed:
            weight = weight * (1.0 - lr * tl.load(recipe_ptr + WEIGHT_DECAY))
        first = tl.load(first_ptr + at)
        first = first + (g - first) * (1.0 - beta1)
        second = tl.load(second_ptr + at) * beta2 + g * g * (1.0 - beta2)
        tl.store(first_ptr + at, first)
        tl.store(second_ptr + at, second)
        spread = tl.sqrt(second) / tl.load(row + CORRECTION_2) + tl.load(recipe_ptr + EPS)
        weight = weight - lr / tl.load(row + CORRECTION_1) * (first / spread)
        tl.store(weight_ptr + at, weight)
        tl.store(copy_ptr + at, weight.to(copy_ptr.dtype.element_ty))
    average = tl.load(average_ptr + at)
    tl.store(average_ptr + at, average + (weight - average) * (1.0 - tl.load(row + AVERAGE)))


@triton.jit
def advance(counter_ptr, seed_ptr):
    """The step is over: counter = (step of the run, step of the epoch), both + 1."""
    tl.store(counter_ptr + RUN_STEP, tl.load(counter_ptr + RUN_STEP) + 1)
    tl.store(counter_ptr + EPOCH_STEP, tl.load(counter_ptr + EPOCH_STEP) + 1)
    tl.store(seed_ptr, tl.load(seed_ptr) + 0x5851F42D4C957F2D)
