"""Which way of running steps a device gets."""

from __future__ import annotations

import torch

from model.training.step import PlainRunner, RunnerFactory


def runners_for(device: str) -> RunnerFactory:
    """The fast, captured path on CUDA (it falls back by itself where it cannot run a
    configuration), plain steps elsewhere.

    Keep the result for as long as trials are trained: it keeps its captured steps warm.
    """
    if torch.device(device).type == "cuda":
        from model.fast.runner import FastRunners  # Triton: only where there is a GPU

        return FastRunners()
    return PlainRunner
