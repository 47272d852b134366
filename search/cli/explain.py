"""`nkat-search explain`: the arithmetic of the TPE score."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from search.cli.common import JsonOption, out_console, print_json

if TYPE_CHECKING:
    from search.score.explain import Explanation


def register(app: typer.Typer) -> None:
    app.command("explain")(explain)


def explain(
    *,
    config: Annotated[
        Path | None,
        typer.Option("--config", metavar="FILE", help="A search file or an exported best.yaml."),
    ] = None,
    lam: Annotated[
        float | None,
        typer.Option("--lambda", metavar="NUMBER", help="This lambda instead of the file's."),
    ] = None,
    json: JsonOption = False,
) -> None:
    """What accuracy the gate and the target need, and why.

    The TPE score (Theory-Practical Equilibrium) is accuracy / log10(1 + lambda).
    Without options: lambda 20 and the source's gate.

        nkat-search explain
        nkat-search explain --config configs/search.yaml
        nkat-search explain --lambda 11.2
    """
    from search.export.configuration import choose
    from search.score.explain import explain as explain_lambda
    from search.score.explain import sentences

    chosen = choose(config)
    dataset, threshold = chosen.gate
    cases: list[tuple[float, dict[str, Any]]] = []
    if lam is not None:
        cases.append((lam, {}))
    else:
        cases.append(_lambda_in_use(chosen))
        if chosen.search_file is not None:
            cases.extend(_ends_of_space(chosen, known=cases[0][0]))
    tables = [
        explain_lambda(value, gate_dataset=dataset, threshold=threshold) for value, _ in cases
    ]
    if json:
        rows = [
            table.to_dict() | {"configuration": configuration}
            for table, (_, configuration) in zip(tables, cases, strict=True)
        ]
        print_json(
            rows[0]
            | {"name": chosen.name, "other_lambdas": rows[1:], "own_recipes": chosen.own_recipes()}
        )
        return
    console = out_console()
    console.print(chosen.name if lam is None else f"lambda {lam}", style="bold")
    for line in sentences(tables[0], configuration=cases[0][1]):
        console.print(line)
    for name, recipe in chosen.own_recipes().items():
        fields = ", ".join(f"{key} {value}" for key, value in recipe.items())
        console.print(f"{name} has a recipe of its own: {fields}.", soft_wrap=True)
    console.print(_needs_table(tables, cases))
    console.print(_sets_table(tables[0]))


def _lambda_in_use(chosen: Any) -> tuple[float, dict[str, Any]]:
    model = chosen.model
    if chosen.best is not None:
        best = chosen.best.lambda_
        return best.value, {"reading": best.reading}
    if chosen.reading == "theory":
        from search.score.tpe_score import lambda_theory

        value = lambda_theory(conv_stem=model.conv_stem, embed_dim=model.embed_dim)
        return value, {"conv_stem": model.conv_stem, "embed_dim": model.embed_dim}
    if chosen.reading == "counted":
        return float(model.nkat_scalars), {"depth": model.depth}
    from model.network.cost import model_cost

    parameters = model_cost(model).parameters
    return parameters / 1e6, {"parameters": parameters}


def _ends_of_space(chosen: Any, *, known: float) -> list[tuple[float, dict[str, Any]]]:
    """The smallest and the largest lambda a trial of the space can have."""
    from search.file.cross_checks import lambdas_of_space

    found = lambdas_of_space(chosen.search_file) or []
    ends = {lam: values for lam, values in (found[:1] + found[-1:]) if lam != known}
    return list(ends.items())


def _needs_table(tables: list[Explanation], cases: list[tuple[float, dict[str, Any]]]) -> Any:
    from rich.table import Table

    table = Table(title="What is needed", title_justify="left")
    table.add_column("target")
    for value, configuration in cases:
        text = ", ".join(f"{v}" for v in configuration.values())
        table.add_column(f"lambda {value:.4g}\n{text}", justify="right")
    for index, need in enumerate(tables[0].needs):
        cells = []
        for one in tables:
            accuracy = one.needs[index].accuracy
            cells.append(f"{accuracy:.4f}" if accuracy <= 1 else f"{accuracy:.4f} (impossible)")
        kind = "accuracy" if index == 0 else "mean accuracy"
        table.add_row(f"{need.target} >= {need.score:.2f}: {kind}", *cells)
    table.add_row("largest possible score (accuracy 1)", *(f"{t.largest:.4f}" for t in tables))
    table.add_row("log10(1 + lambda)", *(f"{t.weight:.4f}" for t in tables))
    return table


def _sets_table(one: Explanation) -> Any:
    from rich.table import Table

    table = Table(title="The source's targets, for reference", title_justify="left")
    table.add_column("data set")
    for heading in ("accuracy", "its TPE score", f"by the formula, lambda {one.lam:.4g}"):
        table.add_column(heading, justify="right")
    for row in one.sets:
        table.add_row(
            row.dataset, f"{row.accuracy:.2f}", f"{row.source_score:.2f}", f"{row.score:.4f}"
        )
    table.add_row("all four: Global TPE score", "", "0.72", f"{one.forecast:.4f}")
    return table
