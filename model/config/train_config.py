"""How a network is trained: every field with its type, range, unit, help and default.

The defaults are the source's baseline (README, "The source's baseline").
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from model.config.base import Config, Rule, configuration
from model.config.facts import Unit

Optimizer = Literal["adamw", "muon"]
Precision = Literal["auto", "bf16", "fp32"]
Decay = Literal["cosine", "linear"]


@Rule
def mixes_share_the_batches(mixup: float, cutmix: float) -> str | None:
    """Each is the share of the batches that are mixed that way."""
    if mixup + cutmix <= 1:
        return None
    return (
        f"mixup + cutmix = {mixup + cutmix:g}: must be <= 1 (each is the share of batches that "
        "are mixed that way)"
    )


@Rule
def warmup_fits(warmup: float, epochs: int) -> str | None:
    """Asked of a warm-up that somebody chose: it must end before training does.

    No rule of `TrainConfig`, whose default warm-up is cut to half of a short run.
    """
    if warmup < epochs:
        return None
    return f"warmup = {warmup:g}: must be less than epochs = {epochs}"


@configuration
class TrainConfig(Config):
    """One training recipe (the source's baseline by default)."""

    RULES = (mixes_share_the_batches,)

    epochs: Annotated[
        int,
        Field(ge=1, le=1_000_000, description="passes over the training images"),
        Unit("epochs"),
    ] = 40
    batch_size: Annotated[
        int,
        Field(
            ge=1,
            le=1_000_000,
            description="images a step (the source gives none; its earlier code used 32)",
        ),
        Unit("images"),
    ] = 128
    optimizer: Annotated[
        Optimizer,
        Field(description="adamw, or muon (hidden matrices by Muon, the rest by AdamW)"),
    ] = "adamw"
    lr: Annotated[
        float, Field(gt=0, description="peak learning rate, after warm-up, before the decay")
    ] = 2e-4
    warmup: Annotated[
        float,
        Field(
            ge=0,
            description="linear warm-up from 0, may be a fraction; left out, half of the run at "
            "most",
        ),
        Unit("epochs"),
    ] = 5.0
    lr_decay: Annotated[
        Decay,
        Field(description="how the learning rate falls to 0 after warm-up: cosine or linear"),
    ] = "cosine"
    weight_decay: Annotated[float, Field(ge=0, description="AdamW's, on matrices only")] = 0.05
    ema: Annotated[
        float,
        Field(
            ge=0,
            lt=1,
            description="decay of the averaged weights per step, warmed up as "
            "min(ema, (1 + step) / (10 + step)); 0 turns averaging off",
        ),
    ] = 0.9995
    clip_grad: Annotated[
        float | None,
        Field(gt=0, description="largest global gradient norm; null turns clipping off"),
    ] = 1.0
    label_smoothing: Annotated[
        float, Field(ge=0, lt=1, description="share of the label spread over all classes")
    ] = 0.0
    mixup: Annotated[float, Field(ge=0, le=1, description="share of the batches by MixUp")] = 0.1
    cutmix: Annotated[
        float,
        Field(ge=0, le=1, description="share of the batches by CutMix; mixup + cutmix <= 1"),
    ] = 0.2
    mix_alpha: Annotated[
        float, Field(gt=0, description="alpha of both mixes' Beta(alpha, alpha)")
    ] = 1.0
    randaugment_ops: Annotated[
        int,
        Field(ge=0, le=100, description="RandAugment operations an image gets; 0 turns it off"),
    ] = 2
    randaugment_magnitude: Annotated[
        int, Field(ge=0, le=30, description="RandAugment's magnitude on torchvision's scale")
    ] = 9
    cutout: Annotated[
        int,
        Field(ge=0, le=1024, description="side of the square that is blanked; 0 turns it off"),
        Unit("pixels"),
    ] = 8
    crop_padding: Annotated[
        int,
        Field(ge=0, le=1024, description="padding of the random crop; 0 turns it off"),
        Unit("pixels"),
    ] = 4
    flip: Annotated[
        bool, Field(description="horizontal flips; never on sets of digits and letters")
    ] = True
    channel_shuffle: Annotated[
        float,
        Field(ge=0, le=1, description="probability that an RGB image's channels are permuted"),
    ] = 0.0
    precision: Annotated[
        Precision,
        Field(description="auto (bf16 autocast on a GPU, fp32 on a CPU), bf16 or fp32"),
    ] = "auto"
