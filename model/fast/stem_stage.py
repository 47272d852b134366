"""What stands before the patch embedding: colour norm and stem, forward and backward.

`KernelStemStage` runs a stem, with or without colour norm, on kernels of its own;
`AutogradStemStage` runs whatever the network has through torch, which for so few channels takes
three times as long: a colour norm without a stem behind it.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain
from typing import Protocol

import torch
from torch import Tensor, nn

from model.fast.blocks import FlatBuffers
from model.fast.color_norm_layer import ColorNormGradient, ColorNormLayer
from model.fast.flat_layout import Layout
from model.fast.stem_layer import stem_layers_of
from model.network.vit import NKATViT


class StemStage(Protocol):
    """From the step's images to the patches' pixels.

    `owners` hold its buffers (in their fields).
    """

    owners: Sequence[object]

    def forward(self) -> Tensor:
        """[images * patches, pixels of a patch] in the products' type."""

    def backward(self, dpixels: Tensor) -> None:
        """The gradients of the stem stage's weights into the flat buffers."""


def takes_plain_images(network: NKATViT) -> bool:
    """No colour norm stands before the stem, so images may come in the products' type."""
    return isinstance(network.color_norm, nn.Identity)


def make_stem_stage(
    *, network: NKATViT, layout: Layout, flats: FlatBuffers, images: Tensor, dtype: torch.dtype
) -> StemStage:
    """The quickest stem stage that can do what `network` asks for.

    Args:
        images: [images, side, side, channels], the step's batch.
        dtype: of products.
    """
    stage = KernelStemStage if len(network.stem) else AutogradStemStage
    return stage(network=network, layout=layout, flats=flats, images=images, dtype=dtype)


class KernelStemStage:
    """A stem, and the colour norm before it.

    Args:
        images: in float32 before a colour norm, else in the products' type.
        dtype: of products.
    """

    def __init__(
        self,
        *,
        network: NKATViT,
        layout: Layout,
        flats: FlatBuffers,
        images: Tensor,
        dtype: torch.dtype,
    ) -> None:
        self._color_norm: ColorNormLayer | None = None
        if not takes_plain_images(network):
            self._color_norm = ColorNormLayer(
                kind=network.config.color_norm,
                layout=layout,
                flats=flats,
                images=images,
                dtype=dtype,
            )
            images = self._color_norm.out
        self._pixels = images.new_zeros(
            len(images) * network.patches.grid.patches, network.patches.project.in_features
        )
        self._layers = stem_layers_of(
            network=network,
            layout=layout,
            flats=flats,
            images=images,
            pixels=self._pixels,
            patch=network.config.patch_size,
        )
        self.owners: Sequence[object] = (
            self,
            *chain.from_iterable(layer.owners for layer in self._layers),
        )
        self._color_gradient: ColorNormGradient | None = None
        if self._color_norm is not None:
            self._color_gradient = ColorNormGradient(
                norm=self._color_norm, reader=self._layers[0], layout=layout, flats=flats
            )
            self.owners = (*self.owners, self._color_norm, *self._color_gradient.owners)

    def forward(self) -> Tensor:
        if self._color_norm is not None:
            self._color_norm.forward()
        for layer in self._layers:
            layer.forward()
        return self._pixels

    def backward(self, dpixels: Tensor) -> None:
        grad = dpixels
        for layer in reversed(self._layers):
            grad = layer.backward(grad)
        for layer in self._layers:
            layer.weight_gradient()
        if self._color_gradient is not None:
            self._color_gradient()


class AutogradStemStage:
    """Any stem stage, by torch's own functions; nothing to train is no work backward."""

    def __init__(
        self,
        *,
        network: NKATViT,
        layout: Layout,
        flats: FlatBuffers,
        images: Tensor,
        dtype: torch.dtype,
    ) -> None:
        self._network, self._images, self._dtype = network, images, dtype
        named = dict(network.named_parameters())
        self._weights = [named[name] for name in layout.stem]
        self._grads = [
            layout.places[name].view(flats.high_grads, first=layout.low) for name in layout.stem
        ]
        self._cut: Tensor | None = None
        self.owners: Sequence[object] = ()

    def forward(self) -> Tensor:
        network = self._network
        images = self._images.permute(0, 3, 1, 2)
        with torch.enable_grad(), self._autocast():
            cut = network.patches.grid.cut(network.stem(network.color_norm(images)))
        self._cut = cut
        return cut.detach().flatten(0, 1).to(self._dtype)

    def backward(self, dpixels: Tensor) -> None:
        cut, self._cut = self._cut, None
        if not self._weights or cut is None:
            return
        found = torch.autograd.grad(cut, self._weights, dpixels.view(cut.shape).to(cut.dtype))
        torch._foreach_copy_(self._grads, list(found))

    def _autocast(self) -> torch.autocast:
        # a cached cast would be freed while the graph still reads it
        return torch.autocast(
            self._images.device.type,
            dtype=torch.bfloat16,
            enabled=self._dtype == torch.bfloat16,
            cache_enabled=False,
        )
