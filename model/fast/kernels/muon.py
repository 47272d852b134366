# mypy: disable-error-code="no-untyped-def,no-untyped-call,untyped-decorator,misc"
"""Muon's passes over the weights: momentum, scaling, and the final update (Triton).

A program of `muon_momentum` and `muon_apply` takes one tile of one matrix, so that a
matrix can be turned on the way: Newton-Schulz works on tall ones.
"""

from __future__ import annotations

import triton
import triton.language as tl

from model.fast.kernels.optimizer import clip_factor

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
    first = matrix * rows * cols
    at = first + row[:, None] * cols + col[None, :]
    g = tl.load(grad_ptr + at, ok, other=0.0).to(tl.float32)
    g = g * clip_factor(partial_ptr, recipe_ptr, PARTS)
    rest = 1.0 - tl.load(recipe_ptr + 5)
    momentum = tl.load(momentum_ptr + at, ok, other=0.0)
    momentum = momentum + (g - momentum) * rest
    tl.store(momentum_ptr + at, momentum, ok)
    update = (momentum - (momentum - g) * rest).to(update_ptr.dtype.element_ty)
    if TURNED:
        turned = first + col[:, None] * rows + row[None, :]
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
    at = first + row[:, None] * cols + col[None, :]
    if TURNED:
        turned = first + col[:, None] * rows + row[None, :]
        inside = (col < cols)[:, None] & (row < rows)[None, :]
        update = tl.trans(tl.load(update_ptr + turned, inside, other=0.0))
    else:
        update = tl.load(update_ptr + at, ok, other=0.0)
    schedule = table_ptr + tl.load(counter_ptr) * 4
    lr = tl.load(schedule)
    weight = tl.load(weight_ptr + at, ok, other=0.0)
    weight = weight * (1.0 - lr * tl.load(recipe_ptr + 1))
    weight = weight - lr * factor * update.to(tl.float32)
    tl.store(weight_ptr + at, weight, ok)
    tl.store(copy_ptr + at, weight.to(copy_ptr.dtype.element_ty), ok)
    average = tl.load(average_ptr + at, ok, other=0.0)
    average = average + (weight - average) * (1.0 - tl.load(schedule + 3))
    tl.store(average_ptr + at, average, ok)
