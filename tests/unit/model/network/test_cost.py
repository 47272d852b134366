"""Costs known beforehand against what torch counts and keeps."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from model.config import ModelConfig
from model.network.cost import model_cost, split_head_overhead, training_bytes
from model.network.vit import NKATViT, build_network, count_parameters

CONFIGS: list[dict[str, Any]] = [
    {},
    {"split_heads": True},
    {"conv_stem": "small", "color_norm": "residual", "patch_size": 4},
    {"conv_stem": "off", "patch_size": 4, "pool": "cls", "split_heads": True, "embed_dim": 512},
    {"conv_stem": "off", "patch_size": 2, "depth": 5},
    {"image_size": 28, "channels": 1, "classes": 26, "color_norm": "layernorm"},
]


def images(config: ModelConfig, batch: int) -> torch.Tensor:
    return torch.zeros(batch, config.channels, config.image_size, config.image_size)


@pytest.mark.parametrize("values", CONFIGS, ids=str)
def test_flops_are_what_torch_counts(values: dict[str, Any]) -> None:
    config = ModelConfig.from_dict({**values, "top_k": None, "top_p": 1.0})
    with torch.device("meta"):
        network = NKATViT(config)
        with FlopCounterMode(display=False) as forward:
            network(images(config, 2))
        with FlopCounterMode(display=False) as training:
            network(images(config, 2)).sum().backward()
    cost = model_cost(config)
    assert cost.forward_flops == forward.get_total_flops() / 2
    assert cost.training_flops == training.get_total_flops() / 2
    assert cost.parameters == count_parameters(config)
    assert cost.tokens == config.tokens


@pytest.mark.parametrize("depth", [5, 7, 9])
def test_split_heads_cost_about_five_per_cent(depth: int) -> None:
    assert 0.04 < split_head_overhead(ModelConfig(depth=depth)) < 0.09
    assert split_head_overhead(ModelConfig(image_size=28, channels=1)) == 0


@pytest.mark.parametrize("values", CONFIGS, ids=str)
def test_predicted_memory_is_what_autograd_keeps(values: dict[str, Any]) -> None:
    config = ModelConfig.from_dict({**values, "embed_dim": 128, "depth": 3})
    network = build_network(config, seed=0)
    weights = {p.untyped_storage().data_ptr() for p in network.parameters()}
    kept: dict[int, torch.UntypedStorage] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage()
        return tensor

    batch = 8
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        network(images(config, batch))
    measured = sum(storage.nbytes() for key, storage in kept.items() if key not in weights)
    state = 5 * 4 * count_parameters(config)
    predicted = training_bytes(config, batch_size=batch, bf16=False) - state
    assert predicted == pytest.approx(measured, rel=0.3)


@pytest.mark.parametrize("module", ["model", "model.config", "model.network.cost", "model.errors"])
def test_values_and_costs_are_imported_without_torch(module: str) -> None:
    code = f"import sys, {module}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
