"""The fast path's Muon in Triton's interpreter, held against torch.optim.Muon.

Both round to bf16 at the same places.  What is left are last bits of float32: now and
then one rounds to the other neighbour, and Newton-Schulz makes up to 480 times as much
of it.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

pytest.importorskip("triton")

from interpreted import true_bf16

from model.config import ModelConfig, TrainConfig
from model.fast import muon
from model.fast.blocks import FlatBuffers
from model.fast.flat_layout import HIDDEN, Layout, make_layout
from model.fast.kernels import optimizer as optimizer_kernels
from model.fast.kernels.optimizer import PARTS
from model.fast.run_values import MOMENTUM, RunValues
from model.network.vit import NKATViT, build_network
from model.training.optimizers import Optimizers
from model.training.stacked_muon import StackedMuon

pytestmark = pytest.mark.skipif(
    torch.cuda.is_available(), reason="with a GPU, tests/gpu runs the compiled kernels"
)

CPU = torch.device("cpu")
LR, DECAY, AVERAGE = 0.01, 0.1, 0.75


@pytest.fixture(autouse=True)
def _as_a_gpu_rounds(monkeypatch: pytest.MonkeyPatch) -> None:
    true_bf16(monkeypatch)


def network_of(*, embed_dim: int, heads: int, mlp_ratio: float, split: bool = False) -> NKATViT:
    config = ModelConfig(
        image_size=8,
        embed_dim=embed_dim,
        heads=heads,
        depth=2,
        mlp_ratio=mlp_ratio,
        split_heads=split,
    )
    return build_network(config, seed=0)


class Ours:
    """Groups over flat buffers that hold `network`'s weights."""

    def __init__(self, network: NKATViT, *, clip: float) -> None:
        self.layout: Layout = make_layout(network, optimizer="muon")
        self.flats = FlatBuffers.empty(self.layout, device=CPU, dtype=torch.float32)
        for name, tensor in network.named_parameters():
            self.layout.places[name].view(self.flats.weights).copy_(tensor.detach())
        self.flats.average.copy_(self.flats.weights)
        self.squares = torch.zeros(PARTS)
        values = RunValues.empty(depth=2, rows=1, device=CPU)
        values.table.copy_(torch.tensor([[LR, 1.0, 1.0, AVERAGE]]))
        values.optimizer.copy_(torch.tensor([clip, DECAY, 0.9, 0.999, 1e-8, MOMENTUM]))
        self.groups = muon.make_groups(
            layout=self.layout, flats=self.flats, values=values, squares=self.squares
        )

    def matrices(self, flat: torch.Tensor) -> Iterator[tuple[str, torch.Tensor]]:
        for name, place in self.layout.places.items():
            if place.start < self.layout.muon:
                yield name, place.view(flat)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("embed_dim", "heads", "mlp_ratio", "clip", "split", "shapes"),
    [
        (24, 3, 2.0, 0.0, False, [(4, 48, 24), (2, 72, 24), (2, 24, 24)]),
        # more than a tile; one group for three
        (72, 3, 3.0, 3.0, False, [(6, 216, 72), (2, 72, 72)]),
        (32, 2, 0.5, 3.0, False, [(2, 96, 32), (2, 32, 32), (4, 32, 16)]),
        # each colour's keys and values of a layer, in one group with the MLP
        (32, 8, 0.5, 3.0, True, [(2, 48, 32), (10, 32, 16), (2, 32, 32)]),
    ],
)
def test_steps_equal_torchs(
    embed_dim: int,
    heads: int,
    mlp_ratio: float,
    clip: float,
    split: bool,
    shapes: list[tuple[int, ...]],
) -> None:
    network = network_of(embed_dim=embed_dim, heads=heads, mlp_ratio=mlp_ratio, split=split)
    ours = Ours(network, clip=clip)
    assert [tuple(group.update.shape) for group in ours.groups] == shapes
    named = dict(network.named_parameters())
    theirs = {name: named[name] for name, _ in ours.matrices(ours.flats.weights)}
    assert len(theirs) == (10 if split else 8)
    start = {name: weight.detach().clone() for name, weight in theirs.items()}
    averages = {name: weight.clone() for name, weight in start.items()}
    optimizer = StackedMuon(
        theirs.values(), lr=LR, weight_decay=DECAY, adjust_lr_fn="match_rms_adamw"
    )
    generator = torch.Generator().manual_seed(1)
    for _ in range(3):
        for name, grad in ours.matrices(ours.flats.low_grads):
            grad.normal_(generator=generator)
            theirs[name].grad = grad.clone()
        ours.squares[0] = sum(
            grad.square().sum() for _, grad in ours.matrices(ours.flats.low_grads)
        )
        if clip:
            torch.nn.utils.clip_grad_norm_(theirs.values(), clip)
        optimizer.step()
        for group in ours.groups:
            group.step()
        for name, average in averages.items():
            average.lerp_(theirs[name].detach(), 1 - AVERAGE)
    for name, weight in ours.matrices(ours.flats.weights):
        want = theirs[name].detach()
        change = (want - start[name]).norm()
        assert float((weight - want).norm() / change) < 2e-2, name
        assert float((weight - start[name]).norm() / change) > 0.9, name
    for name, average in ours.matrices(ours.flats.average):
        change = (averages[name] - start[name]).norm()
        assert float((average - averages[name]).norm() / change) < 2e-2, name
    names = {parameter: name for name, parameter in theirs.items()}
    momenta = dict(ours.matrices(ours.flats.first))
    assert len(optimizer.state) == len(theirs) + (4 if split else 0)
    for matrix, state in optimizer.state.items():
        parameter, index = optimizer.whole(matrix)
        momentum = momenta[names[parameter]]
        momentum = momentum if index is None else momentum[index]
        assert torch.allclose(momentum, state["momentum_buffer"], atol=1e-6), names[parameter]
    trained = slice(0, ours.layout.muon)
    assert torch.equal(ours.flats.copies[trained], ours.flats.weights[trained])


def test_a_matrix_without_gradient_only_decays() -> None:
    network = network_of(embed_dim=24, heads=3, mlp_ratio=2.0)
    ours = Ours(network, clip=1.0)
    start = ours.flats.weights.clone()
    for group in ours.groups:
        group.step()
    for (name, weight), (_, before) in zip(
        ours.matrices(ours.flats.weights), ours.matrices(start), strict=True
    ):
        assert torch.allclose(weight, (1 - LR * DECAY) * before), name


def test_a_gradient_that_is_not_finite_is_seen() -> None:
    network = network_of(embed_dim=24, heads=3, mlp_ratio=2.0)
    ours = Ours(network, clip=1.0)
    ours.squares[0] = float("nan")
    for group in ours.groups:
        group.step()
    for name, weight in ours.matrices(ours.flats.weights):
        assert bool(weight.isnan().all()), name


@pytest.mark.parametrize("split", [False, True])
def test_the_matrices_and_constants_are_those_of_the_plain_path(split: bool) -> None:
    network = network_of(embed_dim=24, heads=8, mlp_ratio=2.0, split=split)
    _, plain = Optimizers(network=network, config=TrainConfig(optimizer="muon")).all
    (group,) = plain.param_groups
    layout = make_layout(network, optimizer="muon")
    named = dict(network.named_parameters())
    ours = {name for name, place in layout.places.items() if place.start < layout.muon}
    assert isinstance(plain, StackedMuon)
    assert {named[name] for name in ours} == {plain.whole(w)[0] for w in group["params"]}
    assert group["momentum"] == MOMENTUM
    assert group["nesterov"]
    assert group["ns_coefficients"] == muon.COEFFICIENTS
    assert group["ns_steps"] == muon.STEPS
    assert group["eps"] == muon.SMALLEST_NORM


def test_with_adamw_no_matrix_is_muons() -> None:
    network = network_of(embed_dim=24, heads=3, mlp_ratio=2.0)
    layout = make_layout(network, optimizer="adamw")
    assert layout.muon == 0
    with_muon = make_layout(network, optimizer="muon")
    assert with_muon.muon % optimizer_kernels.BLOCK == 0
    assert set(HIDDEN) - set(layout.stacks) == {"colour_kv"}
    for name in HIDDEN[:-1]:
        assert layout.stacks[name] == with_muon.stacks[name]
