"""First values of a network's parameters."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from model.config import ModelConfig
from model.network.attention import NKATAttention, Theta
from model.network.block import Block
from model.network.color_norm import ResidualColorNorm

INIT_STD = 0.02
"""Standard deviation of matrices and embeddings (ViT, DeiT, timm)."""

POSITION_AMPLITUDE, PATCH_STD = 0.5, 0.5
"""Of `sincos` positions, and of the patch projection's outputs beside them: both enter the
first block at the same scale (std 0.02 leaves positions a fifth of the patches)."""

SHORTEST_WAVE, LONGEST_WAVE = 2.0, 4.0
"""Wavelengths of `sincos` positions: the shortest in tokens (the finest a grid can hold),
the longest in sides of the grid (so that no two places of it look alike)."""

LIKENESS = 0.7
"""Share of the identity in `mimetic` products of two matrices; the rest is noise."""

QUERY_KEY_NORM_SQ, VALUE_NORM_SQ = 1.9, 0.57
"""Squared length of a row of the `mimetic` query and key, value and output matrices."""


def initialise_own(module: nn.Module, generator: torch.Generator | None) -> None:
    """First values of the parameters and buffers that `module` itself holds."""
    if isinstance(module, nn.Conv2d):
        nn.init.kaiming_normal_(module.weight, mode="fan_out", generator=generator)
        return
    if isinstance(module, nn.BatchNorm2d | nn.LayerNorm | Theta | Block | ResidualColorNorm):
        module.reset_parameters()
        return
    for name, parameter in module.named_parameters(recurse=False):
        if name.endswith("bias"):
            parameter.zero_()
        else:
            _truncated_normal(parameter, generator)


def set_scale(linear: nn.Linear, *, std: float, generator: torch.Generator | None) -> None:
    """Draw the weights so that inputs of standard deviation 1 give outputs of `std`."""
    linear.weight.normal_(0.0, std / math.sqrt(linear.in_features), generator=generator)


def sincos_positions(config: ModelConfig) -> Tensor:
    """2-D sine-cosine positions; a class token's is 0.

        0.5 * [sin(x w), cos(x w), sin(y w), cos(y w)]    x, y: column and row of the token

    with angular frequencies w evenly spaced on a logarithmic scale (after "Better plain ViT
    baselines", arXiv 2205.01580, whose waves are for 14 tokens a side).

    Returns:
        [1, tokens, embed_dim].
    """
    side, quarter = config.grid_size, config.embed_dim // 4
    shortest, longest = SHORTEST_WAVE, LONGEST_WAVE * max(side, 1)
    waves = torch.logspace(math.log10(shortest), math.log10(longest), quarter)
    row, column = torch.meshgrid(torch.arange(side), torch.arange(side), indexing="ij")
    angles = [place.reshape(-1, 1) * (2 * math.pi / waves) for place in (column, row)]
    parts = [wave for angle in angles for wave in (angle.sin(), angle.cos())]
    positions = torch.zeros(1, config.tokens, config.embed_dim)
    first = config.tokens - side**2
    positions[0, first:, : 4 * quarter] = POSITION_AMPLITUDE * torch.cat(parts, dim=1)
    return positions


def mimic_trained_attention(attention: NKATAttention, generator: torch.Generator | None) -> None:
    """Let products of matrices look as they do in trained transformers.

    Query and key of a head: Wq^T Wk near a multiple of the identity, so that a token
    attends to tokens like itself; value and output: Wo Wv near minus a multiple of it
    (Trockman and Kolter, "Mimetic Initialization of Self-Attention Layers", ICML 2023).
    The paper factors the wanted products by SVD; here the factors are correlated normal
    matrices with the same expectation, for a thousandth of the time.

    With split heads the colours' own keys and values stay as they are.
    """
    dim = attention.project.in_features
    weight = attention.qkv.weight
    if len(weight) != 3 * dim:
        return

    def pair(norm_sq: float, likeness: float) -> tuple[Tensor, Tensor]:
        first, noise = (torch.randn(dim, dim, generator=generator) for _ in range(2))
        scale = math.sqrt(norm_sq / dim)
        return scale * first, scale * (likeness * first + math.sqrt(1 - likeness**2) * noise)

    query, key = pair(QUERY_KEY_NORM_SQ, LIKENESS)
    value, output = pair(VALUE_NORM_SQ, -LIKENESS)
    weight.copy_(torch.cat([query, key, value]))
    attention.project.weight.copy_(output.t())


def _truncated_normal(parameter: Tensor, generator: torch.Generator | None) -> None:
    """Normal with std 0.02 before it is cut at two of it, by the inverse of its
    distribution: a tenth of the time of torch's own, which draws until all fit."""
    if parameter.is_meta:
        return  # nothing to draw into, and torch takes long to find that out
    bound = math.erf(2 / math.sqrt(2))
    parameter.uniform_(-bound, bound, generator=generator)
    parameter.erfinv_().mul_(INIT_STD * math.sqrt(2)).clamp_(-2 * INIT_STD, 2 * INIT_STD)
