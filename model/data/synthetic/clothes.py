"""Ten silhouettes that are told apart by outline, as Fashion-MNIST's mostly are.

A silhouette is a half-width per row (left and right alike), filled with cloth of a
random brightness and weave.  Neighbouring classes (pullover and coat, sneaker and
boot) differ in one part only.
"""

from __future__ import annotations

import numpy as np

from model.data.info import Images, Labels

SIZE = 28  # pixels

_ROWS = np.linspace(0, 1, 8)
"""Heights, from the top, at which the half-widths below are given."""
_OUTLINES = np.array(
    [
        [0.55, 0.80, 0.75, 0.45, 0.42, 0.42, 0.42, 0.42],  # T-shirt: short sleeves
        [0.40, 0.40, 0.40, 0.40, 0.38, 0.36, 0.34, 0.32],  # trouser: a gap in the middle
        [0.45, 0.75, 0.85, 0.85, 0.85, 0.85, 0.50, 0.48],  # pullover: long sleeves
        [0.25, 0.30, 0.25, 0.30, 0.40, 0.50, 0.60, 0.68],  # dress: widens
        [0.45, 0.75, 0.85, 0.85, 0.85, 0.85, 0.60, 0.60],  # coat: pullover with a front line
        [0.00, 0.05, 0.10, 0.20, 0.40, 0.80, 0.90, 0.90],  # sandal: with straps
        [0.50, 0.75, 0.70, 0.65, 0.60, 0.50, 0.45, 0.45],  # shirt: half sleeves, front line
        [0.00, 0.00, 0.15, 0.40, 0.60, 0.85, 0.90, 0.90],  # sneaker
        [0.15, 0.20, 0.20, 0.75, 0.80, 0.80, 0.80, 0.75],  # bag: a handle
        [0.40, 0.40, 0.40, 0.42, 0.50, 0.85, 0.90, 0.90],  # boot: a shaft
    ]
)
"""Half-widths as a share of half the image."""
_TROUSER, _COAT, _SANDAL, _SHIRT, _BAG = 1, 4, 5, 6, 8


def render_clothes(labels: Labels, rng: np.random.Generator) -> Images:
    """The ten silhouettes.

    Args:
        labels: int64 [N], 0..9.
        rng: of sizes, places, weave and noise.

    Returns:
        uint8 [N, 28, 28, 1], light on black.
    """
    count = len(labels)
    line = np.linspace(-1, 1, SIZE)
    stretch = rng.uniform(0.85, 1.1, (2, count, 1))
    shift = rng.uniform(-0.12, 0.12, (2, count, 1))
    y = (line - shift[0]) / stretch[0]  # [N, H]
    x = ((line - shift[1]) / stretch[1])[:, None, :]  # [N, 1, W]

    every = np.stack([np.interp((y + 1) / 2, _ROWS, widths) for widths in _OUTLINES])
    half = every[labels, np.arange(count)][..., None]  # [N, H, 1]
    half = half * rng.uniform(0.85, 1.15, (count, 1, 1))
    rows = y[..., None]
    cloth = (np.abs(x) < half) & (np.abs(rows) < 1)
    kind = labels[:, None, None]
    cloth &= ~((kind == _TROUSER) & (np.abs(x) < 0.07) & (rows > -0.5))
    front_line = ((kind == _COAT) | (kind == _SHIRT)) & (np.abs(x) < 0.05)
    cloth &= ~((kind == _SANDAL) & (np.sin(9 * x + 12 * rows) > 0.3) & (rows < 0.7))
    cloth &= ~((kind == _BAG) & (np.abs(x) < 0.12) & (rows > -0.9) & (rows < -0.3))

    shade = rng.uniform(90, 240, (count, 1, 1))
    frequency = rng.uniform(2, 14, (2, count, 1, 1))
    weave = 1 + rng.uniform(0, 0.3, (count, 1, 1)) * np.sin(frequency[0] * x + frequency[1] * rows)
    images = cloth * shade * weave * np.where(front_line, 0.5, 1.0)
    images += rng.normal(0, 14, images.shape)
    result: Images = images.clip(0, 255).astype(np.uint8)[..., None]
    return result
