"""Which arithmetic a training uses.

bf16 autocast: matrix products and convolutions in bf16; norms, softmax, the loss, the
master weights, the optimiser and the averaged weights stay in fp32 (bf16 keeps 8 bits:
an update of 1e-4 of a weight, or a factor 1 + 0.0024, would be rounded away).
"""

from __future__ import annotations

import contextlib
from typing import Literal

import torch


def uses_bf16(precision: Literal["auto", "bf16", "fp32"], device: torch.device) -> bool:
    """`auto` is bf16 on a GPU and fp32 on a CPU."""
    return precision == "bf16" or (precision == "auto" and device.type == "cuda")


def autocast(device: torch.device, *, bf16: bool) -> contextlib.AbstractContextManager[object]:
    """The context a forward pass runs in."""
    if not bf16:
        return contextlib.nullcontext()
    return torch.autocast(device.type, dtype=torch.bfloat16)
