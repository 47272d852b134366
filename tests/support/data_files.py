"""Small data files for tests: the prepared format and the originals' own formats."""

from __future__ import annotations

import pickle
import struct
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]


def prepared_arrays(
    *,
    size: int = 8,
    channels: int = 1,
    classes: int = 10,
    train: int = 60,
    test: int = 20,
    seed: int = 0,
) -> dict[str, Array]:
    """The four arrays of the prepared format, every class present."""
    rng = np.random.default_rng(seed)
    shape = (size, size) if channels == 1 else (size, size, channels)
    return {
        "train_images": rng.integers(0, 256, (train, *shape), dtype=np.uint8),
        "train_labels": (np.arange(train) % classes).astype(np.uint8),
        "test_images": rng.integers(0, 256, (test, *shape), dtype=np.uint8),
        "test_labels": (np.arange(test) % classes).astype(np.uint8),
    }


def write_npz(path: Path, **changes: Array | None) -> Path:
    """A prepared file; a changed array replaces the ordinary one, None leaves it out."""
    arrays = prepared_arrays() | changes
    np.savez(path, **{key: value for key, value in arrays.items() if value is not None})
    return path


def write_idx(path: Path, values: Array) -> None:
    """An uncompressed idx-ubyte file, as MNIST and its relatives are published."""
    path.parent.mkdir(parents=True, exist_ok=True)
    header = struct.pack(f">BBBB{values.ndim}I", 0, 0, 8, values.ndim, *values.shape)
    path.write_bytes(header + values.astype(np.uint8).tobytes())


def write_cifar_batch(path: Path, images: Array, labels: list[int]) -> None:
    """One pickled batch of CIFAR-10: images [N, 32, 32, 3] become rows of planes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    rows = images.transpose(0, 3, 1, 2).reshape(len(images), -1)
    path.write_bytes(pickle.dumps({"data": rows, "labels": labels}, protocol=2))
