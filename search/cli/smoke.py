"""`nkat-search smoke`: ten epochs of the baseline, GO or NO-GO."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from search.cli.common import (
    DataDirOption,
    DeviceOption,
    JsonOption,
    note_console,
    out_console,
    print_json,
)
from search.cli.recipe_options import recipe_options, split_recipe
from search.cli.train import LimitOption, SyntheticOption

EPOCHS = 10
GO_ACCURACY = 0.45
"""The source's: above it the full search is worth starting."""


def register(app: typer.Typer) -> None:
    app.command("smoke")(recipe_options(smoke))


def smoke(
    *,
    dataset: Annotated[
        str, typer.Option("--dataset", metavar="NAME", help="Data set.")
    ] = "cifar10",
    seed: Annotated[int, typer.Option("--seed", metavar="S", min=0, help="Seed.")] = 0,
    limit: LimitOption = None,
    device: DeviceOption = "auto",
    data_dir: DataDirOption = None,
    synthetic: SyntheticOption = False,
    json: JsonOption = False,
    recipe: dict[str, Any],
) -> int:
    """Train the baseline for 10 epochs on CIFAR-10: GO if its accuracy is above 45 %.

    Prints the validation accuracy of every epoch.  Exit code 0 is GO, 1 is NO-GO.
    Single fields of the baseline can be replaced, as for `train`.

        nkat-search smoke
        nkat-search smoke --data-dir ~/images --color-norm residual
    """
    from search.export.configuration import choose
    from search.file.sections import DatasetSection
    from search.retrain.training_run import (
        RunSpec,
        choose_device,
        device_title,
        result_dict,
        train_once,
    )

    model_fields, train_fields = split_recipe(recipe)
    chosen = choose(None, model=model_fields, train={"epochs": EPOCHS} | train_fields)
    place = choose_device(device)
    spec = RunSpec(
        model=chosen.model,
        train=chosen.train,
        entry=DatasetSection(name=dataset, limit=limit, validation=0.1, synthetic=synthetic),
        split_seed=seed,
        seed=seed,
        device=place,
        data_dir=data_dir,
    )
    console = note_console() if json else out_console()
    console.print(f"smoke test on {dataset}, {chosen.train.epochs} epochs, {device_title(place)}")
    result, info = train_once(
        spec,
        on_epoch=lambda epoch: console.print(
            f"epoch {epoch.epoch:2d}/{epoch.epochs}  accuracy {epoch.accuracy:.4f}  "
            f"loss {epoch.loss:.4f}  {epoch.images_per_s:,.0f} images/s",
            soft_wrap=True,
        ),
    )
    go = result.accuracy > GO_ACCURACY
    if json:
        print_json(
            {
                "go": go,
                "needed": GO_ACCURACY,
                "device": device_title(place),
                "source": info.source,
                **result_dict(result),
            }
        )
    else:
        word = "GO" if go else "NO-GO"
        source = ", SYNTHETIC images" if info.source == "synthetic" else ""
        console.print(
            f"{word}: accuracy {result.accuracy:.4f} ({result.weights} weights, "
            f"{result.images:,} validation images{source}) is "
            f"{'above' if go else 'not above'} {GO_ACCURACY:.2f}",
            soft_wrap=True,
        )
    return 0 if go else 1
