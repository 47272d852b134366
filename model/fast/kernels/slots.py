"""Where each run-time value stands in the vectors that the captured step reads.

The host writes them by these names (`model.fast.run_values`), kernels read them by the same.
"""

from __future__ import annotations

import triton.language as tl

from model.augment import mix

CLIP = tl.constexpr(0)
WEIGHT_DECAY = tl.constexpr(1)
BETA_1 = tl.constexpr(2)
BETA_2 = tl.constexpr(3)
EPS = tl.constexpr(4)
MOMENTUM = tl.constexpr(5)
OPTIMIZER_VALUES = 6
"""Of `RunValues.optimizer`: largest gradient norm (0: off), AdamW's and Muon's constants."""

LR = tl.constexpr(0)
CORRECTION_1 = tl.constexpr(1)
CORRECTION_2 = tl.constexpr(2)
AVERAGE = tl.constexpr(3)
SCHEDULE_COLUMNS = tl.constexpr(4)
"""Of a row of `RunValues.table`: learning rate, 1 - beta1^t, sqrt(1 - beta2^t), and the
averaged weights' decay."""

CUTOUT = tl.constexpr(0)
CUTMIX = tl.constexpr(1)
MIXUP = tl.constexpr(2)
MIXING_VALUES = 3
"""Of `RunValues.mixing`: cutout's side, shares of the batches mixed by CutMix and MixUp."""

RUN_STEP = tl.constexpr(0)
EPOCH_STEP = tl.constexpr(1)
COUNTERS = 2
"""Of `RunValues.counter`: steps done of the run and of the epoch."""

CHOICE = tl.constexpr(mix.CHOICE)
CENTRE_Y = tl.constexpr(mix.CENTRE_Y)
CENTRE_X = tl.constexpr(mix.CENTRE_X)
SHARE = tl.constexpr(mix.LAMBDA)
MIX_DRAWS = tl.constexpr(mix.DRAWS)
"""Of a step's draws, as `model.augment.Mix.draw` makes them."""
