"""Normalisation of a pixel's RGB values, in the variants a search can choose from.

A LayerNorm over three numbers keeps their order and ratio of differences and
throws away their mean and spread: a pixel's brightness and contrast.  As the
source has it (`layernorm`) that costs accuracy, so two variants keep what it
removes.  Grey images have one value a pixel, of which a LayerNorm leaves nothing:
there every variant is the identity.
"""

from __future__ import annotations

import torch
from einops import rearrange
from torch import Tensor, nn

from model.config import ColorNorm

RESIDUAL_GAMMA = 0.1
"""First weight of the normalised values beside the raw ones: small, not zero."""


class PixelLayerNorm(nn.Module):
    """LayerNorm over the channels of each pixel: 'b c h w -> b h w c', LN(c), back."""

    def __init__(self, channels: int, *, affine: bool = True) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(channels, elementwise_affine=affine)

    def forward(self, images: Tensor) -> Tensor:
        """[B, C, H, W] to the same shape."""
        pixels = rearrange(images, "b c h w -> b h w c")
        normed: Tensor = rearrange(self.norm(pixels), "b h w c -> b c h w")
        return normed


class ResidualColorNorm(nn.Module):
    """x + gamma * LN(x), gamma learnable, one number a channel."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = PixelLayerNorm(channels, affine=False)
        self.gamma = nn.Parameter(torch.empty(channels))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        nn.init.constant_(self.gamma, RESIDUAL_GAMMA)

    def forward(self, images: Tensor) -> Tensor:
        """[B, C, H, W] to the same shape."""
        normed: Tensor = self.norm(images)
        return images + self.gamma[:, None, None] * normed


class ConcatColorNorm(nn.Module):
    """Raw and normalised channels side by side."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = PixelLayerNorm(channels)

    def forward(self, images: Tensor) -> Tensor:
        """[B, C, H, W] to [B, 2 C, H, W]."""
        return torch.cat([images, self.norm(images)], dim=1)


def make_color_norm(kind: ColorNorm, *, channels: int) -> tuple[nn.Module, int]:
    """The module for `kind`, and how many channels it puts out."""
    if kind == "off" or channels == 1:
        return nn.Identity(), channels
    if kind == "layernorm":
        return PixelLayerNorm(channels), channels
    if kind == "residual":
        return ResidualColorNorm(channels), channels
    return ConcatColorNorm(channels), 2 * channels
