"""Rendered stand-ins for the known sets, for tests and machines without network.

They have the right shapes and class counts and can be learned, but they are not the
data sets they are named after: `DatasetInfo.source` is "synthetic" and every report
says so.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from model.data.info import Dataset, DatasetInfo, Images, Labels, array_checksum
from model.data.synthetic.clothes import render_clothes
from model.data.synthetic.glyphs import render_digits, render_letters
from model.data.synthetic.textures import render_textures
from model.known_sets import KNOWN_SETS, KnownSet
from nkat_errors import BadInput

TRAIN_SIZE = 4000
TEST_SIZE = 1000

Renderer = Callable[[Labels, np.random.Generator], Images]
"""Labels [N] to images uint8 [N, H, W, C], one picture of its class for each."""

RENDERERS: dict[str, Renderer] = {
    "mnist": render_digits,
    "emnist_letters": render_letters,
    "sd19_letters": render_letters,
    "fashion_mnist": render_clothes,
    "cifar10": render_textures,
}


def synthetic_dataset(
    name: str, *, seed: int = 0, train_size: int = TRAIN_SIZE, test_size: int = TEST_SIZE
) -> Dataset:
    """A rendered set; equal arguments give equal pictures.

    Args:
        name: a known name.
        seed: of the pictures.
        train_size, test_size: images, >= 1; classes share them evenly.

    Raises:
        BadInput: there is no renderer for that name.
    """
    known = KNOWN_SETS.get(name)
    renderer = RENDERERS.get(name)
    if known is None or renderer is None:
        raise BadInput(
            f"data set {name!r}: cannot be rendered; synthetic sets exist for "
            f"{', '.join(RENDERERS)}"
        )
    images, labels = _render(known, renderer, part=0, size=train_size, seed=seed)
    info = DatasetInfo(
        name=name,
        title=f"{known.title} (synthetic)",
        classes=known.classes,
        channels=known.channels,
        image_size=known.image_size,
        flip=known.flip,
        source="synthetic",
        checksum=array_checksum(images, labels),
        train_size=train_size,
        test_size=test_size,
        class_names=known.class_names,
    )
    return Dataset(
        info=info,
        train_images=images,
        train_labels=labels,
        read_test=lambda: _render(known, renderer, part=1, size=test_size, seed=seed),
    )


def _render(
    known: KnownSet, renderer: Renderer, *, part: int, size: int, seed: int
) -> tuple[Images, Labels]:
    """One part (0 training, 1 test), each with its own stream of random numbers."""
    rng = np.random.default_rng([seed, part, *known.name.encode()])
    labels = rng.permutation(np.arange(size) % known.classes).astype(np.int64)
    return renderer(labels, rng), labels
