"""Where every weight of a network lies in one flat buffer.

    products | other decayed | not decayed | statistics

`products` are the block stack's matrices (same-shaped ones of all layers side by side),
the head's, the patch embedding's and the colour tokens'; their gradients come out of matrix
products in the products' type.  All others have float32 gradients.  `statistics` are BatchNorm's:
averaged, not trained.  Sections start at multiples of the optimiser's block, tensors at
multiples of 64 elements, so that every view may be an operand of a matrix product.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from model.config import ModelConfig, Optimizer
from model.fast.kernels.optimizer import BLOCK
from model.network.vit import NKATViT
from model.training.optimizers import _NEVER_DECAYED

_ALIGN = 64

HIDDEN = ("qkv", "project", "fc1", "fc2", "colour_kv")
"""The stacks of the blocks' matrices: what Muon updates where it is chosen.  A network
without split heads has no `colour_kv`."""

_COLOUR = "colour_tokens."


@dataclass(frozen=True, slots=True)
class Place:
    """One tensor's first element in the flat buffer, and its shape.

    A convolution's weights lie channels last: all channels of one tap side by side.

    Args:
        strides: where the tensor does not lie in the usual order.
    """

    start: int
    shape: tuple[int, ...]
    strides: tuple[int, ...] | None = None

    def view(self, flat: Tensor, *, first: int = 0) -> Tensor:
        """The tensor in `flat`, which begins at element `first` of the whole."""
        begin = self.start - first
        if self.strides is not None:
            offset = flat.storage_offset() + begin
            return flat.as_strided(self.shape, self.strides, offset)
        there = flat[begin : begin + _size(self.shape)]
        if len(self.shape) != 4:
            return there.view(self.shape)
        out, channels, *kernel = self.shape
        return there.view(out, *kernel, channels).permute(0, 3, 1, 2)


@dataclass(frozen=True, slots=True)
class Layout:
    """Places by parameter or buffer name, the stacks of all layers, and the sections.

    Args:
        places: of every parameter and floating buffer of the network.
        stacks: `qkv`, `project`, `fc1`, `fc2` ([depth, out, in]); `qkv_bias`, `fc1_bias`
            ([depth, out]); `norms` [2 depth + 1, 3, dim]: weight and bias of each norm in
            order, and the bias of the branch that is added before it (unused at 0);
            `scalars` [4, depth]: attention_scale, mlp_scale, alpha, beta.  With split heads
            `colour_kv` [3 depth, out, in] and `colour_kv_bias` [3, depth * out], all layers of
            a colour side by side, and `colour_norm` [2, dim].
        stem: names of the parameters before the patch embedding, in order.
        muon: end of the matrices that Muon updates, which come first; 0: there are none.
        low, decayed, trained, total: ends of the four sections, elements.
    """

    places: dict[str, Place]
    stacks: dict[str, Place]
    stem: tuple[str, ...]
    muon: int
    low: int
    decayed: int
    trained: int
    total: int

    def bind(self, network: nn.Module, flat: Tensor) -> None:
        """Make the network's parameters and buffers views of `flat`."""
        for name, tensor in _tensors(network):
            tensor.data = self.places[name].view(flat)

    def stack(self, name: str, flat: Tensor, *, first: int = 0) -> Tensor:
        return self.stacks[name].view(flat, first=first)


def make_layout(network: NKATViT, *, optimizer: Optimizer) -> Layout:
    """The layout of a network (shapes only; `meta` will do).

    With Muon the block stack's matrices are a section of their own.
    """
    maker = _Maker(network)
    config = network.config
    depth, dim = config.depth, config.embed_dim
    block = "blocks.{}."
    maker.stack_layers("qkv", block + "attention.qkv.weight")
    maker.stack_layers("project", block + "attention.project.weight")
    maker.stack_layers("fc1", block + "expand.weight")
    maker.stack_layers("fc2", block + "contract.weight")
    split = network.colour_tokens is not None
    if split:
        _place_colour_matrices(maker, config)
    muon = maker.end_section() if optimizer == "muon" else 0
    maker.single(["head.weight", "patches.project.weight"])
    if split:
        maker.single([_COLOUR + "embed", _COLOUR + "mix"])
    low = maker.end_section()
    stem = [name for name in maker.shapes if _before_patches(name)]
    matrices = [name for name in stem if _is_decayed(name, maker.shapes[name])]
    maker.single(matrices)
    decayed = maker.end_section()
    maker.stack_layers("qkv_bias", block + "attention.qkv.bias")
    maker.stack_layers("fc1_bias", block + "expand.bias")
    _place_norms(maker, config)
    if split:
        _place_colour_vectors(maker, config)
    scalars = maker.take((4, depth))
    maker.stacks["scalars"] = scalars
    names = ("attention_scale", "mlp_scale", "attention.theta.alpha", "attention.theta.beta")
    for row, name in enumerate(names):
        for layer in range(depth):
            place = Place(scalars.start + row * depth + layer, ())
            maker.places[block.format(layer) + name] = place
    maker.single(name for name in maker.shapes if name not in maker.places)
    trained = maker.end_section()
    for name, buffer in network.named_buffers():
        if buffer.is_floating_point():
            maker.places[name] = maker.take(tuple(buffer.shape))
    total = maker.end_section()
    assert dim == maker.shapes["norm.weight"][0]
    return Layout(
        places=maker.places,
        stacks=maker.stacks,
        stem=tuple(stem),
        muon=muon,
        low=low,
        decayed=decayed,
        trained=trained,
        total=total,
    )


class _Maker:
    """Hands out places one after the other."""

    def __init__(self, network: NKATViT) -> None:
        self.shapes = {name: tuple(p.shape) for name, p in network.named_parameters()}
        self.depth = network.config.depth
        self.places: dict[str, Place] = {}
        self.stacks: dict[str, Place] = {}
        self._next = 0

    def take(self, shape: tuple[int, ...]) -> Place:
        place = Place(self._next, shape)
        self._next += -(-_size(shape) // _ALIGN) * _ALIGN
        return place

    def single(self, names: Iterable[str]) -> None:
        for name in list(names):
            self.places[name] = self.take(self.shapes[name])

    def stack_layers(self, stack: str, pattern: str) -> None:
        shape = self.shapes[pattern.format(0)]
        whole = self.take((self.depth, *shape))
        self.stacks[stack] = whole
        for layer in range(self.depth):
            start = whole.start + layer * _size(shape)
            self.places[pattern.format(layer)] = Place(start, shape)

    def end_section(self) -> int:
        self._next = -(-self._next // BLOCK) * BLOCK
        return self._next


def _place_norms(maker: _Maker, config: ModelConfig) -> None:
    dim, depth = config.embed_dim, config.depth
    norms = maker.take((2 * depth + 1, 3, dim))
    maker.stacks["norms"] = norms

    def put(name: str, norm: int, column: int) -> None:
        maker.places[name] = Place(norms.start + (3 * norm + column) * dim, (dim,))

    for layer in range(depth):
        block = f"blocks.{layer}."
        put(block + "attention_norm.weight", 2 * layer, 0)
        put(block + "attention_norm.bias", 2 * layer, 1)
        put(block + "mlp_norm.weight", 2 * layer + 1, 0)
        put(block + "mlp_norm.bias", 2 * layer + 1, 1)
        put(block + "attention.project.bias", 2 * layer + 1, 2)
        put(block + "contract.bias", 2 * layer + 2, 2)
    put("norm.weight", 2 * depth, 0)
    put("norm.bias", 2 * depth, 1)


def _place_colour_matrices(maker: _Maker, config: ModelConfig) -> None:
    """A colour's keys and values of all layers come out of one product: its matrices lie
    side by side, turned as a Linear's are."""
    depth = config.depth
    colours, dim, out = maker.shapes["blocks.0.attention.colour_kv"]
    whole = maker.take((colours * depth, out, dim))
    maker.stacks["colour_kv"] = whole
    for layer in range(depth):
        maker.places[f"blocks.{layer}.attention.colour_kv"] = Place(
            whole.start + layer * out * dim, (colours, dim, out), (depth * out * dim, 1, dim)
        )


def _place_colour_vectors(maker: _Maker, config: ModelConfig) -> None:
    depth = config.depth
    colours, _, out = maker.shapes["blocks.0.attention.colour_kv_bias"]
    whole = maker.take((colours, depth * out))
    maker.stacks["colour_kv_bias"] = whole
    for layer in range(depth):
        maker.places[f"blocks.{layer}.attention.colour_kv_bias"] = Place(
            whole.start + layer * out, (colours, 1, out), (depth * out, out, 1)
        )
    norm = maker.take((2, config.embed_dim))
    maker.stacks["colour_norm"] = norm
    for row, name in enumerate(("norm.weight", "norm.bias")):
        place = Place(norm.start + row * config.embed_dim, (config.embed_dim,))
        maker.places[_COLOUR + name] = place


def _tensors(network: nn.Module) -> Iterable[tuple[str, Tensor]]:
    yield from network.named_parameters()
    for name, buffer in network.named_buffers():
        if buffer.is_floating_point():
            yield name, buffer


def _before_patches(name: str) -> bool:
    return name.startswith(("color_norm.", "stem."))


def _is_decayed(name: str, shape: tuple[int, ...]) -> bool:
    """As `model.training.optimizers` decides."""
    last = name.rpartition(".")[2]
    return len(shape) >= 2 and not last.endswith("bias") and last not in _NEVER_DECAYED


def _size(shape: tuple[int, ...]) -> int:
    return int(torch.Size(shape).numel())
