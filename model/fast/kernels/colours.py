# mypy: disable-error-code="no-untyped-def,no-untyped-call,untyped-decorator,misc"
"""The split heads' passes over memory: patches of each colour, their norm, keys and values."""

from __future__ import annotations

import triton
import triton.language as tl

from model.fast.kernels.gelu import gelu_parts
from model.fast.kernels.layer_norm import EPS

COLOURS = tl.constexpr(3)


@triton.jit
def cut_planes(
    images_ptr,
    patches_ptr,
    count,
    SIDE: tl.constexpr,
    GRID: tl.constexpr,
    PIXELS: tl.constexpr,
    WIDTH: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """patches [3, images * GRID^2, WIDTH] from images [images, SIDE, SIDE, 3]: program
    (block of a colour's `count` elements, colour).

    A patch is PIXELS x PIXELS, 0 outside the image and beyond PIXELS^2 columns.
    """
    colour = tl.program_id(1)
    at = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    row = at // WIDTH
    inner = at % WIDTH
    image = row // (GRID * GRID)
    patch = row % (GRID * GRID)
    y = (patch // GRID) * PIXELS + inner // PIXELS
    x = (patch % GRID) * PIXELS + inner % PIXELS
    inside = (at < count) & (inner < PIXELS * PIXELS) & (y < SIDE) & (x < SIDE)
    value = tl.load(
        images_ptr + ((image * SIDE + y) * SIDE + x) * COLOURS + colour, inside, other=0.0
    )
    out = patches_ptr + tl.cast(colour, tl.int64) * count + at
    tl.store(out, value.to(patches_ptr.dtype.element_ty), at < count)


@triton.jit
def bias_gelu_forward(pre_ptr, bias_ptr, out_ptr, count, COLS: tl.constexpr, BLOCK: tl.constexpr):
    """out = gelu(pre + bias), and pre = gelu'(pre + bias) in place: program (block of a
    colour's `count` elements, colour).  pre [3, rows, COLS], bias float32 [3, COLS]."""
    colour = tl.program_id(1)
    inside = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    ok = inside < count
    at = tl.cast(colour, tl.int64) * count + inside
    x = tl.load(pre_ptr + at, ok, other=0.0).to(tl.float32)
    x += tl.load(bias_ptr + colour * COLS + inside % COLS, ok, other=0.0)
    phi, slope = gelu_parts(x)
    tl.store(out_ptr + at, (x * phi).to(out_ptr.dtype.element_ty), ok)
    tl.store(pre_ptr + at, slope.to(pre_ptr.dtype.element_ty), ok)


@triton.jit
def colour_norm_forward(
    patches_ptr,
    position_ptr,
    weight_ptr,
    bias_ptr,
    out_ptr,
    mean_ptr,
    rstd_ptr,
    images,
    TOKENS: tl.constexpr,
    CLASS: tl.constexpr,
    DIM: tl.constexpr,
    BLOCK: tl.constexpr,
    ROWS: tl.constexpr,
):
    """out [3, images * TOKENS, DIM] = LayerNorm([0 for a class token, patches] + position).

    patches [3, images * (TOKENS - CLASS), DIM], position float32 [3, TOKENS, DIM]; mean and
    rstd float32 [3 * images * TOKENS] for the backward pass.
    """
    row = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    col = tl.arange(0, BLOCK)
    row_ok = row < images * (COLOURS * TOKENS)
    col_ok = col < DIM
    ok = row_ok[:, None] & col_ok[None, :]
    token = row % TOKENS
    image = row // TOKENS  # all colours' images in one row
    patch = image * (TOKENS - CLASS) + token - CLASS
    x = tl.load(
        patches_ptr + patch.to(tl.int64)[:, None] * DIM + col[None, :],
        ok & (token >= CLASS)[:, None],
        other=0.0,
    ).to(tl.float32)
    place = (image // images) * TOKENS + token
    x += tl.load(position_ptr + place[:, None] * DIM + col[None, :], ok, other=0.0)
    mean = tl.sum(x, 1) / DIM
    centred = tl.where(ok, x - mean[:, None], 0.0)
    rstd = tl.rsqrt(tl.sum(centred * centred, 1) / DIM + EPS)
    tl.store(mean_ptr + row, mean, row_ok)
    tl.store(rstd_ptr + row, rstd, row_ok)
    weight = tl.load(weight_ptr + col, col_ok, other=0.0)
    bias = tl.load(bias_ptr + col, col_ok, other=0.0)
    out = centred * rstd[:, None] * weight[None, :] + bias[None, :]
    at = row.to(tl.int64)[:, None] * DIM + col[None, :]
    tl.store(out_ptr + at, out.to(out_ptr.dtype.element_ty), ok)


@triton.jit
def colour_norm_backward(
    dout_ptr,
    patches_ptr,
    position_ptr,
    weight_ptr,
    mean_ptr,
    rstd_ptr,
    dpatches_ptr,
    position_partial_ptr,
    norm_partial_ptr,
    images,
    per_program,
    TOKENS: tl.constexpr,
    CLASS: tl.constexpr,
    DIM: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """dpatches, and sums over `per_program` images of one colour's token: program
    (colour * TOKENS + token, part).

    position_partial [parts, 3 * TOKENS, DIM]; norm_partial [parts, 3 * TOKENS, 2, DIM], of
    the norm's weight and bias.
    """
    place = tl.program_id(0)
    part = tl.program_id(1)
    colour = place // TOKENS
    token = place % TOKENS
    col = tl.arange(0, BLOCK)
    ok = col < DIM
    weight = tl.load(weight_ptr + col, ok, other=0.0)
    position = tl.load(position_ptr + place * DIM + col, ok, other=0.0)
    sum_position = tl.zeros([BLOCK], tl.float32)
    sum_weight = tl.zeros([BLOCK], tl.float32)
    sum_bias = tl.zeros([BLOCK], tl.float32)
    first = part * per_program
    for number in range(first, tl.minimum(first + per_program, images)):
        image = colour * images + number
        row = image * TOKENS + token
        patch = image * (TOKENS - CLASS) + token - CLASS
        patch_at = patch.to(tl.int64) * DIM + col
        is_patch = ok & (token >= CLASS)
        x = tl.load(patches_ptr + patch_at, is_patch, other=0.0).to(tl.float32) + position
        rstd = tl.load(rstd_ptr + row)
        normed = tl.where(ok, (x - tl.load(mean_ptr + row)) * rstd, 0.0)
        dout = tl.load(dout_ptr + row.to(tl.int64) * DIM + col, ok, other=0.0).to(tl.float32)
        sum_weight += dout * normed
        sum_bias += dout
        scaled = dout * weight
        about_mean = tl.sum(scaled, 0) / DIM
        about_spread = tl.sum(scaled * normed, 0) / DIM
        dx = (scaled - about_mean - normed * about_spread) * rstd
        sum_position += dx
        tl.store(dpatches_ptr + patch_at, dx.to(dpatches_ptr.dtype.element_ty), is_patch)
    at = (part * COLOURS * TOKENS + place) * DIM
    tl.store(position_partial_ptr + at + col, sum_position, ok)
    tl.store(norm_partial_ptr + 2 * at + col, sum_weight, ok)
    tl.store(norm_partial_ptr + 2 * at + DIM + col, sum_bias, ok)


@triton.jit
def move_keys_and_values(
    given_ptr,
    bias_ptr,
    out_ptr,
    rows,
    given_layer,
    given_colour,
    given_row,
    given_part,
    out_layer,
    out_colour,
    out_row,
    out_part,
    WIDTH: tl.constexpr,
    BLOCK: tl.constexpr,
    ROWS: tl.constexpr,
    BIAS: tl.constexpr,
):
    """out[layer, colour, row, part, :WIDTH] = given[layer, colour, row, part, :WIDTH], by the
    strides of both: program (rows, layer, colour); the parts are keys and values.

    With BIAS that of the heads is added, float32 [colours, layers, 2, WIDTH].
    """
    row = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    col = tl.arange(0, BLOCK)
    col_ok = col < WIDTH
    ok = (row < rows)[:, None] & col_ok[None, :]
    layer = tl.program_id(1).to(tl.int64)
    colour = tl.program_id(2).to(tl.int64)
    given_ptr += layer * given_layer + colour * given_colour
    out_ptr += layer * out_layer + colour * out_colour
    bias_ptr += (colour * tl.num_programs(1) + layer) * 2 * WIDTH
    wide = row.to(tl.int64)[:, None]
    for part in tl.static_range(2):
        at = wide * given_row + part * given_part + col[None, :]
        value = tl.load(given_ptr + at, ok, other=0.0)
        if BIAS:
            bias = tl.load(bias_ptr + part * WIDTH + col, col_ok, other=0.0)
            value = value.to(tl.float32) + bias[None, :]
        at = wide * out_row + part * out_part + col[None, :]
        tl.store(out_ptr + at, value.to(out_ptr.dtype.element_ty), ok)
