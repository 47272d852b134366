"""Training at the GPU's limit: the whole step in one CUDA graph, reused between trials.

`model.fast.runner.FastRunners` is a `model.training.step.RunnerFactory`; the plain runner is its
slow twin.  What differs between trials of one shape (temperature, top_k, top_p,
strength, dropout, learning rates, probabilities, weights) lies in device memory that
the graph reads.
"""

from __future__ import annotations
