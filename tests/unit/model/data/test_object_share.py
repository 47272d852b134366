"""How much of a grey image its object takes, whatever the ground."""

from __future__ import annotations

import numpy as np
import pytest

from model.data.object_share import Box, object_box, object_share


def framed(size: int, top: int, bottom: int, left: int, right: int) -> np.ndarray:
    image = np.zeros((size, size), np.uint8)
    image[top:bottom, left:right] = 200
    return image


def test_the_box_is_where_the_object_is():
    image = framed(28, 4, 24, 10, 15)
    assert object_box(image) == Box(top=4, bottom=24, left=10, right=15)
    assert object_box(255 - image) == object_box(image)
    rng = np.random.default_rng(0)
    noisy = (image + rng.integers(0, 30, image.shape)).astype(np.uint8)
    assert object_box(noisy) == object_box(image), "noise is no object"


@pytest.mark.parametrize("value", [0, 255])
def test_an_empty_image_has_none(value):
    image = np.full((28, 28), value, np.uint8)
    assert object_box(image) is None
    assert object_share(image[None]) == 1.0


def test_the_share_is_the_median_of_the_longer_sides():
    images = np.stack(
        [framed(28, 4, 24, 10, 15), framed(28, 0, 28, 9, 19), framed(28, 7, 21, 4, 24)]
    )
    assert object_share(images) == 20 / 28
