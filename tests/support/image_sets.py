"""Made-up training sets on a device."""

from __future__ import annotations

from typing import Any

import numpy as np

from model.data.device import DeviceSet
from model.data.info import DatasetInfo


def device_set(
    images: np.ndarray[Any, Any],
    labels: np.ndarray[Any, Any],
    *,
    classes: int,
    device: str = "cpu",
) -> DeviceSet:
    """Images uint8 [N, size, size, channels] and their labels, as a set that may be flipped."""
    info = DatasetInfo(
        name="noise",
        title="noise",
        classes=classes,
        channels=images.shape[3],
        image_size=images.shape[1],
        flip=True,
        source="synthetic",
        checksum="",
        train_size=len(images),
        test_size=0,
    )
    return DeviceSet.from_arrays(images, labels, info=info, device=device)
