"""RandAugment's fourteen operations and what each does at one magnitude.

An image's operation is one whole number, its *code*: 2 * operation + negative, where
`negative` turns the magnitude's sign around (it changes nothing for the unsigned
operations).  Everything an operation needs is then a row of a small table.

Source: Cubuk et al., arXiv 1909.13719; the space, the 31 bins and the signs are
torchvision.transforms.v2.RandAugment's.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from model.augment.geometry import (
    position_table,
    rotate_matrix,
    shear_matrix,
    translate_matrix,
)

OPERATIONS = (
    "Identity",
    "ShearX",
    "ShearY",
    "TranslateX",
    "TranslateY",
    "Rotate",
    "Brightness",
    "Color",
    "Contrast",
    "Sharpness",
    "Posterize",
    "Solarize",
    "AutoContrast",
    "Equalize",
)
BINS = 31
"""Magnitudes 0..30 share each operation's range evenly."""
CODES = 2 * len(OPERATIONS)

BRIGHTNESS = OPERATIONS.index("Brightness")
COLOR = OPERATIONS.index("Color")
CONTRAST = OPERATIONS.index("Contrast")
SHARPNESS = OPERATIONS.index("Sharpness")
POSTERIZE = OPERATIONS.index("Posterize")
SOLARIZE = OPERATIONS.index("Solarize")
AUTO_CONTRAST = OPERATIONS.index("AutoContrast")
EQUALIZE = OPERATIONS.index("Equalize")

_RANGES = {
    "ShearX": 0.3,  # tangent
    "ShearY": 0.3,
    "TranslateX": 150.0 / 331.0,  # share of the image's side
    "TranslateY": 150.0 / 331.0,
    "Rotate": 30.0,  # degrees
    "Brightness": 0.9,  # factor 1 +- this
    "Color": 0.9,
    "Contrast": 0.9,
    "Sharpness": 0.9,
}
"""Largest value of each signed operation (bin 30); bin 0 is 0."""


def signed_level(operation: str, magnitude: int, *, size: int) -> float:
    """A signed operation's level, before its sign.

    Args:
        operation: one of the signed ones.
        magnitude: 0..30.
        size: side of the image, pixels.
    """
    top = _RANGES[operation] * (size if operation.startswith("Translate") else 1)
    # torchvision reads the level from a float32 linspace; the same bits matter at ties.
    return float(torch.linspace(0.0, top, BINS)[magnitude])


def posterize_bits(magnitude: int) -> int:
    """Bits of each value that are kept: 8 at magnitude 0, 4 at 30."""
    return int((8 - (torch.arange(BINS) / ((BINS - 1) / 4))).round().int()[magnitude])


def solarize_from(magnitude: int) -> int:
    """The smallest value that is inverted, 0..256 (256: none)."""
    threshold = 255.0 * float(torch.linspace(1.0, 0.0, BINS)[magnitude])
    return int((torch.arange(256, dtype=torch.uint8) < threshold).sum())


@dataclass(frozen=True, slots=True, kw_only=True)
class OperationTables:
    """What each code does at one magnitude, as tensors on the images' device.

    Neutral values change nothing, so a kernel may apply every row to every image.

    Args:
        positions: int64 [CODES, H*W], source position of each pixel, -1 for 0.
        blend: float32 [CODES], 1 - factor of Brightness, Color and Contrast
            (neutral 0): out = image * (1 - blend) + other * blend.
        keep: float32 [CODES], that factor itself (neutral 1); kept beside `blend`
            because torchvision rounds the two separately.
        sharpen: float32 [CODES], 1 - factor of Sharpness (neutral 0).
        mask: uint8 [CODES], bits that Posterize keeps (neutral 255).
        invert_from: int16 [CODES], smallest value that Solarize inverts (neutral 256).
    """

    positions: torch.Tensor
    blend: torch.Tensor
    keep: torch.Tensor
    sharpen: torch.Tensor
    mask: torch.Tensor
    invert_from: torch.Tensor


def operation_tables(
    *, magnitude: int, image_size: int, device: torch.device | str
) -> OperationTables:
    """The tables of one run.

    Args:
        magnitude: 0..30.
        image_size: side of the square images, pixels.
        device: where the images are.
    """
    positions = torch.arange(image_size**2).repeat(CODES, 1)
    blend = torch.zeros(CODES)
    keep = torch.ones(CODES)
    sharpen = torch.zeros(CODES)
    mask = torch.full((CODES,), 255, dtype=torch.uint8)
    invert_from = torch.full((CODES,), 256, dtype=torch.int16)
    for operation, name in enumerate(OPERATIONS):
        for negative in (0, 1):
            code = 2 * operation + negative
            if name == "Posterize":
                mask[code] = 256 - (1 << (8 - posterize_bits(magnitude)))
            elif name == "Solarize":
                invert_from[code] = solarize_from(magnitude)
            elif name in _RANGES:
                level = signed_level(name, magnitude, size=image_size) * (-1 if negative else 1)
                if operation < BRIGHTNESS:
                    positions[code] = _geometric_table(name, level, image_size)
                elif name == "Sharpness":
                    sharpen[code] = 1.0 - (1.0 + level)
                else:
                    keep[code] = 1.0 + level
                    blend[code] = 1.0 - (1.0 + level)
    return OperationTables(
        positions=positions.to(device),
        blend=blend.to(device),
        keep=keep.to(device),
        sharpen=sharpen.to(device),
        mask=mask.to(device),
        invert_from=invert_from.to(device),
    )


def _geometric_table(name: str, level: float, size: int) -> torch.Tensor:
    if name == "ShearX":
        matrix = shear_matrix(level_x=level, level_y=0.0, size=size)
    elif name == "ShearY":
        matrix = shear_matrix(level_x=0.0, level_y=level, size=size)
    elif name == "TranslateX":
        matrix = translate_matrix(pixels_x=int(level), pixels_y=0)
    elif name == "TranslateY":
        matrix = translate_matrix(pixels_x=0, pixels_y=int(level))
    else:
        matrix = rotate_matrix(degrees=level)
    return position_table(matrix, size=size)
