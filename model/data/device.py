"""A data set that lives on the device as uint8 (no DataLoader, no host copies)."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import torch

from model.data.info import DatasetInfo, Images, Labels
from model.data.split import Split

_CHUNK = 4096
"""Images whose values are counted at once: bounds the histogram's extra memory."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceSet:
    """Images and labels on one device, with the statistics to normalise them.

    Args:
        info: the data set's facts.
        images: uint8 [N, C, H, W], contiguous.
        labels: int64 [N].
        mean: float32 [C], of the TRAINING split's values / 255.
        std: float32 [C], likewise, > 0.
    """

    info: DatasetInfo
    images: torch.Tensor = field(repr=False)
    labels: torch.Tensor = field(repr=False)
    mean: torch.Tensor
    std: torch.Tensor

    def __len__(self) -> int:
        return self.images.shape[0]

    @property
    def device(self) -> torch.device:
        return self.images.device

    @classmethod
    def from_arrays(
        cls,
        images: Images,
        labels: Labels,
        *,
        info: DatasetInfo,
        device: torch.device | str,
        mean: torch.Tensor | None = None,
        std: torch.Tensor | None = None,
    ) -> DeviceSet:
        """Moves host arrays to the device.

        Args:
            images: uint8 [N, H, W, C].
            labels: int64 [N].
            info: the data set's facts.
            device: where they shall live.
            mean, std: float [C]; computed from `images` when not given (so give the
                training part's for validation and test images).
        """
        if mean is None or std is None:
            mean, std = channel_statistics(images)
        planar = np.ascontiguousarray(images.transpose(0, 3, 1, 2))
        return cls(
            info=info,
            images=torch.from_numpy(planar).to(device),
            labels=torch.from_numpy(np.ascontiguousarray(labels)).to(device),
            mean=mean.to(device),
            std=std.to(device),
        )


def device_sets(split: Split, *, device: torch.device | str) -> tuple[DeviceSet, DeviceSet]:
    """The training and the validation part, both with the training part's statistics."""
    train = DeviceSet.from_arrays(
        split.train_images, split.train_labels, info=split.info, device=device
    )
    validation = DeviceSet.from_arrays(
        split.val_images,
        split.val_labels,
        info=split.info,
        device=device,
        mean=train.mean,
        std=train.std,
    )
    return train, validation


def channel_statistics(images: Images) -> tuple[torch.Tensor, torch.Tensor]:
    """Exact mean and population standard deviation per channel, of values / 255.

    Counted in integers, so every machine gets the same bits.  A channel that never
    changes gets one grey level as its deviation, so that it can be divided by.

    Args:
        images: uint8 [N, H, W, C], N >= 1.

    Returns:
        (mean, std), float32 [C] each.
    """
    channels = images.shape[3]
    counts = np.zeros((channels, 256), np.int64)
    for start in range(0, len(images), _CHUNK):
        for channel in range(channels):
            values = images[start : start + _CHUNK, :, :, channel].ravel()
            counts[channel] += np.bincount(values, minlength=256)
    levels = np.arange(256)
    size = counts.sum(axis=1)
    mean = counts @ levels / size
    variance = counts @ levels**2 / size - mean**2
    std = np.maximum(np.sqrt(np.maximum(variance, 0)), 1)
    return (
        torch.tensor(mean / 255, dtype=torch.float32),
        torch.tensor(std / 255, dtype=torch.float32),
    )
