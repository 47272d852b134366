"""How much of a grey image its object takes: digits leave a margin, clothes do not.

An image from elsewhere is cut to the same share before a network that was trained on such
images sees it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Grey = npt.NDArray[np.uint8]
"""uint8 [H, W]."""

CONTRAST = 0.25
"""Of the way from the ground to the pixel farthest from it: there the object begins."""

SAMPLE = 1000
"""Images that a set's share is taken from."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Box:
    """Rows top..bottom - 1 and columns left..right - 1."""

    top: int
    bottom: int
    left: int
    right: int

    @property
    def side(self) -> int:
        """The longer one."""
        return max(self.bottom - self.top, self.right - self.left)


def border(grey: Grey) -> Grey:
    """The outermost twentieth on each side, at least one pixel."""
    height, width = grey.shape
    inside = np.zeros(grey.shape, dtype=bool)
    deep = max(1, min(height, width) // 20)
    inside[deep : height - deep, deep : width - deep] = True
    return grey[~inside]


def object_box(grey: Grey) -> Box | None:
    """Where the object is; None where everything is ground."""
    away = np.abs(grey.astype(np.int16) - int(np.median(border(grey))))
    seen = away > CONTRAST * away.max()
    rows, columns = np.flatnonzero(seen.any(axis=1)), np.flatnonzero(seen.any(axis=0))
    if not len(rows):
        return None
    return Box(
        top=int(rows[0]),
        bottom=int(rows[-1]) + 1,
        left=int(columns[0]),
        right=int(columns[-1]) + 1,
    )


def object_share(images: npt.NDArray[np.uint8]) -> float:
    """The object's longer side / the image's, median over some images; 1 where none has an
    object.

    Args:
        images: uint8 [N, H, W].
    """
    boxes = [object_box(image) for image in images[:SAMPLE]]
    sides = [box.side for box in boxes if box is not None]
    return float(np.median(sides)) / images.shape[-1] if sides else 1.0
