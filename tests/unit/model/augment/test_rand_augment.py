"""Every RandAugment operation against torchvision's own, image by image."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional as tv

from model.augment.operations import BINS, CODES, OPERATIONS
from model.augment.rand_augment import RandAugment, draw_codes

SIGNED = OPERATIONS[1:10]
# torchvision multiplies and adds in one rounding where the machine can; we always in two.
ONE_LEVEL = {"Brightness", "Color", "Contrast", "Sharpness"}


def pictures(*, channels: int, size: int) -> torch.Tensor:
    """Noise, gradients, shapes on black, flat and two-valued images: uint8 [N, C, H, W]."""
    generator = torch.Generator().manual_seed(size + channels)
    y, x = torch.meshgrid(torch.arange(size), torch.arange(size), indexing="ij")
    noise = torch.randint(0, 256, (3, channels, size, size), generator=generator)
    gradient = torch.stack([(x * 7 + y * 3 * (c + 1)) % 256 for c in range(channels)])
    disc = ((x - 11) ** 2 + (y - 15) ** 2 < 60).to(torch.int64)
    shape = torch.stack([disc * (200 - 40 * c) for c in range(channels)])
    soft = (torch.rand(channels, size, size, generator=generator) * 60 + 90 + shape / 4).long()
    flat = torch.full((channels, size, size), 77)
    two = torch.where(x > size // 2, 255, 0).expand(channels, size, size)
    numbered = (torch.arange(size * size).view(size, size) % 256).expand(channels, size, size)
    rest = torch.stack([gradient, shape, soft, flat, two, numbered])
    return torch.cat([noise, rest]).clamp(0, 255).to(torch.uint8)


def torchvision_operation(
    image: torch.Tensor, name: str, magnitude: int, *, negative: bool
) -> torch.Tensor:
    """What torchvision.transforms.v2.RandAugment does once it has drawn `name`."""
    policy: Any = v2.RandAugment()
    levels, signed = policy._AUGMENTATION_SPACE[name]
    size = image.shape[-1]
    values = levels(BINS, size, size)
    level = 0.0 if values is None else float(values[magnitude])
    if signed and negative:
        level *= -1
    result: torch.Tensor = policy._apply_image_or_video_transform(
        image, name, level, interpolation=v2.InterpolationMode.NEAREST, fill={}
    )
    return result


@pytest.mark.parametrize("route", ["fused", "grouped"])
@pytest.mark.parametrize(("channels", "size"), [(3, 32), (1, 28)])
@pytest.mark.parametrize("magnitude", [0, 5, 9, 20, 30])
def test_every_operation_equals_torchvisions(
    magnitude: int, channels: int, size: int, route: str
) -> None:
    images = pictures(channels=channels, size=size)
    augment = RandAugment(magnitude=magnitude, image_size=size, device="cpu")
    for code in range(CODES):
        name, negative = OPERATIONS[code // 2], code % 2 == 1
        codes = torch.full((len(images),), code)
        ours = getattr(augment, route)(images, codes).to(torch.int16)
        theirs = torch.stack(
            [torchvision_operation(one, name, magnitude, negative=negative) for one in images]
        ).to(torch.int16)
        difference = (ours - theirs).abs()
        allowed = 1 if name in ONE_LEVEL else 0
        assert difference.max() <= allowed, (name, negative)
        # A level may flip only where the true value is a whole number: in few pixels of
        # an ordinary image, in all of a flat one.
        share = (difference > 0).flatten(1).float().mean(1)
        assert share.median() < 0.03, (name, negative)


def test_magnitudes_are_torchvisions_for_every_bin() -> None:
    space: Any = v2.RandAugment._AUGMENTATION_SPACE
    from model.augment.operations import posterize_bits, signed_level, solarize_from

    assert tuple(space) == OPERATIONS
    for magnitude in range(BINS):
        for name in SIGNED:
            assert signed_level(name, magnitude, size=32) == float(
                space[name][0](BINS, 32, 32)[magnitude]
            )
        assert posterize_bits(magnitude) == int(space["Posterize"][0](BINS, 32, 32)[magnitude])
        threshold = 255.0 * float(space["Solarize"][0](BINS, 32, 32)[magnitude])
        every = torch.arange(256, dtype=torch.uint8).view(1, 16, 16)
        inverted = tv.solarize(every, threshold).flatten() != every.flatten()
        first = int(inverted.int().argmax()) if inverted.any() else 256
        assert solarize_from(magnitude) == first


@pytest.mark.parametrize(("channels", "size"), [(3, 32), (1, 28)])
def test_both_routes_give_the_same_pictures(channels: int, size: int) -> None:
    generator = torch.Generator().manual_seed(3)
    images = pictures(channels=channels, size=size)
    images = images.repeat(40, 1, 1, 1)
    augment = RandAugment(magnitude=13, image_size=size, device="cpu")
    codes = draw_codes(torch.rand(len(images), 2, generator=generator))
    assert torch.equal(augment.fused(images, codes), augment.grouped(images, codes))


def test_images_of_one_batch_get_their_own_operations() -> None:
    image = pictures(channels=3, size=32)[5]
    augment = RandAugment(magnitude=9, image_size=32, device="cpu")
    codes = torch.arange(CODES)
    together = augment.fused(image.expand(CODES, -1, -1, -1), codes)
    for code in range(CODES):
        alone = augment.fused(image[None], codes[code : code + 1])
        assert torch.equal(together[code], alone[0])
    different = {picture.numpy().tobytes() for picture in together}
    # Unsigned operations (Identity, Posterize, Solarize, AutoContrast, Equalize) have one result
    # for both signs; all others differ from each other.
    assert len(different) == 2 * len(SIGNED) + 5


def test_geometry_in_plain_words() -> None:
    """Independent of torchvision: shifts, rotation's direction, black from outside."""
    size = 32
    image = torch.zeros(1, 1, size, size, dtype=torch.uint8)
    image[0, 0, 16, 20] = 200
    augment = RandAugment(magnitude=9, image_size=size, device="cpu")

    def bright(name: str, *, negative: bool) -> list[int]:
        code = torch.tensor([2 * OPERATIONS.index(name) + negative])
        moved = augment.fused(image, code)[0, 0]
        return moved.nonzero()[0].tolist() if moved.any() else []

    pixels = int(9 / 30 * 150 / 331 * size)  # 4
    assert bright("TranslateX", negative=False) == [16, 20 + pixels]
    assert bright("TranslateX", negative=True) == [16, 20 - pixels]
    assert bright("TranslateY", negative=False) == [16 + pixels, 20]
    # Counter-clockwise by 9 degrees about (15.5, 15.5): right of the centre goes up.
    angle = math.radians(9)
    row = 15.5 + (0.5 * math.cos(angle) - 4.5 * math.sin(angle))
    column = 15.5 + (0.5 * math.sin(angle) + 4.5 * math.cos(angle))
    assert bright("Rotate", negative=False) == [round(row), round(column)]
    white = torch.full_like(image, 255)
    code = torch.tensor([2 * OPERATIONS.index("TranslateX")])
    moved = augment.fused(white, code)[0, 0]
    assert not moved[:, :pixels].any()
    assert bool((moved[:, pixels:] == 255).all())


def test_operations_and_signs_are_drawn_evenly_and_apart() -> None:
    count = 28_000
    uniform = torch.rand(count, 2, generator=torch.Generator().manual_seed(0))
    codes = draw_codes(uniform)
    found = torch.bincount(codes, minlength=CODES)
    expected = count / CODES
    # Chi-square with 27 degrees of freedom: 99.99 % of draws stay below 63.
    assert float(((found - expected) ** 2 / expected).sum()) < 63
    assert len(found) == CODES
