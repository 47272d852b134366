"""What stands before and after the block stack: embedding, pool, head and loss."""

from __future__ import annotations

import torch
import triton
from torch import Tensor

from model.fast.blocks import BlockStack
from model.fast.kernels import embed_and_head as embed_kernels
from model.fast.launch import NORM, POOL, width
from model.fast.sums import column_sums
from model.kernels.triton_launch import launch

_HEAD_ROWS = 16
_HEAD_STEP = 64
_EMBED_PARTS = 16
"""Parts that the sum over the batch's images is cut into."""


class EmbedAndHead:
    """Buffers and kernels of both ends for one batch size.

    Args:
        blocks: what lies between them.
        dropout: float32 [1], of the embedding.
        smoothing: float32 [1], label smoothing.
        counter: int64 [2]: step of the run, step of the epoch.
        losses: float32 [steps * batch], of the epoch's images.
    """

    def __init__(
        self,
        *,
        blocks: BlockStack,
        dropout: Tensor,
        smoothing: Tensor,
        counter: Tensor,
        losses: Tensor,
    ) -> None:
        self.blocks, self.losses = blocks, losses
        self._dropout, self._smoothing, self._counter = dropout, smoothing, counter
        config, layout, flats = blocks.config, blocks.layout, blocks.flats
        self.labels = torch.zeros(blocks.batch, dtype=torch.int64, device=counter.device)
        self.partners = torch.zeros_like(self.labels)
        self.share = torch.ones(1, device=counter.device)
        self._class = int(config.pool == "cls")
        self._classes_wide = max(16, int(triton.next_power_of_2(config.classes)))
        batch, dim, tokens = blocks.batch, config.embed_dim, config.tokens
        low = flats.copies.new_empty
        self.pooled = low(batch, dim)
        self.dpooled = flats.weights.new_empty(batch, dim)
        self.dlogits = low(batch, self._classes_wide)
        self.dpatches = low(batch * (tokens - self._class), dim)
        self._parts = min(_EMBED_PARTS, batch)
        self._partial = flats.weights.new_empty(1, self._parts, tokens * dim)
        self._position = layout.places["position"].view(flats.weights)
        self._class_token = self._position
        if self._class:
            self._class_token = layout.places["class_token"].view(flats.weights)
        self._head = layout.places["head.weight"].view(flats.copies)
        self._head_bias = layout.places["head.bias"].view(flats.weights)

    def _gradient(self, name: str) -> Tensor:
        layout, flats = self.blocks.layout, self.blocks.flats
        return layout.places[name].view(flats.high_grads, first=layout.low)

    def embed(self, patches: Tensor) -> None:
        """x[0] of the blocks from [batch * patches, dim] in the products' type."""
        blocks, config = self.blocks, self.blocks.config
        dim = config.embed_dim
        launch(embed_kernels.embed_forward, (NORM.grid(blocks.rows),))(
            patches,
            self._position,
            self._class_token,
            self._dropout,
            blocks.seed,
            blocks.x[0],
            blocks.rows,
            TOKENS=config.tokens,
            CLASS=self._class,
            DIM=dim,
            BLOCK=width(dim),
            ROWS=NORM.rows,
            num_warps=NORM.warps,
        )

    def embed_back(self) -> None:
        """`dpatches` from the blocks's dx, and sums for `embed_gradients`."""
        blocks, config = self.blocks, self.blocks.config
        dim, tokens = config.embed_dim, config.tokens
        launch(embed_kernels.embed_backward, (tokens, self._parts))(
            blocks.dx,
            self._dropout,
            blocks.seed,
            self.dpatches,
            self._partial,
            blocks.batch,
            triton.cdiv(blocks.batch, self._parts),
            TOKENS=tokens,
            CLASS=self._class,
            DIM=dim,
            BLOCK=width(dim),
            num_warps=2,
        )

    def embed_gradients(self) -> None:
        """Gradients of position, class token and patch bias, after `embed_back`."""
        dim = self.blocks.config.embed_dim
        position = self._gradient("position").view(1, -1)
        column_sums(self._partial, position)
        if self._class:
            column_sums(self._partial, self._gradient("class_token").view(1, -1), columns=dim)
        # every patch's bias is the same vector: the sum over the patches' positions
        of_patches = position.view(1, -1, dim)[:, self._class :]
        column_sums(of_patches, self._gradient("patches.project.bias").view(1, -1))

    def head(self) -> None:
        """Loss of every image and the gradient of the pooled tokens."""
        blocks, config = self.blocks, self.blocks.config
        layout, flats = blocks.layout, blocks.flats
        dim, last = config.embed_dim, 2 * config.depth
        norms, scalars = (
            layout.stack("norms", flats.weights),
            layout.stack("scalars", flats.weights),
        )
        launch(embed_kernels.pool_forward, (blocks.batch,))(
            blocks.x[last - 1],
            blocks.z[config.depth - 1],
            norms[last, 2],
            scalars[1, config.depth - 1 :],
            norms[last, 0],
            norms[last, 1],
            blocks.x[last],
            blocks.mean[last],
            blocks.rstd[last],
            self.pooled,
            TOKENS=config.tokens,
            FIRST=config.pool == "cls",
            DIM=dim,
            BLOCK=width(dim),
            ROWS=POOL.rows,
            num_warps=POOL.warps,
        )
        launch(embed_kernels.head_loss, (triton.cdiv(blocks.batch, _HEAD_ROWS),))(
            self.pooled,
            self._head,
            self._head_bias,
            self.labels,
            self.partners,
            self.share,
            self._smoothing,
            self._counter,
            self.losses,
            self.dlogits,
            self.dpooled,
            blocks.batch,
            CLASSES=config.classes,
            WIDTH=self._classes_wide,
            DIM=dim,
            STEP=_HEAD_STEP,
            ROWS=_HEAD_ROWS,
            PRECISION="ieee" if self.pooled.dtype == torch.float32 else "tf32",
        )

    def head_gradients(self) -> None:
        """Gradients of the head's weights, any time after `head`."""
        classes = self.blocks.config.classes
        grad = self.blocks.layout.places["head.weight"].view(self.blocks.flats.low_grads)
        torch.mm(self.dlogits.t()[:classes], self.pooled, out=grad)
        column_sums(self.dlogits[None], self._gradient("head.bias").view(1, -1), columns=classes)
