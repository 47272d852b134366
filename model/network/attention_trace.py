"""What the attention of a network did with some images: for pictures, not for training.

The network is watched, not copied: what is recorded follows from the very queries and keys
that its layers used.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from model.kernels.torch_attention import keep_mask, scaled_scores
from model.network.attention import NKATAttention
from model.network.vit import NKATViT


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerTrace:
    """One block's attention on a batch.

    Args:
        by_rank: bool [B, heads, N, N]; the key (last) is among the query's top-k.
        kept: likewise; it is left after top-p too, so the query attends to it.
        weights: float [B, heads, N, N]; the softmax over what is left.
        theta: float [B, N], the factor of each query's output.
    """

    by_rank: Tensor
    kept: Tensor
    weights: Tensor
    theta: Tensor


def trace_attention(network: NKATViT, images: Tensor) -> tuple[Tensor, list[LayerTrace]]:
    """Runs a network in evaluation mode and records every block's attention.

    Args:
        network: left as it is.
        images: normalised, [B, C, H, W], on the network's device.

    Returns:
        Logits [B, classes], and a trace for each block in their order.
    """
    traces: list[LayerTrace] = []

    def record(module: nn.Module, arguments: tuple[Any, ...], named: dict[str, Any]) -> None:
        if not isinstance(module, NKATAttention):
            raise TypeError(f"{type(module).__name__} is no NKATAttention")
        traces.append(
            _trace(module, arguments[0], stream=named["stream"], colours=named["colours"])
        )

    was_training = network.training
    with ExitStack() as hooks, torch.no_grad():
        for block in network.blocks:
            attention = block.get_submodule("attention")
            hooks.enter_context(
                _removed(attention.register_forward_pre_hook(record, with_kwargs=True))
            )
        network.eval()
        try:
            logits: Tensor = network(images)
        finally:
            network.train(was_training)
    return logits, traces


@contextmanager
def _removed(handle: Any) -> Iterator[None]:
    try:
        yield
    finally:
        handle.remove()


def _trace(
    attention: NKATAttention, x: Tensor, *, stream: Tensor, colours: Tensor | None
) -> LayerTrace:
    q, k, _ = attention.queries_keys_values(x, colours)
    scores = scaled_scores(q, k, temperature=attention.temperature)
    by_rank = keep_mask(scores, top_k=attention.top_k, top_p=1.0)
    kept = keep_mask(scores, top_k=attention.top_k, top_p=attention.top_p)
    every = torch.ones_like(scores, dtype=torch.bool)
    kept = every if kept is None else kept
    return LayerTrace(
        by_rank=every if by_rank is None else by_rank,
        kept=kept,
        weights=torch.softmax(scores.masked_fill(~kept, -torch.inf), dim=-1),
        theta=attention.theta(stream).squeeze(-1),
    )
