# mypy: disable-error-code="no-untyped-def,no-untyped-call,untyped-decorator,misc"
"""Muon's passes over the weights and its matrix products (Triton).

A program of `muon_momentum` and `muon_apply` takes one tile of one matrix, so that a
matrix can be turned on the way: Newton-Schulz works on tall ones.  `matrix_product` has
what the library's has not: a sum with a third matrix that is not copied first, and half
the work where the result is symmetric.
"""

from __future__ import annotations

import triton
import triton.language as tl

from model.fast.kernels.optimizer import clip_factor
from model.fast.kernels.slots import (
    AVERAGE,
    LR,
    MOMENTUM,
    RUN_STEP,
    SCHEDULE_COLUMNS,
    WEIGHT_DECAY,
)

TILE = 64
"""Side of a program's tile."""

SCALE_BLOCK = 4096
"""Elements a program of `muon_scale` takes."""


@triton.jit
def muon_momentum(
    grad_ptr,
    momentum_ptr,
    update_ptr,
    square_ptr,
    partial_ptr,
    recipe_ptr,
    rows,
    cols,
    TURNED: tl.constexpr,
    TILE: tl.constexpr,
    PARTS: tl.constexpr,
):
    """Clip, momentum, Nesterov: program (tile of columns, tile of rows, matrix).

    With g the clipped gradient [matrices, rows, cols] and m the momentum:

        buffer = m buffer + (1 - m) g
        update = m buffer + (1 - m) g

    update in its own type, turned to [matrices, cols, rows] with TURNED;
    square [matrices, tiles]: sum of the stored update's squares over each tile.
    """
    row = tl.program_id(1) * TILE + tl.arange(0, TILE)
    col = tl.program_id(0) * TILE + tl.arange(0, TILE)
    ok = (row < rows)[:, None] & (col < cols)[None, :]
    matrix = tl.program_id(2).to(tl.int64)
    grad_ptr += matrix * rows * cols
    momentum_ptr += matrix * rows * cols
    update_ptr += matrix * rows * cols
    at = row[:, None] * cols + col[None, :]
    g = tl.load(grad_ptr + at, ok, other=0.0).to(tl.float32)
    g = g * clip_factor(partial_ptr, recipe_ptr, PARTS)
    rest = 1.0 - tl.load(recipe_ptr + MOMENTUM)
    momentum = tl.load(momentum_ptr + at, ok, other=0.0)
    momentum = momentum + (g - momentum) * rest
    tl.store(momentum_ptr + at, momentum, ok)
    update = (momentum - (momentum - g) * rest).to(update_ptr.dtype.element_ty)
    if TURNED:
        turned = col[:, None] * rows + row[None, :]
        inside = (col < cols)[:, None] & (row < rows)[None, :]
        tl.store(update_ptr + turned, tl.trans(update), inside)
    else:
        tl.store(update_ptr + at, update, ok)
    stored = update.to(tl.float32)
    tile = tl.program_id(1) * tl.num_programs(0) + tl.program_id(0)
    tiles = tl.num_programs(0) * tl.num_programs(1)
    tl.store(square_ptr + matrix * tiles + tile, tl.sum(tl.sum(stored * stored, 1), 0))


@triton.jit
def muon_scale(
    update_ptr,
    square_ptr,
    size,
    tiles,
    eps,
    BLOCK: tl.constexpr,
    TILES: tl.constexpr,
):
    """update = update / max(|update|, eps), matrix by matrix: program (block, matrix).

    The Frobenius norm is rounded to the update's type first, as torch has it.
    """
    matrix = tl.program_id(1).to(tl.int64)
    part = tl.arange(0, TILES)
    square = tl.sum(tl.load(square_ptr + matrix * tiles + part, part < tiles, other=0.0), 0)
    norm = tl.sqrt(square).to(update_ptr.dtype.element_ty).to(tl.float32)
    norm = tl.where(norm < eps, eps, norm)  # NaN stays
    at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    ok = at < size
    update = tl.load(update_ptr + matrix * size + at, ok, other=0.0).to(tl.float32)
    update = update / norm
    tl.store(update_ptr + matrix * size + at, update.to(update_ptr.dtype.element_ty), ok)


@triton.jit
def matrix_product(
    left_ptr,
    right_ptr,
    added_ptr,
    out_ptr,
    rows,
    cols,
    inner,
    alpha,
    beta,
    TURNED: tl.constexpr,
    ADDED: tl.constexpr,
    SYMMETRIC: tl.constexpr,
    TILE: tl.constexpr,
    INNER: tl.constexpr,
):
    """out = alpha left right + beta added: program (tile of columns, tile of rows, matrix).

    out and added [matrices, rows, cols], left [matrices, rows, inner] (with TURNED its
    transpose lies there), right [matrices, inner, cols]; sums in float32.  Without ADDED
    there is no second term.  A SYMMETRIC result is computed on and below its diagonal.
    """
    row_tile = tl.program_id(1)
    col_tile = tl.program_id(0)
    if SYMMETRIC and col_tile > row_tile:
        return
    matrix = tl.program_id(2).to(tl.int64)
    left_ptr += matrix * rows * inner
    right_ptr += matrix * inner * cols
    out_ptr += matrix * rows * cols
    row = row_tile * TILE + tl.arange(0, TILE)
    col = col_tile * TILE + tl.arange(0, TILE)
    row_ok = row < rows
    col_ok = col < cols
    total = tl.zeros([TILE, TILE], tl.float32)
    for start in range(0, inner, INNER):
        k = start + tl.arange(0, INNER)
        ok = k < inner
        if TURNED:
            at = k[:, None] * rows + row[None, :]
            left = tl.trans(tl.load(left_ptr + at, ok[:, None] & row_ok[None, :], other=0.0))
        else:
            at = row[:, None] * inner + k[None, :]
            left = tl.load(left_ptr + at, row_ok[:, None] & ok[None, :], other=0.0)
        at = k[:, None] * cols + col[None, :]
        right = tl.load(right_ptr + at, ok[:, None] & col_ok[None, :], other=0.0)
        total = tl.dot(left, right, total)
    total = total * alpha
    at = row[:, None] * cols + col[None, :]
    inside = row_ok[:, None] & col_ok[None, :]
    if ADDED:
        added = tl.load(added_ptr + matrix * rows * cols + at, inside, other=0.0)
        total += beta * added.to(tl.float32)
    out = total.to(out_ptr.dtype.element_ty)
    tl.store(out_ptr + at, out, inside)
    if SYMMETRIC and col_tile < row_tile:
        mirrored = col[:, None] * cols + row[None, :]
        tl.store(out_ptr + mirrored, tl.trans(out), col_ok[:, None] & row_ok[None, :])


@triton.jit
def muon_apply(
    weight_ptr,
    update_ptr,
    average_ptr,
    copy_ptr,
    table_ptr,
    counter_ptr,
    recipe_ptr,
    factor,
    rows,
    cols,
    TURNED: tl.constexpr,
    TILE: tl.constexpr,
):
    """Decay, update, average, copy in the products' type: program as in `muon_momentum`.

    weight = (1 - lr decay) weight - lr factor update
    """
    row = tl.program_id(1) * TILE + tl.arange(0, TILE)
    col = tl.program_id(0) * TILE + tl.arange(0, TILE)
    ok = (row < rows)[:, None] & (col < cols)[None, :]
    first = tl.program_id(2).to(tl.int64) * rows * cols
    weight_ptr += first
    update_ptr += first
    average_ptr += first
    copy_ptr += first
    at = row[:, None] * cols + col[None, :]
    if TURNED:
        turned = col[:, None] * rows + row[None, :]
        inside = (col < cols)[:, None] & (row < rows)[None, :]
        update = tl.trans(tl.load(update_ptr + turned, inside, other=0.0))
    else:
        update = tl.load(update_ptr + at, ok, other=0.0)
    schedule = table_ptr + tl.load(counter_ptr + RUN_STEP) * SCHEDULE_COLUMNS
    lr = tl.load(schedule + LR)
    weight = tl.load(weight_ptr + at, ok, other=0.0)
    weight = weight * (1.0 - lr * tl.load(recipe_ptr + WEIGHT_DECAY))
    weight = weight - lr * factor * update.to(tl.float32)
    tl.store(weight_ptr + at, weight, ok)
    tl.store(copy_ptr + at, weight.to(copy_ptr.dtype.element_ty), ok)
    average = tl.load(average_ptr + at, ok, other=0.0)
    average = average + (weight - average) * (1.0 - tl.load(schedule + AVERAGE))
    tl.store(average_ptr + at, average, ok)
