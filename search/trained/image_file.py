"""Any image file as the input that a network was trained on.

Pillow reads it, so it may be of any size, colour and depth.  What is done to it is what makes
it look like a training image; a file that has the network's size already and the right
ground is used as it is, to the bit.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps, UnidentifiedImageError

from model.config import ModelConfig
from model.data.info import Images
from model.data.object_share import border, object_box
from nkat_errors import BadInput

Grey = npt.NDArray[np.uint8]
"""uint8 [H, W]."""

INK = 1.0
"""Percent of the pixels that are taken for ink: a few specks do not decide how black it is."""

LOOKED_AT = 200
"""Pixels along the longer side at most, when ground and object are looked for."""

LARGEST_SIDE = 20_000
"""Pixels; what is larger is no photo and needs gigabytes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageFile:
    """A picture, ready for a network.

    Args:
        path: where it came from.
        pixels: uint8 [image_size, image_size, channels].
        inverted: dark on light was turned into the light on dark of the training images.
    """

    path: Path
    pixels: Images = field(repr=False)
    inverted: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Likeness:
    """What image files are made like.

    Args:
        config: of the network: size and channels.
        mean: of the training images, 0..1; below 0.5 they are light on dark.
        object_share: of grey training images (`model.data.object_share`).
    """

    config: ModelConfig
    mean: float
    object_share: float


def read_image(path: Path, *, like: Likeness) -> ImageFile:
    """Reads an image file for a network.

    For colour, the middle square is cut out.  For grey, a square around the object is, in which
    it takes as much room as in a training image; where these lie on a dark ground and this
    one on a light ground, it is inverted, and its ground and its ink become black and white.

    Args:
        path: of the file.
        like: what the network was trained on.

    Raises:
        BadInput: it is missing, or no image.
    """
    image = _opened(path)
    size = like.config.image_size
    inverted = False
    if like.config.channels == 1:
        grey = np.asarray(image.convert("L"))
        inverted = like.mean < 0.5 and on_light_ground(grey)
        if grey.shape != (size, size):
            grey = _around_the_object(grey, share=like.object_share)
        if inverted:
            grey = light_on_dark(grey)
        image = Image.fromarray(grey)
    else:
        side = min(image.size)
        left, top = (image.width - side) // 2, (image.height - side) // 2
        image = image.convert("RGB").crop((left, top, left + side, top + side))
    if image.size != (size, size):
        # Pillow averages over what a pixel covers, so that thin strokes do not vanish.
        image = image.resize((size, size), Image.Resampling.BILINEAR)
    pixels = np.asarray(image).reshape(size, size, like.config.channels)
    return ImageFile(path=path, pixels=pixels, inverted=inverted)


def _opened(path: Path) -> Image.Image:
    """Upright, 8 bits, without transparency: mode L or RGB."""
    try:
        with Image.open(path) as file:
            if max(file.size) > LARGEST_SIDE:
                raise BadInput(
                    f"{path}: {file.width} x {file.height} pixels are too many; scale it down to "
                    f"{LARGEST_SIDE:,} a side or less"
                )
            upright = ImageOps.exif_transpose(file)
    except FileNotFoundError:
        raise BadInput(f"{path}: there is no such file") from None
    except UnidentifiedImageError:
        raise BadInput(f"{path}: not an image that Pillow can read (PNG, JPEG, ...)") from None
    except Image.DecompressionBombError:
        raise BadInput(f"{path}: too many pixels for an image; scale it down") from None
    # Pillow's readers raise nearly anything for a damaged file.
    except (OSError, SyntaxError, ValueError, EOFError, IndexError, OverflowError) as error:
        reason = getattr(error, "strerror", None) or error
        raise BadInput(f"{path}: cannot be read as an image ({reason})") from None
    if upright.mode.startswith(("I", "F")):
        return Image.fromarray(_eight_bits(np.asarray(upright)))
    if upright.has_transparency_data:
        return _on_a_ground(upright.convert("RGBA"))
    return upright.convert("L" if upright.mode in ("1", "L") else "RGB")


def _eight_bits(values: npt.NDArray[np.generic]) -> Grey:
    """Deep greys: 16 bits where they go beyond 8, 0..1 where they do not go beyond that."""
    numbers = np.nan_to_num(values.astype(np.float64))
    largest = numbers.max(initial=0.0)
    scale = 1 / 257 if largest > 255 else 255 if 0 < largest <= 1 else 1
    return (numbers * scale).round().clip(0, 255).astype(np.uint8)


def _on_a_ground(image: Image.Image) -> Image.Image:
    """Without transparency: light strokes on black, others on white."""
    values = np.asarray(image)
    opacity = values[..., 3].astype(np.float64)
    grey = np.asarray(image.convert("L"), dtype=np.float64)
    seen = opacity.sum()
    ground = "black" if seen and (grey * opacity).sum() / seen > 127 else "white"
    behind = Image.new("RGBA", image.size, ground)
    return Image.alpha_composite(behind, image).convert("RGB")


def on_light_ground(grey: Grey) -> bool:
    """Whether the border is nearer to the lightest than to the darkest of the image."""
    small, _ = _small(grey)
    middle = (float(small.min()) + float(small.max())) / 2
    return float(np.median(border(small))) > middle


def light_on_dark(grey: Grey) -> Grey:
    """The negative, its ground black and its ink white."""
    ground, ink = float(np.median(border(grey))), float(np.percentile(grey, INK))
    spread = max(ground - ink, 1.0)
    return ((ground - grey) * (255 / spread)).round().clip(0, 255).astype(np.uint8)


def _around_the_object(grey: Grey, *, share: float) -> Grey:
    """A square with the object in its middle, filled up with the ground's median."""
    ground = np.median(border(grey)).astype(np.uint8)
    height, width = grey.shape
    small, scale = _small(grey)
    box = object_box(small)
    if box is None:
        side, middle = max(height, width), (height / 2, width / 2)
    else:
        side = max(1, round(box.side * scale / share))
        middle = ((box.top + box.bottom) * scale / 2, (box.left + box.right) * scale / 2)
    top, left = (round(place - side / 2) for place in middle)
    square = np.full((side, side), ground)
    rows = slice(max(top, 0), min(top + side, height))
    columns = slice(max(left, 0), min(left + side, width))
    square[rows.start - top : rows.stop - top, columns.start - left : columns.stop - left] = grey[
        rows, columns
    ]
    return square


def _small(grey: Grey) -> tuple[Grey, float]:
    """At most LOOKED_AT pixels along a side, and the scale: averages specks and noise away,
    but not a line of ink on a large sheet."""
    height, width = grey.shape
    scale = max(1.0, max(height, width) / LOOKED_AT)
    size = max(1, round(width / scale)), max(1, round(height / scale))
    return np.asarray(Image.fromarray(grey).resize(size, Image.Resampling.BOX)), scale
