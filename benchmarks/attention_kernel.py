"""NKAT attention, forward and backward, against torch's SDPA and the sort-based form.

    python benchmarks/attention_kernel.py [--json FILE] [--sweep]

All three get the same packed projection [B, N, 3, H, D] in bf16 with dropout 0.17;
ours and the sort-based form also filter by top-k 6 and top-p 0.8.  Times are of a CUDA
graph's replay.  The error is ours (dropout off) against a float64 sort.
"""

from __future__ import annotations

import argparse
import dataclasses
import itertools
from pathlib import Path
from typing import Any

import torch
from measure import hardware, table, time_graphed, write_json
from torch.nn import functional as F

from model.kernels import triton_attention as ours
from model.kernels.reference import reference_attention
from model.kernels.torch_attention import plain_attention
from model.kernels.triton_tiles import Tiles, mask_words, plan

TEMPERATURE, TOP_K, TOP_P, DROPOUT = 0.65, 6, 0.8, 0.17
HEADS = 8


def packed(batch: int, tokens: int, dim: int) -> torch.Tensor:
    shape = (batch, tokens, 3, HEADS, dim // HEADS)
    return torch.randn(shape, device="cuda", dtype=torch.bfloat16)


def split(qkv: torch.Tensor) -> list[torch.Tensor]:
    return [part.transpose(1, 2) for part in qkv.unbind(2)]


class Ours:
    """Both kernels on given buffers, as the fast training step calls them."""

    def __init__(self, batch: int, tokens: int, dim: int, tiles: Tiles | None = None) -> None:
        self.qkv, self.grad = packed(batch, tokens, dim), packed(batch, tokens, dim)
        self.do = torch.randn(batch, tokens, HEADS, dim // HEADS, device="cuda").bfloat16()
        self.o = torch.empty_like(self.do)
        self.lse = torch.empty(batch, HEADS, tokens, device="cuda")
        self.mask = torch.empty(
            batch, HEADS, tokens, mask_words(tokens), device="cuda", dtype=torch.int16
        )
        self.values = torch.tensor([TEMPERATURE, TOP_K, TOP_P, DROPOUT], device="cuda")
        self.seed = torch.ones(1, dtype=torch.int64, device="cuda")
        self.tiles = tiles or plan(tokens, dim // HEADS)

    def forward(self) -> None:
        q, k, v = split(self.qkv)
        ours.forward_into(
            self.o, self.lse, self.mask, q, k, v, self.values, self.seed, 0, self.tiles
        )

    def backward(self) -> None:
        q, k, v = split(self.qkv)
        ours.backward_into(
            *split(self.grad),
            self.do,
            q,
            k,
            v,
            self.o,
            self.lse,
            self.mask,
            self.values,
            self.seed,
            0,
            self.tiles,
        )

    def both(self) -> None:
        self.forward()
        self.backward()


def with_autograd(kind: str, batch: int, tokens: int, dim: int) -> Any:
    qkv = packed(batch, tokens, dim).requires_grad_()
    do = torch.randn(batch, HEADS, tokens, dim // HEADS, device="cuda").bfloat16()

    def work() -> None:
        q, k, v = split(qkv)
        if kind == "sdpa":
            o = F.scaled_dot_product_attention(q, k, v, dropout_p=DROPOUT)
        else:
            o = plain_attention(
                q,
                k,
                v,
                temperature=TEMPERATURE,
                top_k=TOP_K,
                top_p=TOP_P,
                dropout_p=DROPOUT,
                training=True,
            )
        # gradients of q, k, v: without the stack that a packed projection would add
        torch.autograd.grad(o, (q, k, v), do)

    return work


def error(tokens: int, dim: int) -> tuple[float, float]:
    """Relative errors of o and of the packed gradient against float64, dropout off.

    Rows whose kept mass lies within 1e-4 of p, or whose k-th and next score do within
    1e-4, may rightly differ: they get no gradient and do not count.
    """
    qkv = packed(2, tokens, dim).requires_grad_()
    q, k, v = split(qkv)
    scores = (q.double() @ k.double().mT) / ((dim // HEADS) ** 0.5 * TEMPERATURE)
    ordered = scores.sort(-1, descending=True).values
    mass = ordered[..., :TOP_K].softmax(-1).cumsum(-1)
    clear = ((mass - TOP_P).abs() > 1e-4).all(-1)
    if tokens > TOP_K:
        clear &= ordered[..., TOP_K - 1] - ordered[..., TOP_K] > 1e-4
    o = ours.triton_attention(
        q, k, v, temperature=TEMPERATURE, top_k=TOP_K, top_p=TOP_P, dropout_p=0.0, seed=None
    )
    do = torch.randn_like(o) * clear[..., None]
    (grad,) = torch.autograd.grad(o, qkv, do)
    exact = qkv.detach().double().requires_grad_()
    want = reference_attention(*split(exact), temperature=TEMPERATURE, top_k=TOP_K, top_p=TOP_P)
    (want_grad,) = torch.autograd.grad(want, exact, do.double())
    o, want = o * clear[..., None], want * clear[..., None]
    return relative(o, want), relative(grad, want_grad)


def relative(got: torch.Tensor, want: torch.Tensor) -> float:
    return float((got.double() - want).norm() / want.norm())


def candidates(tokens: int, dim: int) -> list[tuple[str, Tiles]]:
    """Other tiles than the plan's, worth a look."""
    base = plan(tokens, dim // HEADS)
    found = []
    for rows, warps in itertools.product((16, 32, 64), (1, 2, 4, 8)):
        if rows <= max(16, tokens) and 256 <= rows * base.keys // warps <= 4096:
            found.append(("forward", dataclasses.replace(base, rows=rows, warps=warps)))
        for keys in {base.keys} if base.keys <= 64 else {32, 64, 128}:
            if rows <= max(16, tokens) and 256 <= rows * keys // warps <= 4096:
                tiles = dataclasses.replace(base, back_rows=rows, back_warps=warps, back_keys=keys)
                found.append(("backward", tiles))
    return found


def sweep(batch: int, tokens: int, dim: int, *, compile_only: bool) -> None:
    """Times of the candidates, fastest first."""
    found: dict[str, list[tuple[float, str]]] = {"forward": [], "backward": []}
    for part, tiles in candidates(tokens, dim):
        case = Ours(2 if compile_only else batch, tokens, dim, tiles)
        name = f"rows {tiles.rows} warps {tiles.warps}"
        if part == "backward":
            name = f"rows {tiles.back_rows} warps {tiles.back_warps} keys {tiles.back_keys}"
        try:
            case.both()
            if not compile_only:
                found[part].append((time_graphed(getattr(case, part), n=3).us, name))
        except Exception as failure:  # a tile too large for the card is no error here
            print("   ", name, str(failure)[:80])
    for part, times in found.items():
        best = "  ".join(f"{us:.1f}us({name})" for us, name in sorted(times)[:5])
        print(f"sweep {part} B={batch} N={tokens} d={dim}: {best}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--sweep", type=int, nargs="*", default=[], help="tokens")
    parser.add_argument("--compile", type=int, help="only compile the sweep of these tokens")
    options = parser.parse_args()
    if options.compile:
        sweep(2, options.compile, 384, compile_only=True)
        return
    print(hardware())
    rows, results = [], []
    for tokens, dim in itertools.product((16, 17, 64, 65, 257), (384, 512)):
        batch = 512 if tokens < 200 else 256
        case = Ours(batch, tokens, dim)
        forward, both = time_graphed(case.forward), time_graphed(case.both)
        sdpa = time_graphed(with_autograd("sdpa", batch, tokens, dim))
        sort = time_graphed(with_autograd("sort", batch, tokens, dim), inner=3, n=5)
        errors = error(tokens, dim)
        rows.append(
            [tokens, dim, batch]
            + [f"{t.us:.0f}" for t in (forward, both, sdpa, sort)]
            + [f"{both.us / sdpa.us:.2f}", f"{sort.us / both.us:.1f}", f"{both.spread:.1%}"]
            + [f"{e:.1e}" for e in errors]
        )
        results.append(
            {
                "tokens": tokens,
                "dim": dim,
                "batch": batch,
                "n": both.n,
                "forward_us": forward.us,
                "ours_us": both.us,
                "sdpa_us": sdpa.us,
                "sort_us": sort.us,
                "spread": both.spread,
                "error_output": errors[0],
                "error_gradient": errors[1],
            }
        )
        print(rows[-1], flush=True)
        if tokens in options.sweep and dim == 384:
            sweep(batch, tokens, dim, compile_only=False)
    header = (
        "tokens dim batch fwd_us both_us sdpa_us sort_us /sdpa sort/ours spread err_o err_grad"
    )
    print(table(rows, header=header.split()))
    write_json(options.json, name="attention_kernel", results=results)


if __name__ == "__main__":
    main()
