"""Triton's interpreter made to compute with bf16 as a GPU does, and to be quicker."""

from __future__ import annotations

import functools
import inspect
from typing import Any

import numpy as np
import pytest
import torch
import triton.language as tl
from triton.runtime import interpreter


def true_bf16(monkeypatch: pytest.MonkeyPatch) -> None:
    """float32 becomes the nearest bf16 (the interpreter cuts it off), and products are
    those of the numbers (the interpreter multiplies bf16's bits as whole numbers)."""
    convert = interpreter._convert_float
    dot = interpreter.InterpreterBuilder.create_dot

    def wide(handle: Any) -> Any:
        if handle.dtype.scalar != tl.bfloat16:
            return handle
        bits = handle.data.astype(np.uint32) << 16
        return interpreter.TensorHandle(bits.view(np.float32), tl.float32)

    def product(builder: Any, a: Any, b: Any, *others: Any) -> Any:
        return dot(builder, wide(a), wide(b), *others)

    def rounded(given: np.ndarray, source: tl.dtype, target: tl.dtype, mode: object) -> np.ndarray:
        if source != tl.float32 or target != tl.bfloat16:
            return convert(given, source, target, mode)
        values = torch.from_numpy(np.ascontiguousarray(given).view(np.float32))
        return values.bfloat16().view(torch.int16).numpy().view(np.uint16)

    monkeypatch.setattr(interpreter, "_convert_float", rounded)
    monkeypatch.setattr(interpreter.InterpreterBuilder, "create_dot", product)


def remember_builtins() -> None:
    """Let the interpreter look for the built-in functions of a module once, not at every call.

    Each call of a jitted function replaces them by its own, and to find them goes through all
    names of `triton.language`: a fifth of the interpreter's time.
    """

    @functools.cache
    def builtins_of(package: object) -> list[str]:
        members = inspect.getmembers(package)
        return [name for name, member in members if tl.core.is_builtin(member)]

    def patch(package: object, builder: Any, scope: Any) -> None:
        for name in builtins_of(package):
            member = getattr(package, name)
            if tl.core.is_builtin(member):  # not replaced yet
                interpreter._patch_attr(package, name, member, builder, scope)

    interpreter._patch_builtin = patch
