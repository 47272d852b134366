"""What a network is: every field with its type, range, unit, help and default.

The defaults are the source's baseline (README, "The source's baseline").
"""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, Literal, Self

from pydantic import Field

from model.config.base import Config, Rule, configuration
from model.config.facts import Unit

ConvStem = Literal["off", "tiny", "small"]
ColorNorm = Literal["off", "layernorm", "residual", "concat"]
Pool = Literal["mean", "cls"]
PositionInit = Literal["normal", "sincos"]
AttentionInit = Literal["normal", "mimetic"]

STEM_STRIDE: dict[str, int] = {"off": 1, "tiny": 4, "small": 4}
"""Pixels of the image per pixel of the stem's output, along one side."""

FROM_DATA = ("image_size", "channels", "classes")
"""Fields that no user sets: the data set decides them (`ModelConfig.for_images`)."""

SPLIT_HEADS = 8
"""Heads of split-head attention: 2 each for R, G, B and 2 shared."""


@Rule
def grey_or_rgb(channels: int) -> str | None:
    """Two channels are no image."""
    if channels in (1, 3):
        return None
    return f"channels = {channels}: must be 1 (grey) or 3 (RGB)"


@Rule
def heads_divide(embed_dim: int, heads: int) -> str | None:
    """Every head gets the same number of features."""
    if embed_dim % heads == 0:
        return None
    return f"embed_dim = {embed_dim}: must be a multiple of heads = {heads}"


@Rule
def split_heads_are_8(heads: int, split_heads: bool) -> str | None:
    """2-2-2 heads that look at R, G and B alone, and 2 shared ones."""
    if not split_heads or heads == SPLIT_HEADS:
        return None
    return (
        f"heads = {heads}: must be {SPLIT_HEADS} when split_heads is on (2 each for R, G, B and "
        "2 shared)"
    )


@configuration
class ModelConfig(Config):
    """One NKAT Vision Transformer (the source's baseline by default)."""

    RULES = (grey_or_rgb, heads_divide, split_heads_are_8)

    image_size: Annotated[
        int, Field(ge=1, le=1024, description="side of the square input"), Unit("pixels")
    ] = 32
    channels: Annotated[int, Field(ge=1, description="1 (grey) or 3 (RGB)")] = 3
    classes: Annotated[
        int, Field(ge=1, le=100_000, description="number of labels, 0..classes-1")
    ] = 10
    conv_stem: Annotated[
        ConvStem,
        Field(
            description="off; tiny (two stride-2 3x3 convolutions, 32 and 64 channels); small "
            "(64, 128 channels and one more 128 with stride 1)"
        ),
    ] = "tiny"
    patch_size: Annotated[
        int,
        Field(
            ge=1,
            le=1024,
            description="kernel and stride of the patch embedding, on the stem's output; inputs "
            "that do not divide are padded, never cropped",
        ),
        Unit("pixels"),
    ] = 2
    embed_dim: Annotated[
        int, Field(ge=1, le=65_536, description="features of a token, a multiple of heads")
    ] = 384
    depth: Annotated[int, Field(ge=1, le=1000, description="transformer blocks")] = 7
    heads: Annotated[int, Field(ge=1, le=1024, description="attention heads")] = 8
    mlp_ratio: Annotated[
        float, Field(gt=0, le=64, description="hidden features of the MLP / embed_dim")
    ] = 2.0
    pool: Annotated[Pool, Field(description="mean of the tokens, or a cls token of its own")] = (
        "mean"
    )
    color_norm: Annotated[
        ColorNorm,
        Field(
            description="what is done to a pixel's RGB values first: off; layernorm; residual "
            "(raw plus a learnt share of normalised); concat (raw and normalised)"
        ),
    ] = "off"
    split_heads: Annotated[
        bool, Field(description="heads 2-2-2 that look at R, G and B alone plus 2 shared ones")
    ] = False
    temperature: Annotated[
        float, Field(gt=0, description="softmax temperature of the attention")
    ] = 0.65
    top_k: Annotated[
        int | None,
        Field(ge=1, le=1_000_000, description="keys kept per query by rank; null keeps all"),
    ] = 6
    top_p: Annotated[
        float, Field(gt=0, le=1, description="keys kept per query by mass; 1 keeps all")
    ] = 0.80
    nkat_strength: Annotated[
        float, Field(description="weight of the theta modulation; 0 turns it off")
    ] = 0.0024
    nkat_decay: Annotated[
        float, Field(gt=0, le=1, description="that weight's factor per layer")
    ] = 0.99
    dropout_attn: Annotated[
        float, Field(ge=0, lt=1, description="dropout on attention weights")
    ] = 0.17
    dropout_embed: Annotated[float, Field(ge=0, lt=1, description="dropout on embeddings")] = 0.08
    position_init: Annotated[
        PositionInit,
        Field(
            description="first values of the positions, which are trained: normal (std 0.02), or "
            "sincos (2-D sines and cosines, and a patch projection of the same scale)"
        ),
    ] = "normal"
    attention_init: Annotated[
        AttentionInit,
        Field(
            description="first values of the attention's matrices: normal (std 0.02), or mimetic "
            "(a token attends to tokens like itself; the output opposes the input)"
        ),
    ] = "normal"

    @property
    def stem_size(self) -> int:
        """Side of the stem's output, pixels: a stride-2, pad-1, 3x3 convolution
        gives ceil(n / 2)."""
        size = self.image_size
        if self.conv_stem != "off":
            size = -(-size // 2)
            size = -(-size // 2)
        return size

    @property
    def grid_size(self) -> int:
        """Patches along one side, after padding."""
        return -(-self.stem_size // self.patch_size)

    @property
    def tokens(self) -> int:
        """Tokens a block works on, the class token included."""
        return self.grid_size**2 + (self.pool == "cls")

    @property
    def nkat_scalars(self) -> int:
        """Theory-specific parameters: alpha, beta and two branch scales a block."""
        return 4 * self.depth

    def for_images(self, *, image_size: int, channels: int, classes: int) -> Self:
        """The same network for another data set."""
        return replace(self, image_size=image_size, channels=channels, classes=classes)
