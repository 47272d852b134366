"""Cutting an image into patches: the grid's arithmetic and the embedding.

A side that does not divide by the patch is padded with zeros at its far end, so that
grids of one image at several scales stay aligned; nothing is ever cropped.
"""

from __future__ import annotations

from dataclasses import dataclass

from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional as F

from nkat_errors import BadInput


@dataclass(frozen=True, slots=True, kw_only=True)
class PatchGrid:
    """How a square input of `size` pixels is cut into `side` x `side` patches.

    Args:
        size: side of the input, pixels.
        patch_size: side of a patch, pixels.
        side: patches along one side, enough to cover the input.
    """

    size: int
    patch_size: int
    side: int

    @classmethod
    def covering(cls, *, size: int, patch_size: int) -> PatchGrid:
        """The smallest grid that covers the input: ceil(size / patch_size) a side."""
        if size < 1 or patch_size < 1:
            raise BadInput(
                f"no patches of {patch_size} x {patch_size} pixels in an input of "
                f"{size} x {size}: both must be >= 1"
            )
        return cls(size=size, patch_size=patch_size, side=-(-size // patch_size))

    @property
    def padding(self) -> int:
        """Pixels of zeros after the input along each side."""
        return self.side * self.patch_size - self.size

    @property
    def patches(self) -> int:
        """Patches of one image."""
        return self.side**2

    def cut(self, images: Tensor) -> Tensor:
        """[B, C, size, size] to [B, patches, patch_size * patch_size * C].

        Raises:
            BadInput: the input's size is another one than the grid was made for.
        """
        height, width = images.shape[-2:]
        if height != self.size or width != self.size:
            raise BadInput(
                f"the input is {height} x {width} pixels, the patch grid was made for "
                f"{self.size} x {self.size}: set image_size to the data set's"
            )
        if self.padding:
            images = F.pad(images, (0, self.padding, 0, self.padding))
        return rearrange(
            images,
            "b c (h p1) (w p2) -> b (h w) (p1 p2 c)",
            p1=self.patch_size,
            p2=self.patch_size,
        )


class PatchEmbedding(nn.Module):
    """A convolution with kernel = stride = patch_size, written as cut + matrix product.

    Args:
        channels: of the input.
        grid: how the input is cut.
        embed_dim: features of a token.
    """

    def __init__(self, *, channels: int, grid: PatchGrid, embed_dim: int) -> None:
        super().__init__()
        self.grid = grid
        self.project = nn.Linear(grid.patch_size**2 * channels, embed_dim)

    def forward(self, images: Tensor) -> Tensor:
        """[B, channels, size, size] to [B, patches, embed_dim]."""
        projected: Tensor = self.project(self.grid.cut(images))
        return projected
