"""What a network is and how it is trained, as plain frozen values (no torch here).

    model = ModelConfig(embed_dim=448)
    train = TrainConfig(epochs=10)

Type, range, unit, help and default of a field stand once, at the field
(`model_config.py`, `train_config.py`); the search file, its JSON schema and the command
line read them from there with `facts_of`.
"""

from __future__ import annotations

from model.config.base import Config, Rule
from model.config.facts import FieldFacts, facts_of
from model.config.model_config import (
    FROM_DATA,
    STEM_STRIDE,
    AttentionInit,
    ColorNorm,
    ConvStem,
    ModelConfig,
    Pool,
    PositionInit,
)
from model.config.train_config import Decay, Optimizer, Precision, TrainConfig, warmup_fits
from model.errors import BadField

__all__ = [
    "FROM_DATA",
    "STEM_STRIDE",
    "AttentionInit",
    "BadField",
    "ColorNorm",
    "Config",
    "ConvStem",
    "Decay",
    "FieldFacts",
    "ModelConfig",
    "Optimizer",
    "Pool",
    "PositionInit",
    "Precision",
    "Rule",
    "TrainConfig",
    "facts_of",
    "warmup_fits",
]
