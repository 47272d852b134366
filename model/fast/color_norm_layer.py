"""The colour norm before the stem, forward and backward.

The stem's first convolution reads y, which is linear in the norm's gain g and bias b:
y_c = x_c + g_c n_c (`residual`) or g_c n_c + b_c, n being the pixel's LayerNorm without either.
So their gradients need no gradient of images.  With G(z) the gradient that the convolution's
weights W would have had if its input were z:

    dg_c = sum W_c G(n)_c,    db_c = sum W_c G(1)_c    over outputs and taps
"""

from __future__ import annotations

import torch
import triton
from torch import Tensor

from model.config import ColorNorm
from model.fast.blocks import FlatBuffers
from model.fast.convolution_gradient import ConvolutionGradient
from model.fast.flat_layout import Layout
from model.fast.kernels import color_norm as kernels
from model.kernels.triton_launch import launch

_BLOCK = 256
_EPS = 1e-5


class ColorNormLayer:
    """Buffers and launches.

    Args:
        kind: not `off`.
        images: float32 [images, side, side, channels], the step's batch.
        dtype: of products.
    """

    def __init__(
        self,
        *,
        kind: ColorNorm,
        layout: Layout,
        flats: FlatBuffers,
        images: Tensor,
        dtype: torch.dtype,
    ) -> None:
        self._images, self._channels = images, images.shape[-1]
        self._residual = kind == "residual"
        names = [name for name in layout.stem if name.startswith("color_norm.")]
        places = [layout.places[name] for name in sorted(names, reverse=True)]  # weight, bias
        self._weights = [place.view(flats.weights) for place in places]
        self._grads = [place.view(flats.high_grads, first=layout.low) for place in places]
        double = 2 * self._channels
        shape = images.shape[:-1]
        self.out = images.new_zeros(
            *shape, double if kind == "concat" else self._channels, dtype=dtype
        )
        # n, after channels of 1 where there is a bias
        self._basis = images.new_ones(
            *shape, self._channels if self._residual else double, dtype=dtype
        )
        self._weight: Tensor | None = None
        self._found: Tensor | None = None
        self._gradient: ConvolutionGradient | None = None

    def before(self, *, weight: Tensor, dx: Tensor, stride: int) -> None:
        """Name the convolution that reads `out`: its weights [cout, cin, 3, 3], and the
        gradient of its output [pixels, cout]."""
        cout, channels = len(weight), self._basis.shape[-1]
        self._weight = weight[:, -self._channels :]
        found = self._images.new_empty(cout * 9 * channels, dtype=torch.float32)
        self._found = found.view(cout, 3, 3, channels).permute(0, 3, 1, 2)
        self._gradient = ConvolutionGradient(given=self._basis, dx=dx, out=found, stride=stride)

    @property
    def owners(self) -> tuple[object, ...]:
        """What holds buffers."""
        return self, self._gradient

    def forward(self) -> None:
        """`out` from the images."""
        pixels = self._images.numel() // self._channels
        launch(kernels.color_norm_forward, (triton.cdiv(pixels, _BLOCK),))(
            self._images,
            self._weights[0],
            self._weights[-1],
            self.out,
            self._basis,
            pixels,
            _EPS,
            C=self._channels,
            OUT=self.out.shape[-1],
            BASIS=self._basis.shape[-1],
            RESIDUAL=self._residual,
            BLOCK=_BLOCK,
        )

    def weight_gradient(self) -> None:
        """The gradients of gain and bias, after the convolution's backward pass."""
        if self._gradient is None or self._weight is None or self._found is None:
            raise RuntimeError("the colour norm was not told which convolution reads it")
        self._gradient()
        # n's channels come last, those of the bias before them
        parts = reversed(torch.split(self._found, self._channels, dim=1))
        for grad, part in zip(self._grads, parts, strict=True):
            torch.sum(part * self._weight, dim=(0, 2, 3), out=grad)
