"""`nkat-search smoke`: ten epochs of the baseline, GO or NO-GO."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

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
from search.exit_codes import EXIT_DONE, EXIT_FAILED

if TYPE_CHECKING:
    from model.training.trainer import EpochResult

EPOCHS = 10
GO_ACCURACY = 0.45
"""The source's: above it the full search is worth starting."""


def register(app: typer.Typer) -> None:
    app.command("smoke")(recipe_options(smoke))


def smoke(
    *,
    dataset: Annotated[
        str | None,
        typer.Option("--dataset", metavar="NAME", help="Data set; left out, the gate's."),
    ] = None,
    config: Annotated[
        Path | None,
        typer.Option(
            "--config",
            metavar="FILE",
            help="A search file, whose baseline is tried, or an exported best.yaml.",
        ),
    ] = None,
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
        nkat-search smoke --config configs/search.yaml
        nkat-search smoke --data-dir ~/images --color-norm residual
    """
    from search.export.configuration import choose
    from search.retrain.entries import entries_of, with_options

    model_fields, train_fields = split_recipe(recipe)
    given = {"epochs": EPOCHS} | train_fields
    chosen = choose(config, model=model_fields, train=given)
    (entry,) = entries_of(chosen, dataset or chosen.gate[0])
    entry = with_options(entry, given=given, limit=limit, synthetic=synthetic)
    # It loads torch, which takes seconds: what is said above is said at once.
    from search.retrain.epoch_progress import StepLines
    from search.retrain.training_run import (
        RunSpec,
        choose_device,
        device_title,
        recipe_on,
        require_warmup_fits,
        result_dict,
        train_once,
    )

    if "warmup" in given:
        require_warmup_fits(recipe_on(chosen.train, entry, flip=True), entry.name)
    place = choose_device(device)
    spec = RunSpec(
        model=chosen.model,
        train=chosen.train,
        entry=entry,
        split_seed=seed,
        seed=seed,
        device=place,
        data_dir=data_dir,
    )
    console = note_console() if json else out_console()
    console.print(
        f"smoke test on {entry.name}, {chosen.train.epochs} epochs, {device_title(place)}"
    )
    lines = StepLines(
        entry.name,
        epochs=recipe_on(chosen.train, entry, flip=True).epochs,
        say=lambda line: note_console().print(line, soft_wrap=True, markup=False),
    )

    def on_epoch(epoch: EpochResult) -> None:
        lines.epoch_ended()
        console.print(
            f"epoch {epoch.epoch:2d}/{epoch.epochs}  accuracy {epoch.accuracy:.4f}  "
            f"loss {epoch.loss:.4f}  {epoch.images_per_s:,.0f} images/s",
            soft_wrap=True,
        )

    result, info = train_once(spec, on_epoch=on_epoch, on_step=lines.step)
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
    return EXIT_DONE if go else EXIT_FAILED
