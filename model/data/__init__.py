"""Data sets: found, checked, split and put on the device.

    dataset = load_dataset("cifar10", data_dir=Path("data"))
    parts = split(dataset, validation_fraction=0.1, seed=0)
    train, validation = device_sets(parts, device="cuda")

Importing this package does not import torch; asking for `DeviceSet` or
`device_sets` does.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from model.data.errors import DataUnavailable
from model.data.info import Dataset, DatasetInfo
from model.data.load import load_dataset
from model.data.split import Split, split
from model.known_sets import KNOWN_SETS, KnownSet

if TYPE_CHECKING:
    from model.data.device import DeviceSet, device_sets

__all__ = [
    "KNOWN_SETS",
    "DataUnavailable",
    "Dataset",
    "DatasetInfo",
    "DeviceSet",
    "KnownSet",
    "Split",
    "device_sets",
    "load_dataset",
    "split",
]


def __getattr__(name: str) -> Any:
    if name in ("DeviceSet", "device_sets"):
        from model.data import device

        return getattr(device, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
