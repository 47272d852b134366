"""The training images of one step: crop, flip, channel shuffle, RandAugment, cutout."""

from __future__ import annotations

from typing import Literal

import torch

from model.augment.crop import CHANNEL_ORDERS, CropMode, crop_positions, gather_pixels
from model.augment.cutout import cutout_mask
from model.augment.draws import uniform_int
from model.augment.rand_augment import RandAugment, draw_codes
from model.config import TrainConfig
from model.data.info import DatasetInfo
from nkat_errors import BadInput

Route = Literal["fused", "grouped"]

# Columns of the uniform numbers; RandAugment's two per operation follow.
_CROP_Y, _CROP_X, _FLIP, _SHUFFLE, _ORDER = range(5)
_CUTOUT = slice(5, 7)
FIRST_OPERATION = 7


class Augment:
    """One recipe's augmentation, every image with its own random choices.

    In this order: random crop, flip, channel shuffle (one gather), RandAugment's
    operations, cutout.  The crop looks
    beyond the border into the mirrored image for RGB and into black for grey images.

        augment = Augment(train_config, info, mean=train.mean, device="cuda")
        images = augment(batch, generator)            # float32, still 0..255
        images = normalise(images, train.mean, train.std)

    Inside a compiled or captured step, call `draw` and `apply` apart: `apply` is a pure
    function of its two tensors, with no data-dependent shape and no synchronisation.

    Args:
        train_config: the recipe.
        info: the data set (whether images may be flipped, their size and channels).
        mean: float [C], of values / 255: cutout blanks to it, which is 0 after
            normalising, as in the paper; None blanks to black.
        device: where the images are.
        route: `fused` (static shapes, for GPUs) or `grouped` (for the CPU); None
            chooses by device.  Both give the same pictures.

    Raises:
        BadInput: the crop's padding is not smaller than the image.
    """

    def __init__(
        self,
        train_config: TrainConfig,
        info: DatasetInfo,
        *,
        mean: torch.Tensor | None = None,
        device: torch.device | str = "cpu",
        route: Route | None = None,
    ) -> None:
        if train_config.crop_padding >= info.image_size:
            raise BadInput(
                f"crop_padding = {train_config.crop_padding}: must be below the image size, "
                f"{info.image_size} for {info.name}"
            )
        self.config = train_config
        self.info = info
        self.flip = train_config.flip and info.flip
        self.shuffle = train_config.channel_shuffle if info.channels == 3 else 0.0
        self.crop_mode: CropMode = "reflect" if info.channels == 3 else "zero"
        self.route: Route = route or ("grouped" if torch.device(device).type == "cpu" else "fused")
        fill = torch.zeros(info.channels) if mean is None else mean * 255
        self._fill = fill.to(device=device, dtype=torch.float32)[:, None, None]
        self._orders = torch.tensor(CHANNEL_ORDERS, device=device)
        self._rand_augment = (
            RandAugment(
                magnitude=train_config.randaugment_magnitude,
                image_size=info.image_size,
                device=device,
            )
            if train_config.randaugment_ops
            else None
        )

    def __call__(self, images: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        """Augmented images.

        Args:
            images: uint8 [B, C, H, W].
            generator: on the images' device.

        Returns:
            float32 [B, C, H, W], values 0..255 (normalise them next).
        """
        return self.apply(images, self.draw(images.shape[0], generator))

    def draw(self, batch: int, generator: torch.Generator) -> torch.Tensor:
        """All random numbers of one batch: float32 [batch, K] in [0, 1)."""
        columns = FIRST_OPERATION + 2 * self.config.randaugment_ops
        return torch.rand(batch, columns, generator=generator, device=self._fill.device)

    def apply(self, images: torch.Tensor, uniform: torch.Tensor) -> torch.Tensor:
        """The augmented images that these numbers give.

        Args:
            images: uint8 [B, C, H, W].
            uniform: float32 [B, K] from `draw`.

        Returns:
            float32 [B, C, H, W], values 0..255.
        """
        codes = [
            draw_codes(uniform[:, FIRST_OPERATION + 2 * step : FIRST_OPERATION + 2 * step + 2])
            for step in range(self.config.randaugment_ops)
        ]
        images = self._place(images, uniform)
        for code in codes:
            images = self._operate(images, code)
        values = images.to(torch.float32)
        if self.config.cutout:
            blanked = cutout_mask(
                uniform[:, _CUTOUT], image_size=self.info.image_size, side=self.config.cutout
            )
            values = torch.where(blanked, self._fill, values)
        return values

    def _place(self, images: torch.Tensor, uniform: torch.Tensor) -> torch.Tensor:
        """Crop, flip and channel shuffle: one gather."""
        padding = self.config.crop_padding
        if not (padding or self.flip or self.shuffle):
            return images
        positions = crop_positions(
            size=self.info.image_size,
            shift_y=uniform_int(uniform[:, _CROP_Y], 2 * padding + 1) - padding,
            shift_x=uniform_int(uniform[:, _CROP_X], 2 * padding + 1) - padding,
            flipped=uniform[:, _FLIP] < (0.5 if self.flip else 0.0),
            mode=self.crop_mode,
        )
        channels = None
        if self.shuffle:
            order = uniform_int(uniform[:, _ORDER], len(CHANNEL_ORDERS))
            channels = self._orders[torch.where(uniform[:, _SHUFFLE] < self.shuffle, order, 0)]
        inside = self.crop_mode == "reflect"
        return gather_pixels(images, positions, channels=channels, inside=inside)

    def _operate(self, images: torch.Tensor, codes: torch.Tensor) -> torch.Tensor:
        """One RandAugment operation per image."""
        if self._rand_augment is None:
            return images
        if self.route == "grouped":
            return self._rand_augment.grouped(images, codes)
        return self._rand_augment.fused(images, codes)
