"""The resident set: layout, types and the training part's statistics."""

from __future__ import annotations

import numpy as np
import torch

from model.augment import normalise
from model.data import DeviceSet, device_sets, split
from model.data.device import channel_statistics
from model.data.synthetic import synthetic_dataset


def test_images_lie_planar_as_uint8_beside_int64_labels() -> None:
    parts = split(
        synthetic_dataset("cifar10", train_size=300, test_size=10), validation_size=50, seed=0
    )
    train, validation = device_sets(parts, device="cpu")
    assert train.images.shape == (250, 3, 32, 32)
    assert (train.images.dtype, train.labels.dtype) == (torch.uint8, torch.int64)
    assert train.images.is_contiguous()
    assert (len(train), len(validation)) == (250, 50)
    assert np.array_equal(train.images[7, 2].numpy(), parts.train_images[7, :, :, 2])
    assert np.array_equal(validation.labels.numpy(), parts.val_labels)


def test_both_parts_carry_the_training_parts_statistics() -> None:
    parts = split(
        synthetic_dataset("cifar10", train_size=300, test_size=10), validation_size=50, seed=0
    )
    train, validation = device_sets(parts, device="cpu")
    own = DeviceSet.from_arrays(parts.val_images, parts.val_labels, info=parts.info, device="cpu")
    assert torch.equal(train.mean, validation.mean)
    assert torch.equal(train.std, validation.std)
    assert not torch.equal(own.mean, validation.mean)
    flat = normalise(train.images, train.mean, train.std).transpose(0, 1).flatten(1)
    assert torch.allclose(flat.mean(1), torch.zeros(3), atol=1e-4)
    assert torch.allclose(flat.std(1), torch.ones(3), atol=1e-4)


def test_statistics_equal_numpys_also_beyond_one_chunk() -> None:
    images = np.random.default_rng(0).integers(0, 200, (9001, 3, 3, 3), dtype=np.uint8)
    mean, std = channel_statistics(images)
    values = images.astype(np.float64) / 255
    assert np.allclose(mean, values.mean((0, 1, 2)), atol=1e-7)
    assert np.allclose(std, values.std((0, 1, 2)), atol=1e-7)


def test_a_channel_that_never_changes_can_still_be_divided_by() -> None:
    images = np.full((4, 5, 5, 1), 9, np.uint8)
    mean, std = channel_statistics(images)
    assert float(std[0]) > 0
    assert normalise(torch.full((1, 1, 5, 5), 9), mean, std).abs().max() < 1e-6
