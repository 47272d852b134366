"""What a network is and how it is trained, as plain frozen values (no torch here).

Every number comes from the source's baseline (README, "The recipe"); a search
file may fix or search any of them.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields, replace
from typing import TYPE_CHECKING, Any, Literal, Self, TypeVar, get_args

from nkat_errors import BadInput

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

    _Config = TypeVar("_Config", bound=DataclassInstance)

ConvStem = Literal["off", "tiny", "small"]
ColorNorm = Literal["off", "layernorm", "residual", "concat"]
Pool = Literal["mean", "cls"]
Optimizer = Literal["adamw", "muon"]

STEM_STRIDE: dict[str, int] = {"off": 1, "tiny": 4, "small": 4}
"""Pixels of the image per pixel of the stem's output, along one side."""


def _require(condition: bool, name: str, value: object, rule: str) -> None:
    if not condition:
        raise BadInput(f"{name} = {value!r}: must be {rule}")


def _require_in(name: str, value: object, literal: Any) -> None:
    choices = get_args(literal)
    _require(value in choices, name, value, f"one of {', '.join(map(str, choices))}")


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelConfig:
    """One NKAT Vision Transformer.

    Args:
        image_size: side of the square input, pixels (28 or 32 for the four sets).
        channels: 1 (grey) or 3 (RGB).
        classes: number of labels, 0..classes-1.
        conv_stem: `off`; `tiny` (two stride-2 3x3 convolutions, 32 and 64
            channels); `small` (64, 128 channels and one more 128 with stride 1).
        patch_size: kernel and stride of the patch embedding, on the stem's output;
            inputs that do not divide are padded, never cropped.
        embed_dim: features of a token, a multiple of `heads`.
        depth: transformer blocks.
        heads: attention heads.
        mlp_ratio: hidden features of the MLP / embed_dim.
        pool: `mean` of the tokens, or a `cls` token of its own.
        color_norm: what is done to a pixel's RGB values first (model/network/color_norm.py).
        split_heads: heads 2-2-2 that look at R, G and B alone plus 2 shared ones.
        temperature: softmax temperature (> 0) of the attention.
        top_k: keys kept per query by rank; None keeps all.
        top_p: keys kept per query by mass, (0, 1]; 1 keeps all.
        nkat_strength: weight of the theta modulation (0 turns it off).
        nkat_decay: the weight's factor per layer.
        dropout_attn: dropout on attention weights, [0, 1).
        dropout_embed: dropout on embeddings, [0, 1).
    """

    image_size: int = 32
    channels: int = 3
    classes: int = 10
    conv_stem: ConvStem = "tiny"
    patch_size: int = 2
    embed_dim: int = 384
    depth: int = 7
    heads: int = 8
    mlp_ratio: float = 2.0
    pool: Pool = "mean"
    color_norm: ColorNorm = "off"
    split_heads: bool = False
    temperature: float = 0.65
    top_k: int | None = 6
    top_p: float = 0.80
    nkat_strength: float = 0.0024
    nkat_decay: float = 0.99
    dropout_attn: float = 0.17
    dropout_embed: float = 0.08

    def __post_init__(self) -> None:
        _require_in("conv_stem", self.conv_stem, ConvStem)
        _require_in("color_norm", self.color_norm, ColorNorm)
        _require_in("pool", self.pool, Pool)
        _require(self.channels in (1, 3), "channels", self.channels, "1 (grey) or 3 (RGB)")
        for name in ("image_size", "classes", "patch_size", "embed_dim", "depth", "heads"):
            value = getattr(self, name)
            _require(isinstance(value, int) and value >= 1, name, value, "a whole number >= 1")
        _require(
            self.embed_dim % self.heads == 0,
            "embed_dim",
            self.embed_dim,
            f"a multiple of heads = {self.heads}",
        )
        _require(
            not self.split_heads or self.heads == 8,
            "heads",
            self.heads,
            "8 when split_heads is on (2 each for R, G, B and 2 shared)",
        )
        _require(self.mlp_ratio > 0, "mlp_ratio", self.mlp_ratio, "> 0")
        _require(self.temperature > 0, "temperature", self.temperature, "> 0")
        _require(
            self.top_k is None or (isinstance(self.top_k, int) and self.top_k >= 1),
            "top_k",
            self.top_k,
            "null or a whole number >= 1",
        )
        _require(0 < self.top_p <= 1, "top_p", self.top_p, "in (0, 1]")
        _require(0 < self.nkat_decay <= 1, "nkat_decay", self.nkat_decay, "in (0, 1]")
        for name in ("dropout_attn", "dropout_embed"):
            _require(0 <= getattr(self, name) < 1, name, getattr(self, name), "in [0, 1)")

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

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Self:
        """Raises `BadInput` on an unknown key or a value out of range."""
        return _from_dict(cls, values)


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainConfig:
    """One training recipe (the source's baseline by default).

    Args:
        epochs: passes over the training split.
        batch_size: images a step (the source gives none; its earlier code used 32).
        optimizer: `adamw`, or `muon` (hidden matrices by Muon, the rest by AdamW).
        lr: peak learning rate, after warm-up, before the cosine.
        warmup: epochs of linear warm-up, from 0; half of `epochs` at most is used.
        weight_decay: AdamW's, on matrices only.
        ema: decay of the averaged weights per step, warmed up as
            min(ema, (1 + step) / (10 + step)); 0 turns averaging off.
        clip_grad: largest global gradient norm; null turns clipping off.
        label_smoothing: [0, 1).
        mixup: probability that a batch is mixed by MixUp.
        cutmix: probability that a batch is mixed by CutMix (mixup + cutmix <= 1).
        mix_alpha: Beta(alpha, alpha) of both mixes.
        randaugment_ops: operations an image gets (0: off).
        randaugment_magnitude: torchvision's scale, 0..30 (31 bins).
        cutout: side of the square that is blanked, pixels (0: off).
        crop_padding: pixels of padding of the random crop (0: off).
        flip: horizontal flips allowed; digits and letters are never flipped.
        channel_shuffle: probability that an RGB image's channels are permuted.
        precision: `auto` (bf16 autocast on a GPU, fp32 on a CPU), `bf16` or `fp32`.
    """

    epochs: int = 40
    batch_size: int = 128
    optimizer: Optimizer = "adamw"
    lr: float = 2e-4
    warmup: float = 5.0
    weight_decay: float = 0.05
    ema: float = 0.9995
    clip_grad: float | None = 1.0
    label_smoothing: float = 0.0
    mixup: float = 0.1
    cutmix: float = 0.2
    mix_alpha: float = 1.0
    randaugment_ops: int = 2
    randaugment_magnitude: int = 9
    cutout: int = 8
    crop_padding: int = 4
    flip: bool = True
    channel_shuffle: float = 0.0
    precision: Literal["auto", "bf16", "fp32"] = "auto"

    def __post_init__(self) -> None:
        _require_in("optimizer", self.optimizer, Optimizer)
        _require(
            self.precision in ("auto", "bf16", "fp32"),
            "precision",
            self.precision,
            "one of auto, bf16, fp32",
        )
        for name in ("epochs", "batch_size"):
            value = getattr(self, name)
            _require(isinstance(value, int) and value >= 1, name, value, "a whole number >= 1")
        _require(self.lr > 0, "lr", self.lr, "> 0")
        _require(self.warmup >= 0, "warmup", self.warmup, ">= 0 epochs")
        _require(self.weight_decay >= 0, "weight_decay", self.weight_decay, ">= 0")
        _require(0 <= self.ema < 1, "ema", self.ema, "in [0, 1)")
        _require(
            self.clip_grad is None or self.clip_grad > 0,
            "clip_grad",
            self.clip_grad,
            "null or > 0",
        )
        _require(self.mix_alpha > 0, "mix_alpha", self.mix_alpha, "> 0")
        for name in ("mixup", "cutmix", "channel_shuffle", "label_smoothing"):
            _require(0 <= getattr(self, name) <= 1, name, getattr(self, name), "in [0, 1]")
        _require(
            self.mixup + self.cutmix <= 1,
            "mixup + cutmix",
            self.mixup + self.cutmix,
            "<= 1 (each is the share of batches that are mixed that way)",
        )
        _require(
            0 <= self.randaugment_magnitude <= 30,
            "randaugment_magnitude",
            self.randaugment_magnitude,
            "in 0..30 (torchvision's scale)",
        )
        for name in ("randaugment_ops", "cutout", "crop_padding"):
            value = getattr(self, name)
            _require(isinstance(value, int) and value >= 0, name, value, "a whole number >= 0")

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Self:
        """Raises `BadInput` on an unknown key or a value out of range."""
        return _from_dict(cls, values)


def _from_dict(cls: type[_Config], values: dict[str, Any]) -> _Config:
    known = {field.name for field in fields(cls)}
    unknown = sorted(set(values) - known)
    if unknown:
        raise BadInput(f"unknown key {unknown[0]!r} for {cls.__name__}: known are {sorted(known)}")
    return cls(**values)
