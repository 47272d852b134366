# mypy: disable-error-code="no-untyped-def,no-untyped-call,untyped-decorator,misc"
"""The two ends of the block stack: embedding (position, dropout), and pool, head, loss."""

from __future__ import annotations

import triton
import triton.language as tl

from model.fast.kernels.slots import EPOCH_STEP
from model.kernels.triton_forward import dropout_keeps, row_codes

EMBED_SALT = tl.constexpr(1 << 20)
"""Tells the embedding's dropout from the layers' attention dropout (salts 0..depth-1)."""


@triton.jit
def embed_forward(
    patches_ptr,
    position_ptr,
    class_ptr,
    dropout_ptr,
    seed_ptr,
    x_ptr,
    rows,
    TOKENS: tl.constexpr,
    CLASS: tl.constexpr,
    DIM: tl.constexpr,
    BLOCK: tl.constexpr,
    ROWS: tl.constexpr,
):
    """x [images * TOKENS, DIM] = dropout([class token, patches] + position)."""
    row = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    col = tl.arange(0, BLOCK)
    row_ok = row < rows
    ok = row_ok[:, None] & (col < DIM)[None, :]
    token = row % TOKENS
    patch = (row // TOKENS) * (TOKENS - CLASS) + token - CLASS
    is_patch = token >= CLASS
    x = tl.load(
        patches_ptr + patch.to(tl.int64)[:, None] * DIM + col[None, :],
        ok & is_patch[:, None],
        other=0.0,
    ).to(tl.float32)
    if CLASS == 1:
        first = tl.load(class_ptr + col, col < DIM, other=0.0)
        x = tl.where(is_patch[:, None], x, first[None, :])
    x += tl.load(position_ptr + token[:, None] * DIM + col[None, :], ok, other=0.0)
    dropout = tl.load(dropout_ptr)
    if dropout > 0.0:
        code = row_codes(seed_ptr, tl.full([], EMBED_SALT, tl.int32), row)
        x = tl.where(dropout_keeps(code[:, None], col[None, :], dropout), x / (1.0 - dropout), 0.0)
    tl.store(x_ptr + row.to(tl.int64)[:, None] * DIM + col[None, :], x, ok)


@triton.jit
def embed_backward(
    dx_ptr,
    dropout_ptr,
    seed_ptr,
    dpatches_ptr,
    partial_ptr,
    images,
    per_program,
    TOKENS: tl.constexpr,
    CLASS: tl.constexpr,
    DIM: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """dpatches, and partial [programs(1), TOKENS, DIM]: sums over `per_program` images
    of one token's gradient (program (token, part))."""
    token = tl.program_id(0)
    col = tl.arange(0, BLOCK)
    col_ok = col < DIM
    dropout = tl.load(dropout_ptr)
    total = tl.zeros([BLOCK], tl.float32)
    first = tl.program_id(1) * per_program
    for image in range(first, tl.minimum(first + per_program, images)):
        row = image * TOKENS + token
        at = row.to(tl.int64) * DIM + col
        dx = tl.load(dx_ptr + at, col_ok, other=0.0)
        if dropout > 0.0:
            code = row_codes(seed_ptr, tl.full([], EMBED_SALT, tl.int32), row)
            dx = tl.where(dropout_keeps(code, col, dropout), dx / (1.0 - dropout), 0.0)
        total += dx
        if token >= CLASS:
            patch = image * (TOKENS - CLASS) + token - CLASS
            tl.store(
                dpatches_ptr + patch.to(tl.int64) * DIM + col,
                dx.to(dpatches_ptr.dtype.element_ty),
                col_ok,
            )
    tl.store(partial_ptr + (tl.program_id(1) * TOKENS + token) * DIM + col, total, col_ok)


@triton.jit
def pool_forward(
    x_ptr,
    y_ptr,
    y_bias_ptr,
    y_scale_ptr,
    weight_ptr,
    bias_ptr,
    x_out_ptr,
    mean_ptr,
    rstd_ptr,
    pooled_ptr,
    TOKENS: tl.constexpr,
    FIRST: tl.constexpr,
    DIM: tl.constexpr,
    BLOCK: tl.constexpr,
    ROWS: tl.constexpr,
):
    """The last MLP branch is added, then LayerNorm, then the mean over tokens (or the
    FIRST token alone): pooled [images, DIM].  One program an image."""
    image = tl.program_id(0)
    col = tl.arange(0, BLOCK)
    col_ok = col < DIM
    scale = tl.load(y_scale_ptr)
    y_bias = tl.load(y_bias_ptr + col, col_ok, other=0.0)
    total = tl.zeros([BLOCK], tl.float32)
    for start in range(0, TOKENS, ROWS):
        token = start + tl.arange(0, ROWS)
        row_ok = token < TOKENS
        ok = row_ok[:, None] & col_ok[None, :]
        row = image * TOKENS + token
        at = row.to(tl.int64)[:, None] * DIM + col[None, :]
        y = tl.load(y_ptr + at, ok, other=0.0).to(tl.float32)
        x = tl.load(x_ptr + at, ok, other=0.0) + scale * (y + y_bias[None, :])
        tl.store(x_out_ptr + at, x, ok)
        mean = tl.sum(tl.where(ok, x, 0.0), 1) / DIM
        centred = tl.where(ok, x - mean[:, None], 0.0)
        rstd = tl.rsqrt(tl.sum(centred * centred, 1) / DIM + 1e-5)
        tl.store(mean_ptr + row, mean, row_ok)
        tl.store(rstd_ptr + row, rstd, row_ok)
        normed = centred * rstd[:, None]
        if FIRST:
            normed = tl.where((token == 0)[:, None], normed, 0.0)
        total += tl.sum(normed, 0)
    if not FIRST:
        total = total / TOKENS
    weight = tl.load(weight_ptr + col, col_ok, other=0.0)
    pooled = total * weight + tl.load(bias_ptr + col, col_ok, other=0.0)
    tl.store(
        pooled_ptr + image.to(tl.int64) * DIM + col,
        pooled.to(pooled_ptr.dtype.element_ty),
        col_ok,
    )


@triton.jit
def head_loss(
    pooled_ptr,
    weight_ptr,
    bias_ptr,
    labels_ptr,
    partners_ptr,
    share_ptr,
    smoothing_ptr,
    counter_ptr,
    losses_ptr,
    dlogits_ptr,
    dpooled_ptr,
    images,
    CLASSES: tl.constexpr,
    WIDTH: tl.constexpr,
    DIM: tl.constexpr,
    STEP: tl.constexpr,
    ROWS: tl.constexpr,
    PRECISION: tl.constexpr,
):
    """Logits, mixed cross-entropy of each image, and the gradients back to `pooled`.

    losses: float32 [steps * images], written at the step that `counter` says.
    dlogits: [images, WIDTH] (zero beyond CLASSES), of the batch's mean loss.
    """
    row = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    row_ok = row < images
    label = tl.arange(0, WIDTH)
    label_ok = label < CLASSES
    logits = tl.zeros([ROWS, WIDTH], tl.float32)
    for first in range(0, DIM, STEP):
        col = first + tl.arange(0, STEP)
        x = tl.load(
            pooled_ptr + row[:, None] * DIM + col[None, :],
            row_ok[:, None] & (col < DIM)[None, :],
            other=0.0,
        )
        w = tl.load(
            weight_ptr + label[None, :] * DIM + col[:, None],
            label_ok[None, :] & (col < DIM)[:, None],
            other=0.0,
        )
        logits += tl.dot(x, w, input_precision=PRECISION)
    logits += tl.load(bias_ptr + label, label_ok, other=0.0)[None, :]
    logits = tl.where(label_ok[None, :], logits, float("-inf"))
    highest = tl.max(logits, 1)
    e = tl.exp(logits - highest[:, None])
    total = tl.sum(e, 1)
    log_p = tl.where(label_ok[None, :], logits - (highest + tl.log(total))[:, None], 0.0)
    share = tl.load(share_ptr)
    smoothing = tl.load(smoothing_ptr)
    own = tl.load(labels_ptr + row, row_ok, other=0)
    other = tl.load(partners_ptr + row, row_ok, other=0)
    target = tl.where(label[None, :] == own[:, None], share, 0.0)
    target += tl.where(label[None, :] == other[:, None], 1.0 - share, 0.0)
    target = target * (1.0 - smoothing) + tl.where(label_ok[None, :], smoothing / CLASSES, 0.0)
    loss = -tl.sum(target * log_p, 1)
    step = tl.load(counter_ptr + EPOCH_STEP)
    tl.store(losses_ptr + step * images + row, loss, row_ok)
    d = (e / total[:, None] - target) / images
    d = tl.where(row_ok[:, None] & label_ok[None, :], d, 0.0)
    low = d.to(dlogits_ptr.dtype.element_ty)
    tl.store(dlogits_ptr + row[:, None] * WIDTH + label[None, :], low, row_ok[:, None])
    for first in range(0, DIM, STEP):
        col = first + tl.arange(0, STEP)
        w = tl.load(
            weight_ptr + label[:, None] * DIM + col[None, :],
            label_ok[:, None] & (col < DIM)[None, :],
            other=0.0,
        )
        dpooled = tl.dot(low, w, input_precision=PRECISION)
        tl.store(
            dpooled_ptr + row[:, None] * DIM + col[None, :],
            dpooled,
            row_ok[:, None] & (col < DIM)[None, :],
        )
