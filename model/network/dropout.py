"""Dropout that draws from a generator of its own.

torch's dropout draws from the process's global generator.  A training that is to
be resumed to the bit, beside others in one process, owns every generator it uses.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from model.kernels.torch_attention import dropout_factors


class Dropout(nn.Module):
    """x with each value dropped with probability `p`, the others scaled by 1 / (1 - p).

    Args:
        p: [0, 1).
    """

    def __init__(self, p: float) -> None:
        super().__init__()
        self.p = p
        self.generator: torch.Generator | None = None

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or self.p == 0:
            return x
        return x * dropout_factors(x, self.p, self.generator)
