# mypy: disable-error-code="no-untyped-def,no-untyped-call,misc"
"""Launching Triton kernels, and compiling all that a piece of code launches at once.

A first step launches some thirty kernels; one after the other they compile for half a
minute.  Inside `compiling_together` a launch only asks for its kernel, and threads
compile what was asked for side by side.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextvars import ContextVar
from typing import Any

_ASKING: ContextVar[bool] = ContextVar("asking", default=False)


def launch(kernel: Any, grid: tuple[int, ...]) -> Callable[..., None]:
    """`kernel[grid]`, or inside `compiling_together` a request to compile it."""
    if not _ASKING.get():
        launcher: Callable[..., None] = kernel[grid]
        return launcher

    def ask(*args: Any, **options: Any) -> None:
        kernel.run(*args, grid=grid, warmup=True, **options)

    return ask


@contextlib.contextmanager
def compiling_together() -> Iterator[None]:
    """Run code for the kernels it would launch; they are compiled when this ends.

    Nothing is launched in here: what the code computes is of no use.
    """
    from triton import AsyncCompileMode  # torch 2.11's Triton, 3.6, has it

    token = _ASKING.set(True)
    try:
        with ThreadPoolExecutor(os.cpu_count() or 1) as pool, AsyncCompileMode(pool):
            yield
    finally:
        _ASKING.reset(token)
