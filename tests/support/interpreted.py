"""Triton's interpreter made to round as a GPU does."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import triton.language as tl
from triton.runtime import interpreter


def round_bf16(monkeypatch: pytest.MonkeyPatch) -> None:
    """float32 becomes the nearest bf16: the interpreter cuts it off."""
    convert = interpreter._convert_float

    def rounded(given: np.ndarray, source: tl.dtype, target: tl.dtype, mode: object) -> np.ndarray:
        if source != tl.float32 or target != tl.bfloat16:
            return convert(given, source, target, mode)
        values = torch.from_numpy(np.ascontiguousarray(given).view(np.float32))
        return values.bfloat16().view(torch.int16).numpy().view(np.uint16)

    monkeypatch.setattr(interpreter, "_convert_float", rounded)
