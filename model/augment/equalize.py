"""Histogram equalisation as a table of 256 values per image and channel."""

from __future__ import annotations

import torch


def equalize_table(images: torch.Tensor) -> torch.Tensor:
    """The value that each value 0..255 becomes, per image and channel.

    PIL's scheme, as torchvision has it: with step = (pixels - count of the largest
    value present) // 255, table[v] = (pixels below v + step // 2) // step, at most
    255; a channel with step 0 stays as it is.

    Args:
        images: uint8 [B, C, H, W].

    Returns:
        uint8 [B, C, 256].
    """
    batch, channels, height, width = images.shape
    plane = height * width
    values = images.reshape(batch, channels, plane)
    largest = values.amax(-1, keepdim=True).to(torch.int64)
    counts = torch.zeros(batch, channels, 256, dtype=torch.int32, device=images.device)
    one = torch.ones((), dtype=torch.int32, device=images.device)
    counts = counts.scatter_add(2, values.to(torch.int64), one.expand(batch, channels, plane))
    below = counts.cumsum(2, dtype=torch.int32) - counts
    step = torch.div(plane - counts.gather(2, largest), 255, rounding_mode="floor")
    spread = torch.div(
        below + torch.div(step, 2, rounding_mode="floor"),
        step.clamp_min(1),
        rounding_mode="floor",
    ).clamp_max(255)
    same = torch.arange(256, dtype=torch.int32, device=images.device)
    return torch.where(step > 0, spread, same).to(torch.uint8)


def apply_table(images: torch.Tensor, table: torch.Tensor) -> torch.Tensor:
    """table[b, c, images[b, c, y, x]].

    Args:
        images: uint8 [B, C, H, W].
        table: uint8 [B, C, 256].

    Returns:
        uint8 [B, C, H, W].
    """
    batch, channels, height, width = images.shape
    index = images.reshape(batch, channels, height * width).to(torch.int64)
    return table.gather(2, index).view(batch, channels, height, width)
