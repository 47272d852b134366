"""Weights files: the same network again, and one sentence for what is none."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from image_sets import device_set
from safetensors.torch import save_file

from model.config import ModelConfig
from model.network.vit import build_network
from nkat_errors import BadInput
from search.retrain.weights import load_weights, weights_bytes

CONFIG = ModelConfig(
    image_size=16, channels=3, classes=4, conv_stem="tiny", embed_dim=16, depth=1, heads=4
)


@pytest.fixture
def content():
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (8, 16, 16, 3), dtype=np.uint8)
    train = device_set(images, np.arange(8) % 4, classes=4)
    network = build_network(CONFIG, seed=3)
    return network, weights_bytes(
        network, config=CONFIG, train=train, seed=3, epochs=2, weights="raw"
    )


def test_round_trip(content, tmp_path):
    network, written = content
    path = tmp_path / "w.safetensors"
    path.write_bytes(written)
    again, facts = load_weights(path)
    images = torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        assert torch.equal(again(images), network.eval()(images))
    assert not again.training
    assert (facts.dataset, facts.class_names, facts.seed, facts.weights) == (
        "noise",
        ("0", "1", "2", "3"),
        3,
        "raw",
    )
    assert facts.object_share == 1.0, "colour images are not cut to their object"
    assert len(facts.mean) == len(facts.std) == 3


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda data: data[:100], "damaged"),
        (lambda data: b"", "damaged"),
        (lambda data: data.replace(b"nkat-weights/1", b"nkat-weights/9"), "not weights of nkat"),
        # One more layer in the header than there are tensors: the same number of bytes.
        (lambda data: data.replace(rb"\"depth\": 1", rb"\"depth\": 2"), "do not agree"),
        (lambda data: data.replace(rb"\"classes\": 4", rb"\"classes\": 5"), "4 class names for 5"),
        (lambda data: data.replace(rb"\"epochs\"", rb"\"epocks\""), "its header lacks 'epochs'"),
        (lambda data: data.replace(rb"\"heads\": 4", rb"\"heads\": 3"), "multiple of heads"),
    ],
)
def test_damage_is_one_sentence(content, tmp_path, change, words):
    path = tmp_path / "w.safetensors"
    changed = change(content[1])
    assert changed != content[1]
    path.write_bytes(changed)
    with pytest.raises(BadInput, match=words) as caught:
        load_weights(path)
    assert "\n" not in str(caught.value)


def test_other_peoples_files(tmp_path):
    save_file({"a": torch.zeros(1)}, tmp_path / "other.safetensors")
    with pytest.raises(BadInput, match="not weights of nkat-search"):
        load_weights(tmp_path / "other.safetensors")
    save_file({"a": torch.zeros(1)}, tmp_path / "list.safetensors", metadata={"nkat": "[]"})
    with pytest.raises(BadInput, match="not weights of nkat-search"):
        load_weights(tmp_path / "list.safetensors")
    (tmp_path / "best.yaml").write_text("format: nkat-best/1")
    with pytest.raises(BadInput, match=r"best.yaml: no weights; they stand in a \*.safetensors"):
        load_weights(tmp_path / "best.yaml")
    with pytest.raises(BadInput, match="no such file"):
        load_weights(tmp_path / "none.safetensors")
