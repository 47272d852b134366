"""The whole augmentation of a batch: crop, flip, shuffle, cutout, order, capture."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

import pytest
import torch
from torch.fx.experimental.proxy_tensor import make_fx
from torch.nn import functional

from model.augment import Augment, normalise
from model.augment.crop import CHANNEL_ORDERS, CropMode, crop_positions, gather_pixels
from model.augment.cutout import cutout_mask
from model.augment.draws import uniform_int
from model.config import TrainConfig
from model.data import DatasetInfo
from nkat_errors import BadInput

PLAIN = TrainConfig(randaugment_ops=0, cutout=0, crop_padding=0, flip=False)


def facts(*, channels: int = 3, size: int = 32, flip: bool = True) -> DatasetInfo:
    return DatasetInfo(
        name="made_up",
        title="made up",
        classes=10,
        channels=channels,
        image_size=size,
        flip=flip,
        source="prepared",
        checksum="",
        train_size=1,
        test_size=1,
    )


def noise(batch: int, *, channels: int = 3, size: int = 32, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    shape = (batch, channels, size, size)
    return torch.randint(0, 256, shape, generator=generator, dtype=torch.uint8)


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize(("mode", "channels"), [("reflect", 3), ("zero", 1)])
def test_crop_and_flip_equal_a_loop_over_padded_images(mode: CropMode, channels: int) -> None:
    padding, size, batch = 4, 28, 200
    images = noise(batch, channels=channels, size=size)
    generator = seeded(1)
    shift = torch.randint(-padding, padding + 1, (batch, 2), generator=generator)
    flipped = torch.rand(batch, generator=generator) < 0.5
    positions = crop_positions(
        size=size, shift_y=shift[:, 0], shift_x=shift[:, 1], flipped=flipped, mode=mode
    )
    ours = gather_pixels(images, positions, inside=mode == "reflect")

    pad_mode = "reflect" if mode == "reflect" else "constant"
    padded = functional.pad(images.float(), [padding] * 4, mode=pad_mode).to(torch.uint8)
    for i in range(batch):
        top, left = (shift[i] + padding).tolist()
        expected = padded[i, :, top : top + size, left : left + size]
        if flipped[i]:
            expected = expected.flip(-1)
        assert torch.equal(ours[i], expected)


def test_crop_shifts_cover_the_whole_range_evenly_and_differ_per_image() -> None:
    # A single bright pixel tells where each image was cropped.
    batch = 4050
    images = torch.zeros(batch, 1, 28, 28, dtype=torch.uint8)
    images[:, 0, 14, 14] = 255
    augment = Augment(replace(PLAIN, crop_padding=4), facts(channels=1, size=28))
    found = augment(images, seeded(0)).flatten(1).argmax(1)
    shifts = torch.stack([14 - found // 28, 14 - found % 28], 1)
    assert shifts.min() == -4
    assert shifts.max() == 4
    counts = torch.bincount((shifts[:, 0] + 4) * 9 + shifts[:, 1] + 4, minlength=81)
    # Chi-square with 80 degrees of freedom: 99.99 % of draws stay below 136.
    assert float(((counts - batch / 81) ** 2 / (batch / 81)).sum()) < 136


def test_half_of_the_images_are_flipped_and_never_those_of_digits() -> None:
    images = noise(2000)
    config = replace(PLAIN, flip=True)
    result = Augment(config, facts())(images, seeded(0)).to(torch.uint8)
    mirrored = (result == images.flip(-1)).flatten(1).all(1)
    same = (result == images).flatten(1).all(1)
    assert bool((mirrored ^ same).all())
    assert 0.45 < mirrored.float().mean() < 0.55
    digits = Augment(config, facts(flip=False))(images, seeded(0))
    assert torch.equal(digits.to(torch.uint8), images)


def test_channel_shuffle_permutes_with_its_probability() -> None:
    images = noise(6000, size=4)
    augment = Augment(replace(PLAIN, channel_shuffle=0.6), facts(size=4))
    result = augment(images, seeded(0)).to(torch.uint8)
    matches = torch.stack(
        [(result == images[:, list(order)]).flatten(1).all(1) for order in CHANNEL_ORDERS], 1
    )
    assert bool((matches.sum(1) == 1).all())
    share = matches.float().mean(0)
    assert abs(float(share[0]) - (0.4 + 0.6 / 6)) < 0.03
    assert bool(((share[1:] - 0.1).abs() < 0.02).all())
    grey = noise(10, channels=1)
    unchanged = Augment(replace(PLAIN, channel_shuffle=1.0), facts(channels=1))(grey, seeded(0))
    assert torch.equal(unchanged.to(torch.uint8), grey)


@pytest.mark.parametrize("side", [1, 7, 8])
def test_cutout_blanks_one_square_per_image(side: int) -> None:
    size, batch = 28, 300
    uniform = torch.rand(batch, 2, generator=seeded(0))
    mask = cutout_mask(uniform, image_size=size, side=side)
    for i, (row, column) in enumerate(uniform_int(uniform, size).tolist()):
        expected = torch.zeros(size, size, dtype=torch.bool)
        top, left = row - side // 2, column - side // 2
        expected[max(top, 0) : top + side, max(left, 0) : left + side] = True
        assert torch.equal(mask[i, 0], expected)
    assert len(set(mask.flatten(1).float().argmax(1).tolist())) > 100


def test_cutout_blanks_to_the_mean_which_is_zero_after_normalising() -> None:
    mean, std = torch.tensor([0.5, 0.4, 0.3]), torch.tensor([0.2, 0.3, 0.25])
    images = noise(50)
    augment = Augment(replace(PLAIN, cutout=8), facts(), mean=mean)
    uniform = augment.draw(50, seeded(0))
    result = normalise(augment.apply(images, uniform), mean, std)
    blanked = cutout_mask(uniform[:, 5:7], image_size=32, side=8).expand_as(result)
    assert float(result[blanked].abs().max()) < 1e-5
    assert torch.equal(result[~blanked], normalise(images, mean, std)[~blanked])


def test_normalise_against_its_formula() -> None:
    mean, std = torch.tensor([0.5, 0.4, 0.3]), torch.tensor([0.2, 0.3, 0.25])
    images = noise(4)
    expected = (images.double() / 255 - mean[:, None, None]) / std[:, None, None]
    assert float((normalise(images, mean, std) - expected).abs().max()) < 1e-5


@pytest.mark.parametrize(("channels", "size"), [(3, 32), (1, 28)])
def test_routes_agree_and_a_generator_fixes_everything(channels: int, size: int) -> None:
    images = noise(256, channels=channels, size=size)
    config = replace(TrainConfig(), channel_shuffle=0.3)
    info = facts(channels=channels, size=size)
    fused = Augment(config, info, route="fused")
    grouped = Augment(config, info, route="grouped")
    first = fused(images, seeded(5))
    assert torch.equal(first, grouped(images, seeded(5)))
    assert torch.equal(first, fused(images, seeded(5)))
    assert not torch.equal(first, fused(images, seeded(6)))
    changed = (first != images).flatten(1).any(1)
    assert changed.float().mean() > 0.95


def test_an_image_does_not_depend_on_its_neighbours() -> None:
    images = noise(64)
    augment = Augment(TrainConfig(), facts())
    uniform = augment.draw(64, seeded(0))
    together = augment.apply(images, uniform)
    for i in (0, 13, 63):
        alone = augment.apply(images[i : i + 1], uniform[i : i + 1])
        assert torch.equal(alone[0], together[i])


def test_equal_images_come_out_different() -> None:
    images = noise(1).expand(100, -1, -1, -1)
    result = Augment(TrainConfig(), facts())(images, seeded(0))
    assert len({one.numpy().tobytes() for one in result}) == 100


@pytest.mark.parametrize(("channels", "size"), [(3, 32), (1, 28)])
def test_the_device_route_has_static_shapes_and_no_synchronisation(
    channels: int, size: int
) -> None:
    """Traced with one batch, replayed on another: data-dependent shapes, `.item()` and
    branches on values would fail to trace or would replay the first batch's choices."""
    images = noise(32, channels=channels, size=size)
    config = replace(TrainConfig(), channel_shuffle=0.5)
    augment = Augment(config, facts(channels=channels, size=size), route="fused")

    def run(pictures: torch.Tensor, uniform: torch.Tensor) -> torch.Tensor:
        return augment.apply(pictures, uniform)

    traced = make_fx(run)(images, augment.draw(32, seeded(0)))
    used = {str(node.target) for node in traced.graph.nodes}
    forbidden = ("nonzero", "_local_scalar_dense", "index_put", "masked_select", "unique")
    assert not [name for name in used for word in forbidden if word in name]
    other, uniform = noise(32, channels=channels, size=size, seed=9), augment.draw(32, seeded(1))
    assert torch.equal(traced(other, uniform), augment.apply(other, uniform))


@pytest.mark.parametrize("backend", ["aot_eager"])
def test_the_device_route_compiles_as_one_graph(backend: Literal["aot_eager"]) -> None:
    augment = Augment(TrainConfig(), facts(), route="fused")
    compiled = torch.compile(augment.apply, fullgraph=True, backend=backend, dynamic=False)
    for seed in (0, 1):
        images, uniform = noise(16, seed=seed), augment.draw(16, seeded(seed))
        assert torch.equal(compiled(images, uniform), augment.apply(images, uniform))


def test_padding_as_large_as_the_image_is_refused() -> None:
    with pytest.raises(BadInput, match=r"crop_padding = 28: must be below the image size, 28"):
        Augment(replace(PLAIN, crop_padding=28), facts(channels=1, size=28))
