"""Where each output pixel comes from: random crop, flip and channel shuffle as one gather.

Nothing is padded or copied.  An output position is mapped back through RandAugment's
first geometric table (identity when there is none), then the flip, then the crop, to
one source position; the channel order is part of the same index.
"""

from __future__ import annotations

import itertools
from typing import Literal

import torch

CropMode = Literal["reflect", "zero"]
"""What lies beyond the border: the mirrored image (the edge pixel not repeated) or 0."""

CHANNEL_ORDERS = tuple(itertools.permutations(range(3)))
"""The six orders of R, G and B; the first leaves them alone."""


def source_positions(
    positions: torch.Tensor,
    *,
    size: int,
    shift_y: torch.Tensor,
    shift_x: torch.Tensor,
    flipped: torch.Tensor,
    mode: CropMode,
) -> torch.Tensor:
    """Positions in the original image for positions in the cropped and flipped one.

    The image is first shifted (pixel (y, x) of the crop is (y + shift_y, x + shift_x)
    of the original) and then flipped, as torchvision's RandomCrop with padding
    followed by RandomHorizontalFlip does.

    Args:
        positions: int64 [B, P] (or [1, P] for the same in all images), y * size + x in
            the cropped and flipped image; -1 where the pixel is already known to be 0.
        size: side of the square image, pixels, more than every |shift|.
        shift_y, shift_x: int64 [B], pixels.
        flipped: bool [B].
        mode: what lies beyond the border.

    Returns:
        int64 [B, P], y * size + x in the original, or -1 where the pixel is 0.
    """
    y = torch.div(positions, size, rounding_mode="floor")
    x = positions - y * size
    x = torch.where(flipped[:, None], size - 1 - x, x)
    y = y + shift_y[:, None]
    x = x + shift_x[:, None]
    if mode == "reflect":
        known = positions >= 0
        y, x = reflect(y, size), reflect(x, size)
    else:
        known = (positions >= 0) & (y >= 0) & (y < size) & (x >= 0) & (x < size)
    return torch.where(known, y * size + x, -1)


def reflect(index: torch.Tensor, size: int) -> torch.Tensor:
    """Mirrors indices in -(size-1)..2*(size-1) at both borders into 0..size-1."""
    return (size - 1) - ((size - 1) - index.abs()).abs()


def gather_pixels(
    images: torch.Tensor, positions: torch.Tensor, channels: torch.Tensor | None = None
) -> torch.Tensor:
    """images[b, channels[b, c], positions[b, p]], and 0 where the position is -1.

    Args:
        images: uint8 [B, C, H, W].
        positions: int64 [B, H*W], -1 or 0..H*W-1.
        channels: int64 [B, C], or None to leave the order alone.

    Returns:
        uint8 [B, C, H, W].
    """
    batch, count, height, width = images.shape
    plane = height * width
    index = positions.clamp_min(0)[:, None, :].expand(batch, count, plane)
    if channels is not None:
        index = index + channels[:, :, None] * plane
        index = index.reshape(batch, count * plane)
        found = images.reshape(batch, count * plane).gather(1, index)
        found = found.view(batch, count, plane)
    else:
        found = images.reshape(batch, count, plane).gather(2, index)
    found = torch.where(positions[:, None, :] >= 0, found, 0)
    return found.view(batch, count, height, width)
