"""What a configuration costs, known before anything is allocated.

FLOPs count a multiply-add as two; matrix products and convolutions are counted,
norms, activations and softmax (a few per cent) are not.  The backward pass of a
matrix product is two products of the same size, so a training step is three times
the forward pass, less the gradient of the images, which nobody asks for.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from model.config import STEM_STRIDE, ModelConfig

BYTES_FP32 = 4
STATE_COPIES = 5
"""fp32 copies of the weights: the weights, gradients, two AdamW moments, the average."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelCost:
    """Size and work of one network.

    Args:
        parameters: trainable ones.
        tokens: a block works on, the class token included.
        forward_flops: of one image.
        training_flops: of one image, forward and backward.
    """

    parameters: int
    tokens: int
    forward_flops: int
    training_flops: int


def model_cost(config: ModelConfig) -> ModelCost:
    """Parameters, tokens and FLOPs per image of `config`."""
    from model.network.vit import count_parameters  # torch: only where a network is looked at

    stem_first, rest = _forward_macs(config)
    forward = 2 * (stem_first + rest)
    return ModelCost(
        parameters=count_parameters(config),
        tokens=config.tokens,
        forward_flops=forward,
        training_flops=3 * forward - 2 * stem_first,
    )


def split_head_overhead(config: ModelConfig) -> float:
    """Forward work of split heads over ordinary ones, as a share (0.06: 6 % more)."""
    split = sum(_forward_macs(replace(config, split_heads=True)))
    ordinary = sum(_forward_macs(replace(config, split_heads=False)))
    return split / ordinary - 1


def training_bytes(config: ModelConfig, *, batch_size: int, bf16: bool) -> int:
    """Predicted peak memory of a training step, bytes, without the data set.

    Weights, gradients, AdamW and average in fp32, and what the backward pass keeps of
    every token.  The attention's N x N weights are kept by the plain form only (fp32);
    the GPU kernel keeps bits (`bf16` stands for it here).
    """
    from model.network.vit import count_parameters

    dim, tokens = config.embed_dim, config.tokens
    wide = 2 if bf16 else BYTES_FP32  # bytes of a matrix product's operands
    hidden = round(dim * config.mlp_ratio)
    per_token = (
        # Residual stream, fp32: inputs of both norms; branch outputs kept for their scalars.
        dim * (2 * BYTES_FP32 + 2 * wide)
        # Both norms' outputs, q k v, attention's output, modulated, projected.
        + wide * (2 * dim + 3 * dim + 2 * dim)
        # MLP before and after GELU.
        + 2 * wide * hidden
    )
    if bf16:
        per_token += config.heads * tokens // 8
    else:
        # Scores' softmax, dropout factors and dropped weights.
        per_token += config.heads * tokens * BYTES_FP32 * 3 + dim * BYTES_FP32 * 3
    activations = config.depth * tokens * per_token
    activations += wide * sum(4 * size**2 * out for _, out, size in _stem_maps(config))
    return count_parameters(config) * BYTES_FP32 * STATE_COPIES + batch_size * activations


def _stem_maps(config: ModelConfig) -> list[tuple[int, int, int]]:
    """(input channels, output channels, output side) of each stem convolution."""
    from model.network.stem import stem_layers

    rows = []
    size = config.image_size
    for channels, width, stride in stem_layers(config.conv_stem, channels=_channels(config)):
        size = -(-size // stride)
        rows.append((channels, width, size))
    return rows


def _channels(config: ModelConfig) -> int:
    """Channels after the colour norm."""
    doubled = config.color_norm == "concat" and config.channels > 1
    return config.channels * (2 if doubled else 1)


def _forward_macs(config: ModelConfig) -> tuple[int, int]:
    """Multiply-adds of one image: (of the layers that read the image, of all others)."""
    dim, tokens, patches = config.embed_dim, config.tokens, config.grid_size**2
    maps = _stem_maps(config)
    convolutions = [9 * channels * width * size**2 for channels, width, size in maps]
    channels = maps[-1][1] if maps else _channels(config)
    embedding = patches * config.patch_size**2 * channels * dim
    hidden = round(dim * config.mlp_ratio)
    block = tokens * (4 * dim**2 + 2 * dim * hidden) + 2 * tokens**2 * dim
    rest = config.depth * block + dim * config.classes
    first = convolutions[0] if convolutions else embedding
    rest += sum(convolutions) + embedding - first
    if config.color_norm != "off" and config.channels > 1:
        # The colour norm learns too, so its output's gradient is asked for.
        first, rest = 0, rest + first
    if config.split_heads and config.channels == 3:
        pixels = STEM_STRIDE[config.conv_stem] * config.patch_size
        rest += 3 * patches * dim**2
        first += 3 * patches * pixels**2 * dim
    return first, rest
