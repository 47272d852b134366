"""Attention as a picture: one row a layer, one column a head, the kept tokens over the image.

Blue: a token that queries attend to.  Orange: one that top-k keeps and top-p cuts.  Dark: one
that top-k cuts.  The stronger the colour, the more queries do so.  Blue and orange are told
apart also by those who see no red or no green.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont

from model.config import STEM_STRIDE, ModelConfig
from search.trained.attention import AttentionView, LayerView

CELL = 112
"""Side of one head's image, pixels."""
GAP = 8
LABELS = 250
"""Width of what is said beside each layer, pixels."""
LINE = 18
"""Height of a line of text, pixels."""
TEXT = 13

PAPER, INK, FAINT = (255, 255, 255), (24, 28, 34), (96, 104, 114)
ATTENDED, CUT = (40, 132, 255), (255, 140, 0)
GROUND = 0.22
"""What is left of the brightness of a token that no query keeps."""
MOST_COLOUR = 0.72
"""Share of the colour in the most kept token: the image is to be seen through it."""

Pixels = npt.NDArray[np.float64]
"""[H, W, 3], 0..255."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AttentionPicture:
    """Draws views of one network.

    Args:
        config: the network's.
        heading: the first line.
    """

    config: ModelConfig
    heading: str

    def draw(self, views: Sequence[AttentionView]) -> Image.Image:
        """All images, one below the other."""
        heads = len(views[0].heads)
        width = LABELS + heads * (CELL + GAP) + GAP
        blocks = [self._height(view) for view in views]
        picture = Image.new("RGB", (width, 4 * LINE + sum(blocks)), PAPER)
        pen = ImageDraw.Draw(picture)
        self._write(pen, GAP, GAP, self.heading, size=TEXT + 3)
        self._legend(pen, GAP, GAP + int(1.6 * LINE), of_one=views[0].query is not None)
        top = 4 * LINE
        for view, height in zip(views, blocks, strict=True):
            self._view(picture, pen, view, top)
            top += height
        return picture

    def _height(self, view: AttentionView) -> int:
        return 3 * LINE + len(view.layers) * (CELL + GAP) + GAP

    def _legend(self, pen: ImageDraw.ImageDraw, x: int, y: int, *, of_one: bool) -> None:
        queries = "the framed token attends to it" if of_one else "queries attend to the token"
        for colour, words in (
            (ATTENDED, queries),
            (CUT, "kept by top-k, cut by top-p"),
            (INK, "cut by top-k"),
        ):
            pen.rectangle((x, y + 2, x + 12, y + 14), fill=colour)
            self._write(pen, x + 18, y, words)
            x += 18 + int(pen.textlength(words, font=_font(TEXT))) + 24
        if not of_one:
            self._write(
                pen,
                x,
                y,
                "stronger: for more queries; between blue and orange: some do, some cut it",
                colour=FAINT,
            )

    def _view(
        self, picture: Image.Image, pen: ImageDraw.ImageDraw, view: AttentionView, top: int
    ) -> None:
        image = view.prediction.image
        title = f"{image.path.name}: {view.prediction.sentence()}"
        if image.inverted:
            title += "; dark on light, inverted"
        self._write(pen, GAP, top, title, size=TEXT + 2)
        row = top + LINE + 4
        for index, name in enumerate(view.heads):
            self._write(pen, self._left(index), row, name, colour=FAINT)
        row += LINE
        for number, layer in enumerate(view.layers, start=1):
            lines = layer_lines(layer, number, tokens=self.config.tokens)
            for line, (words, colour) in enumerate(lines):
                self._write(pen, GAP, row + line * LINE, words, colour=colour)
            for head in range(len(view.heads)):
                cell = self._cell(view, layer, head)
                picture.paste(cell, (self._left(head), row))
            row += CELL + GAP

    def _left(self, head: int) -> int:
        return LABELS + head * (CELL + GAP)

    def _cell(self, view: AttentionView, layer: LayerView, head: int) -> Image.Image:
        pixels = view.prediction.image.pixels
        cell = overlaid(
            _stretched(np.broadcast_to(pixels, (*pixels.shape[:2], 3)), CELL),
            attended=self._over_image(layer.attended[head]),
            cut=self._over_image(layer.cut_by_mass[head]),
        )
        drawn = Image.fromarray(cell.round().clip(0, 255).astype(np.uint8))
        if view.query is not None:
            across = CELL * self._token_pixels / self.config.image_size
            top, left = (place * across for place in view.query)
            frame = (left, top, min(left + across, CELL) - 1, min(top + across, CELL) - 1)
            ImageDraw.Draw(drawn).rectangle(frame, outline=PAPER, width=2)
        return drawn

    @property
    def _token_pixels(self) -> int:
        """Pixels of the image that a token covers along one side."""
        return STEM_STRIDE[self.config.conv_stem] * self.config.patch_size

    def _over_image(self, shares: Pixels) -> Pixels:
        """[side, side] to [CELL, CELL]; the last tokens may reach beyond the image."""
        pixels = np.kron(shares, np.ones((self._token_pixels, self._token_pixels)))
        size = self.config.image_size
        return _stretched(pixels[:size, :size], CELL)

    def _write(
        self,
        pen: ImageDraw.ImageDraw,
        x: float,
        y: float,
        words: str,
        *,
        size: int = TEXT,
        colour: tuple[int, int, int] = INK,
    ) -> None:
        shown = "".join(c if c.isprintable() else " " for c in words)
        pen.text((x, y), shown, fill=colour, font=_font(size))


def layer_lines(
    layer: LayerView, number: int, *, tokens: int
) -> list[tuple[str, tuple[int, int, int]]]:
    """What is said beside a layer."""
    by_rank, kept = (sum(counts) / len(counts) for counts in (layer.by_rank, layer.kept))
    scalars = layer.scalars
    least, largest = layer.theta
    return [
        (f"layer {number}", INK),
        (f"keys a query keeps, of {tokens}:", FAINT),
        (f"top-k {by_rank:.1f}, then top-p {kept:.1f}", FAINT),
        (f"alpha {scalars.alpha:+.4f}  beta {scalars.beta:+.4f}", FAINT),
        (f"attention x {scalars.attention_scale:.3f}  MLP x {scalars.mlp_scale:.3f}", FAINT),
        (f"theta x {least:.5f} to {largest:.5f}", FAINT),
    ]


def overlaid(image: Pixels, *, attended: Pixels, cut: Pixels) -> Pixels:
    """The image, dark where nothing is kept, coloured where queries keep it.

    Args:
        image: [H, W, 3].
        attended, cut: [H, W], shares of the queries.
    """
    kept = attended + cut
    most = kept.max()
    strength = (kept / most if most > 0 else kept)[..., None]
    part = np.divide(attended, kept, out=np.zeros_like(kept), where=kept > 0)[..., None]
    colour = part * np.array(ATTENDED, float) + (1 - part) * np.array(CUT, float)
    bright = image * (GROUND + (1 - GROUND) * strength)
    mixed: Pixels = bright + MOST_COLOUR * strength * (colour - bright)
    return mixed


def _stretched(pixels: npt.NDArray[np.generic], side: int) -> Pixels:
    """Enlarged without smoothing: a pixel is to be seen as one."""
    index = np.arange(side) * pixels.shape[0] // side
    enlarged: Pixels = pixels[index][:, index].astype(np.float64)
    return enlarged


def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size)
