"""Muon for the block stack's matrices, all layers of a shape together.

The update is that of torch.optim.Muon (Jordan and others, 2024,
https://kellerjordan.github.io/posts/muon/): Nesterov momentum, then five steps of
Newton-Schulz in bf16 that pull all singular values towards 1, at a rate that gives the
update AdamW's size (Liu and others, arXiv 2502.16982).
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import torch
import triton
from torch import Tensor

from model.fast.blocks import FlatBuffers
from model.fast.flat_layout import HIDDEN, Layout
from model.fast.kernels import muon as muon_kernels
from model.fast.kernels import optimizer as optimizer_kernels
from model.fast.launch import PRODUCT, SMALL_PRODUCT
from model.fast.run_values import RunValues
from model.kernels.triton_launch import launch

COEFFICIENTS, STEPS, SMALLEST_NORM = (3.4445, -4.7750, 2.0315), 5, 1e-7
"""torch's defaults of Muon: of Newton-Schulz's polynomial, its steps, and `eps`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Stack:
    """One stack's views [matrices, out, in] of the flat buffers, and its matrices' part of
    the group's buffers.

    Args:
        turned: `update` [matrices, in, out] holds the matrices transposed.
    """

    weight: Tensor
    copy: Tensor
    grad: Tensor
    momentum: Tensor
    average: Tensor
    turned: bool
    update: Tensor
    squares: Tensor
    result: Tensor


class MuonGroup:
    """Stacks whose matrices have one shape, turned so that they are tall: [n, long, short].

    Args:
        names: of the stacks.
        long, short: sides of the matrices.
        layout, flats: the network's weights.
        values: `table`, `counter` and `optimizer` are read.
        squares: float32 [PARTS], partial sums of the whole gradient's squares.
    """

    def __init__(
        self,
        *,
        names: Iterable[str],
        long: int,
        short: int,
        layout: Layout,
        flats: FlatBuffers,
        values: RunValues,
        squares: Tensor,
    ) -> None:
        self._values, self._squares = values, squares
        names = list(names)
        counts = [layout.stacks[name].shape[0] for name in names]
        count, device = sum(counts), squares.device

        def low(*shape: int) -> Tensor:
            return torch.zeros(count, *shape, dtype=torch.bfloat16, device=device)

        self.update, self._other = low(long, short), low(long, short)
        self._gram, self._polynomial = low(short, short), low(short, short)
        self._tiles = triton.cdiv(long, muon_kernels.TILE) * triton.cdiv(short, muon_kernels.TILE)
        self._norms = torch.zeros(count, self._tiles, device=device)
        # an odd number of steps between two buffers
        self.result = (self.update, self._other)[STEPS % 2]
        self.work = count * short * short * (2 * long + short)
        """Multiplications of a step of Newton-Schulz."""
        self._stacks = []
        for index, name in enumerate(names):
            mine = slice(sum(counts[:index]), sum(counts[: index + 1]))
            weight = layout.stack(name, flats.weights)
            self._stacks.append(
                _Stack(
                    weight=weight,
                    copy=layout.stack(name, flats.copies),
                    grad=layout.stack(name, flats.low_grads),
                    momentum=layout.stack(name, flats.first),
                    average=layout.stack(name, flats.average),
                    turned=weight.shape[1] <= weight.shape[2],  # as torch, to the square ones
                    update=self.update[mine],
                    squares=self._norms[mine],
                    result=self.result[mine],
                )
            )

    def step(self) -> None:
        """The group's whole update, once the gradient's squares are summed."""
        self.momentum()
        self.orthogonalise()
        self.apply()

    def momentum(self) -> None:
        """`update` from the gradients, and its squares."""
        for stack in self._stacks:
            count, rows, cols = stack.weight.shape
            launch(muon_kernels.muon_momentum, _grid(count, rows, cols))(
                stack.grad,
                stack.momentum,
                stack.update,
                stack.squares,
                self._squares,
                self._values.optimizer,
                rows,
                cols,
                TURNED=stack.turned,
                TILE=muon_kernels.TILE,
                PARTS=optimizer_kernels.PARTS,
            )

    def orthogonalise(self) -> None:
        """Newton-Schulz: X = X / |X|, then five times X = a X + X (b G + c G G), G = X^T X."""
        count, long, short = self.update.shape
        block = muon_kernels.SCALE_BLOCK
        launch(muon_kernels.muon_scale, (triton.cdiv(long * short, block), count))(
            self.update,
            self._norms,
            long * short,
            self._tiles,
            SMALLEST_NORM,
            BLOCK=block,
            TILES=triton.next_power_of_2(self._tiles),
        )
        x, y = self.update, self._other
        gram, polynomial = self._gram, self._polynomial
        a, b, c = COEFFICIENTS
        for _ in range(STEPS):
            _product(x, x, out=gram, turned=True, symmetric=True)
            _product(gram, gram, out=polynomial, alpha=c, added=gram, beta=b, symmetric=True)
            _product(x, polynomial, out=y, added=x, beta=a)
            x, y = y, x

    def apply(self) -> None:
        """The weights, their averages and copies from `result`."""
        values = self._values
        for stack in self._stacks:
            count, rows, cols = stack.weight.shape
            launch(muon_kernels.muon_apply, _grid(count, rows, cols))(
                stack.weight,
                stack.result,
                stack.average,
                stack.copy,
                values.table,
                values.counter,
                values.optimizer,
                0.2 * math.sqrt(max(rows, cols)),  # torch's match_rms_adamw
                rows,
                cols,
                TURNED=stack.turned,
                TILE=muon_kernels.TILE,
            )


def make_groups(
    *, layout: Layout, flats: FlatBuffers, values: RunValues, squares: Tensor
) -> tuple[MuonGroup, ...]:
    """The groups of all matrices that Muon updates (one to four), the most work first."""
    names: dict[tuple[int, int], list[str]] = {}
    for name in HIDDEN:
        if name not in layout.stacks:
            continue
        _, rows, cols = layout.stacks[name].shape
        names.setdefault((max(rows, cols), min(rows, cols)), []).append(name)
    groups = [
        MuonGroup(
            names=same,
            long=long,
            short=short,
            layout=layout,
            flats=flats,
            values=values,
            squares=squares,
        )
        for (long, short), same in names.items()
    ]
    return tuple(sorted(groups, key=lambda group: -group.work))


def _product(
    left: Tensor,
    right: Tensor,
    *,
    out: Tensor,
    alpha: float = 1.0,
    added: Tensor | None = None,
    beta: float = 0.0,
    turned: bool = False,
    symmetric: bool = False,
) -> None:
    """out = alpha left right + beta added, with `turned` left's transpose.

    Args:
        left, right, out, added: contiguous, [n, rows, inner] and so on.
        symmetric: the result is.
    """
    count, rows, cols = out.shape
    sizes = PRODUCT if cols % PRODUCT.tile == 0 else SMALL_PRODUCT
    grid = triton.cdiv(cols, sizes.tile), triton.cdiv(rows, sizes.tile), count
    launch(muon_kernels.matrix_product, grid)(
        left,
        right,
        out if added is None else added,
        out,
        rows,
        cols,
        right.shape[1],
        alpha,
        beta,
        TURNED=turned,
        ADDED=added is not None,
        SYMMETRIC=symmetric,
        TILE=sizes.tile,
        INNER=sizes.inner,
        num_warps=sizes.warps,
        num_stages=sizes.stages,
    )


def _grid(count: int, rows: int, cols: int) -> tuple[int, int, int]:
    return triton.cdiv(cols, muon_kernels.TILE), triton.cdiv(rows, muon_kernels.TILE), count
