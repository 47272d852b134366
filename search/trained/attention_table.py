"""Attention as a table in the terminal, and the picture as a file."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from PIL import Image

from nkat_errors import BadInput
from search.terminal import WideTable, plain
from search.trained.attention import AttentionView

if TYPE_CHECKING:
    from rich.console import Console


def print_attention(view: AttentionView, console: Console) -> None:
    """A row a layer: kept keys and NKAT scalars."""
    image = view.prediction.image
    console.print(plain(f"{image.path}: {view.prediction.sentence()}", "bold"), soft_wrap=True)
    table = WideTable()
    table.column("layer")
    for heading in (
        "keys\nafter top-k",
        "after\ntop-p",
        "alpha",
        "beta",
        "attention\nscale",
        "MLP\nscale",
        "theta\nleast",
        "theta\nlargest",
    ):
        table.column(heading)
    for number, layer in enumerate(view.layers, start=1):
        scalars = layer.scalars
        table.row(
            number,
            f"{sum(layer.by_rank) / len(layer.by_rank):.2f}",
            f"{sum(layer.kept) / len(layer.kept):.2f}",
            f"{scalars.alpha:+.4f}",
            f"{scalars.beta:+.4f}",
            f"{scalars.attention_scale:.4f}",
            f"{scalars.mlp_scale:.4f}",
            *(f"{value:.5f}" for value in layer.theta),
        )
    console.print(table)


def save_picture(picture: Image.Image, path: Path) -> None:
    """As PNG, whole or not at all.

    Raises:
        BadInput: it cannot be written.
    """
    partial = path.with_name(f".{path.name}.partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        picture.save(partial, format="PNG")
        partial.replace(path)
    except OSError as error:
        raise BadInput(f"--out {path}: cannot be written ({error.strerror})") from None
