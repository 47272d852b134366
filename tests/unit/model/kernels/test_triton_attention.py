"""The attention kernels in Triton's interpreter, held against a float64 sort."""

from __future__ import annotations

import pytest
import torch

# tests/conftest.py has set TRITON_INTERPRET where there is no GPU.
pytest.importorskip("triton")

from model.kernels import triton_attention as kernel
from model.kernels.reference import reference_attention, reference_keep
from model.kernels.torch_attention import plain_attention
from model.kernels.triton_tiles import mask_words, plan

pytestmark = pytest.mark.skipif(
    torch.cuda.is_available(), reason="with a GPU, tests/gpu runs the compiled kernels"
)


def inputs(
    batch: int, heads: int, tokens: int, head_dim: int, *, seed: int = 0
) -> list[torch.Tensor]:
    """q, k, v as views of one packed projection, and do: what training gives."""
    generator = torch.Generator().manual_seed(seed)
    packed = torch.randn(batch, tokens, 3, heads, head_dim, generator=generator) * 2
    q, k, v = (part.transpose(1, 2).requires_grad_() for part in packed.unbind(2))
    return [q, k, v, torch.randn(batch, heads, tokens, head_dim, generator=generator)]


def relative(got: torch.Tensor, want: torch.Tensor) -> float:
    difference = (got.detach().double() - want.detach()).norm()
    return float(difference / want.detach().norm().clamp_min(1e-12))


def gradients(out: torch.Tensor, do: torch.Tensor, *given: torch.Tensor) -> list[torch.Tensor]:
    return list(torch.autograd.grad(out, given, do.to(out.dtype)))


@pytest.mark.parametrize(("tokens", "head_dim"), [(1, 16), (5, 48), (17, 64), (33, 24), (65, 48)])
@pytest.mark.parametrize(
    ("top_k", "top_p"),
    [(6, 0.8), (None, 1.0), (None, 0.8), (12, 0.9), (20, 0.6), (3, 1.0), (1000, 0.9)],
)
def test_output_and_gradients_equal_the_sorted_reference(
    tokens: int, head_dim: int, top_k: int | None, top_p: float
) -> None:
    q, k, v, do = inputs(1, 2, tokens, head_dim)
    out = kernel.triton_attention(
        q, k, v, temperature=0.65, top_k=top_k, top_p=top_p, dropout_p=0.0, seed=None
    )
    exact = [part.detach().double().requires_grad_() for part in (q, k, v)]
    want = reference_attention(*exact, temperature=0.65, top_k=top_k, top_p=top_p)
    assert relative(out, want) < 3e-6
    for got, wanted in zip(gradients(out, do, q, k, v), gradients(want, do, *exact), strict=True):
        # a row with one key of weight 1 has gradient 0, of which float32 leaves 1e-5
        assert float((got - wanted).norm()) < 2e-4 * max(1.0, float(wanted.norm()))


def test_all_257_tokens_and_the_kernels_of_long_rows() -> None:
    q, k, v, do = inputs(1, 1, 257, 48)
    assert plan(257, 48).back_keys < plan(257, 48).keys
    out = kernel.triton_attention(
        q, k, v, temperature=1.0, top_k=6, top_p=0.8, dropout_p=0.0, seed=None
    )
    exact = [part.detach().double().requires_grad_() for part in (q, k, v)]
    want = reference_attention(*exact, temperature=1.0, top_k=6, top_p=0.8)
    assert relative(out, want) < 3e-6
    for got, wanted in zip(gradients(out, do, q, k, v), gradients(want, do, *exact), strict=True):
        assert relative(got, wanted) < 1e-5


def kept(scores: torch.Tensor, *, top_k: int | None, top_p: float) -> torch.Tensor:
    """The kernel's keep mask for given scores [rows, N]: q are unit vectors, k the scores."""
    rows, tokens = scores.shape
    width = 16 * -(-rows // 16)
    q = torch.zeros(1, 1, tokens, width)
    q[0, 0, :rows, :rows] = torch.eye(rows)
    k = torch.zeros(1, 1, tokens, width)
    k[0, 0, :, :rows] = scores.T
    o = torch.empty(1, tokens, 1, width)
    lse = torch.empty(1, 1, tokens)
    mask = torch.zeros(1, 1, tokens, mask_words(tokens), dtype=torch.int16)
    values = kernel.attention_values(
        temperature=width**-0.5,  # undoes the division by sqrt(d)
        top_k=top_k,
        top_p=top_p,
        dropout_p=0.0,
        device=torch.device("cpu"),
    )
    seed = torch.zeros(1, dtype=torch.int64)
    kernel.forward_into(o, lse, mask, q, k, k, values, seed, 0)
    bits = (mask[0, 0, :rows, :, None].int() >> torch.arange(16)) & 1
    return bits.flatten(1)[:, :tokens].bool()


@pytest.mark.parametrize("tokens", [16, 17, 40])
@pytest.mark.parametrize(("top_k", "top_p"), [(6, 0.8), (6, 1.0), (None, 0.7), (9, 0.75)])
def test_equal_scores_go_to_the_lowest_index(tokens: int, top_k: int | None, top_p: float) -> None:
    generator = torch.Generator().manual_seed(tokens)
    scores = torch.randint(-2, 3, (12, tokens), generator=generator).float()
    scores[0] = 0.0  # all equal
    scores[1, -1] = 9.0  # the last key, which stands apart at 17
    # whole masses land on p exactly only by rounding: keep p away from every sum
    got = kept(scores, top_k=top_k, top_p=top_p + 1e-4 if top_p < 1 else 1.0)
    want = reference_keep(scores, top_k=top_k, top_p=top_p + 1e-4 if top_p < 1 else 1.0)
    assert torch.equal(got, want)


def test_scores_of_every_size_and_sign_are_ordered() -> None:
    exponents = torch.linspace(-30, 3, 32)
    scores = torch.cat([-(2.0**exponents), 2.0**exponents]).repeat(4, 1)
    scores = scores[:, torch.randperm(64, generator=torch.Generator().manual_seed(3))]
    for top_k in (1, 5, 20, 63):
        got = kept(scores, top_k=top_k, top_p=1.0)
        assert torch.equal(got, reference_keep(scores, top_k=top_k, top_p=1.0))


def test_the_quick_path_and_the_search_keep_the_same_keys() -> None:
    scores = torch.randn(16, 33, generator=torch.Generator().manual_seed(5)) * 3
    quick = kept(scores, top_k=8, top_p=0.9)
    doubled = torch.cat([scores, torch.full((16, 1), -50.0)], dim=1)  # 34 keys: another tile
    assert torch.equal(kept(doubled, top_k=8, top_p=0.9)[:, :33], quick)
    assert torch.equal(quick, reference_keep(scores, top_k=8, top_p=0.9))


def test_tensors_as_values_equal_numbers() -> None:
    q, k, v, _ = inputs(1, 1, 16, 16)
    numbers = kernel.triton_attention(
        q, k, v, temperature=0.7, top_k=4, top_p=0.9, dropout_p=0.0, seed=None
    )
    tensors = kernel.triton_attention(
        q,
        k,
        v,
        temperature=torch.tensor(0.7),
        top_k=torch.tensor(4),
        top_p=torch.tensor(0.9),
        dropout_p=0.0,
        seed=None,
    )
    assert torch.equal(numbers, tensors)


def dropped(seed: int, *, salt: int = 0, dropout_p: float = 0.25) -> torch.Tensor:
    """Attention weights after dropout: v is the unit matrix."""
    q, k, _, _ = inputs(8, 4, 32, 32)
    v = torch.eye(32).expand(8, 4, 32, 32)
    return kernel.triton_attention(
        q * 0,
        k,
        v,
        temperature=1.0,
        top_k=None,
        top_p=1.0,
        dropout_p=dropout_p,
        seed=torch.tensor([seed]),
        salt=salt,
    ).detach()


def test_dropout_drops_its_share_and_keeps_the_mean() -> None:
    weights = dropped(1)
    share = float((weights == 0).float().mean())
    assert abs(share - 0.25) < 0.008  # 32,768 draws: three standard errors are 0.0072
    assert torch.allclose(weights[weights > 0], torch.tensor(1 / 32 / 0.75))
    by_key = (weights == 0).float().mean(dim=(0, 1, 2))
    assert float((by_key - 0.25).abs().max()) < 0.06  # 1,024 draws a key


def test_another_seed_or_layer_draws_other_weights() -> None:
    first = dropped(1)
    assert torch.equal(first, dropped(1))
    for other in (dropped(2), dropped(1, salt=1), dropped(1 << 40)):
        agreement = float(((first == 0) == (other == 0)).float().mean())
        assert abs(agreement - (0.25**2 + 0.75**2)) < 0.02


@pytest.mark.parametrize("tokens", [17, 130])
def test_gradients_go_through_the_drawn_dropout(tokens: int) -> None:
    q, k, v, do = inputs(1, 1, tokens, 16)
    settings = {"temperature": 1.0, "top_k": 5, "top_p": 0.9}
    seed = torch.tensor([7])
    out = kernel.triton_attention(q, k, v, **settings, dropout_p=0.3, seed=seed)  # type: ignore[arg-type]
    scores = (q @ k.mT) / 4
    keep = reference_keep(scores.detach(), top_k=5, top_p=0.9)
    weights = torch.softmax(scores.masked_fill(~keep, -torch.inf), dim=-1)
    # solve for the factors: each output column is linear in v, so ask it of unit columns
    columns = []
    for first in range(0, tokens, 16):
        part = torch.zeros(1, 1, tokens, 16)
        for index in range(min(16, tokens - first)):
            part[0, 0, first + index, index] = 1
        columns.append(
            kernel.triton_attention(q, k, part, **settings, dropout_p=0.3, seed=seed)  # type: ignore[arg-type]
        )
    used = torch.cat(columns, dim=-1)[..., :tokens].detach()
    factors = torch.where(used > 0, 1 / 0.7, 0.0)
    want = (weights * factors) @ v
    assert relative(out, want.double()) < 1e-5
    for got, wanted in zip(gradients(out, do, q, k, v), gradients(want, do, q, k, v), strict=True):
        assert torch.allclose(got, wanted, atol=2e-5, rtol=1e-3)


def test_agrees_with_the_plain_form() -> None:
    q, k, v, _ = inputs(2, 2, 17, 16, seed=9)
    settings = {"temperature": 0.8, "top_k": 6, "top_p": 0.85}
    fused = kernel.triton_attention(q, k, v, **settings, dropout_p=0.0, seed=None)  # type: ignore[arg-type]
    assert torch.allclose(fused, plain_attention(q, k, v, **settings), atol=1e-5)  # type: ignore[arg-type]


def test_supports_what_a_tile_holds() -> None:
    assert kernel.supports(torch.empty(1, 1, 257, 128))
    assert not kernel.supports(torch.empty(1, 1, 258, 64))
    assert not kernel.supports(torch.empty(1, 1, 16, 130))
    assert not kernel.supports(torch.empty(1, 1, 16, 16, dtype=torch.float64))
