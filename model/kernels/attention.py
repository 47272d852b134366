"""The attention core, chosen by device: the Triton kernel on CUDA, plain torch elsewhere."""

from __future__ import annotations

import torch
from torch import Tensor

from model.kernels.torch_attention import plain_attention


def nkat_attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    *,
    temperature: float | Tensor,
    top_k: int | Tensor | None = None,
    top_p: float | Tensor = 1.0,
    dropout_p: float = 0.0,
    training: bool = False,
    generator: torch.Generator | None = None,
    seed: Tensor | None = None,
    salt: int = 0,
) -> Tensor:
    """Filtered softmax attention.

    scores q k^T / (sqrt(d) * temperature) -> top-k (equal scores: lowest index
    first) -> top-p on the renormalised survivors (the smallest set with mass >= p,
    the crossing key kept, always >= 1) -> softmax over what is left -> dropout ->
    times v.  `top_k` None or >= N and `top_p` >= 1 are exact no-ops.  The theta
    modulation is one factor per query, so the caller multiplies the output's rows.

    Args:
        q, k, v: [batch, heads, N, d].
        temperature, top_k, top_p: numbers or 0-dim tensors; a new value never
            compiles anything.
        dropout_p: share of the weights dropped while `training`, [0, 1).
        generator: on the tensors' device; draws the dropout (None: the global one).
        seed: int64 [1] on the tensors' device, for the kernel only: the dropout's
            seed where the caller draws it itself, for instance once a step; None
            draws one from `generator`.
        salt: tells apart the calls that share one seed, a layer's index.

    Returns:
        [batch, heads, N, d] in q's type.
    """
    if q.is_cuda:
        # Compiles nothing until it is called.
        from model.kernels.triton_attention import supports, triton_attention

        if supports(q):
            if training and dropout_p > 0 and seed is None:
                seed = torch.randint(
                    2**31 - 1, (1,), device=q.device, dtype=torch.int64, generator=generator
                )
            return triton_attention(
                q,
                k,
                v,
                temperature=temperature,
                top_k=top_k,
                top_p=top_p,
                dropout_p=dropout_p if training else 0.0,
                seed=seed,
                salt=salt,
            )
    return plain_attention(
        q,
        k,
        v,
        temperature=temperature,
        top_k=top_k,
        top_p=top_p,
        dropout_p=dropout_p,
        training=training,
        generator=generator,
    )
