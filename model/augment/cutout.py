"""Cutout: one square of every image is blanked (DeVries and Taylor, arXiv 1708.04552)."""

from __future__ import annotations

import torch

from model.augment.draws import uniform_int


def cutout_mask(uniform: torch.Tensor, *, image_size: int, side: int) -> torch.Tensor:
    """True where an image is blanked.

    The square's centre is any pixel, so the square may hang over the border, as in
    the paper: rows centre - side // 2 up to, not including, centre - side // 2 + side.

    Args:
        uniform: float [B, 2] in [0, 1): row and column of the centre.
        image_size: side of the image, pixels.
        side: side of the square, pixels, >= 1.

    Returns:
        bool [B, 1, image_size, image_size].
    """
    start = uniform_int(uniform, image_size) - side // 2  # [B, 2]
    pixel = torch.arange(image_size, device=uniform.device)
    inside = (pixel >= start[..., None]) & (pixel < start[..., None] + side)  # [B, 2, size]
    return (inside[:, 0, :, None] & inside[:, 1, None, :])[:, None]
