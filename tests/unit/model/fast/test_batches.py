"""The fast path's images are the plain path's, bit for bit.

In Triton's interpreter without a GPU, with the compiled kernels on one.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch

# tests/conftest.py has set TRITON_INTERPRET where there is no GPU.
pytest.importorskip("triton")

from image_sets import device_set

from model.augment import Augment
from model.augment.pipeline import FIRST_OPERATION
from model.config import TrainConfig
from model.data.device import DeviceSet
from model.fast.batches import Batches
from model.fast.run_values import RunValues

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
OPERATIONS = 14
CODES = 2 * OPERATIONS
"""An operation and a sign each."""


def images_of(channels: int, *, size: int, count: int) -> DeviceSet:
    random = np.random.default_rng(channels)
    # smooth ones and noise: an equalised or stretched histogram depends on which
    ramp = np.add.outer(np.arange(size), np.arange(size))[None, :, :, None] * 5
    images = random.integers(0, 256, (count, size, size, channels))
    images[::2] = (images[::2] // 16 + ramp).clip(0, 255)
    return device_set(
        images.astype(np.uint8), random.integers(0, 10, count), classes=10, device=str(DEVICE)
    )


@pytest.mark.parametrize(("channels", "size"), [(3, 12), (1, 9)])
@pytest.mark.parametrize("magnitude", [9, 30])
def test_every_operation_after_every_placing(channels: int, size: int, magnitude: int) -> None:
    train = images_of(channels, size=size, count=CODES)
    recipe = TrainConfig(
        randaugment_ops=2,
        randaugment_magnitude=magnitude,
        crop_padding=3,
        cutout=0,
        channel_shuffle=0.5,
    )
    augment = Augment(recipe, train.info, mean=train.mean, device=DEVICE)
    generator = torch.Generator(DEVICE).manual_seed(1)
    uniform = augment.draw(CODES, generator)
    code = torch.arange(CODES, device=DEVICE)
    for index, drawn in enumerate((code, (5 * code + 3) % CODES)):
        uniform[:, FIRST_OPERATION + 2 * index] = (drawn // 2 + 0.5) / OPERATIONS
        uniform[:, FIRST_OPERATION + 2 * index + 1] = torch.where(drawn % 2 == 1, 0.25, 0.75)
    order = torch.randperm(CODES, device=DEVICE, generator=generator)

    values = RunValues.empty(depth=1, rows=1, device=DEVICE)
    fast = Batches(
        info=train.info,
        images=CODES,
        labels=CODES,
        steps=1,
        values=values,
        dtype=torch.float32,
    )
    fast.augment(train, augment, order=order, uniform=uniform)
    want = augment.apply(train.images[order], uniform)
    wrong = (fast.augmented.float() != want.float()).flatten(1).any(1)
    assert not bool(wrong.any()), f"codes {code[wrong].tolist()}"
