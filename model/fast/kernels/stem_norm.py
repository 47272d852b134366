# mypy: disable-error-code="no-untyped-def,no-untyped-call,untyped-decorator,misc"
"""The stem's BatchNorm and GELU in one pass, forward and backward (Triton).

Every program sums the partial sums that the kernel before left: a kernel of its own for
that would cost as long as this takes.  The last layer's output lies as patches do,
[patches, (row, column, channel)], for the product that embeds them.
"""

from __future__ import annotations

import triton
import triton.language as tl

from model.fast.kernels.gelu import gelu_parts
from model.fast.kernels.stem_conv import place

EPS = tl.constexpr(1e-5)
MOMENTUM = tl.constexpr(0.1)
"""torch's defaults of BatchNorm."""

SUMMED = tl.constexpr(4096)
"""Numbers of each partial sum that are read at once."""


@triton.jit
def summed(partial_ptr, parts, channel, C: tl.constexpr):
    """Both sums of partial [parts, 2, C]."""
    PARTS: tl.constexpr = SUMMED // C
    first = tl.zeros([PARTS, C], tl.float32)
    second = tl.zeros([PARTS, C], tl.float32)
    for start in range(0, parts, PARTS):
        part = start + tl.arange(0, PARTS)
        at = partial_ptr + part[:, None] * (2 * C) + channel[None, :]
        first += tl.load(at, (part < parts)[:, None], other=0.0)
        second += tl.load(at + C, (part < parts)[:, None], other=0.0)
    return tl.sum(first, 0), tl.sum(second, 0)


@triton.jit
def address(pixel, SIDE: tl.constexpr, C: tl.constexpr, PATCH: tl.constexpr):
    """First element of a pixel's channels: channels last, or (PATCH > 0) as patches."""
    if PATCH == 0:
        at = pixel * C
    else:
        image, y, x = place(pixel, SIDE)
        grid = (SIDE + PATCH - 1) // PATCH
        patch = (image * grid + y // PATCH) * grid + x // PATCH
        at = ((patch * PATCH + y % PATCH) * PATCH + x % PATCH) * C
    return at


@triton.jit
def norm_gelu_forward(
    x_ptr,
    partial_ptr,
    shift_ptr,
    weight_ptr,
    bias_ptr,
    out_ptr,
    mean_ptr,
    rstd_ptr,
    pixels,
    parts,
    SIDE: tl.constexpr,
    C: tl.constexpr,
    PATCH: tl.constexpr,
    PIXELS: tl.constexpr,
):
    """out = gelu(batch norm of x [pixels, C]), from `convolve`'s partial sums."""
    channel = tl.arange(0, C)
    total, squares = summed(partial_ptr, parts, channel, C)
    off = total / pixels
    mean = tl.load(shift_ptr + channel) + off
    variance = tl.maximum(squares / pixels - off * off, 0.0)
    rstd = tl.rsqrt(variance + EPS)
    if tl.program_id(0) == 0:
        tl.store(mean_ptr + channel, mean)
        tl.store(rstd_ptr + channel, rstd)
    scale = rstd * tl.load(weight_ptr + channel)
    bias = tl.load(bias_ptr + channel) - mean * scale
    for start in range(tl.program_id(0) * PIXELS, pixels, tl.num_programs(0) * PIXELS):
        pixel = start + tl.arange(0, PIXELS)
        ok = (pixel < pixels)[:, None]
        x = tl.load(x_ptr + pixel[:, None] * C + channel[None, :], ok, other=0.0)
        x = x.to(tl.float32) * scale[None, :] + bias[None, :]
        phi, _ = gelu_parts(x)
        at = address(pixel, SIDE, C, PATCH)
        tl.store(
            out_ptr + at[:, None] + channel[None, :], (x * phi).to(out_ptr.dtype.element_ty), ok
        )


@triton.jit
def before_gelu(
    x_ptr,
    grad_ptr,
    pixel,
    ok,
    channel,
    mean,
    rstd,
    weight,
    bias,
    SIDE: tl.constexpr,
    C: tl.constexpr,
    PATCH: tl.constexpr,
):
    """[pixels, C] each: the gradient before GELU, and the normed x."""
    x = tl.load(x_ptr + pixel[:, None] * C + channel[None, :], ok, other=0.0)
    normed = (x.to(tl.float32) - mean[None, :]) * rstd[None, :]
    _, slope = gelu_parts(normed * weight[None, :] + bias[None, :])
    at = address(pixel, SIDE, C, PATCH)
    grad = tl.load(grad_ptr + at[:, None] + channel[None, :], ok, other=0.0)
    return grad.to(tl.float32) * slope, normed


@triton.jit
def norm_gelu_sums(
    x_ptr,
    grad_ptr,
    mean_ptr,
    rstd_ptr,
    weight_ptr,
    bias_ptr,
    partial_ptr,
    pixels,
    SIDE: tl.constexpr,
    C: tl.constexpr,
    PATCH: tl.constexpr,
    PIXELS: tl.constexpr,
):
    """partial [programs, 2, C]: sums of g and of g * normed x, where g is the gradient
    before GELU: the gradients of BatchNorm's bias and weight."""
    channel = tl.arange(0, C)
    mean = tl.load(mean_ptr + channel)
    rstd = tl.load(rstd_ptr + channel)
    weight = tl.load(weight_ptr + channel)
    bias = tl.load(bias_ptr + channel)
    total = tl.zeros([PIXELS, C], tl.float32)
    with_x = tl.zeros([PIXELS, C], tl.float32)
    for start in range(tl.program_id(0) * PIXELS, pixels, tl.num_programs(0) * PIXELS):
        pixel = start + tl.arange(0, PIXELS)
        ok = (pixel < pixels)[:, None]
        grad, normed = before_gelu(
            x_ptr, grad_ptr, pixel, ok, channel, mean, rstd, weight, bias, SIDE, C, PATCH
        )
        total += grad
        with_x += grad * normed
    part = partial_ptr + tl.program_id(0) * (2 * C) + channel
    tl.store(part, tl.sum(total, 0))
    tl.store(part + C, tl.sum(with_x, 0))


@triton.jit
def norm_gelu_backward(
    x_ptr,
    grad_ptr,
    mean_ptr,
    rstd_ptr,
    weight_ptr,
    bias_ptr,
    partial_ptr,
    dweight_ptr,
    dbias_ptr,
    running_mean_ptr,
    running_var_ptr,
    tracked_ptr,
    out_ptr,
    pixels,
    parts,
    SIDE: tl.constexpr,
    C: tl.constexpr,
    PATCH: tl.constexpr,
    PIXELS: tl.constexpr,
):
    """out [pixels, C]: the gradient of x, from `norm_gelu_sums`' partial sums.

    The running statistics move here: in the forward pass other programs still read the
    mean as their sums' shift."""
    channel = tl.arange(0, C)
    total, with_x = summed(partial_ptr, parts, channel, C)
    mean = tl.load(mean_ptr + channel)
    rstd = tl.load(rstd_ptr + channel)
    weight = tl.load(weight_ptr + channel)
    bias = tl.load(bias_ptr + channel)
    about_mean = total / pixels
    about_spread = with_x / pixels
    scale = weight * rstd
    # the last program has no pixels: these stores would keep the others waiting
    workers = tl.num_programs(0) - 1
    if tl.program_id(0) == workers:
        tl.store(dweight_ptr + channel, with_x)
        tl.store(dbias_ptr + channel, total)
        old = tl.load(running_mean_ptr + channel)
        tl.store(running_mean_ptr + channel, old + (mean - old) * MOMENTUM)
        variance = (1.0 / (rstd * rstd) - EPS) * (pixels / tl.maximum(pixels - 1, 1))
        old = tl.load(running_var_ptr + channel)
        tl.store(running_var_ptr + channel, old + (variance - old) * MOMENTUM)
        tl.store(tracked_ptr, tl.load(tracked_ptr) + 1)
        pixels = 0
    for start in range(tl.program_id(0) * PIXELS, pixels, workers * PIXELS):
        pixel = start + tl.arange(0, PIXELS)
        ok = (pixel < pixels)[:, None]
        grad, normed = before_gelu(
            x_ptr, grad_ptr, pixel, ok, channel, mean, rstd, weight, bias, SIDE, C, PATCH
        )
        dx = (grad - about_mean[None, :] - normed * about_spread[None, :]) * scale[None, :]
        tl.store(
            out_ptr + pixel[:, None] * C + channel[None, :], dx.to(out_ptr.dtype.element_ty), ok
        )
