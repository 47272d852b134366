"""The convolutional stem: local texture and colour before the patches are cut.

Stacked strided 3x3 convolutions in place of a patchify stem train more stably and
better ("Early Convolutions Help Transformers See Better", arXiv 2106.14881).
"""

from __future__ import annotations

from torch import nn

from model.config import ConvStem

# (channels, stride) of each 3x3 convolution, padding 1.
_LAYERS: dict[str, tuple[tuple[int, int], ...]] = {
    "off": (),
    "tiny": ((32, 2), (64, 2)),
    "small": ((64, 2), (128, 2), (128, 1)),
}


def make_stem(kind: ConvStem, *, channels: int) -> tuple[nn.Sequential, int]:
    """Convolution, BatchNorm, GELU for each layer of `kind`; empty for `off`.

    Args:
        channels: channels of the input, [B, channels, H, W].

    Returns:
        The stem and its output's channels.  Each stride of 2 makes ceil(H / 2) of H.
    """
    layers: list[nn.Module] = []
    for width, stride in _LAYERS[kind]:
        # BatchNorm subtracts any bias the convolution could add.
        layers.append(nn.Conv2d(channels, width, 3, stride=stride, padding=1, bias=False))
        layers.append(nn.BatchNorm2d(width))
        layers.append(nn.GELU())
        channels = width
    return nn.Sequential(*layers), channels


def stem_layers(kind: ConvStem, *, channels: int) -> list[tuple[int, int, int]]:
    """(input channels, output channels, stride) of each convolution of `kind`."""
    rows = []
    for width, stride in _LAYERS[kind]:
        rows.append((channels, width, stride))
        channels = width
    return rows
