"""The split heads' colour tokens, forward and backward by hand over fixed buffers.

What `model.network.color_tokens` computes: once a step, not once a block, so its products
are few and wide, and all of it may run beside the stem.
"""

from __future__ import annotations

import torch
import triton
from torch import Tensor

from model.config import ModelConfig
from model.fast.blocks import FlatBuffers
from model.fast.flat_layout import Layout
from model.fast.kernels import colours as colour_kernels
from model.fast.kernels import gelu as gelu_kernels
from model.fast.launch import GELU_BACK, GELU_COLUMNS, NORM, width
from model.fast.sums import column_sums
from model.kernels.triton_launch import launch
from model.network.attention import COLOUR_CHANNELS
from model.network.color_tokens import ColourTokens

_NAME = "colour_tokens."
_BLOCK = 1024
_NORM_PROGRAMS = 2112
"""Programs of the norm's backward pass: sixteen a multiprocessor."""


class ColourTokensStage:
    """Buffers and kernels of the colour tokens for one batch size.

    Args:
        module: the network's; its grid counts.
        images: [batch, side, side, 3], the step's batch.
    """

    def __init__(
        self,
        *,
        config: ModelConfig,
        module: ColourTokens,
        layout: Layout,
        flats: FlatBuffers,
        images: Tensor,
    ) -> None:
        self._images, self._grid, self._config = images, module.grid, config
        self._layout, self._flats = layout, flats
        self._class = int(module.has_class_token)
        batch, dim, tokens = len(images), config.embed_dim, config.tokens
        self._batch = batch
        self._rows = batch * module.grid.patches
        low, high = flats.copies.new_empty, flats.weights.new_empty
        pixels = module.grid.patch_size**2
        # rows of whole 16 bytes: the library's products need that of their operands
        self._cut = low(COLOUR_CHANNELS, self._rows, -(-pixels // 8) * 8)
        self._patches = self._cut[:, :, :pixels]
        shape = COLOUR_CHANNELS, self._rows, dim
        self._slope, self._hidden, self._mixed = low(shape), low(shape), low(shape)
        self.tokens = low(COLOUR_CHANNELS, batch * tokens, dim)
        self.dtokens = torch.empty_like(self.tokens)
        self._mean, self._rstd = high(2, COLOUR_CHANNELS * batch * tokens)
        self._dmixed, self._dhidden = low(shape), low(shape)
        self._gelu_partial = high(COLOUR_CHANNELS, GELU_BACK.grid(self._rows), dim)
        places = COLOUR_CHANNELS * tokens
        self._parts = min(batch, triton.cdiv(_NORM_PROGRAMS, places))
        self._position_partial = high(1, self._parts, places * dim)
        self._norm_partial = high(1, self._parts * places, 2 * dim)
        places_of = layout.places
        self._embed = places_of[_NAME + "embed"].view(flats.copies)
        self._mix = places_of[_NAME + "mix"].view(flats.copies)
        self._embed_bias = places_of[_NAME + "embed_bias"].view(flats.weights)
        self._position = places_of[_NAME + "position"].view(flats.weights)
        self._norm = layout.stack("colour_norm", flats.weights)

    def forward(self) -> None:
        """`tokens` [3, batch * tokens, dim] from the images."""
        grid = self._grid
        count = self._cut[0].numel()
        launch(colour_kernels.cut_planes, (triton.cdiv(count, _BLOCK), COLOUR_CHANNELS))(
            self._images,
            self._cut,
            count,
            SIDE=grid.size,
            GRID=grid.side,
            PIXELS=grid.patch_size,
            WIDTH=self._cut.shape[2],
            BLOCK=_BLOCK,
        )
        torch.bmm(self._patches, self._embed, out=self._slope)
        count = self._slope[0].numel()
        launch(colour_kernels.bias_gelu_forward, (triton.cdiv(count, _BLOCK), COLOUR_CHANNELS))(
            self._slope,
            self._embed_bias,
            self._hidden,
            count,
            COLS=self._config.embed_dim,
            BLOCK=_BLOCK,
        )
        torch.bmm(self._hidden, self._mix, out=self._mixed)
        launch(colour_kernels.colour_norm_forward, (NORM.grid(len(self._mean)),))(
            self._mixed,
            self._position,
            self._norm[0],
            self._norm[1],
            self.tokens,
            self._mean,
            self._rstd,
            self._batch,
            **self._sizes(),
            ROWS=NORM.rows,
            num_warps=NORM.warps,
        )

    def backward(self) -> None:
        """All gradients of the colour tokens' weights from `dtokens`."""
        tokens, dim = self._config.tokens, self._config.embed_dim
        launch(colour_kernels.colour_norm_backward, (COLOUR_CHANNELS * tokens, self._parts))(
            self.dtokens,
            self._mixed,
            self._position,
            self._norm[0],
            self._mean,
            self._rstd,
            self._dmixed,
            self._position_partial,
            self._norm_partial,
            self._batch,
            triton.cdiv(self._batch, self._parts),
            **self._sizes(),
            num_warps=1,
        )
        torch.bmm(self._dmixed, self._mix.transpose(1, 2), out=self._dhidden)
        grid = (GELU_BACK.grid(self._rows), triton.cdiv(dim, GELU_COLUMNS), COLOUR_CHANNELS)
        launch(gelu_kernels.gelu_backward, grid)(
            self._slope,
            self._dhidden,
            self._gelu_partial,
            self._rows,
            COLS=dim,
            BLOCK=GELU_COLUMNS,
            ROWS=GELU_BACK.rows,
            num_warps=GELU_BACK.warps,
        )
        low, high, layout = self._flats.low_grads, self._flats.high_grads, self._layout
        places, first = layout.places, layout.low
        torch.bmm(self._hidden.transpose(1, 2), self._dmixed, out=places[_NAME + "mix"].view(low))
        torch.bmm(
            self._patches.transpose(1, 2), self._dhidden, out=places[_NAME + "embed"].view(low)
        )
        position = places[_NAME + "position"].view(high, first=first)
        column_sums(self._position_partial, position.view(1, -1))
        embed_bias = places[_NAME + "embed_bias"].view(high, first=first)
        column_sums(self._gelu_partial, embed_bias.view(COLOUR_CHANNELS, dim))
        norm = layout.stack("colour_norm", high, first=first)
        column_sums(self._norm_partial, norm.view(1, -1))

    def _sizes(self) -> dict[str, int]:
        dim = self._config.embed_dim
        return {
            "TOKENS": self._config.tokens,
            "CLASS": self._class,
            "DIM": dim,
            "BLOCK": width(dim),
        }
