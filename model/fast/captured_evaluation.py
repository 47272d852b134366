"""The same evaluation after every epoch, captured in a CUDA graph."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from model.data.device import DeviceSet

Counts = tuple[Tensor, Tensor]


class RepeatedEvaluation:
    """Right answers on one set, again and again while the weights change in place.

    The first time runs eagerly, which warms everything up; the second is captured; from
    then on the graph is replayed.  A run that is evaluated once captures nothing.

    Args:
        count: the evaluation; it reads nothing back to the host.
        dataset: the set that `count` evaluates on.
    """

    def __init__(self, count: Callable[[], Counts], *, dataset: DeviceSet) -> None:
        self.dataset = dataset
        self._count = count
        self._graph: torch.cuda.CUDAGraph | None = None
        self._counts: Counts | None = None
        self._warm = False

    def __call__(self) -> Counts:
        """int64 0-dim tensors of their own: right answers of the raw and averaged weights."""
        if not self._warm or self.dataset.device.type != "cuda":
            self._warm = True
            return self._count()
        if self._graph is None or self._counts is None:
            torch.cuda.synchronize(self.dataset.device)
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph):
                self._counts = self._count()
            self._graph = graph
        self._graph.replay()
        raw, averaged = self._counts
        return raw.clone(), averaged.clone()
