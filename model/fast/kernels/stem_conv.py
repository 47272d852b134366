# mypy: disable-error-code="no-untyped-def,no-untyped-call,untyped-decorator,misc"
"""The stem's 3x3 convolutions (padding 1) as matrix products over gathered pixels (Triton).

Batches are channels last, [images, side, side, channels], and so are weights: [COUT, k]
with k = tap * CIN + channel and tap = 3 ky + kx.  The libraries' kernels for so few
channels take several times as long in sum.
"""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def place(pixel, SIDE: tl.constexpr):
    """Image, row and column of a pixel's number in [images, SIDE, SIDE]."""
    image = pixel // (SIDE * SIDE)
    rest = pixel - image * (SIDE * SIDE)
    y = rest // SIDE
    return image, y, rest - y * SIDE


@triton.jit
def gathered(in_ptr, pixel, ok, k, SIDE: tl.constexpr, OUT_SIDE: tl.constexpr,
             CIN: tl.constexpr, STRIDE: tl.constexpr):  # fmt: skip
    """[pixels, k]: what output pixel `pixel` multiplies with weight k."""
    image, y, x = place(pixel, OUT_SIDE)
    tap = k // CIN
    channel = k % CIN
    row = y[:, None] * STRIDE + (tap // 3 - 1)[None, :]
    col = x[:, None] * STRIDE + (tap % 3 - 1)[None, :]
    inside = (row >= 0) & (row < SIDE) & (col >= 0) & (col < SIDE) & (tap < 9)[None, :]
    at = ((image[:, None] * SIDE + row) * SIDE + col) * CIN + channel[None, :]
    return tl.load(in_ptr + at, inside & ok[:, None], other=0.0)


@triton.jit
def convolve(
    in_ptr,
    weight_ptr,
    shift_ptr,
    out_ptr,
    partial_ptr,
    pixels,
    SIDE: tl.constexpr,
    OUT_SIDE: tl.constexpr,
    CIN: tl.constexpr,
    COUT: tl.constexpr,
    STRIDE: tl.constexpr,
    DEPTH: tl.constexpr,
    PIXELS: tl.constexpr,
    PRECISION: tl.constexpr,
):
    """out [pixels, COUT], and for BatchNorm partial [programs, 2, COUT]: sums of
    (out - shift) and of its squares, shift [COUT] being a guess of the mean."""
    cout = tl.arange(0, COUT)
    shift = tl.load(shift_ptr + cout)
    total = tl.zeros([COUT], tl.float32)
    squares = tl.zeros([COUT], tl.float32)
    for start in range(tl.program_id(0) * PIXELS, pixels, tl.num_programs(0) * PIXELS):
        pixel = start + tl.arange(0, PIXELS)
        ok = pixel < pixels
        acc = tl.zeros([PIXELS, COUT], tl.float32)
        for first in range(0, 9 * CIN, DEPTH):
            k = first + tl.arange(0, DEPTH)
            a = gathered(in_ptr, pixel, ok, k, SIDE, OUT_SIDE, CIN, STRIDE)
            w = tl.load(
                weight_ptr + cout[None, :] * (9 * CIN) + k[:, None],
                (k < 9 * CIN)[:, None],
                other=0.0,
            )
            acc = tl.dot(a, w, acc, input_precision=PRECISION)
        low = acc.to(out_ptr.dtype.element_ty)
        tl.store(out_ptr + pixel[:, None] * COUT + cout[None, :], low, ok[:, None])
        centred = tl.where(ok[:, None], low.to(tl.float32) - shift[None, :], 0.0)
        total += tl.sum(centred, 0)
        squares += tl.sum(centred * centred, 0)
    part = partial_ptr + tl.program_id(0) * (2 * COUT) + cout
    tl.store(part, total)
    tl.store(part + COUT, squares)


@triton.jit
def weight_gradient(
    in_ptr,
    grad_ptr,
    partial_ptr,
    pixels,
    SIDE: tl.constexpr,
    OUT_SIDE: tl.constexpr,
    CIN: tl.constexpr,
    COUT: tl.constexpr,
    STRIDE: tl.constexpr,
    DEPTH: tl.constexpr,
    PIXELS: tl.constexpr,
    PRECISION: tl.constexpr,
):
    """partial [parts, COUT, k], to be summed: program (block of k, part)."""
    k = tl.program_id(0) * DEPTH + tl.arange(0, DEPTH)
    cout = tl.arange(0, COUT)
    acc = tl.zeros([COUT, DEPTH], tl.float32)
    for start in range(tl.program_id(1) * PIXELS, pixels, tl.num_programs(1) * PIXELS):
        pixel = start + tl.arange(0, PIXELS)
        ok = pixel < pixels
        a = gathered(in_ptr, pixel, ok, k, SIDE, OUT_SIDE, CIN, STRIDE)
        # [COUT, pixels], as the product wants it
        grad = tl.load(
            grad_ptr + pixel[None, :] * COUT + cout[:, None], ok[None, :], other=0.0
        )  # fmt: skip
        acc = tl.dot(grad, a, acc, input_precision=PRECISION)
    at = (tl.program_id(1) * COUT + cout)[:, None] * (9 * CIN) + k[None, :]
    tl.store(partial_ptr + at, acc, (k < 9 * CIN)[None, :])


@triton.jit
def input_gradient(
    grad_ptr,
    weight_ptr,
    out_ptr,
    images,
    SIDE: tl.constexpr,
    OUT_SIDE: tl.constexpr,
    CIN: tl.constexpr,
    COUT: tl.constexpr,
    STRIDE: tl.constexpr,
    PIXELS: tl.constexpr,
    PRECISION: tl.constexpr,
):
    """out [images, SIDE, SIDE, CIN]: program (pixels, class).  A class is what the pixels
    of one (row, column) modulo STRIDE have in common: which taps reach them."""
    odd_y = tl.program_id(1) // STRIDE
    odd_x = tl.program_id(1) % STRIDE
    high = (SIDE - odd_y + STRIDE - 1) // STRIDE
    wide = (SIDE - odd_x + STRIDE - 1) // STRIDE
    number = tl.program_id(0) * PIXELS + tl.arange(0, PIXELS)
    ok = number < images * high * wide
    image = number // (high * wide)
    rest = number - image * (high * wide)
    y = (rest // wide) * STRIDE + odd_y
    x = (rest % wide) * STRIDE + odd_x
    cin = tl.arange(0, CIN)
    cout = tl.arange(0, COUT)
    acc = tl.zeros([PIXELS, CIN], tl.float32)
    # a loop at run time: unrolled, its nine products compile for seconds
    for tap in range(9):
        # + STRIDE: the dividend is never negative
        up = odd_y + 1 + STRIDE - tap // 3
        left = odd_x + 1 + STRIDE - tap % 3
        if (up % STRIDE == 0) & (left % STRIDE == 0):
            row = (y + 1 + STRIDE - tap // 3) // STRIDE - 1
            col = (x + 1 + STRIDE - tap % 3) // STRIDE - 1
            inside = ok & (row >= 0) & (row < OUT_SIDE) & (col >= 0) & (col < OUT_SIDE)
            at = (image * OUT_SIDE + row) * OUT_SIDE + col
            grad = tl.load(
                grad_ptr + at[:, None] * COUT + cout[None, :], inside[:, None], other=0.0
            )
            w = tl.load(weight_ptr + cout[:, None] * (9 * CIN) + (tap * CIN + cin)[None, :])
            acc = tl.dot(grad, w, acc, input_precision=PRECISION)
    at = (image * SIDE + y) * SIDE + x
    tl.store(
        out_ptr + at[:, None] * CIN + cin[None, :], acc.to(out_ptr.dtype.element_ty), ok[:, None]
    )
