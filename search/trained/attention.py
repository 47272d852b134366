"""What a trained network's attention does with images: counts, scalars, shares for pictures.

Imports torch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from torch import Tensor

from model.network.attention import COLOUR_CHANNELS, HEADS_PER_COLOUR, NKATAttention
from model.network.attention_trace import LayerTrace, trace_attention
from model.network.block import Block
from nkat_errors import BadInput
from search.trained.image_file import ImageFile
from search.trained.prediction import Prediction, Trained, predictions

Shares = npt.NDArray[np.float64]
"""[heads, side, side], 0..1: of the queries, for each key on the token grid."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NkatScalars:
    """What a layer has learnt beside its matrices (`ModelConfig.nkat_scalars`)."""

    alpha: float
    beta: float
    attention_scale: float
    mlp_scale: float


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerView:
    """One layer on one image.

    Args:
        scalars: the layer's own.
        theta: least and largest factor of a query's output, 1 + strength * decay^l * theta.
        by_rank: keys a query keeps after top-k, mean over the queries, by head.
        kept: likewise after top-k and top-p.
        cut_by_mass: share of the queries for which top-k keeps the token and top-p cuts it.
        attended: share of the queries for which both keep it.
    """

    scalars: NkatScalars
    theta: tuple[float, float]
    by_rank: tuple[float, ...]
    kept: tuple[float, ...]
    cut_by_mass: Shares
    attended: Shares


@dataclass(frozen=True, slots=True, kw_only=True)
class AttentionView:
    """All layers on one image.

    Args:
        prediction: the image, and what the network says of it.
        tokens: of the image; a class token is none of them.
        query: (row, column) of the only query that is looked at, None for all.
        heads: their names.
        layers: from the first on.
    """

    prediction: Prediction
    tokens: int
    query: tuple[int, int] | None
    heads: tuple[str, ...]
    layers: tuple[LayerView, ...]

    def to_dict(self) -> dict[str, Any]:
        return {
            **self.prediction.to_dict(),
            "tokens": self.tokens,
            "query": None if self.query is None else list(self.query),
            "layers": [
                {
                    "layer": number,
                    "alpha": layer.scalars.alpha,
                    "beta": layer.scalars.beta,
                    "attention_scale": layer.scalars.attention_scale,
                    "mlp_scale": layer.scalars.mlp_scale,
                    "theta_least": layer.theta[0],
                    "theta_largest": layer.theta[1],
                    "heads": [
                        {
                            "head": name,
                            "after_top_k": by_rank,
                            "after_top_p": kept,
                            "attended": layer.attended[index].tolist(),
                            "cut_by_top_p": layer.cut_by_mass[index].tolist(),
                        }
                        for index, (name, by_rank, kept) in enumerate(
                            zip(self.heads, layer.by_rank, layer.kept, strict=True)
                        )
                    ],
                }
                for number, layer in enumerate(self.layers, start=1)
            ],
        }


def head_names(*, heads: int, split: bool) -> tuple[str, ...]:
    """`head 1`, ...; of split heads also the colour that they look at."""
    names = [f"head {number}" for number in range(1, heads + 1)]
    if split:
        for index in range(COLOUR_CHANNELS * HEADS_PER_COLOUR):
            names[index] += f" ({'RGB'[index // HEADS_PER_COLOUR]})"
    return tuple(names)


def look(
    trained: Trained, images: Sequence[ImageFile], *, query: tuple[int, int] | None = None
) -> list[AttentionView]:
    """What the attention does with each image.

    Args:
        query: (row, column) of one token, from 0: only what it looks at; None is all queries.

    Raises:
        BadInput: there is no such token.
    """
    config = trained.network.config
    side = config.grid_size
    if query is not None and not all(0 <= place < side for place in query):
        raise BadInput(
            f"--token {query[0]},{query[1]}: the network's tokens are {side} x {side}, rows and "
            f"columns count from 0 to {side - 1}"
        )
    pixels = np.stack([image.pixels for image in images])
    logits, traces = trace_attention(trained.network, trained.inputs(pixels))
    told = predictions(images, logits.float().softmax(dim=1).cpu(), trained.facts.class_names)
    blocks = [block for block in trained.network.blocks if isinstance(block, Block)]
    split = any(block.attention.split for block in blocks)
    row = None if query is None else (config.pool == "cls") + query[0] * side + query[1]
    return [
        AttentionView(
            prediction=prediction,
            tokens=side**2,
            query=query,
            heads=head_names(heads=config.heads, split=split),
            layers=tuple(
                _layer(block, trace, index, row=row, side=side)
                for block, trace in zip(blocks, traces, strict=True)
            ),
        )
        for index, prediction in enumerate(told)
    ]


def _layer(
    block: Block, trace: LayerTrace, index: int, *, row: int | None, side: int
) -> LayerView:
    """Args: `row` is the index of the only query looked at, None for all."""
    rows = slice(None) if row is None else slice(row, row + 1)
    by_rank, kept = trace.by_rank[index][:, rows], trace.kept[index][:, rows]
    theta = trace.theta[index][rows]
    attention: NKATAttention = block.attention
    return LayerView(
        scalars=NkatScalars(
            alpha=attention.theta.alpha.item(),
            beta=attention.theta.beta.item(),
            attention_scale=block.attention_scale.item(),
            mlp_scale=block.mlp_scale.item(),
        ),
        theta=(theta.min().item(), theta.max().item()),
        by_rank=_mean_kept(by_rank),
        kept=_mean_kept(kept),
        cut_by_mass=_shares(by_rank & ~kept, side),
        attended=_shares(kept, side),
    )


def _mean_kept(mask: Tensor) -> tuple[float, ...]:
    """Keys a query keeps, mean over the queries, by head."""
    return tuple(mask.sum(dim=-1).double().mean(dim=-1).tolist())


def _shares(mask: Tensor, side: int) -> Shares:
    """bool [heads, queries, N] to the share of queries by key on the grid, without a class
    token, which stands first."""
    shares = mask.double().mean(dim=1)[:, -(side**2) :]
    grid: Shares = shares.reshape(-1, side, side).cpu().numpy()
    return grid
