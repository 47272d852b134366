"""MixUp and CutMix against plain loops, and how often each is drawn."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from torch.fx.experimental.proxy_tensor import make_fx

from model.augment import Mix
from model.config import TrainConfig

CONFIG = TrainConfig(mixup=0.1, cutmix=0.2)
MIXUP, CUTMIX, NEITHER = 0.25, 0.1, 0.9  # values of the draw that choose each


def batch(size: int = 12) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(size, 3, 20, 20, generator=generator)
    return images, torch.randint(0, 7, (size,), generator=generator)


def test_mixup_equals_a_loop_and_labels_follow_the_images() -> None:
    images, labels = batch()
    share = 0.3
    mixed, target = Mix(CONFIG).apply(images, labels, torch.tensor([MIXUP, 0.5, 0.5, share]))
    soft = target.soft(7)
    for i in range(len(images)):
        partner = i - 1  # Python's -1 is the last image
        expected = share * images[i] + (1 - share) * images[partner]
        assert torch.allclose(mixed[i], expected, atol=1e-6)
        label = torch.zeros(7)
        label[labels[i]] += share
        label[labels[partner]] += 1 - share
        assert torch.allclose(soft[i], label, atol=1e-6)


@pytest.mark.parametrize(
    ("centre_y", "centre_x", "share"),
    [(0.5, 0.5, 0.6), (0.0, 0.99, 0.3), (0.9, 0.05, 0.0), (0.5, 0.5, 0.9999)],
)
def test_cutmix_equals_a_loop_and_the_share_is_the_area_kept(
    centre_y: float, centre_x: float, share: float
) -> None:
    images, labels = batch()
    draws = torch.tensor([CUTMIX, centre_y, centre_x, share])
    mixed, target = Mix(CONFIG).apply(images, labels, draws)
    size = 20
    half = int(0.5 * math.sqrt(1 - share) * size)
    y, x = int(centre_y * size), int(centre_x * size)
    top, bottom = max(y - half, 0), min(y + half, size)
    left, right = max(x - half, 0), min(x + half, size)
    for i in range(len(images)):
        expected = images[i].clone()
        expected[:, top:bottom, left:right] = images[i - 1][:, top:bottom, left:right]
        assert torch.equal(mixed[i], expected)
    kept = 1 - (bottom - top) * (right - left) / size**2
    assert float(target.share) == pytest.approx(kept, abs=1e-6)
    assert torch.equal(target.partners, labels.roll(1))


def test_an_unmixed_batch_is_left_alone_to_the_bit() -> None:
    images, labels = batch()
    mixed, target = Mix(CONFIG).apply(images, labels, torch.tensor([NEITHER, 0.5, 0.5, 0.3]))
    assert torch.equal(mixed, images)
    assert float(target.share) == 1
    assert torch.equal(target.soft(7).argmax(1), labels)


def test_soft_labels_are_probabilities() -> None:
    images, labels = batch()
    mix = Mix(replace(CONFIG, mixup=0.5, cutmix=0.5))
    generator = torch.Generator().manual_seed(0)
    for _ in range(20):
        _, target = mix(images, labels, generator)
        assert torch.allclose(target.soft(7).sum(1), torch.ones(len(labels)))


def test_batches_are_mixed_as_often_as_asked() -> None:
    images, labels = torch.arange(4.0).view(4, 1, 1, 1).expand(4, 1, 8, 8), torch.arange(4)
    mix = Mix(CONFIG)
    generator = torch.Generator().manual_seed(0)
    found = {"mixup": 0, "cutmix": 0, "neither": 0}
    rounds = 3000
    for _ in range(rounds):
        draws = mix.draw(generator)
        mixed, target = mix.apply(images, labels, draws)
        if float(draws[0]) < 0.2:  # a box of no area is still CutMix's draw
            found["cutmix"] += 1
            assert bool(torch.isin(mixed[1], torch.tensor([0.0, 1.0])).all())
        elif float(target.share) < 1:
            found["mixup"] += 1
            assert len(mixed[1].unique()) == 1
        else:
            found["neither"] += 1
    assert abs(found["mixup"] / rounds - 0.1) < 0.02
    assert abs(found["cutmix"] / rounds - 0.2) < 0.025


@pytest.mark.parametrize("alpha", [0.1, 1.0, 3.0])
def test_lambda_is_beta_distributed(alpha: float) -> None:
    mix = Mix(replace(CONFIG, mix_alpha=alpha))
    generator = torch.Generator().manual_seed(0)
    draws = torch.stack([mix.draw(generator)[3] for _ in range(4000)])
    assert bool(((draws >= 0) & (draws <= 1)).all())
    assert float(draws.mean()) == pytest.approx(0.5, abs=0.03)
    # Var Beta(a, a) = 1 / (4 (2 a + 1))
    assert float(draws.var()) == pytest.approx(1 / (4 * (2 * alpha + 1)), rel=0.08)


@pytest.mark.parametrize("alpha", [0.2, 1.0])
def test_a_generator_fixes_the_mix(alpha: float) -> None:
    images, labels = batch()
    mix = Mix(replace(CONFIG, mix_alpha=alpha, mixup=0.5, cutmix=0.5))
    first, _ = mix(images, labels, torch.Generator().manual_seed(4))
    again, _ = mix(images, labels, torch.Generator().manual_seed(4))
    other, _ = mix(images, labels, torch.Generator().manual_seed(5))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_mixing_branches_on_no_value() -> None:
    """Traced on an unmixed batch, replayed on a CutMix one."""
    images, labels = batch()
    mix = Mix(CONFIG)

    def run(draws: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        mixed, target = mix.apply(images, labels, draws)
        return mixed, target.share

    traced = make_fx(run)(torch.tensor([NEITHER, 0.5, 0.5, 0.5]))
    for choice in (MIXUP, CUTMIX, NEITHER):
        draws = torch.tensor([choice, 0.3, 0.6, 0.4])
        for ours, theirs in zip(traced(draws), run(draws), strict=True):
            assert torch.equal(ours, theirs)


def test_a_recipe_without_mixing_says_so() -> None:
    assert not Mix(replace(CONFIG, mixup=0.0, cutmix=0.0)).active
    assert Mix(CONFIG).active
