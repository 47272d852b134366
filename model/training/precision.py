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
    """`auto` is bf16 on a GPU and fp32 on a CPU, where small networks gain nothing by it
    (a CPU with AMX trains large ones twice as fast: ask for `bf16`)."""
    if precision == "auto":
        return device.type == "cuda"
    return precision == "bf16"


def autocast(device: torch.device, *, bf16: bool) -> contextlib.AbstractContextManager[object]:
    """The context a forward pass runs in."""
    if not bf16:
        return contextlib.nullcontext()
    return torch.autocast(device.type, dtype=torch.bfloat16)
