"""For tests that run kernels in Triton's interpreter."""

from __future__ import annotations

import importlib.util
import os

import pytest


@pytest.fixture(scope="session", autouse=True)
def _quick_interpreter() -> None:
    if os.environ.get("TRITON_INTERPRET") == "1" and importlib.util.find_spec("triton"):
        from interpreted import remember_builtins

        remember_builtins()
