"""The originals as torchvision holds them, turned into the prepared format's arrays.

Two of them need care: EMNIST's images are stored transposed, and its letters are
labelled 1..26.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from torchvision import datasets as originals

from model.data.info import Images, Labels


class Arrays(NamedTuple):
    """One part (training or test) of a set.

    Args:
        images: uint8 [N, H, W] or [N, H, W, 3], upright.
        labels: int64 [N], from 0.
    """

    images: Images
    labels: Labels


def read_original(name: str, *, root: Path, train: bool, download: bool) -> Arrays:
    """One part of a known, downloadable set.

    Args:
        name: `mnist`, `fashion_mnist`, `emnist_letters` or `cifar10`.
        root: torchvision's folder.
        train: the training part; else the test part.
        download: fetch the files when they are not there (torchvision verifies them).
    """
    if name == "emnist_letters":
        letters = originals.EMNIST(root, split="letters", train=train, download=download)
        return Arrays(
            images=np.ascontiguousarray(_uint8(letters.data).transpose(0, 2, 1)),
            labels=_int64(letters.targets) - 1,
        )
    makers = {
        "mnist": originals.MNIST,
        "fashion_mnist": originals.FashionMNIST,
        "cifar10": originals.CIFAR10,
    }
    part = makers[name](root, train=train, download=download)
    return Arrays(images=_uint8(part.data), labels=_int64(part.targets))


def _uint8(values: Any) -> Images:
    """A uint8 tensor or array as an array."""
    return np.ascontiguousarray(np.asarray(values), dtype=np.uint8)


def _int64(values: Any) -> npt.NDArray[np.int64]:
    """A tensor or a list of integers as an array."""
    return np.asarray(values, dtype=np.int64)
