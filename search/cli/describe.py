"""`nkat-search describe`: layers, size, work and lambda of a configuration."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from search.cli.common import JsonOption, out_console, print_json, say_warnings
from search.cli.recipe_options import recipe_options, split_recipe


def register(app: typer.Typer) -> None:
    app.command("describe")(recipe_options(describe))


def describe(
    *,
    config: Annotated[
        Path | None,
        typer.Option("--config", metavar="FILE", help="A search file or an exported best.yaml."),
    ] = None,
    json: JsonOption = False,
    recipe: dict[str, Any],
) -> None:
    """Layers, tokens, parameters, FLOPs, and the three readings of lambda.

    Of the source's baseline, of a search file's baseline, or of a best.yaml; single
    fields can be replaced.  Nothing is trained or allocated.

        nkat-search describe
        nkat-search describe --config best.yaml
        nkat-search describe --conv-stem off --patch-size 4 --embed-dim 512
    """
    from search.export.configuration import choose
    from search.score.describe import describe as describe_model
    from search.score.describe import slow_on_gpu

    model_fields, train_fields = split_recipe(recipe)
    chosen = choose(config, model=model_fields, train=train_fields)
    dataset, threshold = chosen.gate
    found = describe_model(chosen.model, threshold=threshold)
    slow = slow_on_gpu(chosen.model, chosen.train)
    if json:
        print_json(
            {
                "name": chosen.name,
                "gate": {"dataset": dataset, "threshold": threshold},
                "lambda": chosen.reading,
                "slow_on_gpu": slow,
                **found.to_dict(),
                "model": chosen.model.to_dict(),
                "train": chosen.train.to_dict(),
            }
        )
        return
    _print(found, chosen.name, chosen.reading, chosen.gate)
    say_warnings(
        f"on a GPU this trains step by step, which can take 45 times as long: {reason} ({images})"
        for images, reason in slow.items()
    )


def _print(found: Any, name: str, reading: str, gate: tuple[str, float]) -> None:
    from rich.table import Table

    console = out_console()
    layers = Table(title=name, title_justify="left", show_header=False)
    for layer, form in found.layers:
        layers.add_row(layer, form)
    console.print(layers)
    shapes = Table(title="Size and work", title_justify="left")
    for heading in ("images", "tokens", "parameters", "forward/image", "training/image"):
        shapes.add_column(heading, justify="left" if heading == "images" else "right")
    for shape in found.shapes:
        shapes.add_row(
            shape.images,
            str(shape.tokens),
            f"{shape.parameters:,}",
            f"{shape.forward_flops / 1e6:,.1f} MFLOP",
            f"{shape.training_flops / 1e6:,.1f} MFLOP",
        )
    console.print(shapes)
    dataset, threshold = gate
    needs = Table(title="Readings of lambda (* in use)", title_justify="left")
    for heading in (
        "reading",
        "lambda",
        f"gate {threshold:.2f} needs\n{dataset} accuracy",
        "Global TPE score 0.70\nneeds mean accuracy",
        "largest\npossible score",
    ):
        needs.add_column(heading, justify="left" if heading == "reading" else "right")
    for row in found.needs:
        needs.add_row(
            f"{row.reading} *" if row.reading == reading else row.reading,
            f"{row.value:.4f}",
            _accuracy(row.gate_accuracy),
            _accuracy(row.target_accuracy),
            "no score" if row.largest_score is None else f"{row.largest_score:.4f}",
        )
    console.print(needs)


def _accuracy(value: float | None) -> str:
    if value is None:
        return "no score"
    return f"{value:.4f}" if value <= 1 else f"{value:.4f} (impossible)"
