"""Queries, keys and values with split heads: two heads a colour, two ordinary ones.

A block's own product gives all queries and the ordinary (shared) heads' keys and values.
The colours' keys and values depend on no block: those of all layers are one product a step,
and in the backward pass the gradients of all layers are gathered for one too.  What is left
for a block is to move the shared heads' keys and values beside the colours'.
"""

from __future__ import annotations

import torch
import triton
from torch import Tensor

from model.config import ModelConfig
from model.fast.blocks import FlatBuffers, Heads
from model.fast.colour_tokens import ColourTokensStage
from model.fast.flat_layout import Layout
from model.fast.kernels import colours as colour_kernels
from model.fast.launch import MOVE, width
from model.fast.sums import column_sums
from model.kernels.triton_attention import sums_bias
from model.kernels.triton_launch import launch
from model.network.attention import COLOUR_CHANNELS, HEADS_PER_COLOUR


class SplitProjection:
    """The `Projection` of split heads.

    A row of `kv` is [keys of all heads | values of all heads].  A row of `grads` is [queries
    | shared keys | shared values | keys of all heads | values of all heads]: the attention
    writes queries and the last two, which so have equal strides; the first three are one
    operand of a product.

    Args:
        batch: images.
        layout, flats: the network's weights.
        colours: makes the colour tokens of the step's images.
    """

    def __init__(
        self,
        *,
        config: ModelConfig,
        batch: int,
        layout: Layout,
        flats: FlatBuffers,
        colours: ColourTokensStage,
    ) -> None:
        self._layout, self._flats, self._colours = layout, flats, colours
        depth, dim, tokens = config.depth, config.embed_dim, config.tokens
        self._depth, self._dim, self._rows = depth, dim, batch * tokens
        self._shape = batch, tokens, config.heads, dim // config.heads
        self._pair = HEADS_PER_COLOUR * (dim // config.heads)
        """Columns of a colour's keys; as many values, and as many of the shared heads."""
        self._mixed_columns = dim + 2 * self._pair
        low = flats.copies.new_empty
        self.mixed = low(depth, self._rows, self._mixed_columns)
        self.kv = low(depth, self._rows, 2 * dim)
        self.own = low(COLOUR_CHANNELS, self._rows, depth * 2 * self._pair)
        self.grads = low(depth, self._rows, self._mixed_columns + 2 * dim)
        self._sums_bias = sums_bias(tokens, dim // config.heads)
        partials = batch if self._sums_bias else 0
        self.partial = flats.weights.new_empty(depth, partials, 3 * dim)
        self._bias_sums = flats.weights.new_empty(depth, 3, dim // self._pair, self._pair)
        self._weight = layout.stack("qkv", flats.copies)
        self._bias = layout.stack("qkv_bias", flats.copies)
        own_weight = layout.stack("colour_kv", flats.copies)
        self._own_weight = own_weight.view(COLOUR_CHANNELS, -1, dim)
        self._own_bias = layout.stack("colour_kv_bias", flats.weights)

    @property
    def owners(self) -> tuple[object, ...]:
        return self, self._colours

    def prepare(self) -> None:
        """The colours' keys and values of all layers."""
        self._colours.forward()
        torch.bmm(self._colours.tokens, self._own_weight.transpose(1, 2), out=self.own)
        self._move(self._all_own(), self._colours_of(self.kv, first=0), bias=self._own_bias)

    def forward(self, layer: int, h: Tensor) -> Heads:
        mixed = self.mixed[layer]
        torch.addmm(self._bias[layer], h, self._weight[layer].t(), out=mixed)
        self._move(self._beside_queries(mixed), self._shared_of(self.kv[layer], first=0))
        return self.heads(layer)

    def heads(self, layer: int) -> Heads:
        queries = self.mixed[layer, :, : self._dim]
        return self._by_head(queries, *self.kv[layer].chunk(2, dim=1))

    def gradients(self, layer: int) -> Heads:
        row = self.grads[layer]
        keys_values = row[:, self._mixed_columns :]
        return self._by_head(row[:, : self._dim], *keys_values.chunk(2, dim=1))

    def bias_sums(self, layer: int) -> Tensor | None:
        return self.partial[layer] if self._sums_bias else None

    def backward(self, layer: int, dh: Tensor) -> None:
        row = self.grads[layer]
        shared = self._shared_of(row, first=self._mixed_columns)
        self._move(shared, self._beside_queries(row))
        torch.mm(row[:, : self._mixed_columns], self._weight[layer], out=dh)

    def images_backward(self) -> None:
        """All gradients of what stands between the images and the colours' heads."""
        self._move(self._colours_of(self.grads, first=self._mixed_columns), self._all_own())
        torch.bmm(self.own, self._own_weight, out=self._colours.dtokens)
        grads = self._layout.stack("colour_kv", self._flats.low_grads)
        torch.bmm(
            self.own.transpose(1, 2), self._colours.tokens, out=grads.view_as(self._own_weight)
        )
        if not self._sums_bias:
            column_sums(self.own, self._vector("colour_kv_bias"))
        self._colours.backward()

    def weight_gradients(self, h: Tensor) -> None:
        grads = self._layout.stack("qkv", self._flats.low_grads)
        mixed = self.grads[:, :, : self._mixed_columns]
        torch.bmm(mixed.transpose(1, 2), h, out=grads)

    def vector_gradients(self) -> None:
        bias = self._vector("qkv_bias")
        if not self._sums_bias:
            column_sums(self.grads, bias, columns=self._mixed_columns)
            return
        depth, dim, pair = self._depth, self._dim, self._pair
        sums = self._bias_sums  # [depth, queries or keys or values, pair of heads, pair]
        column_sums(self.partial, sums.view(depth, 3 * dim))
        bias[:, :dim].copy_(sums[:, 0].flatten(1))
        bias[:, dim:].view(depth, 2, pair).copy_(sums[:, 1:, COLOUR_CHANNELS])
        own = self._vector("colour_kv_bias").view(COLOUR_CHANNELS, depth, 2, pair)
        own.copy_(sums[:, 1:, :COLOUR_CHANNELS].permute(2, 0, 1, 3))

    def _vector(self, name: str) -> Tensor:
        layout = self._layout
        return layout.stack(name, self._flats.high_grads, first=layout.low)

    def _by_head(self, *parts: Tensor) -> Heads:
        q, k, v = (part.view(self._shape).transpose(1, 2) for part in parts)
        return q, k, v

    # Views [layers, colours, rows, 2, pair] of keys and values.

    def _all_own(self) -> Tensor:
        own = self.own.view(COLOUR_CHANNELS, self._rows, self._depth, 2, self._pair)
        return own.permute(2, 0, 1, 3, 4)

    def _colours_of(self, rows: Tensor, *, first: int) -> Tensor:
        by_pair = rows[:, :, first:].view(self._depth, self._rows, 2, -1, self._pair)
        return by_pair[:, :, :, :COLOUR_CHANNELS].permute(0, 3, 1, 2, 4)

    def _shared_of(self, rows: Tensor, *, first: int) -> Tensor:
        by_pair = rows[:, first:].view(self._rows, 2, -1, self._pair)
        return by_pair[None, None, :, :, COLOUR_CHANNELS]

    def _beside_queries(self, rows: Tensor) -> Tensor:
        shared = rows[:, self._dim : self._mixed_columns]
        return shared.view(self._rows, 2, self._pair)[None, None]

    def _move(self, given: Tensor, out: Tensor, *, bias: Tensor | None = None) -> None:
        layers, colours, rows = given.shape[:3]
        launch(
            colour_kernels.move_keys_and_values, (triton.cdiv(rows, MOVE.rows), layers, colours)
        )(
            given,
            given if bias is None else bias,
            out,
            rows,
            *given.stride()[:4],
            *out.stride()[:4],
            WIDTH=self._pair,
            BLOCK=width(self._pair),
            ROWS=MOVE.rows,
            BIAS=bias is not None,
            num_warps=MOVE.warps,
        )
