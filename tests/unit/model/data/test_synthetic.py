"""Rendered sets: right shapes, fixed by their seed, learnable but not trivial."""

from __future__ import annotations

import numpy as np
import pytest

from model.data import KNOWN_SETS, load_dataset
from model.data.synthetic import RENDERERS, synthetic_dataset
from nkat_errors import BadInput

FOUR = ("cifar10", "mnist", "fashion_mnist", "emnist_letters")


@pytest.mark.parametrize("name", FOUR)
def test_shapes_classes_and_label(name: str) -> None:
    dataset = load_dataset(name, data_dir=None, synthetic=True)
    known, info = KNOWN_SETS[name], dataset.info
    assert (info.classes, info.channels, info.image_size, info.flip) == (
        known.classes,
        known.channels,
        known.image_size,
        known.flip,
    )
    assert info.source == "synthetic"
    assert "synthetic" in info.title
    side = known.image_size
    assert dataset.train_images.shape == (4000, side, side, known.channels)
    counts = np.bincount(dataset.train_labels, minlength=known.classes)
    assert counts.max() - counts.min() <= 1
    test_images, test_labels = dataset.read_test()
    assert test_images.shape == (1000, side, side, known.channels)
    assert set(test_labels) == set(range(known.classes))
    train = {image.tobytes() for image in dataset.train_images}
    assert len(train) == 4000
    assert not train & {image.tobytes() for image in test_images}


@pytest.mark.parametrize("name", RENDERERS)
def test_a_seed_fixes_every_picture(name: str) -> None:
    def checksum(seed: int) -> str:
        return synthetic_dataset(name, seed=seed, train_size=100, test_size=10).info.checksum

    assert checksum(0) == checksum(0)
    assert checksum(0) != checksum(1)


@pytest.mark.parametrize(
    ("name", "nearest_centre", "nearest_image"),
    # (at most, at least): too hard for class means, yet neighbours help; chance is 0.1 or 0.04.
    [
        ("cifar10", 0.6, 0.35),
        ("mnist", 0.7, 0.6),
        ("fashion_mnist", 0.9, 0.8),
        ("emnist_letters", 0.5, 0.4),
    ],
)
def test_classes_can_be_told_but_not_by_their_means(
    name: str, nearest_centre: float, nearest_image: float
) -> None:
    dataset = load_dataset(name, data_dir=None, synthetic=True)
    train = dataset.train_images.reshape(4000, -1).astype(np.float32)
    test_images, test_labels = dataset.read_test()
    test = test_images.reshape(1000, -1).astype(np.float32)
    labels = dataset.train_labels
    centres = np.stack([train[labels == k].mean(0) for k in range(dataset.info.classes)])

    def nearest(points: np.ndarray) -> np.ndarray:
        distances = (points**2).sum(1) - 2 * test @ points.T
        found: np.ndarray = distances.argmin(1)
        return found

    assert (nearest(centres) == test_labels).mean() < nearest_centre
    assert (labels[nearest(train)] == test_labels).mean() > nearest_image


def test_an_unknown_set_cannot_be_rendered() -> None:
    with pytest.raises(BadInput, match=r"'runes': cannot be rendered"):
        load_dataset("runes", data_dir=None, synthetic=True)
