# mypy: disable-error-code="no-untyped-def,no-untyped-call,untyped-decorator,misc"
"""Augmentation and batch preparation, one program an image (Triton).

The same images as `model.augment.Augment.apply` and `Mix.apply` give for the same
random numbers, in one pass over the image per RandAugment operation instead of about a
hundred: an image has one operation, so its program runs that one only.

Launch with enable_fp_fusion=False: results are cut to whole numbers, and a fused
multiply-add rounds differently from torch's separate operations.
"""

from __future__ import annotations

import triton
import triton.language as tl

from model.fast.kernels.slots import (
    CENTRE_X,
    CENTRE_Y,
    CHOICE,
    CUTMIX,
    CUTOUT,
    EPOCH_STEP,
    MIX_DRAWS,
    MIXUP,
    SHARE,
)

# Columns of `Augment.draw`'s numbers
CROP_Y = tl.constexpr(0)
CROP_X = tl.constexpr(1)
FLIP = tl.constexpr(2)
SHUFFLE = tl.constexpr(3)
ORDER = tl.constexpr(4)
CUTOUT_Y = tl.constexpr(5)
CUTOUT_X = tl.constexpr(6)
FIRST_OPERATION = tl.constexpr(7)

# Operations by code // 2 (`model.augment.operations`)
OPERATION_COUNT = tl.constexpr(14)
BRIGHTNESS = tl.constexpr(6)
COLOR = tl.constexpr(7)
CONTRAST = tl.constexpr(8)
SHARPNESS = tl.constexpr(9)
POSTERIZE = tl.constexpr(10)
SOLARIZE = tl.constexpr(11)
AUTO_CONTRAST = tl.constexpr(12)
EQUALIZE = tl.constexpr(13)


@triton.jit
def whole(uniform, count):
    """0..count-1, as `model.augment.draws.uniform_int`."""
    return tl.minimum((uniform * count).to(tl.int32), count - 1)


@triton.jit
def reflected(index, size):
    return (size - 1) - tl.abs((size - 1) - tl.abs(index))


@triton.jit
def source(
    y,
    x,
    ok,
    table_ptr,
    shift_y,
    shift_x,
    flipped,
    SIZE: tl.constexpr,
    PLACE: tl.constexpr,
    REFLECT: tl.constexpr,
):
    """Position in the input image of pixel (y, x): the operation's table, then (PLACE)
    flip and crop; -1 where the pixel is 0."""
    p = tl.load(table_ptr + y * SIZE + x, ok, other=-1)
    if PLACE:
        known = p >= 0
        p = tl.maximum(p, 0)
        row = p // SIZE
        col = p - row * SIZE
        col = tl.where(flipped, SIZE - 1 - col, col) + shift_x
        row = row + shift_y
        if REFLECT:
            row = reflected(row, SIZE)
            col = reflected(col, SIZE)
        else:
            known = known & (row >= 0) & (row < SIZE) & (col >= 0) & (col < SIZE)
        p = tl.where(known, row * SIZE + col, -1)
    return p


@triton.jit
def pixels(image_ptr, position, channel, PLANE: tl.constexpr):
    value = tl.load(image_ptr + channel * PLANE + position, position >= 0, other=0)
    return value.to(tl.float32)


@triton.jit
def chosen(channel, c0, c1, c2):
    """The input's channel of an output's."""
    return tl.where(channel == 0, c0, tl.where(channel == 1, c1, c2))


@triton.jit
def grey_of(r, g, b):
    return tl.floor(r * 0.2989 + g * 0.587 + b * 0.114)


@triton.jit
def clamp(v):
    return tl.minimum(tl.maximum(v, 0.0), 255.0)


@triton.jit
def recolour(
    v,
    ok,
    operation,
    other,
    keep,
    share,
    mask,
    invert_from,
    BLOCK: tl.constexpr,
    PLANE: tl.constexpr,
):
    """One channel under any operation but Sharpness: whole numbers, as float32."""
    out = v
    if (operation >= BRIGHTNESS) & (operation <= CONTRAST):
        out = clamp(v * keep + other * share)
    elif operation == POSTERIZE:
        out = (v.to(tl.int32) & mask).to(tl.float32)
    elif operation == SOLARIZE:
        out = tl.where(v >= invert_from, 255.0 - v, v)
    elif operation == AUTO_CONTRAST:
        low = tl.min(tl.where(ok, v, 255.0), 0)
        high = tl.max(tl.where(ok, v, 0.0), 0)
        flat = low == high
        scale = tl.where(flat, 1.0, (high - low) * (1.0 / 255))
        out = clamp(tl.div_rn(v - tl.where(flat, 0.0, low), scale + tl.zeros_like(v)))
    elif operation == EQUALIZE:
        value = v.to(tl.int32)
        counts = tl.histogram(tl.where(ok, value, 256), 512)
        level = tl.arange(0, 512)
        counts = tl.where(level < 256, counts, 0)
        largest = tl.max(tl.where(ok, value, 0), 0)
        below = tl.cumsum(counts, 0) - counts
        last = tl.sum(tl.where(level == largest, counts, 0), 0)
        step = (PLANE - last) // 255
        spread = tl.minimum((below + step // 2) // tl.maximum(step, 1), 255)
        table = tl.where(step > 0, spread, level)
        out = tl.gather(table, value, 0).to(tl.float32)
    return tl.floor(out)


@triton.jit(do_not_specialize=["draws_at", "padding"])
def augment_images(
    in_ptr,
    order_ptr,
    uniform_ptr,
    table_ptr,
    keep_ptr,
    blend_ptr,
    sharpen_ptr,
    mask_ptr,
    invert_ptr,
    orders_ptr,
    out_ptr,
    columns,
    draws_at,
    padding,
    flip_below,
    shuffle_below,
    SIZE: tl.constexpr,
    CHANNELS: tl.constexpr,
    BLOCK: tl.constexpr,
    FIRST: tl.constexpr,
    REFLECT: tl.constexpr,
    OPERATES: tl.constexpr,
):
    """uint8 out[i] from in[order[i]] (FIRST: crop, flip, channel shuffle and the first
    operation) or from in[i] (a further operation, its draws at column `draws_at`)."""
    PLANE: tl.constexpr = SIZE * SIZE
    image = tl.program_id(0)
    at = tl.arange(0, BLOCK)
    ok = at < PLANE
    y = at // SIZE
    x = at - y * SIZE
    draw = uniform_ptr + image.to(tl.int64) * columns
    shift_y = 0
    shift_x = 0
    flipped = False
    c0 = 0
    c1 = 1
    c2 = 2
    if FIRST:
        taken = tl.load(order_ptr + image)
        shift_y = whole(tl.load(draw + CROP_Y), 2 * padding + 1) - padding
        shift_x = whole(tl.load(draw + CROP_X), 2 * padding + 1) - padding
        flipped = tl.load(draw + FLIP) < flip_below
        if CHANNELS == 3:
            order = whole(tl.load(draw + ORDER), 6)
            order = tl.where(tl.load(draw + SHUFFLE) < shuffle_below, order, 0)
            c0 = tl.load(orders_ptr + order * 3).to(tl.int32)
            c1 = tl.load(orders_ptr + order * 3 + 1).to(tl.int32)
            c2 = tl.load(orders_ptr + order * 3 + 2).to(tl.int32)
    else:
        taken = image.to(tl.int64)
    code = 0
    if OPERATES:
        code = 2 * whole(tl.load(draw + draws_at), OPERATION_COUNT)
        code += (tl.load(draw + draws_at + 1) < 0.5).to(tl.int32)
    operation = code // 2
    table = table_ptr + code * PLANE
    image_ptr = in_ptr + taken.to(tl.int64) * (CHANNELS * PLANE)
    out_at = out_ptr + image.to(tl.int64) * (CHANNELS * PLANE) + at
    p = source(y, x, ok, table, shift_y, shift_x, flipped, SIZE, FIRST, REFLECT)
    keep = tl.load(keep_ptr + code)
    share = tl.load(blend_ptr + code)
    mask = tl.load(mask_ptr + code).to(tl.int32)
    invert_from = tl.load(invert_ptr + code).to(tl.float32)
    # loops at run time: unrolled, channels times pixels around compile for seconds
    if operation == SHARPNESS:
        strength = tl.load(sharpen_ptr + code)
        inner = ok & (y > 0) & (y < SIZE - 1) & (x > 0) & (x < SIZE - 1)
        for channel in range(CHANNELS):
            from_channel = chosen(channel, c0, c1, c2)
            v = pixels(image_ptr, p, from_channel, PLANE)
            box = v * 4.0
            for near in range(9):
                q = source(
                    y + near // 3 - 1,
                    x + near % 3 - 1,
                    inner,
                    table,
                    shift_y,
                    shift_x,
                    flipped,
                    SIZE,
                    FIRST,
                    REFLECT,
                )
                q = tl.where(inner, q, -1)
                box += pixels(image_ptr, q, from_channel, PLANE)
            blurred = tl.floor(box * (1.0 / 13) + 0.5)
            out = clamp(v + tl.where(inner, (blurred - v) * strength, 0.0))
            tl.store(out_at + channel * PLANE, tl.floor(out).to(tl.uint8), ok)
    else:
        other = tl.zeros([BLOCK], tl.float32)
        if CHANNELS == 3:
            if (operation == COLOR) | (operation == CONTRAST):
                r = pixels(image_ptr, p, c0, PLANE)
                g = pixels(image_ptr, p, c1, PLANE)
                other = grey_of(r, g, pixels(image_ptr, p, c2, PLANE))
        else:
            if operation == CONTRAST:
                other = pixels(image_ptr, p, 0, PLANE)
            if operation == COLOR:  # a grey image has no colour to change
                keep = 1.0
                share = 0.0
        if operation == CONTRAST:
            mean = tl.sum(tl.where(ok, other, 0.0), 0) / PLANE
            other = mean + tl.zeros([BLOCK], tl.float32)
        for channel in range(CHANNELS):
            v = pixels(image_ptr, p, chosen(channel, c0, c1, c2), PLANE)
            v = recolour(v, ok, operation, other, keep, share, mask, invert_from, BLOCK, PLANE)
            tl.store(out_at + channel * PLANE, v.to(tl.uint8), ok)


@triton.jit
def blanked(draw, y, x, side, SIZE: tl.constexpr):
    """Inside cutout's square; `side` 0: nowhere."""
    top = whole(tl.load(draw + CUTOUT_Y), SIZE) - side // 2
    left = whole(tl.load(draw + CUTOUT_X), SIZE) - side // 2
    return (y >= top) & (y < top + side) & (x >= left) & (x < left + side)


@triton.jit
def prepare_batch(
    images_ptr,
    labels_ptr,
    order_ptr,
    uniform_ptr,
    mix_ptr,
    counter_ptr,
    recipe_ptr,
    mean_ptr,
    std_ptr,
    out_ptr,
    labels_out_ptr,
    partners_out_ptr,
    share_ptr,
    columns,
    batch,
    SIZE: tl.constexpr,
    CHANNELS: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """The step's batch: cutout, normalisation, MixUp or CutMix with the neighbour.

    Image i of the step is row step * batch + i of the augmented images, of `uniform`
    and of `order`; its labels are those of labels[order].  out: channels last,
    [batch, SIZE, SIZE, CHANNELS].  recipe: cutout's side, shares of cutmix and mixup.
    mix: [steps, 4], `Mix.draw`'s numbers.
    """
    PLANE: tl.constexpr = SIZE * SIZE
    image = tl.program_id(0)
    step = tl.load(counter_ptr + EPOCH_STEP)
    first = step * batch
    own = first + image
    partner = first + (image + batch - 1) % batch
    at = tl.arange(0, BLOCK)
    ok = at < PLANE
    y = at // SIZE
    x = at - y * SIZE
    side = tl.load(recipe_ptr + CUTOUT).to(tl.int32)
    cutmix = tl.load(recipe_ptr + CUTMIX)
    mixup = tl.load(recipe_ptr + MIXUP)
    choice = tl.load(mix_ptr + step * MIX_DRAWS + CHOICE)
    centre_y = tl.floor(tl.load(mix_ptr + step * MIX_DRAWS + CENTRE_Y) * SIZE)
    centre_x = tl.floor(tl.load(mix_ptr + step * MIX_DRAWS + CENTRE_X) * SIZE)
    share = tl.load(mix_ptr + step * MIX_DRAWS + SHARE)
    half = tl.floor(0.5 * tl.sqrt_rn(1.0 - share) * SIZE)
    is_cutmix = choice < cutmix
    is_mixup = (choice >= cutmix) & (choice < cutmix + mixup)
    half = tl.where(is_cutmix, half, 0.0)  # no box
    share = tl.where(is_mixup, share, 1.0)
    pasted = (y >= centre_y - half) & (y < centre_y + half)
    pasted = pasted & (x >= centre_x - half) & (x < centre_x + half)
    weight = tl.where(pasted, 0.0, share)
    if image == 0:
        covered = tl.sum(tl.where(pasted & ok, 1.0, 0.0), 0)
        tl.store(share_ptr, tl.where(is_cutmix, 1.0 - covered / PLANE, share))
    tl.store(labels_out_ptr + image, tl.load(labels_ptr + tl.load(order_ptr + own)))
    tl.store(partners_out_ptr + image, tl.load(labels_ptr + tl.load(order_ptr + partner)))
    own_blank = blanked(uniform_ptr + own.to(tl.int64) * columns, y, x, side, SIZE)
    partner_blank = blanked(uniform_ptr + partner.to(tl.int64) * columns, y, x, side, SIZE)
    for channel in range(CHANNELS):
        mean = tl.load(mean_ptr + channel)
        std = tl.load(std_ptr + channel)
        a = tl.load(images_ptr + (own.to(tl.int64) * CHANNELS + channel) * PLANE + at, ok, other=0)
        b = tl.load(
            images_ptr + (partner.to(tl.int64) * CHANNELS + channel) * PLANE + at, ok, other=0
        )
        a = tl.where(own_blank, mean * 255, a.to(tl.float32))
        b = tl.where(partner_blank, mean * 255, b.to(tl.float32))
        scale = 1.0 / (255 * std)
        shift = mean / std
        mixed = (a * scale - shift) * weight + (b * scale - shift) * (1.0 - weight)
        where = (image.to(tl.int64) * PLANE + at) * CHANNELS + channel
        tl.store(out_ptr + where, mixed.to(out_ptr.dtype.element_ty), ok)
