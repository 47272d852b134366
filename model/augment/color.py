"""RandAugment's colour operations on a batch, each with its own level per image.

Arithmetic and rounding are torchvision's for uint8 images (`_color.py`): float32,
then clamped, then cut (not rounded) to whole numbers.
"""

from __future__ import annotations

import torch

_GREY_WEIGHTS = (0.2989, 0.587, 0.114)


def grey(values: torch.Tensor) -> torch.Tensor:
    """Luminance, cut to whole numbers.

    Args:
        values: float32 [B, C, H, W], whole numbers, C = 1 or 3.

    Returns:
        float32 [B, 1, H, W].
    """
    if values.shape[1] == 1:
        return values
    red, green, blue = values.unbind(1)
    weighted = red.mul(_GREY_WEIGHTS[0]).add(green, alpha=_GREY_WEIGHTS[1])
    return weighted.add(blue, alpha=_GREY_WEIGHTS[2]).floor()[:, None]


def grey_mean(values: torch.Tensor) -> torch.Tensor:
    """Mean luminance of each image; exact, because the sum of whole numbers is.

    Args:
        values: float32 [B, C, H, W], whole numbers.

    Returns:
        float32 [B, 1, 1, 1].
    """
    return grey(values).mean(dim=(1, 2, 3), keepdim=True)


def blend(
    values: torch.Tensor, other: torch.Tensor, keep: torch.Tensor, share: torch.Tensor
) -> torch.Tensor:
    """values * keep + other * share, clamped to 0..255 (not yet cut to whole numbers).

    Brightness blends with 0, Color with the pixel's own grey, Contrast with the
    image's mean grey.

    Args:
        values: float32 [B, C, H, W].
        other: float32, broadcast to it.
        keep, share: float32 [B, 1, 1, 1].
    """
    return (values * keep + other * share).clamp(0, 255)


def sharpen(values: torch.Tensor, share: torch.Tensor) -> torch.Tensor:
    """values + (blurred - values) * share inside, unchanged on the one-pixel border.

    Blurred is the rounded 3x3 mean with weight 5 in the middle (sum 13): a share below
    0 sharpens, above 0 smooths.

    Args:
        values: float32 [B, C, H, W], whole numbers.
        share: float32 [B, 1, 1, 1].

    Returns:
        float32 [B, C, H, W], clamped to 0..255.
    """
    height, width = values.shape[2:]
    if height <= 2 or width <= 2:
        return values
    rows = values[:, :, :-2] + values[:, :, 1:-1] + values[:, :, 2:]
    box = rows[..., :-2] + rows[..., 1:-1] + rows[..., 2:]
    inner = values[:, :, 1:-1, 1:-1]
    # Whole numbers so far, and no sum of them is half way between two thirteenths:
    # the rounding is the same however the division is carried out.
    blurred = ((box + 4 * inner) * (1 / 13)).round()
    change = torch.nn.functional.pad((blurred - inner) * share, (1, 1, 1, 1))
    return (values + change).clamp(0, 255)


def auto_contrast(values: torch.Tensor) -> torch.Tensor:
    """Stretches every channel of every image to 0..255; a flat channel stays.

    Args:
        values: float32 [B, C, H, W], whole numbers.

    Returns:
        float32 [B, C, H, W] in 0..255.
    """
    low = values.amin(dim=(2, 3), keepdim=True)
    high = values.amax(dim=(2, 3), keepdim=True)
    flat = low == high
    scale = torch.where(flat, 1.0, (high - low) * (1.0 / 255))
    return ((values - torch.where(flat, 0.0, low)) / scale).clamp(0, 255)


def posterize(images: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Keeps the bits of `mask` (uint8 [B, 1, 1, 1]) of uint8 images."""
    return images & mask


def solarize(images: torch.Tensor, invert_from: torch.Tensor) -> torch.Tensor:
    """Inverts values >= `invert_from` (int16 [B, 1, 1, 1]) of uint8 images."""
    return torch.where(images >= invert_from, 255 - images, images)
