"""Averaged weights: an exponential moving average of the network, warmed up.

A decay of 0.9995 looks back 2,000 steps, longer than many of these runs; from the
start it would average the untrained weights in.  So the decay of update t (from 0) is

    min(ema, (1 + t) / (10 + t)).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


def warm_decay(ema: float, update: int) -> float:
    """Decay of one update.

    Args:
        ema: the final decay, (0, 1).
        update: updates made before this one, >= 0.
    """
    return min(ema, (1 + update) / (10 + update))


class AveragedWeights:
    """Keeps `averaged` = decay * averaged + (1 - decay) * network, tensor by tensor.

    BatchNorm's running statistics are averaged like weights (they belong to the
    averaged ones better than the latest would); whole numbers are copied.

    Args:
        network: what is trained.
        averaged: a network of the same shapes; it takes the first weights here and is
            left in evaluation mode without gradients.
        ema: the final decay, (0, 1).
    """

    def __init__(self, *, network: nn.Module, averaged: nn.Module, ema: float) -> None:
        self.ema = ema
        self.averaged = averaged.eval().requires_grad_(False)
        self._current, self._average, self._copied = _pairs(network, averaged)
        averaged.load_state_dict(network.state_dict())

    @torch.no_grad()
    def update(self, update: int) -> None:
        """One update; `update` counts those made before it, from 0."""
        weight = 1 - warm_decay(self.ema, update)
        torch._foreach_lerp_(self._average, self._current, weight)
        for current, copy in self._copied:
            copy.copy_(current)


def _pairs(
    network: nn.Module, averaged: nn.Module
) -> tuple[list[Tensor], list[Tensor], list[tuple[Tensor, Tensor]]]:
    """Floating tensors of both, in one order, and pairs of the others."""
    current, average, copied = [], [], []
    sources = [*network.parameters(), *network.buffers()]
    targets = [*averaged.parameters(), *averaged.buffers()]
    for source, target in zip(sources, targets, strict=True):
        if source.is_floating_point():
            current.append(source.detach())
            average.append(target.detach())
        else:
            copied.append((source, target))
    return current, average, copied
