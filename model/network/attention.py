"""NKAT attention: filtered softmax attention with the theta modulation.

    scores / (sqrt(head_dim) * temperature) -> top-k -> top-p -> softmax
    -> times 1 + strength * decay^layer * theta(x)

    theta(x) = alpha * tanh(mean(x)) + beta * sigmoid(var(x))

theta is one number per query token, over its features, so it multiplies the
query's output row: the same as multiplying its weights.
"""

from __future__ import annotations

import torch
from einops import rearrange
from torch import Tensor, nn

from model.config import ModelConfig
from model.kernels.attention import nkat_attention
from model.network.scaled_linear import scaled_linear

ALPHA = 0.1
"""First value of the learnable weight of tanh(mean(x))."""

BETA = 0.05
"""First value of the learnable weight of sigmoid(var(x))."""

COLOUR_CHANNELS = 3
HEADS_PER_COLOUR = 2


class Theta(nn.Module):
    """1 + strength * decay^layer * theta(x), the factor of a query's output row.

    Args:
        strength: nkat_strength; 0 leaves the attention unmodulated.
        decay: nkat_decay, (0, 1].
        layer: the block's index, from 0.
    """

    def __init__(self, *, strength: float, decay: float, layer: int) -> None:
        super().__init__()
        self.weight: float | Tensor = strength * decay**layer
        self.alpha = nn.Parameter(torch.empty(()))
        self.beta = nn.Parameter(torch.empty(()))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        nn.init.constant_(self.alpha, ALPHA)
        nn.init.constant_(self.beta, BETA)

    def forward(self, tokens: Tensor) -> Tensor:
        """[B, N, D] to [B, N, 1].

        `tokens` are the block's input before its norm: after a LayerNorm every
        token's mean is about 0 and its variance about 1, and theta a constant.
        """
        tokens = tokens.float()
        mean = tokens.mean(dim=-1, keepdim=True)
        # E[x^2] - E[x]^2: a quarter of torch.var_mean's time; a residual stream's mean is
        # small beside its spread, so nothing cancels.
        square = torch.linalg.vecdot(tokens, tokens).unsqueeze(-1) / tokens.shape[-1]
        variance = square - mean.square()
        theta = self.alpha * torch.tanh(mean) + self.beta * torch.sigmoid(variance)
        return 1 + self.weight * theta


class NKATAttention(nn.Module):
    """Self-attention of one block, ordinary or with split heads.

    With split heads (RGB input only) heads 0-1 look at R alone, 2-3 at G, 4-5 at B:
    their keys and values are made of that colour's own tokens
    (`model.network.color_tokens`); heads 6-7 are ordinary.  Queries are ordinary in all.

    Args:
        config: the network's configuration.
        layer: the block's index, from 0.
    """

    def __init__(self, config: ModelConfig, *, layer: int) -> None:
        super().__init__()
        dim = config.embed_dim
        self.heads = config.heads
        self.split = config.split_heads and config.channels == COLOUR_CHANNELS
        # Plain attributes, never compiled in: a warm worker may put 0-dim tensors here.
        self.temperature: float | Tensor = config.temperature
        self.top_k: int | Tensor | None = config.top_k
        self.top_p: float | Tensor = config.top_p
        self.dropout_p = config.dropout_attn
        self.generator: torch.Generator | None = None
        self.seed: Tensor | None = None  # of the GPU kernel's dropout, where one serves all
        self.layer = layer
        self.theta = Theta(strength=config.nkat_strength, decay=config.nkat_decay, layer=layer)
        self.project = nn.Linear(dim, dim)
        if not self.split:
            self.qkv = nn.Linear(dim, 3 * dim)
            return
        head_dim = dim // config.heads
        colour_dim = HEADS_PER_COLOUR * head_dim
        shared_dim = dim - COLOUR_CHANNELS * colour_dim
        self.qkv = nn.Linear(dim, dim + 2 * shared_dim)
        self.colour_kv = nn.Parameter(torch.empty(COLOUR_CHANNELS, dim, 2 * colour_dim))
        self.colour_kv_bias = nn.Parameter(torch.zeros(COLOUR_CHANNELS, 1, 2 * colour_dim))

    def forward(
        self, x: Tensor, *, stream: Tensor, scale: Tensor, colours: Tensor | None = None
    ) -> Tensor:
        """One block's attention branch.

        Args:
            x: [B, N, D], the block's normalised input.
            stream: [B, N, D], the same before the norm (theta reads it).
            scale: 0-dim, the branch's learnable scalar.
            colours: [3, B, N, D] colour tokens; only with split heads.

        Returns:
            [B, N, D].
        """
        q, k, v = self.queries_keys_values(x, colours)
        out = nkat_attention(
            q,
            k,
            v,
            temperature=self.temperature,
            top_k=self.top_k,
            top_p=self.top_p,
            dropout_p=self.dropout_p,
            training=self.training,
            generator=self.generator,
            seed=self.seed,
            salt=self.layer,
        )
        merged = rearrange(out, "b h n d -> b n (h d)")
        # fp32 factors near 1 would vanish in bf16; the product is rounded once.
        modulated = (merged * self.theta(stream)).to(merged.dtype)
        return scaled_linear(modulated, self.project, scale)

    def queries_keys_values(
        self, x: Tensor, colours: Tensor | None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Three times [B, heads, N, head_dim], of the arguments of `forward`."""
        if self.split:
            return self._split_qkv(x, colours)
        q, k, v = rearrange(self.qkv(x), "b n (t h d) -> t b h n d", t=3, h=self.heads)
        return q, k, v

    def _split_qkv(self, x: Tensor, colours: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
        if colours is None:
            raise ValueError("split heads need the colour tokens of the same images")
        batch, tokens, dim = x.shape
        head_dim = dim // self.heads
        mixed = self.qkv(x)
        q = rearrange(mixed[..., :dim], "b n (h d) -> b h n d", h=self.heads)
        shared_k, shared_v = rearrange(
            mixed[..., dim:], "b n (t h d) -> t b h n d", t=2, d=head_dim
        )
        own = torch.bmm(colours.flatten(1, 2), self.colour_kv) + self.colour_kv_bias
        own_k, own_v = rearrange(
            own,
            "c (b n) (t h d) -> t b (c h) n d",
            b=batch,
            n=tokens,
            t=2,
            d=head_dim,
        )
        k = torch.cat([own_k.to(shared_k.dtype), shared_k], dim=1)
        v = torch.cat([own_v.to(shared_v.dtype), shared_v], dim=1)
        return q, k, v
