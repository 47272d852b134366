"""The gradient of a convolution's weights, for any input that it could have had."""

from __future__ import annotations

import triton
from torch import Tensor

from model.fast.kernels import stem_conv as stem_kernels
from model.fast.launch import STEM
from model.fast.sums import column_sums
from model.kernels.triton_launch import launch


class ConvolutionGradient:
    """Buffers and launches.

    Args:
        given: [images, side, side, channels], the input.
        dx: [images * out side^2, out channels], the gradient of the output.
        out: float32 [out channels * 9 * channels], as channels-last weights lie.
        stride: of the convolution; its kernel is 3 x 3, padded by 1.
    """

    def __init__(self, *, given: Tensor, dx: Tensor, out: Tensor, stride: int) -> None:
        _, side, _, cin = given.shape
        pixels, cout = dx.shape
        self._given, self._dx, self._out, self._pixels = given, dx, out.view(1, -1), pixels
        self._depth = depth_of(cin)
        self._depths = triton.cdiv(9 * cin, self._depth)
        splits = min(triton.cdiv(STEM.programs, self._depths), triton.cdiv(pixels, STEM.depth))
        self._partial = out.new_empty(1, splits, out.numel())
        self._sizes = {
            "SIDE": side,
            "OUT_SIDE": -(-side // stride),
            "CIN": cin,
            "COUT": cout,
            "STRIDE": stride,
            "PRECISION": precision(given),
        }

    def __call__(self) -> None:
        """Fill `out`."""
        launch(stem_kernels.weight_gradient, (self._depths, self._partial.shape[1]))(
            self._given,
            self._dx,
            self._partial,
            self._pixels,
            **self._sizes,
            DEPTH=self._depth,
            PIXELS=STEM.depth,
        )
        column_sums(self._partial, self._out)


def precision(operand: Tensor) -> str:
    """Of Triton's products of such operands."""
    return "ieee" if operand.element_size() == 4 else "tf32"


def depth_of(channels: int) -> int:
    """Of a product with gathered pixels: one tap's channels, or all taps of a few."""
    return channels if channels >= 16 else max(16, int(triton.next_power_of_2(9 * channels)))
