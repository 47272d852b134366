"""The network over the whole search space: builds, runs, and every parameter learns."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch import Tensor

from model.config import ModelConfig
from model.network.vit import NKATViT, build_network, count_parameters
from nkat_errors import BadInput

IMAGES = ({"image_size": 28, "channels": 1, "classes": 26}, {"image_size": 32, "channels": 3})
AXES = {
    "images": IMAGES,
    "patch_size": (2, 4),
    "conv_stem": ("off", "tiny", "small"),
    "embed_dim": (384, 512),
    "depth": (5, 9),
    "color_norm": ("off", "layernorm", "residual", "concat"),
    "split_heads": (False, True),
}
CORNERS = [dict(zip(AXES, values, strict=True)) for values in itertools.product(*AXES.values())]


def configure(corner: dict[str, object], **changes: object) -> ModelConfig:
    values = {key: value for key, value in corner.items() if key != "images"}
    return ModelConfig.from_dict({**values, **corner["images"], **changes})  # type: ignore[dict-item]


def name_of(corner: dict[str, object]) -> str:
    channels = "grey" if corner["images"] is IMAGES[0] else "rgb"
    return "-".join([channels, *(str(value) for value in list(corner.values())[1:])])


def covering_pairs(corners: list[dict[str, object]]) -> list[dict[str, object]]:
    """A small subset in which every two axes meet in every combination of their values."""

    def pairs(corner: dict[str, object]) -> set[tuple[object, ...]]:
        items = [(axis, str(value)) for axis, value in corner.items()]
        return set(itertools.combinations(items, 2))

    wanted = set().union(*map(pairs, corners))
    chosen = []
    while wanted:
        best = max(corners, key=lambda corner: len(pairs(corner) & wanted))
        wanted -= pairs(best)
        chosen.append(best)
    return chosen


def check_learns_everywhere(config: ModelConfig) -> None:
    """Forward and backward with batch 2; each parameter gets a gradient."""
    network = build_network(config, seed=0)
    generator = torch.Generator().manual_seed(1)
    shape = (2, config.channels, config.image_size, config.image_size)
    logits = network(torch.randn(shape, generator=generator))
    assert logits.shape == (2, config.classes)
    logits.square().sum().backward()
    unreached = [
        name
        for name, parameter in network.named_parameters()
        if parameter.grad is None
        or not parameter.grad.any()
        or not parameter.grad.isfinite().all()
    ]
    assert unreached == []


def test_every_corner_of_the_search_space_builds() -> None:
    """At full size, without memory; shapes that depend on the corner are checked."""
    for corner in CORNERS:
        config = configure(corner)
        with torch.device("meta"):
            network = NKATViT(config)
        assert network.position.shape == (1, config.tokens, config.embed_dim)
        assert len(network.blocks) == config.depth


STRUCTURES = [
    {**corner, "pool": pool}
    for corner in CORNERS
    if corner["embed_dim"] == 384 and corner["depth"] == 5
    for pool in ("mean", "cls")
]


@pytest.mark.parametrize("corner", STRUCTURES, ids=name_of)
def test_every_structure_trains_when_narrow(corner: dict[str, object]) -> None:
    check_learns_everywhere(configure(corner, embed_dim=64, depth=2))


ONE_PIXEL_PATCHES = [
    {**corner, "patch_size": 1}
    for corner in STRUCTURES
    if corner["patch_size"] == 2 and corner["conv_stem"] != "off"
]


@pytest.mark.parametrize("corner", ONE_PIXEL_PATCHES, ids=name_of)
def test_one_token_a_pixel_of_the_stems_output(corner: dict[str, object]) -> None:
    config = configure(corner, embed_dim=64, depth=2)
    side = 8 if config.image_size == 32 else 7
    assert config.tokens == side**2 + (config.pool == "cls")
    check_learns_everywhere(config)


@pytest.mark.parametrize("corner", covering_pairs(CORNERS), ids=name_of)
def test_corners_train_at_full_size(corner: dict[str, object]) -> None:
    check_learns_everywhere(configure(corner))


def test_the_baseline_has_about_8_million_parameters() -> None:
    assert count_parameters(ModelConfig()) == pytest.approx(8.4e6, rel=0.01)
    network = build_network(ModelConfig(), seed=0)
    assert sum(p.numel() for p in network.parameters()) == count_parameters(ModelConfig())


def test_a_block_has_four_nkat_scalars() -> None:
    network = build_network(ModelConfig(depth=5), seed=0)
    scalars = {n: p.item() for n, p in network.named_parameters() if p.ndim == 0}
    assert len(scalars) == ModelConfig(depth=5).nkat_scalars == 20
    first = {name.split(".")[-1]: value for name, value in scalars.items() if ".0." in name}
    assert first == pytest.approx(
        {"alpha": 0.1, "beta": 0.05, "attention_scale": 1.0, "mlp_scale": 1.0}
    )


@pytest.mark.parametrize(
    ("size", "stem", "patch", "tokens"),
    [
        (32, "tiny", 2, 16),
        (32, "small", 2, 16),
        (32, "off", 2, 256),
        (32, "off", 4, 64),
        (32, "tiny", 4, 4),
        (28, "tiny", 2, 16),
        (28, "off", 2, 196),
        (28, "off", 4, 49),
        (28, "tiny", 4, 4),
    ],
)
def test_tokens_of_each_stem_and_patch(size: int, stem: str, patch: int, tokens: int) -> None:
    config = ModelConfig(image_size=size, conv_stem=stem, patch_size=patch)  # type: ignore[arg-type]
    assert config.tokens == tokens
    with torch.device("meta"):
        network = NKATViT(config)
        cut = network.patches(network.stem(torch.empty(1, 3, size, size)))
    assert cut.shape == (1, tokens, 384)


def test_the_seed_alone_decides_the_first_weights() -> None:
    config = ModelConfig(embed_dim=64, depth=1)
    before = torch.get_rng_state()
    first, same, other = (build_network(config, seed=seed).state_dict() for seed in (3, 3, 4))
    assert torch.equal(torch.get_rng_state(), before)
    assert all(torch.equal(first[name], same[name]) for name in first)
    assert not torch.equal(first["head.weight"], other["head.weight"])


def test_first_weights_have_the_stated_spread() -> None:
    weight = build_network(ModelConfig(depth=1), seed=0).blocks[0].expand.weight
    assert isinstance(weight, Tensor)
    assert weight.std().item() == pytest.approx(0.0176, rel=0.02)  # 0.02, cut at two of it
    assert weight.abs().max().item() <= 0.04


def test_evaluation_draws_nothing() -> None:
    network = build_network(ModelConfig(embed_dim=64, depth=2), seed=0).eval()
    images = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    assert torch.equal(network(images), network(images))


@pytest.mark.parametrize(
    ("shape", "words"),
    [((2, 1, 32, 32), "1 channels.*built for 3"), ((2, 3, 28, 28), "28 x 28.*32 x 32")],
)
def test_other_images_are_refused_with_both_numbers(shape: tuple[int, ...], words: str) -> None:
    network = build_network(ModelConfig(conv_stem="off", embed_dim=64, depth=1), seed=0)
    with pytest.raises(BadInput, match=words):
        network(torch.zeros(shape))
