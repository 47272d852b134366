"""RandAugment's five geometric operations as tables of source positions.

With nearest interpolation a geometric operation only says which pixel goes where,
and RandAugment has one magnitude per run; so each operation is one table of H*W
positions per sign, computed here once with torchvision's own arithmetic (float32
grid, `grid_sample`).  On the device there is no arithmetic left that could round
differently: every image equals torchvision's, on every kind of device.

Source of the arithmetic: torchvision.transforms.v2.functional `affine_image`,
`rotate_image`, `_get_inverse_affine_matrix`, `_affine_grid` (BSD-3-Clause).
"""

from __future__ import annotations

import math

import torch
from torch.nn import functional

Matrix = tuple[float, float, float, float, float, float]
"""Row-major 2x3: output (x, y, 1) around the image's centre to input (x, y), pixels."""


def shear_matrix(*, level_x: float, level_y: float, size: int) -> Matrix:
    """Shear about the top left corner, as RandAugment does.

    Args:
        level_x, level_y: tangent of the shear along each axis (at most one not 0).
        size: side of the image, pixels.
    """
    # torchvision goes through degrees and back; so do we, to round alike.
    sx = math.radians(math.degrees(math.atan(level_x)))
    sy = math.radians(math.degrees(math.atan(level_y)))
    return _inverse_affine(rotation=0.0, shift=(0.0, 0.0), shear=(sx, sy), centre=-size * 0.5)


def translate_matrix(*, pixels_x: int, pixels_y: int) -> Matrix:
    """Shift right and down by whole pixels."""
    shift = (float(pixels_x), float(pixels_y))
    return _inverse_affine(rotation=0.0, shift=shift, shear=(0.0, 0.0), centre=0.0)


def rotate_matrix(*, degrees: float) -> Matrix:
    """Rotation about the centre, counter-clockwise for positive degrees."""
    rotation = math.radians(-(degrees % 360))
    return _inverse_affine(rotation=rotation, shift=(0.0, 0.0), shear=(0.0, 0.0), centre=0.0)


def _inverse_affine(
    *, rotation: float, shift: tuple[float, float], shear: tuple[float, float], centre: float
) -> Matrix:
    """The inverse of shift * centre * rotate * shear * centre^-1 (radians, scale 1)."""
    sx, sy = shear
    a = math.cos(rotation - sy) / math.cos(sy)
    b = -(a * math.tan(sx) + math.sin(rotation))
    c = math.sin(rotation - sy) / math.cos(sy)
    d = math.cos(rotation) - c * math.tan(sx)
    from_x, from_y = centre + shift[0], centre + shift[1]
    return (
        d,
        -b,
        centre - d * from_x + b * from_y,
        -c,
        a,
        centre + c * from_x - a * from_y,
    )


def position_table(matrix: Matrix, *, size: int) -> torch.Tensor:
    """The source position of every output pixel under nearest interpolation.

    Args:
        matrix: see `Matrix`.
        size: side of the square image, pixels.

    Returns:
        int64 [size * size] on the CPU: y * size + x, or -1 outside the image.
    """
    half = 0.5 * size
    theta = torch.tensor(matrix, dtype=torch.float32).reshape(1, 2, 3)
    steps = torch.linspace((1.0 - size) * 0.5, (size - 1.0) * 0.5, steps=size)
    base = torch.ones(1, size, size, 3)
    base[..., 0] = steps
    base[..., 1] = steps[:, None]
    rescaled = theta.transpose(1, 2).div(torch.tensor([half, half]))
    grid = base.view(1, size * size, 3).bmm(rescaled).view(1, size, size, 2)
    # Numbers from 1, so that grid_sample's 0 beyond the border is told from position 0.
    numbers = torch.arange(1, size * size + 1, dtype=torch.float32).view(1, 1, size, size)
    found = functional.grid_sample(
        numbers, grid, mode="nearest", padding_mode="zeros", align_corners=False
    )
    return found.round().to(torch.int64).flatten() - 1
