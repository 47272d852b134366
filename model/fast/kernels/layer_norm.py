# mypy: disable-error-code="no-untyped-def,no-untyped-call,untyped-decorator,misc"
"""Residual addition and LayerNorm in one pass, forward and backward (Triton).

The residual stream and its gradient are float32; what enters and leaves a matrix
product has the product's type (bf16 in training).  theta reads the mean and variance
that the block's first norm has computed anyway, and its factor multiplies the
projection's output instead of its input: a factor per row commutes with a matrix.
"""

from __future__ import annotations

import triton
import triton.language as tl

EPS = tl.constexpr(1e-5)
"""torch's LayerNorm default."""

NO_BRANCH = tl.constexpr(0)
MLP = tl.constexpr(1)
ATTENTION = tl.constexpr(2)


_ROW_POINTERS = ["mean_ptr", "rstd_ptr", "theta_mean_ptr", "theta_rstd_ptr", "own_dfactor_ptr"]
_SCALAR_POINTERS = ["y_scale_ptr", "alpha_ptr", "beta_ptr", "theta_weight_ptr"]
_OWN_POINTERS = ["own_alpha_ptr", "own_beta_ptr", "own_theta_weight_ptr"]
_LAYER_POINTERS = [
    *_ROW_POINTERS,
    *_SCALAR_POINTERS,
    *_OWN_POINTERS,
    "dscale_ptr",
    "dfactor_ptr",
]
"""RunValues a row or a layer: their alignment differs between layers, and one compiled
kernel shall serve all."""


@triton.jit
def theta_parts(mean, rstd):
    """tanh(mean) and sigmoid(variance) of a row, from the statistics of its norm."""
    variance = 1.0 / (rstd * rstd) - EPS
    # tanh(x) = 2 sigmoid(2 x) - 1
    return 2.0 * tl.sigmoid(2.0 * mean) - 1.0, tl.sigmoid(variance)


@triton.jit(do_not_specialize_on_alignment=_LAYER_POINTERS)
def residual_norm_forward(
    x_ptr,
    y_ptr,
    y_bias_ptr,
    y_scale_ptr,
    theta_mean_ptr,
    theta_rstd_ptr,
    alpha_ptr,
    beta_ptr,
    theta_weight_ptr,
    weight_ptr,
    bias_ptr,
    x_out_ptr,
    h_ptr,
    mean_ptr,
    rstd_ptr,
    rows,
    DIM: tl.constexpr,
    BLOCK: tl.constexpr,
    ROWS: tl.constexpr,
    BRANCH: tl.constexpr,
):
    """x_out = x + scale * (factor * y + y_bias); h = LayerNorm(x_out).

    BRANCH: none (x is normalised as it is), MLP (factor 1), or attention (factor
    1 + theta_weight * theta).
    """
    row = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    col = tl.arange(0, BLOCK)
    row_ok = row < rows
    col_ok = col < DIM
    ok = row_ok[:, None] & col_ok[None, :]
    at = row.to(tl.int64)[:, None] * DIM + col[None, :]
    x = tl.load(x_ptr + at, ok, other=0.0)
    if BRANCH != NO_BRANCH:
        y = tl.load(y_ptr + at, ok, other=0.0).to(tl.float32)
        if BRANCH == ATTENTION:
            tanh, sigmoid = theta_parts(
                tl.load(theta_mean_ptr + row, row_ok, other=0.0),
                tl.load(theta_rstd_ptr + row, row_ok, other=1.0),
            )
            theta = tl.load(alpha_ptr) * tanh + tl.load(beta_ptr) * sigmoid
            y = y * (1.0 + tl.load(theta_weight_ptr) * theta)[:, None]
        y_bias = tl.load(y_bias_ptr + col, col_ok, other=0.0)
        x = x + tl.load(y_scale_ptr) * (y + y_bias[None, :])
        tl.store(x_out_ptr + at, x, ok)
    mean = tl.sum(x, 1) / DIM
    centred = tl.where(ok, x - mean[:, None], 0.0)
    rstd = tl.rsqrt(tl.sum(centred * centred, 1) / DIM + EPS)
    tl.store(mean_ptr + row, mean, row_ok)
    tl.store(rstd_ptr + row, rstd, row_ok)
    weight = tl.load(weight_ptr + col, col_ok, other=0.0)
    bias = tl.load(bias_ptr + col, col_ok, other=0.0)
    h = centred * rstd[:, None] * weight[None, :] + bias[None, :]
    tl.store(h_ptr + at, h.to(h_ptr.dtype.element_ty), ok)


@triton.jit
def over_columns(x):
    """[1, ROWS, 1]: sums over the columns of x [CHUNKS, ROWS, CHUNK].

    A row is cut into chunks that one warp covers: with the chunks in stem the compiler
    gives every row to one warp, and no sum has to wait for another."""
    return tl.sum(tl.sum(x, 0, keep_dims=True), 2, keep_dims=True)


@triton.jit(do_not_specialize_on_alignment=_LAYER_POINTERS)
def norm_residual_backward(
    dx_ptr,
    dh_ptr,
    x_ptr,
    mean_ptr,
    rstd_ptr,
    weight_ptr,
    own_dfactor_ptr,
    own_alpha_ptr,
    own_beta_ptr,
    own_theta_weight_ptr,
    y_ptr,
    y_bias_ptr,
    y_scale_ptr,
    theta_mean_ptr,
    theta_rstd_ptr,
    alpha_ptr,
    beta_ptr,
    theta_weight_ptr,
    dx_out_ptr,
    dy_ptr,
    dscale_ptr,
    dfactor_ptr,
    partial_ptr,
    rows,
    tokens,
    DIM: tl.constexpr,
    BLOCK: tl.constexpr,
    CHUNK: tl.constexpr,
    ROWS: tl.constexpr,
    STAGES: tl.constexpr,
    POOL: tl.constexpr,
    OWN_THETA: tl.constexpr,
    BRANCH: tl.constexpr,
):
    """Back through a LayerNorm, then through the branch that was added before it.

    dx_out = dx + (gradient through the norm, and through the theta that read the same
    row); then for x_out = x + scale * (factor * y + y_bias):
    dy = scale * factor * dx_out, and per row dscale = sum(dx_out * (factor * y +
    y_bias)) and dfactor = scale * sum(dx_out * y).

    POOL: 0: dh [rows, DIM]; 1: dh is the gradient of the tokens' mean, [images, DIM];
    2: of the first token.  With POOL there is no dx yet.
    partial: float32 [programs, 3, DIM], each program's part of the gradients of the
    norm's weight and bias and of y_bias.
    """
    CHUNKS: tl.constexpr = BLOCK // CHUNK
    col = tl.arange(0, CHUNKS)[:, None] * CHUNK + tl.arange(0, CHUNK)[None, :]
    col_ok = col < DIM
    weight = tl.load(weight_ptr + col, col_ok, other=0.0)[:, None, :]
    # summed over rows at the end only: sums across warps are dear
    sum_weight = tl.zeros([CHUNKS, ROWS, CHUNK], tl.float32)
    sum_bias = tl.zeros([CHUNKS, ROWS, CHUNK], tl.float32)
    sum_y_bias = tl.zeros([CHUNKS, ROWS, CHUNK], tl.float32)
    y_bias = tl.zeros([CHUNKS, 1, CHUNK], tl.float32)
    scale = 0.0
    if BRANCH != NO_BRANCH:
        y_bias = tl.load(y_bias_ptr + col, col_ok, other=0.0)[:, None, :]
        scale = tl.load(y_scale_ptr)
    for start in tl.range(
        tl.program_id(0) * ROWS, rows, tl.num_programs(0) * ROWS, num_stages=STAGES
    ):
        row = start + tl.arange(0, ROWS)
        row_ok = row < rows
        ok = row_ok[None, :, None] & col_ok[:, None, :]
        at = row.to(tl.int64)[None, :, None] * DIM + col[:, None, :]
        x = tl.load(x_ptr + at, ok, other=0.0)
        dx = tl.zeros([CHUNKS, ROWS, CHUNK], tl.float32)
        y = tl.zeros([CHUNKS, ROWS, CHUNK], tl.float32)
        if POOL == 0:
            dh = tl.load(dh_ptr + at, ok, other=0.0).to(tl.float32)
            dx = tl.load(dx_ptr + at, ok, other=0.0)
        else:
            of_image = (row // tokens).to(tl.int64)[None, :, None] * DIM + col[:, None, :]
            dh = tl.load(dh_ptr + of_image, ok, other=0.0).to(tl.float32)
            if POOL == 1:
                dh = dh / tokens
            else:
                dh = tl.where((row % tokens == 0)[None, :, None], dh, 0.0)
        if BRANCH != NO_BRANCH:
            y = tl.load(y_ptr + at, ok, other=0.0).to(tl.float32)
        mean = tl.load(mean_ptr + row, row_ok, other=0.0)
        rstd = tl.load(rstd_ptr + row, row_ok, other=1.0)
        centred = tl.where(ok, x - mean[None, :, None], 0.0)
        normed = centred * rstd[None, :, None]
        sum_weight += dh * normed
        sum_bias += dh
        scaled = dh * weight
        about_mean = over_columns(scaled) / DIM
        about_spread = over_columns(scaled * normed) / DIM
        dx += (scaled - about_mean - normed * about_spread) * rstd[None, :, None]
        if OWN_THETA:
            tanh, sigmoid = theta_parts(mean, rstd)
            given = tl.load(own_dfactor_ptr + row, row_ok, other=0.0)
            given = given * tl.load(own_theta_weight_ptr)
            by_mean = given * tl.load(own_alpha_ptr) * (1.0 - tanh * tanh) / DIM
            by_variance = given * tl.load(own_beta_ptr) * sigmoid * (1.0 - sigmoid) * (2.0 / DIM)
            dx += by_mean[None, :, None] + by_variance[None, :, None] * centred
        tl.store(dx_out_ptr + at, dx, ok)
        if BRANCH != NO_BRANCH:
            dx = tl.where(ok, dx, 0.0)
            with_y = over_columns(dx * y)
            factor = tl.full([1, ROWS, 1], 1.0, tl.float32)
            own_row = row[None, :, None]
            own_row_ok = row_ok[None, :, None]
            if BRANCH == ATTENTION:
                tanh_y, sigmoid_y = theta_parts(
                    tl.load(theta_mean_ptr + own_row, own_row_ok, other=0.0),
                    tl.load(theta_rstd_ptr + own_row, own_row_ok, other=1.0),
                )
                theta = tl.load(alpha_ptr) * tanh_y + tl.load(beta_ptr) * sigmoid_y
                factor = 1.0 + tl.load(theta_weight_ptr) * theta
                tl.store(dfactor_ptr + own_row, scale * with_y, own_row_ok)
            with_bias = over_columns(dx * y_bias)
            tl.store(dscale_ptr + own_row, factor * with_y + with_bias, own_row_ok)
            dy = dx * (scale * factor)
            tl.store(dy_ptr + at, dy.to(dy_ptr.dtype.element_ty), ok)
            sum_y_bias += dx
    part_at = partial_ptr + tl.program_id(0) * 3 * DIM + col
    tl.store(part_at, tl.sum(sum_weight, 1), col_ok)
    tl.store(part_at + DIM, tl.sum(sum_bias, 1), col_ok)
    if BRANCH != NO_BRANCH:
        tl.store(part_at + 2 * DIM, tl.sum(sum_y_bias, 1) * scale, col_ok)
