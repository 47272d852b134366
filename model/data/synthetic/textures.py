"""Ten classes of coloured pictures: a shape-like texture in a palette, on a background.

A class is a pair of pattern and palette; each pattern and each palette belongs to two
classes, so neither colour nor structure alone tells the class.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from model.data.info import Images, Labels

SIZE = 32  # pixels
AT_ONCE = 200
"""Images painted at once: they fit a processor's cache, all of a set do not."""

Plane = npt.NDArray[np.float32]
"""float32 [N, H, W]."""

_PALETTES = np.array(
    [
        [[200, 80, 60], [60, 70, 110]],
        [[70, 150, 80], [170, 150, 110]],
        [[80, 110, 200], [190, 190, 180]],
        [[210, 180, 70], [80, 90, 70]],
        [[160, 90, 170], [110, 150, 150]],
    ],
    np.float32,
)
"""Foreground and background colour of each palette."""


def render_textures(labels: Labels, rng: np.random.Generator) -> Images:
    """Stripes, checks, rings, discs and blobs.

    Class k has pattern k // 2 and palette (k // 2 + k % 2) % 5.

    Args:
        labels: int64 [N], 0..9.
        rng: of sizes, places, colours and noise.

    Returns:
        uint8 [N, 32, 32, 3].
    """
    count = len(labels)
    pattern = labels // 2
    palette = (pattern + labels % 2) % len(_PALETTES)
    u, v = _turned_grid(count, rng)
    scale = rng.uniform(0.7, 1.4, (count, 1, 1)).astype(np.float32)
    phase = rng.uniform(0, 2 * np.pi, (2, count, 1, 1)).astype(np.float32)
    colours = _PALETTES[palette] + rng.normal(0, 30, (count, 2, 3))
    foreground, background = colours[:, 0, None, None], colours[:, 1, None, None]
    light = rng.uniform(0.6, 1.3, (count, 1, 1, 1))
    images = np.empty((count, SIZE, SIZE, 3), np.uint8)
    for start in range(0, count, AT_ONCE):
        some = slice(start, start + AT_ONCE)
        value = _patterns(u[some], v[some], scale[some], phase[:, some])
        value = value[pattern[some], np.arange(len(pattern[some]))]
        share = (1 / (1 + np.exp(-3 * value)))[..., None]  # 0 background .. 1 foreground
        painted = foreground[some] * share + background[some] * (1 - share)
        painted *= light[some]
        painted += rng.normal(0, 22, painted.shape)
        images[some] = painted.clip(0, 255)
    return images


def _patterns(u: Plane, v: Plane, scale: Plane, phase: Plane) -> Plane:
    """All five of every image, [5, N, H, W]: positive is foreground."""
    return np.stack(
        [
            np.sin(9 * scale * u + phase[0]),
            np.sin(7 * scale * u + phase[0]) * np.sin(7 * scale * v + phase[1]) * 2,
            np.sin(12 * scale * np.hypot(u, v) + phase[0]),
            8 * (0.55 * scale - np.hypot(u, v)),
            np.sin(4 * scale * u + phase[0] + 2 * np.sin(3 * v + phase[1])) * 1.5
            + np.sin(5 * v * scale),
        ]
    )


def _turned_grid(count: int, rng: np.random.Generator) -> tuple[Plane, Plane]:
    """Coordinates in -1..1, turned by any angle and shifted by up to a quarter image."""
    line = np.linspace(-1, 1, SIZE, dtype=np.float32)
    y, x = np.meshgrid(line, line, indexing="ij")
    angle = rng.uniform(0, 2 * np.pi, (count, 1, 1)).astype(np.float32)
    shift = rng.uniform(-0.5, 0.5, (2, count, 1, 1)).astype(np.float32)
    x, y = x + shift[0], y + shift[1]
    return x * np.cos(angle) + y * np.sin(angle), y * np.cos(angle) - x * np.sin(angle)
