"""First values: positions, patch projection, attention matrices."""

from __future__ import annotations

import pytest
import torch

from model.config import ModelConfig
from model.network.attention import NKATAttention
from model.network.initialise import PATCH_STD, POSITION_AMPLITUDE
from model.network.vit import NKATViT, build_network


def first_attention(network: NKATViT) -> NKATAttention:
    return next(m for m in network.modules() if isinstance(m, NKATAttention))


def test_sincos_positions_are_told_apart_and_near_ones_are_alike() -> None:
    config = ModelConfig(patch_size=1, depth=1, position_init="sincos")
    positions = build_network(config, seed=0).position.detach()[0]
    assert positions.abs().max() <= POSITION_AMPLITUDE
    grid = config.grid_size
    likeness = torch.nn.functional.cosine_similarity(positions[:, None], positions[None], dim=-1)
    apart = likeness - 2 * torch.eye(len(positions))
    # no two places look alike, and the most alike one is a neighbour
    assert float(apart.max()) < 0.99
    nearest = apart.argmax(1)
    rows, columns = torch.arange(grid**2) // grid, torch.arange(grid**2) % grid
    steps = (rows - rows[nearest]).abs() + (columns - columns[nearest]).abs()
    assert int(steps.max()) == 1


def test_a_class_token_has_no_place_and_odd_quarters_are_padded() -> None:
    config = ModelConfig(pool="cls", depth=1, embed_dim=36, heads=2, position_init="sincos")
    positions = build_network(config, seed=0).position.detach()
    assert positions.shape == (1, config.tokens, 36)
    assert not positions[0, 0].any()
    assert positions[0, 1:].any(dim=-1).all()


@pytest.mark.parametrize("stem", ["off", "tiny"])
def test_sincos_gives_the_patches_the_scale_of_the_positions(stem: str) -> None:
    config = ModelConfig.from_dict({"conv_stem": stem, "depth": 1, "position_init": "sincos"})
    weight = build_network(config, seed=0).patches.project.weight.detach()
    inputs = torch.randn(4096, weight.shape[1], generator=torch.Generator().manual_seed(1))
    assert float((inputs @ weight.t()).std()) == pytest.approx(PATCH_STD, rel=0.05)


def test_mimetic_queries_meet_keys_like_themselves_and_outputs_oppose_values() -> None:
    config = ModelConfig(depth=1, attention_init="mimetic")
    attention = first_attention(build_network(config, seed=0))
    dim, heads = config.embed_dim, config.heads
    query, key, value = attention.qkv.weight.detach().chunk(3)
    for head in range(heads):
        rows = slice(head * dim // heads, (head + 1) * dim // heads)
        product = query[rows].t() @ key[rows]
        diagonal, rest = product.diagonal().mean(), product.fill_diagonal_(0).mean()
        assert float(diagonal) > 20 * abs(float(rest))
    through = attention.project.weight.detach() @ value
    assert float(through.diagonal().mean()) == pytest.approx(-0.4, abs=0.05)
    plain = first_attention(build_network(ModelConfig(depth=1), seed=0))
    unrelated = plain.project.weight.detach() @ plain.qkv.weight.detach()[-dim:]
    assert abs(float(unrelated.diagonal().mean())) < 0.02


def test_the_seed_alone_decides_them_and_other_weights_stay() -> None:
    config = ModelConfig(depth=1, position_init="sincos", attention_init="mimetic")
    one, same, other = (build_network(config, seed=seed) for seed in (3, 3, 4))
    assert torch.equal(first_attention(one).qkv.weight, first_attention(same).qkv.weight)
    assert not torch.equal(first_attention(one).qkv.weight, first_attention(other).qkv.weight)
    plain = build_network(ModelConfig(depth=1), seed=3)
    assert torch.equal(one.blocks[0].expand.weight, plain.blocks[0].expand.weight)  # type: ignore[union-attr,arg-type]


def test_split_heads_keep_their_colours_first_values() -> None:
    config = ModelConfig(depth=1, split_heads=True, attention_init="mimetic")
    plain = ModelConfig(depth=1, split_heads=True)
    mimetic, normal = (first_attention(build_network(c, seed=0)) for c in (config, plain))
    assert torch.equal(mimetic.qkv.weight, normal.qkv.weight)
