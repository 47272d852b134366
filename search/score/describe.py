"""What a configuration is and costs, and what its lambda then asks of it."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from model.config import ModelConfig, TrainConfig
from search.score.explain import TARGET
from search.score.tpe_score import (
    LAMBDA_READINGS,
    Lambdas,
    accuracy_needed,
    lambdas,
    largest_score,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadingNeeds:
    """What one reading of lambda asks for; all None where it gives no TPE score."""

    reading: str
    value: float
    gate_accuracy: float | None
    target_accuracy: float | None
    largest_score: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """The network on one kind of images.

    Args:
        images: such as `32x32x3, 10 classes`.
        stem_size: side of the stem's output, pixels.
        tokens: a block works on.
        parameters: trainable ones.
        forward_flops, training_flops: of one image (a multiply-add counts two).
    """

    images: str
    stem_size: int
    tokens: int
    parameters: int
    forward_flops: int
    training_flops: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Description:
    """Everything `nkat-search describe` shows."""

    layers: tuple[tuple[str, str], ...]
    shapes: tuple[Shape, ...]
    lambdas: Lambdas
    needs: tuple[ReadingNeeds, ...]

    def to_dict(self) -> dict[str, Any]:
        plain = asdict(self)
        plain["layers"] = [{"layer": name, "form": form} for name, form in self.layers]
        return plain


def describe(config: ModelConfig, *, threshold: float) -> Description:
    """Looks at the network on the meta device: nothing of it is allocated.

    Args:
        config: for the gate's images; the grey 28x28 form is shown beside it.
        threshold: the gate's.
    """
    from model.network.cost import model_cost

    shapes = []
    for one in _both_shapes(config):
        cost = model_cost(one)
        shapes.append(
            Shape(
                images=_images(one),
                stem_size=one.stem_size,
                tokens=cost.tokens,
                parameters=cost.parameters,
                forward_flops=cost.forward_flops,
                training_flops=cost.training_flops,
            )
        )
    readings = lambdas(config, parameters=shapes[0].parameters)
    return Description(
        layers=layers(config),
        shapes=tuple(shapes),
        lambdas=readings,
        needs=tuple(
            _needs(reading, readings.of(reading), threshold) for reading in LAMBDA_READINGS
        ),
    )


def slow_on_gpu(model: ModelConfig, train: TrainConfig) -> dict[str, str]:
    """Why a GPU cannot run the captured training step, by kind of images; empty where it can."""
    import torch

    from model.fast.limits import why_not

    reasons = {
        _images(one): why_not(one, train, device=torch.device("cuda"))
        for one in _both_shapes(model)
    }
    return {images: reason for images, reason in reasons.items() if reason is not None}


def _both_shapes(config: ModelConfig) -> tuple[ModelConfig, ...]:
    """The network for its own images, and for the grey sets'."""
    grey = config.for_images(image_size=28, channels=1, classes=26)
    return tuple(dict.fromkeys((config, grey)))


def _images(config: ModelConfig) -> str:
    return f"{config.image_size}x{config.image_size}x{config.channels}, {config.classes} classes"


def layers(config: ModelConfig) -> tuple[tuple[str, str], ...]:
    """The network's layers in order: name and form."""
    stems = {
        "off": "none",
        "tiny": f"Conv 3x3 /2 {config.channels}->32, BatchNorm, GELU; Conv 3x3 /2 32->64 likewise",
        "small": f"Conv 3x3 /2 {config.channels}->64, BatchNorm, GELU; Conv 3x3 /2 64->128 "
        "likewise; Conv 3x3 128->128",
    }
    norm = config.color_norm if config.channels == 3 else "off (grey images)"
    split = config.split_heads and config.channels == 3
    heads = "2-2-2 heads on R, G, B and 2 shared" if split else f"{config.heads} heads"
    keep = "all keys" if config.top_k is None else f"top-k {config.top_k}"
    keep += "" if config.top_p == 1 else f", then top-p {config.top_p:g}"
    hidden = round(config.embed_dim * config.mlp_ratio)
    return (
        ("color norm", norm),
        ("conv stem", f"{config.conv_stem}: {stems[config.conv_stem]}"),
        (
            "patch embedding",
            f"{config.patch_size}x{config.patch_size} on {config.stem_size}x{config.stem_size} "
            f"-> {config.grid_size}x{config.grid_size} tokens of {config.embed_dim}, "
            f"dropout {config.dropout_embed:g}",
        ),
        (
            f"{config.depth} blocks",
            f"NKAT attention ({heads}, temperature {config.temperature:g}, {keep}, dropout "
            f"{config.dropout_attn:g}, modulation {config.nkat_strength:g} * "
            f"{config.nkat_decay:g}^layer), MLP {config.embed_dim}->{hidden}->{config.embed_dim}",
        ),
        (
            "head",
            f"{config.pool} of the tokens, LayerNorm, Linear {config.embed_dim}->{config.classes}",
        ),
    )


def _needs(reading: str, value: float, threshold: float) -> ReadingNeeds:
    if value <= 0:
        return ReadingNeeds(
            reading=reading,
            value=value,
            gate_accuracy=None,
            target_accuracy=None,
            largest_score=None,
        )
    return ReadingNeeds(
        reading=reading,
        value=value,
        gate_accuracy=accuracy_needed(threshold, value),
        target_accuracy=accuracy_needed(TARGET, value),
        largest_score=largest_score(value),
    )
