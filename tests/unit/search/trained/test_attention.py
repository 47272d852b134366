"""Attention as it was: counts, shares, scalars and the picture agree with the definition."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
import torch
from PIL import Image
from tiny_weights import digit, small_config, trained

from model.kernels.attention import nkat_attention
from model.kernels.reference import reference_keep
from model.network.attention_trace import trace_attention
from model.network.vit import build_network
from nkat_errors import BadInput
from search.trained.attention import head_names, look
from search.trained.attention_picture import (
    ATTENDED,
    CELL,
    CUT,
    GAP,
    LABELS,
    AttentionPicture,
    overlaid,
)

FILTERS = [{"top_k": 6, "top_p": 0.8}, {"top_k": 3, "top_p": 1.0}, {"top_k": None, "top_p": 0.5}]


@pytest.mark.parametrize("fields", [*FILTERS, {"top_k": None, "top_p": 1.0}])
@pytest.mark.parametrize("more", [{}, {"pool": "cls"}, {"grey": False, "split_heads": True}])
def test_the_trace_is_what_the_network_did(fields, more):
    network = build_network(small_config(**fields, **more), seed=1)
    with torch.no_grad():  # sharper than first weights, so that top-p has something to cut
        for block in network.blocks:
            block.attention.qkv.weight.mul_(30)
    config = network.config
    generator = torch.Generator().manual_seed(0)
    images = torch.rand(3, config.channels, 28, 28, generator=generator)
    block = network.blocks[-1]
    logits, traces = trace_attention(network, images)
    assert network.training, "left as it was"
    with torch.no_grad():
        assert torch.equal(logits, network.eval()(images))
    assert len(traces) == config.depth
    trace = traces[-1]
    assert trace.kept.shape == (3, config.heads, config.tokens, config.tokens)
    x = {}
    hook = block.attention.register_forward_pre_hook(
        lambda _, given, named: x.update(named, x=given[0]), with_kwargs=True
    )
    with torch.no_grad():
        network(images)
    hook.remove()
    q, k, v = block.attention.queries_keys_values(x["x"], x["colours"])
    scores = q.double() @ k.double().mT / (math.sqrt(q.shape[-1]) * config.temperature)
    kept = reference_keep(scores, top_k=config.top_k, top_p=config.top_p)
    by_rank = reference_keep(scores, top_k=config.top_k, top_p=1.0)
    assert (trace.kept != kept).double().mean() < 1e-3  # float32 against float64
    assert (trace.by_rank != by_rank).double().mean() < 1e-3
    assert not (trace.kept & ~trace.by_rank).any()
    if fields["top_p"] < 1:
        assert (trace.by_rank & ~trace.kept).any(), "nothing was cut: the test shows nothing"
    out = nkat_attention(
        q, k, v, temperature=config.temperature, top_k=config.top_k, top_p=config.top_p
    )
    assert torch.allclose(trace.weights @ v, out, atol=1e-5)
    assert torch.equal(trace.theta, block.attention.theta(x["stream"]).squeeze(-1))


def view_of(tmp_path, *, query=None, **fields):
    one = trained(tmp_path, small_config(**fields))
    Image.fromarray(digit()).save(tmp_path / "digit.png")
    (view,) = look(one, one.read([tmp_path / "digit.png"]), query=query)
    return one, view


def test_a_view_counts_and_names(tmp_path):
    one, view = view_of(tmp_path, top_k=6, top_p=0.8)
    assert (view.tokens, len(view.layers), view.heads[0]) == (16, 2, "head 1")
    layer = view.layers[1]
    block = one.network.blocks[1]
    assert layer.scalars.alpha == pytest.approx(0.1)
    assert layer.scalars.mlp_scale == block.mlp_scale.item() == 1
    assert layer.by_rank == (6.0,) * 8
    assert all(1 <= kept <= 6 for kept in layer.kept)
    # A query keeps `kept` of 16 keys: so do the shares of all keys together.
    assert layer.attended.sum(axis=(1, 2)) == pytest.approx(layer.kept)
    both = (layer.attended + layer.cut_by_mass).sum(axis=(1, 2))
    assert both == pytest.approx(layer.by_rank)
    plain = json.loads(json.dumps(view.to_dict()))
    assert plain["layers"][0]["layer"] == 1
    assert len(plain["layers"][0]["heads"]) == 8
    assert plain["label"] in "0123"


def test_one_query(tmp_path):
    _, view = view_of(tmp_path, query=(1, 2), pool="cls")
    shares = view.layers[0].attended
    assert set(np.unique(shares)) <= {0.0, 1.0}
    assert shares.shape == (8, 4, 4)
    with pytest.raises(BadInput, match=r"--token 4,0: the network's tokens are 4 x 4"):
        view_of(tmp_path, query=(4, 0))


def test_split_heads_say_their_colour():
    names = head_names(heads=8, split=True)
    assert names[0] == "head 1 (R)"
    assert names[3] == "head 4 (G)"
    assert names[6:] == ("head 7", "head 8")


def test_colours_of_the_overlay():
    image = np.full((1, 3, 3), 200.0)
    attended, cut = np.array([[1.0, 0.0, 0.0]]), np.array([[0.0, 1.0, 0.0]])
    first, second, third = overlaid(image, attended=attended, cut=cut)[0]
    assert np.argmax(first) == np.argmax(ATTENDED)
    assert np.argmax(second) == np.argmax(CUT)
    assert third == pytest.approx([44.0] * 3), "cut by top-k: dark"


@pytest.mark.parametrize("fields", [{}, {"grey": False, "image_size": 30, "conv_stem": "tiny"}])
def test_the_picture(tmp_path, fields):
    one, view = view_of(tmp_path, query=(0, 0), **fields)
    picture = AttentionPicture(config=one.network.config, heading="a heading").draw([view, view])
    assert picture.width == LABELS + 8 * (CELL + GAP) + GAP
    pixels = np.asarray(picture)
    cell = pixels[:, LABELS : LABELS + CELL].reshape(-1, 3)
    coloured = (cell.max(axis=1).astype(int) - cell.min(axis=1)) > 60
    assert coloured.mean() > 0.05, "tokens that are attended to"
    assert (pixels[-GAP:] == 255).all(), "nothing is cut off below"
