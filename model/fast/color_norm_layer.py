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
from model.fast.flat_layout import Layout, Place
from model.fast.kernels import color_norm as kernels
from model.fast.stem_layer import StemLayer
from model.kernels.triton_launch import launch

_BLOCK = 256


class ColorNormLayer:
    """Buffers and launch of the forward pass.

    `out` is what the stem reads.  `basis` holds n in its last channels, after as many channels of
    1 where there is a bias.

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
        self._images, self._residual = images, kind == "residual"
        self.channels = images.shape[-1]
        self._weights = [place.view(flats.weights) for place in _gain_and_bias(layout)]
        *shape, single = images.shape
        double = 2 * single
        self.out = images.new_zeros(*shape, double if kind == "concat" else single, dtype=dtype)
        self.basis = images.new_ones(*shape, single if self._residual else double, dtype=dtype)

    def forward(self) -> None:
        """`out` and `basis` from the images."""
        pixels = self._images.numel() // self.channels
        launch(kernels.color_norm_forward, (triton.cdiv(pixels, _BLOCK),))(
            self._images,
            self._weights[0],
            self._weights[-1],
            self.out,
            self.basis,
            pixels,
            C=self.channels,
            OUT=self.out.shape[-1],
            BASIS=self.basis.shape[-1],
            RESIDUAL=self._residual,
            BLOCK=_BLOCK,
        )


class ColorNormGradient:
    """The gradients of gain and bias.

    Args:
        norm: whose.
        reader: the stem's layer that reads its `out`.
    """

    def __init__(
        self, *, norm: ColorNormLayer, reader: StemLayer, layout: Layout, flats: FlatBuffers
    ) -> None:
        self._channels = norm.channels
        self._weight = reader.weight[:, -self._channels :]
        self._grads = [
            place.view(flats.high_grads, first=layout.low) for place in _gain_and_bias(layout)
        ]
        cout, channels = len(reader.weight), norm.basis.shape[-1]
        found = flats.high_grads.new_empty(cout * 9 * channels)
        self._found = found.view(cout, 3, 3, channels).permute(0, 3, 1, 2)
        self._gradient = ConvolutionGradient(
            given=norm.basis, dx=reader.dx, out=found, stride=reader.stride
        )

    @property
    def owners(self) -> tuple[object, ...]:
        """What holds buffers."""
        return self, self._gradient

    def __call__(self) -> None:
        """After the reader's backward pass."""
        self._gradient()
        # n's channels come last, those of the bias before them
        parts = reversed(torch.split(self._found, self._channels, dim=1))
        for grad, part in zip(self._grads, parts, strict=True):
            torch.sum(part * self._weight, dim=(0, 2, 3), out=grad)


def _gain_and_bias(layout: Layout) -> list[Place]:
    """Where they lie, in this order; `residual` has no bias."""
    names = [name for name in layout.stem if name.startswith("color_norm.")]
    return [layout.places[name] for name in sorted(names, reverse=True)]  # weight, bias
