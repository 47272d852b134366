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
from model.fast.blocks import Flats
from model.fast.flat_layout import make_layout
from model.fast.stem_stage import AutogradFront, KernelFront, make_front
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
    ],
)
def test_outputs_gradients_and_statistics_equal_torchs(changes: dict[str, Any]) -> None:
    config = ModelConfig(**{"image_size": 8, "embed_dim": 16, "heads": 2, "depth": 1, **changes})
    network = build_network(config, seed=0, device=str(DEVICE)).train()
    layout = make_layout(network, optimizer="adamw")
    flats = Flats.empty(layout, device=DEVICE, dtype=torch.float32)
    values = {name: value.clone() for name, value in network.state_dict().items()}
    layout.bind(network, flats.weights)
    generator = torch.Generator(DEVICE).manual_seed(1)
    side = config.image_size
    pictures = torch.randn(IMAGES, side, side, config.channels, device=DEVICE, generator=generator)
    dpixels = None
    found = []
    for kind in (AutogradFront, KernelFront):
        network.load_state_dict(values)
        for name, buffer in network.named_buffers():
            if name.endswith("running_mean"):  # a guess that is far off must do too
                buffer.fill_(0.5)
        flats.copies.copy_(flats.weights[: layout.trained])
        flats.high_grads.fill_(torch.nan)
        options = {"dtype": torch.float32} if kind is AutogradFront else {}
        front = kind(network=network, layout=layout, flats=flats, pictures=pictures, **options)
        pixels = front.forward()
        if dpixels is None:
            dpixels = torch.randn(pixels.shape, device=DEVICE, generator=generator)
        front.backward(dpixels)
        results = {"pixels": pixels.clone()}
        for name in layout.front:
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


def test_which_front_a_network_gets() -> None:
    kinds = []
    for changes in ({}, {"color_norm": "residual"}, {"conv_stem": "off", "patch_size": 4}):
        network = build_network(ModelConfig(**{"embed_dim": 64, "depth": 1, **changes}), seed=0)
        layout = make_layout(network, optimizer="adamw")
        flats = Flats.empty(layout, device=torch.device("cpu"), dtype=torch.float32)
        front = make_front(
            network=network,
            layout=layout,
            flats=flats,
            pictures=torch.zeros(1, 32, 32, 3),
            dtype=torch.float32,
        )
        kinds.append(type(front))
    assert kinds == [KernelFront, AutogradFront, AutogradFront]
