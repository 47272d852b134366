"""The network's own layers against their formulas."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from model.config import ModelConfig
from model.network.attention import NKATAttention, Theta
from model.network.block import Block
from model.network.color_norm import ColorNorm, make_color_norm
from model.network.color_tokens import ColourTokens
from model.network.patch import PatchEmbedding, PatchGrid
from model.network.stem import make_stem
from model.network.vit import build_network
from nkat_errors import BadInput


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def test_theta_is_the_formula() -> None:
    theta = Theta(strength=0.5, decay=0.9, layer=3)
    tokens = random(2, 5, 32) * 2 + 0.3
    mean = tokens.mean(dim=-1, keepdim=True)
    variance = tokens.var(dim=-1, correction=0, keepdim=True)
    expected = 1 + 0.5 * 0.9**3 * (0.1 * torch.tanh(mean) + 0.05 * torch.sigmoid(variance))
    torch.testing.assert_close(theta(tokens), expected)


def test_theta_multiplies_a_querys_output() -> None:
    """With strength 0 the branch is unmodulated; else each query's row is scaled."""
    plain = ModelConfig(embed_dim=64, depth=1, nkat_strength=0.0)
    x, scale = random(2, 6, 64), torch.tensor(1.0)
    outputs = []
    for strength in (0.0, 3.0):
        config = ModelConfig.from_dict({**plain.to_dict(), "nkat_strength": strength})
        block = build_network(config, seed=0).eval().blocks[0]
        assert isinstance(block, Block)
        nn.init.zeros_(block.attention.project.bias)
        outputs.append((block.attention(x, stream=x, scale=scale), block.attention.theta(x)))
    (unmodulated, ones), (modulated, factors) = outputs
    assert torch.equal(ones, torch.ones_like(ones))
    torch.testing.assert_close(modulated, unmodulated * factors)


def test_a_branch_scalar_scales_its_branch() -> None:
    block = build_network(ModelConfig(embed_dim=64, depth=1), seed=0).eval().blocks[0]
    assert isinstance(block, Block)
    x = random(2, 6, 64)
    with torch.no_grad():
        block.mlp_scale.zero_()
        once = block(x) - x
        block.attention_scale.fill_(2.5)
        torch.testing.assert_close(block(x) - x, 2.5 * once)
        block.attention_scale.zero_()
        assert torch.equal(block(x), x)


@pytest.mark.parametrize("colour", [0, 1, 2])
def test_split_heads_see_their_own_colour_alone(colour: int) -> None:
    config = ModelConfig(embed_dim=64, depth=1, split_heads=True)
    network = build_network(config, seed=0)
    tokens = network.colour_tokens
    assert isinstance(tokens, ColourTokens)
    images = random(2, 3, 32, 32)
    changed = images.clone()
    changed[:, colour] += 1
    same = (tokens(images) == tokens(changed)).flatten(1).all(dim=1).tolist()
    assert same == [other != colour for other in range(3)]

    attention = network.blocks[0].attention
    assert isinstance(attention, NKATAttention)
    x = random(2, 16, 64, seed=1)
    before, after = (attention._split_qkv(x, tokens(i)) for i in (images, changed))
    for ours, theirs in zip(before[1:], after[1:], strict=True):  # keys, values [B, 8, N, d]
        moved = (ours != theirs).flatten(2).any(dim=2).any(dim=0).tolist()
        assert moved == [head // 2 == colour for head in range(8)]


def test_grey_images_have_ordinary_heads() -> None:
    grey = {"image_size": 28, "channels": 1, "embed_dim": 64, "depth": 1}
    split, ordinary = (
        build_network(ModelConfig.from_dict({**grey, "split_heads": value}), seed=0).state_dict()
        for value in (True, False)
    )
    assert split.keys() == ordinary.keys()


def test_color_norm_variants_are_their_formulas() -> None:
    images = random(2, 3, 4, 4) * 2 + 1
    mean = images.mean(dim=1, keepdim=True)
    spread = (images.var(dim=1, correction=0, keepdim=True) + 1e-5).sqrt()
    normed = (images - mean) / spread
    expected: dict[ColorNorm, Tensor] = {
        "off": images,
        "layernorm": normed,
        "residual": images + 0.1 * normed,
        "concat": torch.cat([images, normed], dim=1),
    }
    for kind, values in expected.items():
        module, channels = make_color_norm(kind, channels=3)
        torch.testing.assert_close(module(images), values)
        assert values.shape[1] == channels


@pytest.mark.parametrize("kind", ["off", "layernorm", "residual", "concat"])
def test_grey_images_pass_the_color_norm_unchanged(kind: ColorNorm) -> None:
    module, channels = make_color_norm(kind, channels=1)
    images = random(2, 1, 4, 4)
    assert module(images) is images
    assert channels == 1


@pytest.mark.parametrize(
    ("kind", "convolutions"),
    [
        ("off", []),
        ("tiny", [(3, 32, 2), (32, 64, 2)]),
        ("small", [(3, 64, 2), (64, 128, 2), (128, 128, 1)]),
    ],
)
def test_stems_are_the_specifications(kind: str, convolutions: list[tuple[int, ...]]) -> None:
    stem, channels = make_stem(kind, channels=3)  # type: ignore[arg-type]
    found = [m for m in stem if isinstance(m, nn.Conv2d)]
    assert [(m.in_channels, m.out_channels, m.stride[0]) for m in found] == convolutions
    assert all(m.kernel_size == (3, 3) and m.padding == (1, 1) for m in found)
    assert [type(m) for m in stem] == [nn.Conv2d, nn.BatchNorm2d, nn.GELU] * len(convolutions)
    side = 8 if convolutions else 32
    assert stem(random(2, 3, 32, 32)).shape == (2, channels, side, side)


@pytest.mark.parametrize(("size", "patch"), [(8, 2), (7, 2), (7, 4), (28, 4), (5, 8)])
def test_a_patch_embedding_is_a_convolution_on_the_padded_image(size: int, patch: int) -> None:
    grid = PatchGrid.covering(size=size, patch_size=patch)
    layer = PatchEmbedding(channels=3, grid=grid, embed_dim=10)
    images = random(2, 3, size, size)
    kernel = layer.project.weight.view(10, patch, patch, 3).permute(0, 3, 1, 2)
    padded = nn.functional.pad(images, (0, grid.padding, 0, grid.padding))
    convolved = nn.functional.conv2d(padded, kernel, layer.project.bias, stride=patch)
    torch.testing.assert_close(layer(images), convolved.flatten(2).transpose(1, 2))


def test_no_pixel_is_cropped() -> None:
    grid = PatchGrid.covering(size=7, patch_size=2)
    assert (grid.side, grid.patches, grid.padding) == (4, 16, 1)
    image = random(1, 1, 7, 7).abs() + 1
    assert grid.cut(image).sum().item() == pytest.approx(image.sum().item())


def test_an_input_of_another_size_is_refused_with_both_numbers() -> None:
    with pytest.raises(BadInput, match=r"9 x 7.*7 x 7"):
        PatchGrid.covering(size=7, patch_size=2).cut(torch.zeros(1, 1, 9, 7))
    with pytest.raises(BadInput, match="0 x 0"):
        PatchGrid.covering(size=7, patch_size=0)
