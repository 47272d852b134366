"""From a block's normalised input to queries, keys and values, and back."""

from __future__ import annotations

import torch
from torch import Tensor

from model.config import ModelConfig
from model.fast.blocks import FlatBuffers, Heads
from model.fast.flat_layout import Layout
from model.fast.sums import column_sums
from model.kernels.triton_attention import sums_bias


class PackedProjection:
    """The ordinary `Projection`: one product gives all three of all heads.

    Args:
        batch: images.
        layout, flats: the network's weights.
    """

    def __init__(
        self, *, config: ModelConfig, batch: int, layout: Layout, flats: FlatBuffers
    ) -> None:
        self._layout, self._flats = layout, flats
        dim, tokens = config.embed_dim, config.tokens
        rows = batch * tokens
        low = flats.copies.new_empty
        self._shape = batch, tokens, 3, config.heads, dim // config.heads
        self.qkv, self.dqkv = (low(config.depth, rows, 3 * dim) for _ in range(2))
        self._sums_bias = sums_bias(tokens, dim // config.heads)
        partials = batch if self._sums_bias else 0
        self.partial = flats.weights.new_empty(config.depth, partials, 3 * dim)
        self._weight = layout.stack("qkv", flats.copies)
        self._bias = layout.stack("qkv_bias", flats.copies)

    @property
    def owners(self) -> tuple[object, ...]:
        return (self,)

    def prepare(self) -> None:
        """Nothing is made of the images themselves."""

    def forward(self, layer: int, h: Tensor) -> Heads:
        torch.addmm(self._bias[layer], h, self._weight[layer].t(), out=self.qkv[layer])
        return self.heads(layer)

    def heads(self, layer: int) -> Heads:
        return self._by_head(self.qkv[layer])

    def gradients(self, layer: int) -> Heads:
        return self._by_head(self.dqkv[layer])

    def bias_sums(self, layer: int) -> Tensor | None:
        return self.partial[layer] if self._sums_bias else None

    def backward(self, layer: int, dh: Tensor) -> None:
        torch.mm(self.dqkv[layer], self._weight[layer], out=dh)

    def images_backward(self) -> None:
        """No weight stands between the images and this."""

    def weight_gradients(self, h: Tensor) -> None:
        grads = self._layout.stack("qkv", self._flats.low_grads)
        torch.bmm(self.dqkv.transpose(1, 2), h, out=grads)

    def vector_gradients(self) -> None:
        layout = self._layout
        bias = layout.stack("qkv_bias", self._flats.high_grads, first=layout.low)
        column_sums(self.partial if self._sums_bias else self.dqkv, bias)

    def _by_head(self, packed: Tensor) -> Heads:
        q, k, v = packed.view(self._shape).unbind(2)
        return q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2)
