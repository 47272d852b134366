"""RandAugment with its own random operation for every image of a batch.

torchvision draws one operation for the whole batch; here every image has its own
code (`model/augment/operations.py`).  Two routes give the same pictures:

- `fused` applies every operation to every image with that image's (mostly neutral)
  levels.  No shape and no branch depends on the draw, so it can be compiled
  and captured in a CUDA graph.
- `grouped` sorts the images by code and runs each operation on its own few images:
  a fraction of the work, for the CPU, where reading the codes costs nothing.
"""

from __future__ import annotations

import torch

from model.augment import color as colour
from model.augment.crop import gather_pixels
from model.augment.draws import uniform_int
from model.augment.equalize import apply_table, equalize_table
from model.augment.operations import (
    AUTO_CONTRAST,
    BRIGHTNESS,
    COLOR,
    CONTRAST,
    EQUALIZE,
    OPERATIONS,
    POSTERIZE,
    SHARPNESS,
    SOLARIZE,
    OperationTables,
    operation_tables,
)


def draw_codes(uniform: torch.Tensor) -> torch.Tensor:
    """One code per image: the operation evenly of 14, its sign evenly of 2.

    Args:
        uniform: float [B, 2] in [0, 1).

    Returns:
        int64 [B] in 0..27.
    """
    operation = uniform_int(uniform[:, 0], len(OPERATIONS))
    return 2 * operation + (uniform[:, 1] < 0.5).to(torch.int64)


class RandAugment:
    """The operations of one run, by code.

    Args:
        magnitude: torchvision's scale, 0..30.
        image_size: side of the square images, pixels.
        device: where the images are.
    """

    def __init__(self, *, magnitude: int, image_size: int, device: torch.device | str) -> None:
        self.tables: OperationTables = operation_tables(
            magnitude=magnitude, image_size=image_size, device=device
        )

    def fused(self, images: torch.Tensor, codes: torch.Tensor) -> torch.Tensor:
        """Every image changed by its own operation; static shapes, no synchronisation.

        Args:
            images: uint8 [B, C, H, W].
            codes: int64 [B].

        Returns:
            uint8 [B, C, H, W].
        """
        return self._recolour(gather_pixels(images, self.tables.positions[codes]), codes)

    def grouped(self, images: torch.Tensor, codes: torch.Tensor) -> torch.Tensor:
        """`fused`, operation by operation (reads the codes: not for capture)."""
        result = images.clone()
        operation = codes // 2
        order = operation.argsort(stable=True)
        counts = torch.bincount(operation, minlength=len(OPERATIONS)).tolist()
        geometric = order[counts[0] : sum(counts[:BRIGHTNESS])]
        groups = [*torch.split(order, counts)[BRIGHTNESS:]]
        if len(geometric):
            positions = self.tables.positions[codes[geometric]]
            result[geometric] = gather_pixels(images[geometric], positions)
        for kind, members in enumerate(groups, start=BRIGHTNESS):
            if len(members):
                result[members] = self._one_colour(kind, images[members], codes[members])
        return result

    def _recolour(self, images: torch.Tensor, codes: torch.Tensor) -> torch.Tensor:
        """All colour operations at once; images of a geometric code stay as they are."""
        tables = self.tables
        column = codes[:, None, None, None]
        operation = column // 2
        values = images.to(torch.float32)

        other = torch.where(operation == CONTRAST, colour.grey_mean(values), 0.0)
        if images.shape[1] == 3:
            other = torch.where(operation == COLOR, colour.grey(values), other)
            keep, share = tables.keep[column], tables.blend[column]
        else:  # Color leaves a grey image alone
            keep = torch.where(operation == COLOR, 1.0, tables.keep[column])
            share = torch.where(operation == COLOR, 0.0, tables.blend[column])
        result = colour.blend(values, other, keep, share)
        result = torch.where(
            operation == SHARPNESS, colour.sharpen(values, tables.sharpen[column]), result
        )
        result = torch.where(operation == AUTO_CONTRAST, colour.auto_contrast(values), result)

        whole = result.to(torch.uint8)
        whole = colour.posterize(whole, tables.mask[column])
        whole = colour.solarize(whole, tables.invert_from[column])
        equalized = apply_table(images, equalize_table(images))
        return torch.where(operation == EQUALIZE, equalized, whole)

    def _one_colour(
        self, operation: int, images: torch.Tensor, codes: torch.Tensor
    ) -> torch.Tensor:
        """One colour operation on images that all drew it."""
        tables = self.tables
        column = codes[:, None, None, None]
        if operation == COLOR and images.shape[1] == 1:
            return images
        if operation == EQUALIZE:
            return apply_table(images, equalize_table(images))
        if operation == POSTERIZE:
            return colour.posterize(images, tables.mask[column])
        if operation == SOLARIZE:
            return colour.solarize(images, tables.invert_from[column])
        values = images.to(torch.float32)
        if operation == AUTO_CONTRAST:
            values = colour.auto_contrast(values)
        elif operation == SHARPNESS:
            values = colour.sharpen(values, tables.sharpen[column])
        else:
            if operation == BRIGHTNESS:
                other = torch.zeros((), device=images.device)
            else:
                other = colour.grey(values) if operation == COLOR else colour.grey_mean(values)
            values = colour.blend(values, other, tables.keep[column], tables.blend[column])
        return values.to(torch.uint8)
