"""Which arithmetic a training uses.

bf16 autocast: matrix products and convolutions in bf16; norms, softmax, the loss, the
master weights, the optimiser and the averaged weights stay in fp32 (bf16 keeps 8 bits:
an update of 1e-4 of a weight, or a factor 1 + 0.0024, would be rounded away).
"""

from __future__ import annotations

import contextlib
import functools
from typing import Literal

import torch


def uses_bf16(precision: Literal["auto", "bf16", "fp32"], device: torch.device) -> bool:
    """`auto` is bf16 where matrix units for it exist: every GPU this runs on, and CPUs
    with AMX, which double their images/s by it; elsewhere fp32 (bf16 would be emulated)."""
    if precision == "auto":
        return device.type == "cuda" or (device.type == "cpu" and _cpu_has_bf16_matrix_units())
    return precision == "bf16"


def autocast(device: torch.device, *, bf16: bool) -> contextlib.AbstractContextManager[object]:
    """The context a forward pass runs in."""
    if not bf16:
        return contextlib.nullcontext()
    return torch.autocast(device.type, dtype=torch.bfloat16)


@functools.cache
def _cpu_has_bf16_matrix_units() -> bool:
    # Newer torch only.
    capabilities: dict[str, object] = getattr(torch.cpu, "get_capabilities", dict)()
    return bool(capabilities.get("amx_bf16", False))
