"""Schedule, averaged weights, optimisers and loss against closed forms."""

from __future__ import annotations

import itertools
import math
import subprocess
import sys

import pytest
import torch
from torch import nn

from model.config import ModelConfig, TrainConfig
from model.network.vit import build_network
from model.training.ema import AveragedWeights, warm_decay
from model.training.loss import mixed_cross_entropy
from model.training.optimizers import Optimizers
from model.training.schedule import Schedule
from model.training.stacked_muon import StackedMuon


def test_a_linear_decay_falls_by_equal_steps_to_zero() -> None:
    config = TrainConfig(epochs=40, warmup=5, lr=2e-4, lr_decay="linear")
    schedule = Schedule.of(config, steps_per_epoch=10)
    rates = [schedule.lr(step) for step in range(schedule.steps)]
    cosine = Schedule.of(TrainConfig(epochs=40, warmup=5, lr=2e-4), steps_per_epoch=10)
    assert rates[:50] == [cosine.lr(step) for step in range(50)]
    assert rates[50] == pytest.approx(2e-4)
    falls = [a - b for a, b in itertools.pairwise(rates[50:])]
    assert falls == pytest.approx([2e-4 / 350] * 349)
    assert rates[-1] == pytest.approx(2e-4 / 350)


def test_warm_up_is_linear_and_the_rest_half_a_cosine() -> None:
    schedule = Schedule.of(TrainConfig(epochs=40, warmup=5, lr=2e-4), steps_per_epoch=10)
    assert (schedule.steps, schedule.warmup_steps) == (400, 50)
    assert [schedule.lr(step) for step in (0, 24, 49)] == pytest.approx([4e-6, 1e-4, 2e-4])
    assert schedule.lr(50) == pytest.approx(2e-4)
    assert schedule.lr(225) == pytest.approx(1e-4)
    assert schedule.lr(399) == pytest.approx(1e-4 * (1 + math.cos(math.pi * 349 / 350)))
    assert all(schedule.lr(s) > schedule.lr(s + 1) > 0 for s in range(50, 399))


@pytest.mark.parametrize(
    ("epochs", "warmup", "steps", "expected"),
    [(10, 5, 100, 500), (6, 5, 100, 300), (4, 5, 10, 20), (1, 5, 1, 0), (8, 0.5, 3, 1)],
)
def test_warm_up_takes_half_a_short_run_at_most(
    epochs: int, warmup: float, steps: int, expected: int
) -> None:
    config = TrainConfig(epochs=epochs, warmup=warmup)
    schedule = Schedule.of(config, steps_per_epoch=steps)
    assert schedule.warmup_steps == expected
    assert max(schedule.lr(step) for step in range(schedule.steps)) == pytest.approx(config.lr)


def test_the_average_is_the_closed_form() -> None:
    """A weight that is t in step t, averaged by hand."""
    network, averaged = nn.Linear(1, 1), nn.Linear(1, 1)
    nn.init.constant_(network.weight, 5.0)
    average = AveragedWeights(network=network, averaged=averaged, ema=0.9)
    by_hand = averaged.weight.item()
    assert by_hand == 5.0
    for update in range(200):
        nn.init.constant_(network.weight, float(update))
        average.update(update)
        decay = min(0.9, (1 + update) / (10 + update))
        by_hand = decay * by_hand + (1 - decay) * update
        assert averaged.weight.item() == pytest.approx(by_hand, rel=1e-5, abs=1e-6)
    assert by_hand == pytest.approx(199 - 9, rel=1e-3)  # a ramp's average lags by 1 / (1 - d) - 1


def test_the_decay_warms_up() -> None:
    assert warm_decay(0.9995, 0) == 0.1
    assert warm_decay(0.9995, 90) == 0.91
    assert warm_decay(0.9995, 10**6) == 0.9995


def test_batch_norms_statistics_are_averaged_and_its_counter_copied() -> None:
    network, averaged = nn.BatchNorm2d(2), nn.BatchNorm2d(2)
    average = AveragedWeights(network=network, averaged=averaged, ema=0.9)
    network(torch.full((2, 2, 2, 2), 3.0))
    average.update(0)
    assert averaged.running_mean is not None
    torch.testing.assert_close(averaged.running_mean, torch.full((2,), 0.9 * 0.3))
    assert averaged.num_batches_tracked == 1
    assert not averaged.training
    assert not any(parameter.requires_grad for parameter in averaged.parameters())


def decayed(optimizers: Optimizers, index: int) -> set[torch.Tensor]:
    groups = optimizers.all[index].param_groups
    return {p for group in groups if group["weight_decay"] > 0 for p in group["params"]}


@pytest.mark.parametrize("split_heads", [False, True])
def test_weight_decay_is_for_matrices_only(split_heads: bool) -> None:
    config = ModelConfig(
        embed_dim=64, depth=1, pool="cls", split_heads=split_heads, color_norm="residual"
    )
    network = build_network(config, seed=0)
    found = decayed(Optimizers(network=network, config=TrainConfig()), 0)
    names = {name for name, parameter in network.named_parameters() if parameter in found}
    colours = {"blocks.0.attention.colour_kv", "colour_tokens.embed", "colour_tokens.mix"}
    assert names == {
        "stem.0.weight",
        "stem.3.weight",
        "patches.project.weight",
        "blocks.0.attention.qkv.weight",
        "blocks.0.attention.project.weight",
        "blocks.0.expand.weight",
        "blocks.0.contract.weight",
        "head.weight",
        *(colours if split_heads else ()),
    }


@pytest.mark.parametrize("split_heads", [False, True])
@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_every_parameter_has_one_optimiser(optimizer: str, split_heads: bool) -> None:
    network = build_network(ModelConfig(embed_dim=64, depth=2, split_heads=split_heads), seed=0)
    config = TrainConfig.from_dict({"optimizer": optimizer})
    optimizers = Optimizers(network=network, config=config)
    owned = [p for o in optimizers.all for g in o.param_groups for p in g["params"]]
    assert len(owned) == len(set(owned))
    muon = optimizers.all[-1]
    wholes = [muon.whole(p)[0] if isinstance(muon, StackedMuon) else p for p in owned]
    assert set(wholes) == set(network.parameters())
    hidden = {
        p
        for n, p in network.named_parameters()
        if n.startswith("blocks.") and (p.ndim == 2 or n.endswith("colour_kv"))
    }
    if isinstance(muon, StackedMuon):
        assert {muon.whole(p)[0] for p in decayed(optimizers, -1)} == hidden
    optimizers.set_lr(0.125)
    assert {g["lr"] for o in optimizers.all for g in o.param_groups} == {0.125}


def test_moments_that_lie_in_another_order_are_those_of_the_same_weights() -> None:
    """A fast run's convolutions lie channels last; the fused step walks memory as it lies."""
    generator = torch.Generator().manual_seed(0)
    weights, grad, first, second = torch.rand(4, 4, 3, 3, 3, generator=generator)
    results = []
    for order in (torch.contiguous_format, torch.channels_last):
        network = nn.Conv2d(3, 4, 3, bias=False)
        network.weight.data.copy_(weights)
        optimizers = Optimizers(network=network, config=TrainConfig())
        (state,) = optimizers.state_dict()
        moments = {"exp_avg": first, "exp_avg_sq": second}
        moments = {name: m.clone(memory_format=order) for name, m in moments.items()}
        state["state"] = {0: {"step": torch.tensor(3.0), **moments}}
        optimizers.load_state_dict([state])
        network.weight.grad = grad.clone()
        optimizers.set_lr(0.1)
        optimizers.step()
        results.append(network.weight.detach())
    assert torch.equal(*results)


@pytest.mark.parametrize("label_smoothing", [0.0, 0.1])
def test_the_mixed_loss_is_the_soft_labels(label_smoothing: float) -> None:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(6, 10, generator=generator)
    labels = torch.randint(10, (6,), generator=generator)
    partners, share = labels.roll(1), torch.tensor(0.3)
    own, other = (nn.functional.one_hot(which, 10).float() for which in (labels, partners))
    expected = nn.functional.cross_entropy(
        logits, own * 0.3 + other * 0.7, label_smoothing=label_smoothing
    )
    mixed = mixed_cross_entropy(
        logits,
        labels,
        other_labels=partners,
        share=share,
        label_smoothing=label_smoothing,
    )
    torch.testing.assert_close(mixed, expected)
    torch.testing.assert_close(
        mixed_cross_entropy(logits, labels), nn.functional.cross_entropy(logits, labels)
    )


def test_a_training_that_is_built_leaves_torchs_compiler_alone() -> None:
    # sympy and torch._dynamo would cost a worker's first trial seconds
    code = (
        "import sys; from model.config import ModelConfig, TrainConfig; "
        "from model.network.vit import build_network; "
        "from model.training.optimizers import Optimizers; "
        "network = build_network(ModelConfig(), seed=0); "
        "Optimizers(network=network, config=TrainConfig(optimizer='muon')).zero_grad(); "
        "sys.exit(any(name in sys.modules for name in ('sympy', 'torch._dynamo')))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
