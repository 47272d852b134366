"""`nkat-search attention`: which tokens a trained network looks at, as a picture."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from search.cli.common import JsonOption, out_console, print_json
from search.cli.predict import CpuOption, ImagesArgument, WeightsArgument
from search.terminal import plain

MOST_IMAGES = 16
"""Of one picture: more of them make one that no viewer shows."""


def register(app: typer.Typer) -> None:
    app.command("attention")(attention)


def attention(
    weights: WeightsArgument,
    images: ImagesArgument,
    *,
    out: Annotated[
        Path, typer.Option("--out", metavar="PNG", help="Where to write the picture.")
    ] = Path("attention.png"),
    token: Annotated[
        str | None,
        typer.Option(
            "--token",
            metavar="ROW,COLUMN",
            help="What this token looks at, from 0,0 at the top left; left out, all tokens.",
        ),
    ] = None,
    device: CpuOption = "cpu",
    json: JsonOption = False,
) -> None:
    """Draw which tokens survive top-k and top-p, layer by layer and head by head.

        nkat-search attention best-recalculated/best-cifar10.safetensors frog.png
        nkat-search attention best-mnist.safetensors digit.png --token 1,2 --out one.png

    Each row is a layer, each column a head, each cell the image: blue where queries attend,
    orange where top-k keeps a token and top-p cuts it, dark where top-k cuts it.  Beside a
    row: how many keys a query keeps, and the layer's NKAT scalars (alpha and beta of theta,
    the scales of its two branches).  --json prints these numbers too.
    """
    from nkat_errors import BadInput
    from search.outputs import check_output
    from search.trained.attention import look
    from search.trained.attention_picture import AttentionPicture
    from search.trained.attention_table import print_attention, save_picture
    from search.trained.prediction import Trained

    if len(images) > MOST_IMAGES:
        raise BadInput(f"{len(images)} images: one picture shows at most {MOST_IMAGES}")
    query = None if token is None else place(token)
    check_output(out)
    trained = Trained.load(weights, device=device)
    views = look(trained, trained.read(images), query=query)
    picture = AttentionPicture(
        config=trained.network.config,
        heading=f"{weights.name}: attention of a network trained on {trained.facts.dataset}",
    )
    save_picture(picture.draw(views), out)
    if json:
        print_json({"picture": str(out), "images": [view.to_dict() for view in views]})
        return
    for view in views:
        print_attention(view, out_console())
    out_console().print(plain(f"written: {out}"), soft_wrap=True)


def place(text: str) -> tuple[int, int]:
    """`1,2` as (1, 2)."""
    from nkat_errors import BadInput

    row, comma, column = text.partition(",")
    try:
        if comma:
            return int(row), int(column)
    except ValueError:
        pass
    raise BadInput(f"--token {text}: must be ROW,COLUMN, for example 0,3")
