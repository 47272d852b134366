"""Random crop, flip and channel shuffle as one gather.

Nothing is padded or copied: a row index and a column index per image say where each
pixel comes from, and the channel order is part of the same gather.
"""

from __future__ import annotations

import itertools
from typing import Literal

import torch

CropMode = Literal["reflect", "zero"]
"""What lies beyond the border: the mirrored image (the edge pixel not repeated) or 0."""

CHANNEL_ORDERS = tuple(itertools.permutations(range(3)))
"""The six orders of R, G and B; the first leaves them alone."""


def crop_positions(
    *,
    size: int,
    shift_y: torch.Tensor,
    shift_x: torch.Tensor,
    flipped: torch.Tensor,
    mode: CropMode,
) -> torch.Tensor:
    """Where each pixel of the cropped, then flipped image comes from.

    Pixel (y, x) of the crop is (y + shift_y, x + shift_x) of the original, as in
    torchvision's RandomCrop with padding followed by RandomHorizontalFlip.

    Args:
        size: side of the square image, pixels, more than every |shift|.
        shift_y, shift_x: int64 [B], pixels.
        flipped: bool [B].
        mode: what lies beyond the border.

    Returns:
        int64 [B, size * size]: y * size + x in the original, below 0 where the pixel is 0.
    """
    along = torch.arange(size, device=shift_y.device)
    y = along + shift_y[:, None]  # [B, size]
    x = torch.where(flipped[:, None], size - 1 - along, along) + shift_x[:, None]
    if mode == "reflect":
        y, x = reflect(y, size), reflect(x, size)
    else:
        beyond = -2 * size * size  # so far below 0 that the other axis cannot make up for it
        y = torch.where((y >= 0) & (y < size), y, beyond)
        x = torch.where((x >= 0) & (x < size), x, beyond)
    return ((y * size)[:, :, None] + x[:, None, :]).flatten(1)


def reflect(index: torch.Tensor, size: int) -> torch.Tensor:
    """Mirrors indices in -(size-1)..2*(size-1) at both borders into 0..size-1."""
    return (size - 1) - ((size - 1) - index.abs()).abs()


def gather_pixels(
    images: torch.Tensor,
    positions: torch.Tensor,
    *,
    channels: torch.Tensor | None = None,
    inside: bool = False,
) -> torch.Tensor:
    """images[b, channels[b, c], positions[b, p]], and 0 where the position is below 0.

    Args:
        images: uint8 [B, C, H, W].
        positions: int64 [B, H*W], at most H*W-1.
        channels: int64 [B, C], or None to leave the order alone.
        inside: the caller knows that no position is below 0.

    Returns:
        uint8 [B, C, H, W].
    """
    batch, count, height, width = images.shape
    plane = height * width
    index = positions if inside else positions.clamp_min(0)
    index = index[:, None, :].expand(batch, count, plane)
    if channels is not None:
        index = index + channels[:, :, None] * plane
        index = index.reshape(batch, count * plane)
        found = images.reshape(batch, count * plane).gather(1, index)
        found = found.view(batch, count, plane)
    else:
        found = images.reshape(batch, count, plane).gather(2, index)
    if not inside:
        found = torch.where(positions[:, None, :] >= 0, found, 0)
    return found.view(batch, count, height, width)
