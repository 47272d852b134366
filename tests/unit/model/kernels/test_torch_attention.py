"""Filtered attention against a float64 sort, and its exact no-ops."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from model.kernels.attention import nkat_attention
from model.kernels.reference import reference_attention, reference_keep
from model.kernels.torch_attention import dropout_factors, keep_mask, plain_attention

TOKENS = (1, 2, 16, 17, 64, 65, 257)


def qkv(tokens: int, *, seed: int = 0, dtype: torch.dtype = torch.float32) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(2, 3, tokens, 8, generator=generator, dtype=dtype) for _ in range(3)]


def kept(scores: Tensor, top_k: int | None, top_p: float) -> Tensor:
    mask = keep_mask(scores, top_k=top_k, top_p=top_p)
    return torch.ones_like(scores, dtype=torch.bool) if mask is None else mask


@pytest.mark.parametrize("tokens", TOKENS)
@pytest.mark.parametrize("top_k", [None, 257, 300])
def test_without_a_filter_it_is_plain_softmax_attention_to_the_bit(
    tokens: int, top_k: int | None
) -> None:
    q, k, v = qkv(tokens)
    out = nkat_attention(q, k, v, temperature=0.65, top_k=top_k, top_p=1.0)
    scores = (q * (1 / (math.sqrt(8) * 0.65))) @ k.transpose(-2, -1)
    assert torch.equal(out, torch.softmax(scores, dim=-1) @ v)


def test_without_a_filter_it_agrees_with_torchs_own_attention() -> None:
    q, k, v = qkv(65)
    theirs = torch.nn.functional.scaled_dot_product_attention(q, k, v)
    torch.testing.assert_close(nkat_attention(q, k, v, temperature=1.0), theirs)


@pytest.mark.parametrize("tokens", TOKENS)
@pytest.mark.parametrize("top_k", [None, 1, 6, 64])
@pytest.mark.parametrize("top_p", [0.05, 0.8, 0.95, 1.0])
@pytest.mark.parametrize("ties", [False, True])
def test_keeps_what_a_float64_sort_keeps(
    tokens: int, top_k: int | None, top_p: float, ties: bool
) -> None:
    scores = torch.empty(2, 3, tokens, tokens, dtype=torch.float64)
    scores.normal_(0, 3, generator=torch.Generator().manual_seed(tokens))
    scores = scores.round() if ties else scores
    assert torch.equal(
        kept(scores, top_k, top_p), reference_keep(scores, top_k=top_k, top_p=top_p)
    )


@settings(deadline=None, max_examples=150)
@given(
    row=st.lists(st.integers(-6, 6), min_size=1, max_size=24),
    top_k=st.one_of(st.none(), st.integers(1, 30)),
    top_p=st.floats(0.01, 1.0),
)
def test_top_p_keeps_the_smallest_sufficient_set(
    row: list[int], top_k: int | None, top_p: float
) -> None:
    """Checked from the definition, without a sort by the code under test's rules."""
    scores = torch.tensor(row, dtype=torch.float64)
    mask = kept(scores[None], top_k, top_p)[0].tolist()
    order = sorted(range(len(row)), key=lambda index: (-row[index], index))
    survivors = order[: len(row) if top_k is None else top_k]
    weights = {i: math.exp(row[i] - row[order[0]]) for i in survivors}
    total = math.fsum(weights.values())
    count = sum(mask)
    assert count >= 1
    assert sorted(order[:count]) == [i for i, keeps in enumerate(mask) if keeps]
    assert count <= len(survivors)
    if top_p == 1:
        assert count == len(survivors)
        return
    mass = math.fsum(weights[i] for i in order[:count]) / total
    smaller = math.fsum(weights[i] for i in order[: count - 1]) / total
    assert mass >= top_p - 1e-9
    assert count == 1 or smaller < top_p + 1e-9


def test_equal_scores_are_kept_by_lowest_index() -> None:
    scores = torch.tensor([[1.0, 2.0, 1.0, 2.0, 1.0, 0.0]])
    assert kept(scores, 3, 1.0).tolist() == [[True, True, False, True, False, False]]
    assert kept(torch.zeros(1, 10), None, 0.45).sum() == 5
    assert kept(torch.zeros(1, 10), None, 0.45)[0, :5].all()


def test_a_peaked_row_keeps_one_key_and_gives_its_value() -> None:
    q, k, v = qkv(16)
    out = nkat_attention(q, k, v, temperature=1e-4, top_k=None, top_p=0.5)
    best = (q @ k.transpose(-2, -1)).argmax(dim=-1)
    expected = v.gather(2, best[..., None].expand_as(v))
    torch.testing.assert_close(out, expected)


def test_an_infinite_temperature_gives_uniform_attention() -> None:
    q, k, v = qkv(16)
    out = nkat_attention(q, k, v, temperature=1e9, top_k=None, top_p=1.0)
    torch.testing.assert_close(out, v.mean(dim=2, keepdim=True).expand_as(v))


@pytest.mark.parametrize(("top_k", "top_p"), [(None, 1.0), (6, 0.8), (6, 1.0), (None, 0.9)])
def test_agrees_with_the_float64_reference(top_k: int | None, top_p: float) -> None:
    q, k, v = qkv(65)
    out = nkat_attention(q, k, v, temperature=0.65, top_k=top_k, top_p=top_p)
    expected = reference_attention(q, k, v, temperature=0.65, top_k=top_k, top_p=top_p)
    torch.testing.assert_close(out.double(), expected, atol=2e-6, rtol=1e-5)


def test_settings_may_be_tensors() -> None:
    q, k, v = qkv(17)
    numbers = nkat_attention(q, k, v, temperature=0.7, top_k=5, top_p=0.8)
    tensors = nkat_attention(
        q,
        k,
        v,
        temperature=torch.tensor(0.7),
        top_k=torch.tensor(5),
        top_p=torch.tensor(0.8),
    )
    torch.testing.assert_close(numbers, tensors)


def test_the_gradient_is_the_masked_softmaxs() -> None:
    q, k, v = (tensor[:1, :1].requires_grad_() for tensor in qkv(9, dtype=torch.float64))
    temperature = torch.tensor(0.65, dtype=torch.float64, requires_grad=True)

    def attend(*inputs: Tensor) -> Tensor:
        return plain_attention(
            inputs[0], inputs[1], inputs[2], temperature=inputs[3], top_k=4, top_p=0.8
        )

    assert torch.autograd.gradcheck(attend, (q, k, v, temperature))


def test_dropout_is_drawn_in_training_only_and_from_its_generator() -> None:
    q, k, v = qkv(16)

    def attend(seed: int, *, training: bool) -> Tensor:
        generator = torch.Generator().manual_seed(seed)
        return nkat_attention(
            q, k, v, temperature=1.0, dropout_p=0.5, training=training, generator=generator
        )

    before = torch.get_rng_state()
    assert torch.equal(attend(1, training=True), attend(1, training=True))
    assert not torch.equal(attend(1, training=True), attend(2, training=True))
    assert torch.equal(attend(1, training=False), nkat_attention(q, k, v, temperature=1.0))
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("dropout_p", [0.08, 0.17, 0.5])
def test_dropout_drops_its_share_and_keeps_the_mean(dropout_p: float) -> None:
    count = 200_003  # not a multiple of the four draws made at once
    generator = torch.Generator().manual_seed(0)
    factors = dropout_factors(torch.ones(count), dropout_p, generator)
    assert set(factors.unique().tolist()) == {0.0, factors.max().item()}
    assert factors.max().item() == pytest.approx(1 / (1 - dropout_p))
    spread = math.sqrt(dropout_p * (1 - dropout_p) / count)
    assert (factors == 0).double().mean().item() == pytest.approx(dropout_p, abs=5 * spread)


def test_scores_that_are_not_numbers_stay_so() -> None:
    q, k, v = qkv(16)
    q[0, 0, 3, 0] = math.nan
    out = nkat_attention(q, k, v, temperature=1.0, top_k=6, top_p=0.8)
    assert out[0, 0, 3].isnan().all()
    assert out[0, 0, 2].isfinite().all()
