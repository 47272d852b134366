"""Digits and letters: Pillow's own font, bent, blurred and sprinkled with noise."""

from __future__ import annotations

import math
import string

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from model.data.info import Images, Labels

SIZE = 28  # pixels
_FONT_SIZE = 72  # pixels, of the large drawing that is scaled down per image
_CANVAS = 112  # pixels
_STROKES = (0, 2, 4)  # pixels of extra thickness


def render_digits(labels: Labels, rng: np.random.Generator) -> Images:
    """0..9.

    Args:
        labels: int64 [N].
        rng: of shapes and noise.

    Returns:
        uint8 [N, 28, 28, 1], light on black.
    """
    return _render(labels, [string.digits], rng)


def render_letters(labels: Labels, rng: np.random.Generator) -> Images:
    """a..z, as capitals or small letters at random (one class for both, as in EMNIST)."""
    return _render(labels, [string.ascii_lowercase, string.ascii_uppercase], rng)


def _render(labels: Labels, alphabets: list[str], rng: np.random.Generator) -> Images:
    drawings = {
        (alphabet[label], stroke): _draw(alphabet[label], stroke)
        for alphabet in alphabets
        for label in np.unique(labels)
        for stroke in _STROKES
    }
    images = np.empty((len(labels), SIZE, SIZE), np.float32)
    for i, label in enumerate(labels):
        glyph = alphabets[rng.integers(len(alphabets))][label]
        stroke = _STROKES[rng.integers(len(_STROKES))]
        bent = drawings[glyph, stroke].transform(
            (SIZE, SIZE),
            Image.Transform.AFFINE,
            _random_affine(rng),
            resample=Image.Resampling.BILINEAR,
        )
        images[i] = np.asarray(bent, np.float32)
    images *= rng.uniform(0.6, 1.0, (len(labels), 1, 1))
    images += rng.normal(0, 12, images.shape)
    return images.clip(0, 255).astype(np.uint8)[..., None]


def _draw(glyph: str, stroke: int) -> Image.Image:
    """The glyph, large, in the middle; reduced once so that sampling does not alias."""
    image = Image.new("L", (_CANVAS, _CANVAS))
    ImageDraw.Draw(image).text(
        (_CANVAS / 2, _CANVAS / 2),
        glyph,
        fill=255,
        font=ImageFont.load_default(_FONT_SIZE),
        anchor="mm",
        stroke_width=stroke,
    )
    return image.reduce(2)


def _random_affine(rng: np.random.Generator) -> tuple[float, ...]:
    """Output pixel to drawing pixel: up to 15 degrees, 0.3 shear, 3 pixels, any
    size from 0.6 (large) to 0.95 drawings an image."""
    angle = math.radians(rng.uniform(-15, 15))
    shear = rng.uniform(-0.3, 0.3)
    scale_x, scale_y = rng.uniform(0.6, 0.95, 2) * (_CANVAS / 2 / SIZE)
    cos, sin = math.cos(angle), math.sin(angle)
    a, b = scale_x * cos, scale_x * (shear * cos - sin)
    c, d = scale_y * sin, scale_y * (shear * sin + cos)
    out_x, out_y = SIZE / 2 + rng.uniform(-3, 3, 2)
    middle = _CANVAS / 4
    return (a, b, middle - a * out_x - b * out_y, c, d, middle - c * out_x - d * out_y)
