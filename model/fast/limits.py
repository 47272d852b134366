"""What the fast path can run; asked without loading Triton, so on any machine."""

from __future__ import annotations

import torch

from model.augment.pipeline import FIRST_OPERATION
from model.config import ModelConfig, TrainConfig
from model.kernels.triton_tiles import MAX_HEAD_DIM, MAX_TOKENS
from model.training.precision import uses_bf16

MOST_COLUMNS = 32
"""Room for the draws of up to twelve operations an image."""


def why_not(model: ModelConfig, train: TrainConfig, *, device: torch.device) -> str | None:
    """Why the fast path cannot run a configuration, or None where it can."""
    if device.type != "cuda":
        return f"the device is {device.type}"
    if model.tokens > MAX_TOKENS or model.embed_dim // model.heads > MAX_HEAD_DIM:
        return f"{model.tokens} tokens of {model.embed_dim // model.heads} a head are too large"
    if (model.embed_dim // model.heads) % 8 or round(model.embed_dim * model.mlp_ratio) % 8:
        return "widths are no multiples of 8"
    if FIRST_OPERATION + 2 * train.randaugment_ops > MOST_COLUMNS:
        return f"{train.randaugment_ops} RandAugment operations are too many"
    if not uses_bf16(train.precision, device):
        return f"precision is {train.precision}"
    return None
