"""A linear layer whose output is scaled by one learnable scalar."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F


def scaled_linear(x: Tensor, layer: nn.Linear, scale: Tensor) -> Tensor:
    """scale * (W x + b), computed as (scale W) x + scale b.

    W is far smaller than a batch of tokens: scaling it instead of the output saves a
    pass over the tokens forward, two backward, and the copy kept in between.

    Args:
        x: [..., in].
        layer: W [out, in] and b [out].
        scale: 0-dim.

    Returns:
        [..., out].
    """
    return F.linear(x, scale * layer.weight, scale * layer.bias)
