"""Images of noise, for benchmarks whose answer does not depend on what is in a picture."""

from __future__ import annotations

import numpy as np

from model.data.device import DeviceSet
from model.data.info import DatasetInfo


def noise_set(count: int, *, device: str) -> DeviceSet:
    """`count` RGB images of 32 x 32 pixels with labels of 10 classes; always the same."""
    random = np.random.default_rng(0)
    images = random.integers(0, 256, (count, 32, 32, 3), dtype=np.uint8)
    info = DatasetInfo(
        name="noise",
        title="noise",
        classes=10,
        channels=3,
        image_size=32,
        flip=True,
        source="synthetic",
        checksum="",
        train_size=count,
        test_size=0,
    )
    return DeviceSet.from_arrays(images, random.integers(0, 10, count), info=info, device=device)
