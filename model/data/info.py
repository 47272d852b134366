"""What a loaded data set is: its facts and its training images."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

Images = npt.NDArray[np.uint8]
"""uint8 [N, H, W, C], values 0..255."""
Labels = npt.NDArray[np.int64]
"""int64 [N], values 0..classes-1."""
Source = Literal["prepared", "downloaded", "synthetic"]


@dataclass(frozen=True, slots=True, kw_only=True)
class DatasetInfo:
    """The facts about one data set that reports and the network need.

    Args:
        name: its name in search files and attributes.
        title: its name in reports.
        classes: number of labels, 0..classes-1.
        channels: 1 (grey) or 3 (RGB).
        image_size: side of the square image, pixels.
        flip: horizontal flips keep the class (never for digits and letters).
        source: `prepared` (a file of the user's), `downloaded` (the original, from
            the cache) or `synthetic` (rendered by this project, not real images).
        checksum: sha256 (hex) of the training arrays, `array_checksum`.
        train_size: training images, before any validation split.
        test_size: test images.
        class_names: one per label, or None when the file does not say.
    """

    name: str
    title: str
    classes: int
    channels: int
    image_size: int
    flip: bool
    source: Source
    checksum: str
    train_size: int
    test_size: int
    class_names: tuple[str, ...] | None = None

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True, slots=True, kw_only=True)
class Dataset:
    """A data set whose test images stay unread until they are asked for.

    Args:
        info: its facts.
        train_images: uint8 [N, H, W, C].
        train_labels: int64 [N].
        read_test: reads and validates the test images (uint8 [M, H, W, C]) and labels
            (int64 [M]).  Only the final recalculation calls it; a search never does.
    """

    info: DatasetInfo
    train_images: Images = field(repr=False)
    train_labels: Labels = field(repr=False)
    read_test: Callable[[], tuple[Images, Labels]] = field(repr=False)


def array_checksum(images: Images, labels: Labels) -> str:
    """sha256 (hex) over shapes and values, so that equal arrays in differently
    written files give one checksum.

    Args:
        images: uint8 [N, H, W, C].
        labels: int64 [N].
    """
    digest = hashlib.sha256()
    for array in (images, labels.astype("<i8", copy=False)):
        digest.update(repr(array.shape).encode())
        digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()
