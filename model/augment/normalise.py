"""Pixel values 0..255 to the network's zero-mean, unit-variance input."""

from __future__ import annotations

import torch


def normalise(images: torch.Tensor, mean: torch.Tensor, std: torch.Tensor) -> torch.Tensor:
    """(images / 255 - mean) / std, per channel.

    Args:
        images: uint8, or float on the same 0..255 scale, [B, C, H, W].
        mean: float [C], of values / 255 (`DeviceSet.mean`).
        std: float [C], likewise, > 0.

    Returns:
        float32 [B, C, H, W].
    """
    scale = 1 / (255 * std)
    shift = mean / std
    return images.to(torch.float32) * scale[:, None, None] - shift[:, None, None]
