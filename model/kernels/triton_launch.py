# mypy: disable-error-code="no-untyped-def,no-untyped-call,misc"
"""Launching Triton kernels, and compiling all that a piece of code launches at once.

A first step launches some forty kernels; one after the other they compile for half a
minute.  Inside `compiling_together` a launch only asks for its kernel, and threads
compile what was asked for side by side.

A compiled kernel is not ready yet: Triton 3.6 has the C compiler build a launcher for it
when it is first launched, 0.25 to 0.4 s each (10 of 21 s of a cold start on an H100).  The
threads do that too.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextvars import ContextVar
from typing import Any

import torch

_ASKING: ContextVar[bool] = ContextVar("asking", default=False)


def launch(kernel: Any, grid: tuple[int, ...]) -> Callable[..., None]:
    """`kernel[grid]`, or inside `compiling_together` a request to compile it."""
    if not _ASKING.get():
        launcher: Callable[..., None] = kernel[grid]
        return launcher

    def ask(*args: Any, **options: Any) -> None:
        kernel.run(*args, grid=grid, warmup=True, **options)

    return ask


class _ReadyKernels(ThreadPoolExecutor):
    """Threads whose jobs each compile a kernel; it is on the device, with its launcher, after."""

    def __init__(self) -> None:
        # the device of a new thread is the first one, not the caller's
        super().__init__(
            os.cpu_count() or 1,
            initializer=torch.cuda.set_device,
            initargs=(torch.cuda.current_device(),),
        )

    def submit(self, fn: Callable[..., Any], /, *args: Any, **options: Any) -> Future[Any]:
        def ready() -> Any:
            kernel = fn(*args, **options)
            _ = kernel.run  # builds the launcher and loads the kernel
            return kernel

        return super().submit(ready)


@contextlib.contextmanager
def compiling_together() -> Iterator[None]:
    """Run code for the kernels it would launch; they are compiled when this ends.

    Nothing is launched in here: what the code computes is of no use.
    """
    from triton import AsyncCompileMode  # torch 2.11's Triton, 3.6, has it

    token = _ASKING.set(True)
    try:
        with _ReadyKernels() as pool, AsyncCompileMode(pool):
            yield
    finally:
        _ASKING.reset(token)
