"""One transformer block: pre-norm, two branches, a learnable scalar on each."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from model.config import ModelConfig
from model.network.attention import NKATAttention
from model.network.scaled_linear import scaled_linear


class Block(nn.Module):
    """x + a * attention(norm(x)), then x + m * mlp(norm(x)); a and m start at 1.

    With alpha and beta of theta these are the block's four NKAT scalars.

    Args:
        config: the network's configuration.
        layer: the block's index, from 0.
    """

    def __init__(self, config: ModelConfig, *, layer: int) -> None:
        super().__init__()
        dim = config.embed_dim
        hidden = round(dim * config.mlp_ratio)
        self.attention_norm = nn.LayerNorm(dim)
        self.attention = NKATAttention(config, layer=layer)
        self.attention_scale = nn.Parameter(torch.empty(()))
        self.mlp_norm = nn.LayerNorm(dim)
        self.expand = nn.Linear(dim, hidden)
        self.contract = nn.Linear(hidden, dim)
        self.mlp_scale = nn.Parameter(torch.empty(()))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """The two scalars only: the norms and matrices are modules of their own."""
        nn.init.ones_(self.attention_scale)
        nn.init.ones_(self.mlp_scale)

    def forward(self, x: Tensor, colours: Tensor | None = None) -> Tensor:
        """[B, N, D] to [B, N, D]; `colours` [3, B, N, D] only with split heads."""
        attended: Tensor = self.attention(
            self.attention_norm(x), stream=x, scale=self.attention_scale, colours=colours
        )
        x = x + attended
        hidden = F.gelu(self.expand(self.mlp_norm(x)))
        return x + scaled_linear(hidden, self.contract, self.mlp_scale)
