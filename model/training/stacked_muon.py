"""torch's Muon for stacks of matrices."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import nn


class StackedMuon(torch.optim.Muon):
    """torch's Muon, for parameters [n, rows, cols] too: n matrices, each by itself.

    A parameter of two dimensions is its own matrix; of three, its matrices stand in
    `param_groups` as parameters of their own that share its memory.

    Args:
        params: of two or three dimensions; their memory must stay where it is.
        options: torch's.
    """

    def __init__(self, params: Iterable[nn.Parameter], **options: Any) -> None:
        self._parts: dict[nn.Parameter, tuple[nn.Parameter, int]] = {}
        matrices: list[nn.Parameter] = []
        for parameter in params:
            if parameter.ndim != 3:
                matrices.append(parameter)
                continue
            for index, values in enumerate(parameter.detach()):
                part = nn.Parameter(values)
                self._parts[part] = parameter, index
                matrices.append(part)
        super().__init__(matrices, **options)

    def whole(self, matrix: nn.Parameter) -> tuple[nn.Parameter, int | None]:
        """The network's parameter that a matrix of `param_groups` is of, and which of its
        matrices that is; None: it is the parameter."""
        return self._parts.get(matrix, (matrix, None))

    def step(self, closure: Callable[[], float] | None = None) -> Any:
        for part, (parameter, index) in self._parts.items():
            part.grad = None if parameter.grad is None else parameter.grad[index]
        return super().step(closure)  # type: ignore[no-untyped-call]

    def zero_grad(self, set_to_none: bool = True) -> None:
        super().zero_grad(set_to_none)
        for parameter, _ in self._parts.values():
            if set_to_none:
                parameter.grad = None
            elif parameter.grad is not None:
                parameter.grad.zero_()
