"""The learning rate of every step: linear warm-up, then a cosine or a line to zero."""

from __future__ import annotations

import math
from dataclasses import dataclass

from model.config import Decay, TrainConfig

LARGEST_WARMUP_SHARE = 0.5
"""Of a run's steps: a run as short as its warm-up would never train at its rate."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Schedule:
    """Learning rate by step.

        lr(s) = peak * (s + 1) / W                                      for s < W
        lr(s) = peak * (1 + cos(pi * (s - W) / (S - W))) / 2            for s >= W, cosine
        lr(s) = peak * (1 - (s - W) / (S - W))                          for s >= W, linear

    Args:
        peak: learning rate at the end of the warm-up, > 0.
        steps: S, steps of the whole run, >= 1.
        warmup_steps: W, 0 <= W < S.
        decay: how the rate falls after the warm-up.
    """

    peak: float
    steps: int
    warmup_steps: int
    decay: Decay = "cosine"

    @classmethod
    def of(cls, config: TrainConfig, *, steps_per_epoch: int) -> Schedule:
        """The schedule of a whole run.

        The warm-up may be a fraction of epochs.  It takes half the run at most: 5
        epochs stay 5 in a run of 10 or more and become 2 in a run of 4.
        """
        steps = config.epochs * steps_per_epoch
        warmup = min(config.warmup * steps_per_epoch, steps * LARGEST_WARMUP_SHARE)
        return cls(peak=config.lr, steps=steps, warmup_steps=int(warmup), decay=config.lr_decay)

    def lr(self, step: int) -> float:
        """Learning rate of `step`, 0 <= step < steps."""
        if step < self.warmup_steps:
            return self.peak * (step + 1) / self.warmup_steps
        done = (step - self.warmup_steps) / (self.steps - self.warmup_steps)
        if self.decay == "linear":
            return self.peak * (1 - done)
        return self.peak * (1 + math.cos(math.pi * done)) / 2
