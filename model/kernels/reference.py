"""What filtered attention means, written for reading: one stable sort in float64.

The tests hold every fast form against this one.  It is slow and has no shortcuts
on purpose; nothing else calls it.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor


def reference_keep(scores: Tensor, *, top_k: int | None, top_p: float) -> Tensor:
    """Which keys a query keeps: top-k, then top-p over the renormalised survivors.

    Keys are put in one order, by falling score and, among equal scores, by rising
    index.  top-k keeps the first k of it.  top-p keeps key i of those while the
    mass of the keys before it is still below p:

        keep_i = i < k  and  (sum_{j < i} softmax(first k)_j < p  or  i = 0),

    which is the smallest set whose mass is >= p, the key that crosses p included.
    `top_k` None or >= N keeps all by rank, `top_p` >= 1 keeps all by mass.

    Args:
        scores: [..., N], already divided by sqrt(head_dim) * temperature.

    Returns:
        bool [..., N].
    """
    scores = scores.double()
    keys = scores.shape[-1]
    kept_by_rank = keys if top_k is None else min(top_k, keys)
    values, order = torch.sort(scores, dim=-1, descending=True, stable=True)
    survives = torch.arange(keys, device=scores.device) < kept_by_rank
    if top_p >= 1:
        in_order = survives.expand_as(values)
    else:
        mass = torch.softmax(values.masked_fill(~survives, -math.inf), dim=-1)
        mass_before = mass.cumsum(dim=-1) - mass
        in_order = survives & (mass_before < top_p)
        in_order = in_order.clone()
        in_order[..., 0] = True
    keep = torch.zeros_like(scores, dtype=torch.bool)
    return keep.scatter(-1, order, in_order)


def reference_attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    *,
    temperature: float,
    top_k: int | None,
    top_p: float,
) -> Tensor:
    """softmax over the kept keys of q k^T / (sqrt(d) * temperature), times v, in float64.

    Args:
        q, k, v: [batch, heads, N, d].

    Returns:
        float64 [batch, heads, N, d]; dropout is left out.
    """
    q, k, v = q.double(), k.double(), v.double()
    scores = q @ k.transpose(-2, -1) / (math.sqrt(q.shape[-1]) * temperature)
    with torch.no_grad():
        keep = reference_keep(scores, top_k=top_k, top_p=top_p)
    return torch.softmax(scores.masked_fill(~keep, -math.inf), dim=-1) @ v
