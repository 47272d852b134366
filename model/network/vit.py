"""The NKAT Vision Transformer.

images -> colour norm -> stem -> patches -> + position -> dropout
       -> blocks -> norm -> pool -> head
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from model.config import ModelConfig
from model.network.attention import COLOUR_CHANNELS, NKATAttention
from model.network.block import Block
from model.network.color_norm import make_color_norm
from model.network.color_tokens import ColourTokens
from model.network.dropout import Dropout
from model.network.initialise import (
    PATCH_STD,
    initialise_own,
    mimic_trained_attention,
    set_scale,
    sincos_positions,
)
from model.network.patch import PatchEmbedding, PatchGrid
from model.network.stem import make_stem
from nkat_errors import BadInput


class NKATViT(nn.Module):
    """One network, as its configuration says.

    Under `torch.device("meta")` it is built without memory (`model.network.cost`).
    `build_network` builds one without touching torch's global generator.

    Args:
        config: see `ModelConfig`.
        generator: draws the first weights; None is torch's global generator.
    """

    def __init__(self, config: ModelConfig, *, generator: torch.Generator | None = None) -> None:
        super().__init__()
        self.config = config
        dim = config.embed_dim
        self.color_norm, channels = make_color_norm(config.color_norm, channels=config.channels)
        self.stem, channels = make_stem(config.conv_stem, channels=channels)
        grid = PatchGrid.covering(size=config.stem_size, patch_size=config.patch_size)
        self.patches = PatchEmbedding(channels=channels, grid=grid, embed_dim=dim)
        self.class_token = nn.Parameter(torch.empty(1, 1, dim)) if config.pool == "cls" else None
        self.position = nn.Parameter(torch.empty(1, config.tokens, dim))
        self.dropout = Dropout(config.dropout_embed)
        split = config.split_heads and config.channels == COLOUR_CHANNELS
        self.colour_tokens = ColourTokens(config) if split else None
        self.blocks = nn.ModuleList(Block(config, layer=layer) for layer in range(config.depth))
        self.norm = nn.LayerNorm(dim)
        self.head = nn.Linear(dim, config.classes)
        self.initialise(generator)

    def forward(self, images: Tensor) -> Tensor:
        """Logits of normalised images.

        Args:
            images: float [B, channels, image_size, image_size].

        Returns:
            [B, classes].

        Raises:
            BadInput: images of another shape than the configuration's.
        """
        if images.shape[1] != self.config.channels:
            raise BadInput(
                f"images have {images.shape[1]} channels, the network was built for "
                f"{self.config.channels}: set channels to the data set's"
            )
        x: Tensor = self.patches(self.stem(self.color_norm(images)))
        if self.class_token is not None:
            x = torch.cat([self.class_token.expand(x.shape[0], -1, -1).to(x.dtype), x], dim=1)
        x = self.dropout(x + self.position)
        colours = None if self.colour_tokens is None else self.colour_tokens(images)
        for block in self.blocks:
            x = block(x, colours)
        x = self.norm(x)
        pooled = x.mean(dim=1) if self.class_token is None else x[:, 0]
        logits: Tensor = self.head(pooled)
        return logits

    def use_generator(self, generator: torch.Generator | None) -> None:
        """Let every dropout draw from `generator`, which is on the network's device."""
        for module in self.modules():
            if isinstance(module, Dropout | NKATAttention):
                module.generator = generator

    @torch.no_grad()
    def initialise(self, generator: torch.Generator | None = None) -> None:
        """Set every parameter and buffer to its first value.

        Matrices and embeddings: normal, std 0.02, cut at two of it; convolutions:
        Kaiming for their outputs; biases 0, norms 1 and 0, NKAT scalars as the
        source gives them (0.1, 0.05, 1, 1).  `position_init` and `attention_init` then
        replace some of it (`model.network.initialise`).
        """
        for module in self.modules():
            initialise_own(module, generator)
        if self.config.position_init == "sincos":
            self.position.copy_(sincos_positions(self.config))
            set_scale(self.patches.project, std=PATCH_STD, generator=generator)
        if self.config.attention_init == "mimetic":
            for module in self.modules():
                if isinstance(module, NKATAttention):
                    mimic_trained_attention(module, generator)


class _NothingWritten(TorchFunctionMode):
    """In-place functions do nothing: tensors without memory have no values to set, and
    drawing "into" them makes torch import its whole compiler, seconds of a first start."""

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        name = getattr(func, "__name__", "")
        if name.endswith("_") and not name.endswith("__") and name != "requires_grad_":
            return args[0] if args else (kwargs or {})["tensor"]
        return func(*args, **(kwargs or {}))


def empty_network(config: ModelConfig, *, device: torch.device | str) -> NKATViT:
    """A network whose weights have no value yet; on `meta` none has memory either."""
    with _NothingWritten(), torch.device("meta"):
        network = NKATViT(config)
    if torch.device(device).type != "meta":
        # not `to_empty`: its empty_like of a tensor without memory imports the compiler too
        network._apply(  # type: ignore[no-untyped-call]
            lambda t: torch.empty(t.shape, dtype=t.dtype, device=device)
        )
    return network


def build_network(config: ModelConfig, *, seed: int, device: str = "cpu") -> NKATViT:
    """A network whose first weights depend on `seed` alone, on every device.

    The weights are drawn on the CPU by a generator of their own; torch's global
    generator is neither read nor moved.
    """
    network = empty_network(config, device="cpu")
    network.initialise(torch.Generator().manual_seed(seed))
    return network.to(device)


def count_parameters(config: ModelConfig) -> int:
    """Trainable parameters, without allocating any."""
    network = empty_network(config, device="meta")
    return sum(parameter.numel() for parameter in network.parameters())
