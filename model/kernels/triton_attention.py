# mypy: disable-error-code="no-untyped-def,no-untyped-call,misc"
"""NKAT attention on a GPU: fused, exact, without a sort, differentiable.

`attention_values` packs what may differ between trials (temperature, top_k, top_p,
dropout) into a device tensor the kernels read, so a new value compiles nothing and a
captured CUDA graph serves every trial of its shape.  Scores, softmax and all sums are
float32; products take the inputs' type (bf16 in training), as torch's own kernels do.
The only thing kept for the backward pass besides o is a bit per weight and a
log-sum-exp per row.
"""

from __future__ import annotations

import math
from functools import lru_cache

import torch
import triton
from torch import Tensor

from model.kernels import triton_backward as back
from model.kernels.triton_forward import attention_forward
from model.kernels.triton_launch import launch
from model.kernels.triton_tiles import MAX_HEAD_DIM, MAX_TOKENS, Tiles, mask_words, plan
from model.kernels.value_slots import ATTENTION_VALUES, DROPOUT, TEMPERATURE, TOP_K, TOP_P, by_slot

_TYPES = (torch.bfloat16, torch.float16, torch.float32)


def supports(q: Tensor) -> bool:
    """Whether the kernel takes [batch, heads, N, d] of this shape and type."""
    return q.shape[2] <= MAX_TOKENS and q.shape[3] <= MAX_HEAD_DIM and q.dtype in _TYPES


def attention_values(
    *,
    temperature: float | Tensor,
    top_k: int | Tensor | None,
    top_p: float | Tensor,
    dropout_p: float | Tensor,
    device: torch.device,
) -> Tensor:
    """float32 [4] on `device`: temperature, top_k (None: more than any row), top_p, dropout.

    Numbers are copied to the device once per distinct set; tensors stay on it.
    """
    rank = float(1 << 20) if top_k is None else top_k
    given = by_slot(
        ATTENTION_VALUES,
        (TEMPERATURE, temperature),
        (TOP_K, rank),
        (TOP_P, top_p),
        (DROPOUT, dropout_p),
    )
    if not any(isinstance(value, Tensor) for value in given):
        return _constant_values(tuple(float(value) for value in given), device)
    parts = [
        value.to(device, torch.float32).reshape(())
        if isinstance(value, Tensor)
        else _constant_values((float(value),), device)[0]
        for value in given
    ]
    return torch.stack(parts)


@lru_cache(maxsize=256)
def _constant_values(numbers: tuple[float, ...], device: torch.device) -> Tensor:
    return torch.tensor(numbers, dtype=torch.float32, device=device)


@lru_cache(maxsize=8)
def _no_seed(device: torch.device) -> Tensor:
    return torch.zeros(1, dtype=torch.int64, device=device)


def triton_attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    *,
    temperature: float | Tensor,
    top_k: int | Tensor | None,
    top_p: float | Tensor,
    dropout_p: float | Tensor,
    seed: Tensor | None,
    salt: int = 0,
) -> Tensor:
    """`model.kernels.attention.nkat_attention` on a GPU.

    Args:
        q, k, v: [batch, heads, N <= 257, d <= 128]; any strides with d contiguous, so
            views of one packed projection need no copy.
        seed: int64 [1] on the device, read when the kernel runs; None draws from 0.
        salt: tells apart the layers that share one seed.

    Returns:
        [batch, heads, N, d], a view of [batch, N, heads, d] in memory.
    """
    values = attention_values(
        temperature=temperature, top_k=top_k, top_p=top_p, dropout_p=dropout_p, device=q.device
    )
    if seed is None:
        seed = _no_seed(q.device)
    o, _, _ = _forward(q, k, v, values, seed, salt)
    result: Tensor = o.transpose(1, 2)
    return result


def forward_into(
    o: Tensor,
    lse: Tensor,
    mask: Tensor,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    values: Tensor,
    seed: Tensor,
    salt: int,
    tiles: Tiles | None = None,
) -> None:
    """Run the forward kernel into given buffers.

    Args:
        o: [batch, N, heads, d]; lse: float32 [batch, heads, N];
        mask: int16 [batch, heads, N, mask_words(N)].
    """
    batch, heads, tokens, head_dim = q.shape
    t = tiles or plan(tokens, head_dim)
    grid = (triton.cdiv(tokens, t.rows), batch * heads)
    launch(attention_forward, grid)(
        q,
        k,
        v,
        o,
        lse,
        mask,
        values,
        seed,
        salt,
        *q.stride()[:3],
        *k.stride()[:3],
        *v.stride()[:3],
        o.stride(0),
        o.stride(2),
        o.stride(1),
        1.0 / math.sqrt(head_dim),
        heads,
        TOKENS=tokens,
        HEAD_DIM=head_dim,
        KEYS=t.keys,
        EXTRA=t.extra,
        DIMS=t.dims,
        ROWS=t.rows,
        WORDS=mask_words(tokens),
        PRECISION=_precision(q),
        num_warps=t.warps,
        num_stages=1,
    )


def backward_into(
    dq: Tensor,
    dk: Tensor,
    dv: Tensor,
    do: Tensor,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    o: Tensor,
    lse: Tensor,
    mask: Tensor,
    values: Tensor,
    seed: Tensor,
    salt: int,
    tiles: Tiles | None = None,
    bias: Tensor | None = None,
) -> None:
    """Run the backward kernels into dq, dk, dv [batch, heads, N, d] of equal strides.

    Args:
        do, o: [batch, N, heads, d].
        bias: float32 [batch, 3 * heads * d], takes the sums of dq, dk and dv over the
            tokens; only where `sums_bias` says so.
    """
    batch, heads, tokens, head_dim = q.shape
    t = tiles or plan(tokens, head_dim)
    words = mask.view(torch.int32)
    inputs = (*q.stride()[:3], *k.stride()[:3], *v.stride()[:3], *dq.stride()[:3])
    of_do = (do.stride(0), do.stride(2), do.stride(1))
    of_o = (o.stride(0), o.stride(2), o.stride(1))
    scale = 1.0 / math.sqrt(head_dim)
    sizes = {
        "TOKENS": tokens,
        "HEAD_DIM": head_dim,
        "DIMS": t.dims,
        "ROWS": t.back_rows,
        "WORDS": words.shape[-1],
        "PRECISION": _precision(q),
        "num_warps": t.back_warps,
        "num_stages": 1,
    }
    drawn = (values, seed, salt)
    if t.whole:
        launch(back.attention_backward, (batch * heads,))(
            q,
            k,
            v,
            do,
            dq,
            dk,
            dv,
            lse,
            words,
            lse if bias is None else bias,
            *drawn,
            *inputs,
            *of_do,
            scale,
            heads,
            KEYS=t.back_keys,
            EXTRA=t.back_extra,
            BIAS=bias is not None,
            **sizes,
        )
        return
    mean = torch.empty_like(lse)
    launch(back.attention_backward_queries, (triton.cdiv(tokens, t.back_rows), batch * heads))(
        q,
        k,
        v,
        o,
        do,
        dq,
        mean,
        lse,
        words,
        *drawn,
        *inputs,
        *of_o,
        *of_do,
        scale,
        heads,
        KEYS=t.back_keys,
        **sizes,
    )
    launch(back.attention_backward_keys, (triton.cdiv(tokens, t.back_keys), batch * heads))(
        q,
        k,
        v,
        do,
        dk,
        dv,
        mean,
        lse,
        words,
        *drawn,
        *inputs,
        *of_do,
        scale,
        heads,
        KEYS=t.back_keys,
        **sizes,
    )


def sums_bias(tokens: int, head_dim: int) -> bool:
    """Whether `backward_into` can sum the gradients over the tokens on its way."""
    return plan(tokens, head_dim).whole


def _precision(q: Tensor) -> str:
    """float32 inputs get float32 products; tf32 would round their scores."""
    return "ieee" if q.dtype == torch.float32 else "tf32"


@torch.library.custom_op("nkat::attention_forward", mutates_args=())
def _forward(
    q: Tensor, k: Tensor, v: Tensor, values: Tensor, seed: Tensor, salt: int
) -> tuple[Tensor, Tensor, Tensor]:
    o, lse, mask = _outputs(q)
    forward_into(o, lse, mask, _dense(q), _dense(k), _dense(v), values, seed, salt)
    return o, lse, mask


@torch.library.custom_op("nkat::attention_backward", mutates_args=())
def _backward(
    do: Tensor,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    o: Tensor,
    lse: Tensor,
    mask: Tensor,
    values: Tensor,
    seed: Tensor,
    salt: int,
) -> Tensor:
    packed = _packed_gradient(q)
    dq, dk, dv = (part.transpose(1, 2) for part in packed.unbind(2))
    q, k, v, do = _dense(q), _dense(k), _dense(v), _dense(do)
    backward_into(dq, dk, dv, do, q, k, v, o, lse, mask, values, seed, salt)
    return packed


def _dense(part: Tensor) -> Tensor:
    return part if part.stride(-1) == 1 else part.contiguous()


def _outputs(q: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    batch, heads, tokens, head_dim = q.shape
    o = q.new_empty(batch, tokens, heads, head_dim)
    lse = q.new_empty(batch, heads, tokens, dtype=torch.float32)
    mask = q.new_empty(batch, heads, tokens, mask_words(tokens), dtype=torch.int16)
    return o, lse, mask


def _packed_gradient(q: Tensor) -> Tensor:
    batch, heads, tokens, head_dim = q.shape
    return q.new_empty(batch, tokens, 3, heads, head_dim)


def _forward_shapes(q, k, v, values, seed, salt):
    return _outputs(q)


def _backward_shapes(do, q, k, v, o, lse, mask, values, seed, salt):
    return _packed_gradient(q)


def _remember(ctx, inputs, output):
    q, k, v, values, seed, ctx.salt = inputs
    o, lse, mask = output
    ctx.save_for_backward(q, k, v, o, lse, mask, values, seed)
    ctx.mark_non_differentiable(lse, mask)


def _differentiate(ctx, do, _lse, _mask):
    q, k, v, o, lse, mask, values, seed = ctx.saved_tensors
    packed = _backward(do, q, k, v, o, lse, mask, values, seed, ctx.salt)
    dq, dk, dv = (part.transpose(1, 2) for part in packed.unbind(2))
    return dq, dk, dv, None, None, None


_forward.register_fake(_forward_shapes)
_backward.register_fake(_backward_shapes)
_forward.register_autograd(_differentiate, setup_context=_remember)
