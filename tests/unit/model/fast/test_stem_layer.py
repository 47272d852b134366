"""The stem's kernels against torch's convolutions, BatchNorm and GELU, in float32.

In Triton's interpreter without a GPU, with the compiled kernels on one.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch

# tests/conftest.py has set TRITON_INTERPRET where there is no GPU.
pytest.importorskip("triton")

from model.config import ModelConfig
from model.fast.blocks import FlatBuffers
from model.fast.flat_layout import make_layout
from model.fast.stem_stage import AutogradStemStage, KernelStemStage, make_stem_stage
from model.network.vit import build_network

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
IMAGES = 3


@pytest.fixture(autouse=True)
def _no_tf32(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)


@pytest.mark.parametrize(
    "changes",
    [
        {"patch_size": 1},
        {"patch_size": 2, "image_size": 9},  # 3 x 3 pixels of the stem in a padded grid
        {"channels": 1, "image_size": 7, "color_norm": "residual"},
        {"conv_stem": "small", "patch_size": 2},
        {"patch_size": 1, "color_norm": "residual"},
        {"patch_size": 1, "color_norm": "layernorm"},
        {"conv_stem": "small", "patch_size": 2, "color_norm": "concat"},
    ],
)
def test_outputs_gradients_and_statistics_equal_torchs(changes: dict[str, Any]) -> None:
    config = ModelConfig(**{"image_size": 8, "embed_dim": 16, "heads": 2, "depth": 1, **changes})
    network = build_network(config, seed=0, device=str(DEVICE)).train()
    layout = make_layout(network, optimizer="adamw")
    flats = FlatBuffers.empty(layout, device=DEVICE, dtype=torch.float32)
    values = {name: value.clone() for name, value in network.state_dict().items()}
    layout.bind(network, flats.weights)
    generator = torch.Generator(DEVICE).manual_seed(1)
    side = config.image_size
    images = torch.randn(IMAGES, side, side, config.channels, device=DEVICE, generator=generator)
    dpixels = None
    found = []
    for kind in (AutogradStemStage, KernelStemStage):
        network.load_state_dict(values)
        for name, buffer in network.named_buffers():
            if name.endswith("running_mean"):  # a guess that is far off must do too
                buffer.fill_(0.5)
        flats.copies.copy_(flats.weights[: layout.trained])
        flats.high_grads.fill_(torch.nan)
        stem = kind(
            network=network, layout=layout, flats=flats, images=images, dtype=torch.float32
        )
        pixels = stem.forward()
        if dpixels is None:
            dpixels = torch.randn(pixels.shape, device=DEVICE, generator=generator)
        stem.backward(dpixels)
        results = {"pixels": pixels.clone()}
        for name in layout.stem:
            view = layout.places[name].view(flats.high_grads, first=layout.low)
            results[name] = view.clone()
        results |= {
            name: value.clone() for name, value in network.named_buffers() if "stem" in name
        }
        found.append(results)
    want, got = found
    assert want.keys() == got.keys()
    for name, value in want.items():
        scale = float(value.abs().max())
        assert torch.allclose(got[name], value, rtol=1e-4, atol=1e-5 * scale), name


def test_which_stem_stage_a_network_gets() -> None:
    kinds = []
    for changes in ({}, {"color_norm": "residual"}, {"conv_stem": "off", "patch_size": 4}):
        network = build_network(ModelConfig(**{"embed_dim": 64, "depth": 1, **changes}), seed=0)
        layout = make_layout(network, optimizer="adamw")
        flats = FlatBuffers.empty(layout, device=torch.device("cpu"), dtype=torch.float32)
        stem = make_stem_stage(
            network=network,
            layout=layout,
            flats=flats,
            images=torch.zeros(1, 32, 32, 3),
            dtype=torch.float32,
        )
        kinds.append(type(stem))
    assert kinds == [KernelStemStage, KernelStemStage, AutogradStemStage]
