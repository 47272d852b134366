"""Randomness as one tensor of uniform numbers.

Everything random about a step is drawn by ONE `torch.rand` outside the compiled
part; the rest is a pure function of the images and these numbers.  So a step is
reproducible from its generator, costs one random kernel, can be captured in a
CUDA graph, and gives the same pictures on every route (fused or grouped).
"""

from __future__ import annotations

import torch


def uniform_int(uniform: torch.Tensor, count: int) -> torch.Tensor:
    """Whole numbers 0..count-1, equally likely.

    Args:
        uniform: float in [0, 1), any shape.
        count: >= 1.

    Returns:
        int64, the same shape.
    """
    return (uniform * count).to(torch.int64).clamp_max(count - 1)
