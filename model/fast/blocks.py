"""The block stack, forward and backward by hand over fixed buffers.

A layer is eight kernels forward and eight backward: four matrix products each way, the
attention, and three passes that fuse everything else.  Gradients of weights wait until
the end, when one batched product a kind makes those of all layers: at 17 tokens a
single layer's would leave most of the GPU idle.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, TypeAlias

import torch
import triton
from torch import Tensor

from model.config import ModelConfig
from model.fast.flat_layout import Layout
from model.fast.kernels import gelu as gelu_kernels
from model.fast.kernels import layer_norm as norm_kernels
from model.fast.launch import GELU_BACK, GELU_COLUMNS, NORM, NORM_BACK, width
from model.fast.sums import column_sums, scalar_sums
from model.kernels.triton_attention import backward_into, forward_into
from model.kernels.triton_launch import launch
from model.kernels.triton_tiles import mask_words

_GELU_BLOCK = 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class FlatBuffers:
    """The flat buffers of one network (`Layout` says what lies where).

    Args:
        weights, first, second, average: float32 [total].
        copies: [trained] in the products' type.
        low_grads: [low] in the products' type; high_grads: float32 [trained - low].
    """

    weights: Tensor
    first: Tensor
    second: Tensor
    average: Tensor
    copies: Tensor
    low_grads: Tensor
    high_grads: Tensor

    @classmethod
    def empty(cls, layout: Layout, *, device: torch.device, dtype: torch.dtype) -> FlatBuffers:
        def flat(count: int, kind: torch.dtype = torch.float32) -> Tensor:
            return torch.zeros(count, device=device, dtype=kind)

        return cls(
            weights=flat(layout.total),
            first=flat(layout.total),
            second=flat(layout.total),
            average=flat(layout.total),
            copies=flat(layout.trained, dtype),
            low_grads=flat(layout.low, dtype),
            high_grads=flat(layout.trained - layout.low),
        )


Heads: TypeAlias = tuple[Tensor, Tensor, Tensor]
"""Queries, keys and values (or their gradients): [batch, heads, tokens, head_dim]."""


class Projection(Protocol):
    """From a block's normalised input `h` [rows, dim] to its heads, and back.

    `owners` hold its buffers (in their fields).  Forward: `prepare` once a step, before
    any block and after the images are ready, then `forward` a layer.  Backward: `backward` a
    layer, once the attention has written `gradients` and, where there are any, `bias_sums`.
    The last three then give the weights' gradients, in any order.
    """

    @property
    def owners(self) -> Sequence[object]: ...

    def prepare(self) -> None: ...

    def forward(self, layer: int, h: Tensor) -> Heads: ...

    def heads(self, layer: int) -> Heads:
        """What `forward` gave."""

    def gradients(self, layer: int) -> Heads:
        """Where the attention writes, all three of equal strides."""

    def bias_sums(self, layer: int) -> Tensor | None:
        """Where it writes the sums over the tokens, if it can sum them."""

    def backward(self, layer: int, dh: Tensor) -> None: ...

    def images_backward(self) -> None:
        """The gradients of what `prepare` reads."""

    def weight_gradients(self, h: Tensor) -> None:
        """Those of the matrices, from all layers' inputs [depth, rows, dim]."""

    def vector_gradients(self) -> None:
        """Those of the biases."""


class BlockStack:
    """Buffers and kernels of the block stack for one batch size.

    Args:
        batch: images.
        projection: to queries, keys and values.
        layout, flats: the network's weights.
        attention_values: float32 [4], see `attention_values`.
        theta_weights: float32 [depth], strength * decay^layer.
        seed: int64 [1], of the step's dropout.
    """

    def __init__(
        self,
        *,
        config: ModelConfig,
        batch: int,
        projection: Projection,
        layout: Layout,
        flats: FlatBuffers,
        attention_values: Tensor,
        theta_weights: Tensor,
        seed: Tensor,
    ) -> None:
        self.config, self.batch, self.layout, self.flats = config, batch, layout, flats
        self.projection = projection
        self.values, self.theta_weights, self.seed = attention_values, theta_weights, seed
        self.rows = batch * config.tokens
        depth, dim, rows = config.depth, config.embed_dim, self.rows
        self.hidden = layout.stacks["fc1"].shape[1]
        low = flats.copies.new_empty
        high = flats.weights.new_empty
        self.x = high(2 * depth + 1, rows, dim)
        self.mean, self.rstd = high(2 * depth + 1, rows), high(2 * depth + 1, rows)
        self.h = low(2 * depth, rows, dim)
        self.o, self.y, self.z = (low(depth, rows, dim) for _ in range(3))
        self.slope, self.u = low(depth, rows, self.hidden), low(depth, rows, self.hidden)
        heads, tokens = config.heads, config.tokens
        self.lse = high(depth, batch, heads, tokens)
        self.mask = torch.empty(
            depth, batch, heads, tokens, mask_words(tokens), dtype=torch.int16, device=seed.device
        )
        self.dx = high(rows, dim)
        self.dh, self.do = low(rows, dim), low(rows, dim)
        self.dy, self.dz = low(depth, rows, dim), low(depth, rows, dim)
        self.dpre = low(depth, rows, self.hidden)
        self.dscale, self.dfactor = high(2 * depth + 1, rows), high(depth, rows)
        self.partial = high(2 * depth + 1, NORM_BACK.grid(rows), 3, dim).zero_()
        self.gelu_partial = high(depth, GELU_BACK.grid(rows), self.hidden)
        self._norms = layout.stack("norms", flats.weights)
        self._scalars = layout.stack("scalars", flats.weights)
        self._copies = {
            name: layout.stack(name, flats.copies)
            for name in ("project", "fc1", "fc2", "fc1_bias")
        }

    def forward(self) -> None:
        """x[0] to x[2 depth - 1] and the last MLP's z; what comes after is the head's."""
        for layer in range(self.config.depth):
            self._norm(2 * layer)
            weights = {name: stack[layer] for name, stack in self._copies.items()}
            heads = self.projection.forward(layer, self.h[2 * layer])
            forward_into(
                self._by_head(self.o[layer]),
                self.lse[layer],
                self.mask[layer],
                *heads,
                self.values,
                self.seed,
                layer,
            )
            torch.mm(self.o[layer], weights["project"].t(), out=self.y[layer])
            self._norm(2 * layer + 1)
            torch.addmm(
                weights["fc1_bias"],
                self.h[2 * layer + 1],
                weights["fc1"].t(),
                out=self.slope[layer],
            )
            count = self.slope[layer].numel()
            launch(gelu_kernels.gelu_forward, (triton.cdiv(count, _GELU_BLOCK),))(
                self.slope[layer], self.u[layer], count, BLOCK=_GELU_BLOCK
            )
            torch.mm(self.u[layer], weights["fc2"].t(), out=self.z[layer])

    def backward(self, dpooled: Tensor) -> None:
        """From the pooled tokens' gradient float32 [batch, dim] to `dx` of x[0] and what
        the weights' gradients need."""
        depth = self.config.depth
        self._norm_back(2 * depth, dpooled)
        for layer in reversed(range(depth)):
            weights = {name: stack[layer] for name, stack in self._copies.items()}
            torch.mm(self.dz[layer], weights["fc2"], out=self.dpre[layer])
            grid = (GELU_BACK.grid(self.rows), triton.cdiv(self.hidden, GELU_COLUMNS))
            launch(gelu_kernels.gelu_backward, grid)(
                self.slope[layer],
                self.dpre[layer],
                self.gelu_partial[layer],
                self.rows,
                COLS=self.hidden,
                BLOCK=GELU_COLUMNS,
                ROWS=GELU_BACK.rows,
                num_warps=GELU_BACK.warps,
            )
            torch.mm(self.dpre[layer], weights["fc1"], out=self.dh)
            self._norm_back(2 * layer + 1, self.dh)
            torch.mm(self.dy[layer], weights["project"], out=self.do)
            backward_into(
                *self.projection.gradients(layer),
                self._by_head(self.do),
                *self.projection.heads(layer),
                self._by_head(self.o[layer]),
                self.lse[layer],
                self.mask[layer],
                self.values,
                self.seed,
                layer,
                bias=self.projection.bias_sums(layer),
            )
            self.projection.backward(layer, self.dh)
            self._norm_back(2 * layer, self.dh)

    def weight_gradients(self) -> None:
        """All gradients of the matrices, after `backward`; independent of what else follows
        it, so another stream may do this."""
        low = self.flats.low_grads
        self.projection.weight_gradients(self.h[0::2])
        for name, grad, given in (
            ("project", self.dy, self.o),
            ("fc1", self.dpre, self.h[1::2]),
            ("fc2", self.dz, self.u),
        ):
            torch.bmm(grad.transpose(1, 2), given, out=self.layout.stack(name, low))

    def vector_gradients(self) -> None:
        """All gradients of the biases, norms and scalars, after `backward`; as independent."""
        high = self.flats.high_grads
        # dy and dz are the gradients of the *scaled* branches, as the matrices see them;
        # the attention's product was taken before its row factor, which dy already has.

        def sums(name: str) -> Tensor:
            return self.layout.stack(name, high, first=self.layout.low)

        self.projection.vector_gradients()
        column_sums(self.gelu_partial, sums("fc1_bias"))
        column_sums(self.partial.flatten(2), sums("norms").flatten(1))
        scalar_sums(
            dscale=self.dscale,
            dfactor=self.dfactor,
            mean=self.mean,
            rstd=self.rstd,
            theta_weights=self.theta_weights,
            out=sums("scalars"),
            depth=self.config.depth,
        )

    def _norm(self, norm: int) -> None:
        """Add the branch before norm `norm` (none before the first), then normalise."""
        layer, kind, y = self._branch_before(norm)
        dim = self.config.embed_dim
        scalars = self._scalars
        launch(norm_kernels.residual_norm_forward, (NORM.grid(self.rows),))(
            self.x[max(norm - 1, 0)],
            y,
            self._norms[norm, 2],
            scalars[1 if kind == 1 else 0, layer:],
            self.mean[2 * layer],
            self.rstd[2 * layer],
            scalars[2, layer:],
            scalars[3, layer:],
            self.theta_weights[layer:],
            self._norms[norm, 0],
            self._norms[norm, 1],
            self.x[norm],
            self.h[norm],
            self.mean[norm],
            self.rstd[norm],
            self.rows,
            DIM=dim,
            BLOCK=width(dim),
            ROWS=NORM.rows,
            BRANCH=kind,
            num_warps=NORM.warps,
        )

    def _norm_back(self, norm: int, dh: Tensor) -> None:
        """Back through norm `norm` and the branch added before it."""
        layer, kind, y = self._branch_before(norm)
        dim, depth = self.config.embed_dim, self.config.depth
        scalars = self._scalars
        pool = 0 if norm < 2 * depth else (2 if self.config.pool == "cls" else 1)
        own_theta = norm < 2 * depth and norm % 2 == 0
        own = min(norm // 2, depth - 1)
        launch(norm_kernels.norm_residual_backward, (NORM_BACK.grid(self.rows),))(
            self.dx,
            dh,
            self.x[norm],
            self.mean[norm],
            self.rstd[norm],
            self._norms[norm, 0],
            self.dfactor[own],
            scalars[2, own:],
            scalars[3, own:],
            self.theta_weights[own:],
            y,
            self._norms[norm, 2],
            scalars[1 if kind == 1 else 0, layer:],
            self.mean[2 * layer],
            self.rstd[2 * layer],
            scalars[2, layer:],
            scalars[3, layer:],
            self.theta_weights[layer:],
            self.dx,
            self.dz[layer] if kind == 1 else self.dy[layer],
            self.dscale[norm],
            self.dfactor[layer],
            self.partial[norm],
            self.rows,
            self.config.tokens,
            DIM=dim,
            BLOCK=width(dim),
            CHUNK=min(NORM_BACK.chunk, width(dim)),
            ROWS=NORM_BACK.rows,
            STAGES=NORM_BACK.stages,
            POOL=pool,
            OWN_THETA=own_theta,
            BRANCH=kind,
            num_warps=NORM_BACK.warps,
        )

    def _branch_before(self, norm: int) -> tuple[int, int, Tensor]:
        """(layer, kind, output) of the branch that is added before a norm."""
        if norm == 0:
            return 0, 0, self.y[0]
        if norm % 2:
            return norm // 2, 2, self.y[norm // 2]
        return norm // 2 - 1, 1, self.z[norm // 2 - 1]

    def _by_head(self, merged: Tensor) -> Tensor:
        """[rows, dim] to a view [batch, tokens, heads, head_dim]."""
        config = self.config
        return merged.view(self.batch, config.tokens, config.heads, -1)
