"""`nkat-search predict`: what a trained network says of image files."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from search.cli.common import JsonOption, out_console, print_json

WeightsArgument = Annotated[
    Path,
    typer.Argument(
        metavar="WEIGHTS", help="Weights, a *.safetensors that `nkat-search recalculate` wrote."
    ),
]
ImagesArgument = Annotated[
    list[Path], typer.Argument(metavar="IMAGE...", help="Image files of any size and colour.")
]
CpuOption = Annotated[
    str,
    typer.Option("--device", metavar="NAME", help="`cpu`, `cuda`, `cuda:N` or `auto`."),
]


def register(app: typer.Typer) -> None:
    app.command("predict")(predict)


def predict(
    weights: WeightsArgument,
    images: ImagesArgument,
    *,
    device: CpuOption = "cpu",
    json: JsonOption = False,
) -> None:
    """Say what is on image files: the label, its probability, and the next two.

        nkat-search predict best-recalculated/best-mnist.safetensors digit.png
        nkat-search predict best-recalculated/best-cifar10.safetensors *.jpg --json

    A network for grey images turns dark strokes on a light ground into the light ones on
    black that it was trained on, and cuts out the square around them; one for colour takes
    the middle square.  The image should show what the training images show: one object, or
    one digit or letter.
    """
    from search.trained.prediction import Trained, print_predictions
    from search.trained.prediction import predict as predicted

    trained = Trained.load(weights, device=device)
    found = predicted(trained, trained.read(images))
    if json:
        print_json([one.to_dict() for one in found])
    else:
        print_predictions(found, trained.facts, out_console())
