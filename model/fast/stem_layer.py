"""One layer of the stem on its kernels: convolution, BatchNorm, GELU."""

from __future__ import annotations

from itertools import pairwise

import torch
import triton
from torch import Tensor, nn

from model.fast.blocks import FlatBuffers
from model.fast.convolution_gradient import ConvolutionGradient, depth_of, precision
from model.fast.flat_layout import Layout
from model.fast.kernels import stem_conv as stem_kernels
from model.fast.kernels import stem_norm as stem_norm_kernels
from model.fast.launch import STEM
from model.kernels.triton_launch import launch
from model.network.vit import NKATViT


class StemLayer:
    """Buffers and launches of one layer.

    Args:
        names: of the convolution and of the BatchNorm in the network's parameters.
        norm: that BatchNorm, whose batches are counted.
        given: [images, side, side, channels], the layer's input.
        out: where the activation goes: [images, out side, out side, channels], or the
            patches' pixels where `patch` > 0.
        stride: of the convolution.
        first: nothing before this layer needs the gradient of `given`.

    `weight` [cout, cin, 3, 3] and, after the backward pass, `dx` [pixels, cout], the gradient of
    the convolution's output, are what a colour norm before the layer reads.
    """

    def __init__(
        self,
        *,
        names: tuple[str, str],
        norm: nn.BatchNorm2d,
        layout: Layout,
        flats: FlatBuffers,
        given: Tensor,
        out: Tensor,
        patch: int,
        stride: int,
        first: bool,
    ) -> None:
        conv, batch_norm = names
        places = layout.places

        def gradient(name: str) -> Tensor:
            return places[name].view(flats.high_grads, first=layout.low)

        self._given, self._out, self._patch = given, out, patch
        self._images, self._side, _, self._cin = given.shape
        self.stride, self._first = stride, first
        self._cout = norm.num_features
        self._out_side = -(-self._side // stride)
        self._pixels = self._images * self._out_side**2
        self.weight = places[f"{conv}.weight"].view(flats.copies)
        self._gain = places[f"{batch_norm}.weight"].view(flats.weights)
        self._bias = places[f"{batch_norm}.bias"].view(flats.weights)
        self._gain_grad = gradient(f"{batch_norm}.weight")
        self._bias_grad = gradient(f"{batch_norm}.bias")
        self._running_mean = places[f"{batch_norm}.running_mean"].view(flats.weights)
        self._running_var = places[f"{batch_norm}.running_var"].view(flats.weights)
        self._tracked = norm.num_batches_tracked
        self._x = given.new_empty(self._pixels, self._cout)
        self.dx = torch.empty_like(self._x)
        self._dgiven = given.new_empty(0) if first else torch.empty_like(given)
        self._tile, self._norm_tile = STEM.tile // self._cout, STEM.norm_tile // self._cout
        self._programs = min(STEM.programs, triton.cdiv(self._pixels, self._tile))
        self._mean = flats.weights.new_empty(self._cout)
        self._rstd = flats.weights.new_empty(self._cout)
        self._partial = flats.weights.new_empty(self._programs, 2, self._cout)
        self._depth = depth_of(self._cin)
        self._precision = precision(given)
        self._convolution_gradient = ConvolutionGradient(
            given=given,
            dx=self.dx,
            out=gradient(f"{conv}.weight").permute(0, 2, 3, 1).flatten(),
            stride=stride,
        )

    @property
    def owners(self) -> tuple[object, ...]:
        """What holds buffers."""
        return self, self._convolution_gradient

    def forward(self) -> None:
        """`out` from `given`."""
        launch(stem_kernels.convolve, (self._programs,))(
            self._given,
            self.weight,
            self._running_mean,
            self._x,
            self._partial,
            self._pixels,
            **self._sizes(),
            DEPTH=self._depth,
            PIXELS=self._tile,
        )
        launch(stem_norm_kernels.norm_gelu_forward, (self._programs,))(
            self._x,
            self._partial,
            self._running_mean,
            self._gain,
            self._bias,
            self._out,
            self._mean,
            self._rstd,
            self._pixels,
            self._programs,
            **self._norm_sizes(),
        )

    def backward(self, dout: Tensor) -> Tensor:
        """The gradient of `given` (empty for the first layer) from that of `out`."""
        launch(stem_norm_kernels.norm_gelu_sums, (self._programs,))(
            self._x,
            dout,
            self._mean,
            self._rstd,
            self._gain,
            self._bias,
            self._partial,
            self._pixels,
            **self._norm_sizes(),
        )
        launch(stem_norm_kernels.norm_gelu_backward, (self._programs + 1,))(
            self._x,
            dout,
            self._mean,
            self._rstd,
            self._gain,
            self._bias,
            self._partial,
            self._gain_grad,
            self._bias_grad,
            self._running_mean,
            self._running_var,
            self._tracked,
            self.dx,
            self._pixels,
            self._programs,
            **self._norm_sizes(),
        )
        if not self._first:
            # pixels of the largest class; the others have as many or fewer
            in_class = self._images * triton.cdiv(self._side, self.stride) ** 2
            tile = STEM.tile // self._cin
            grid = (triton.cdiv(in_class, tile), self.stride**2)
            launch(stem_kernels.input_gradient, grid)(
                self.dx, self.weight, self._dgiven, self._images, **self._sizes(), PIXELS=tile
            )
        return self._dgiven

    def weight_gradient(self) -> None:
        """The gradient of the convolution, after `backward`."""
        self._convolution_gradient()

    def _sizes(self) -> dict[str, int | str]:
        return {
            "SIDE": self._side,
            "OUT_SIDE": self._out_side,
            "CIN": self._cin,
            "COUT": self._cout,
            "STRIDE": self.stride,
            "PRECISION": self._precision,
        }

    def _norm_sizes(self) -> dict[str, int]:
        return {
            "SIDE": self._out_side,
            "C": self._cout,
            "PATCH": self._patch,
            "PIXELS": self._norm_tile,
            "num_warps": STEM.norm_warps,
        }


def stem_layers_of(
    *,
    network: NKATViT,
    layout: Layout,
    flats: FlatBuffers,
    images: Tensor,
    pixels: Tensor,
    patch: int,
) -> list[StemLayer]:
    """The network's stem: from `images` to `pixels`, the patches' input."""
    convolutions = [(i, m) for i, m in enumerate(network.stem) if isinstance(m, nn.Conv2d)]
    given = [images]
    for _, module in convolutions[:-1]:
        side = -(-given[-1].shape[1] // module.stride[0])
        given.append(images.new_empty(len(images), side, side, module.out_channels))
    layers = []
    for (index, module), (taken, out) in zip(
        convolutions, pairwise([*given, pixels]), strict=True
    ):
        norm = network.stem[index + 1]
        assert isinstance(norm, nn.BatchNorm2d)
        layers.append(
            StemLayer(
                names=(f"stem.{index}", f"stem.{index + 1}"),
                norm=norm,
                layout=layout,
                flats=flats,
                given=taken,
                out=out,
                patch=patch if out is pixels else 0,
                stride=module.stride[0],
                first=taken is images,
            )
        )
    return layers
