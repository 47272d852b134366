"""Weights files of networks that were never trained."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from image_sets import device_set

from model.config import ModelConfig
from model.network.vit import build_network
from search.retrain.weights import weights_bytes
from search.trained.prediction import Trained

SMALL = {"classes": 4, "conv_stem": "off", "patch_size": 7, "embed_dim": 32, "depth": 2}


def small_config(*, grey: bool = True, **fields: object) -> ModelConfig:
    """A network of 16 tokens for 28x28 grey or 28x28 colour images."""
    given = {**SMALL, "image_size": 28, "channels": 1 if grey else 3, **fields}
    return ModelConfig.from_dict(given)


def digit(size: int = 28) -> np.ndarray:
    """uint8 [size, size]: a light ring on black, with a digit's margin."""
    rows, columns = np.mgrid[:size, :size] / (size - 1) - 0.5
    away = np.hypot(rows, columns * 1.4)
    return (255 * np.clip(1 - np.abs(away - 0.28) / 0.07, 0, 1)).astype(np.uint8)


def write_weights(path: Path, config: ModelConfig) -> Path:
    """Of seed 3, with statistics of dark images."""
    shape = (8, config.image_size, config.image_size, config.channels)
    images = np.broadcast_to(digit(config.image_size)[None, ..., None], shape)
    train = device_set(images.copy(), np.arange(8) % config.classes, classes=config.classes)
    network = build_network(config, seed=3)
    content = weights_bytes(network, config=config, train=train, seed=3, epochs=1, weights="raw")
    path.write_bytes(content)
    return path


def trained(folder: Path, config: ModelConfig) -> Trained:
    return Trained.load(write_weights(folder / "w.safetensors", config), device="cpu")
