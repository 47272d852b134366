"""`nkat-search train`: one configuration, trained outside a search."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Annotated, Any

import typer

from search.cli.common import (
    DataDirOption,
    DeviceOption,
    JsonOption,
    note_console,
    out_console,
    print_json,
    say_warnings,
)
from search.cli.recipe_options import recipe_options, split_recipe
from search.exit_codes import EXIT_DONE, EXIT_FAILED, EXIT_INTERRUPTED

SyntheticOption = Annotated[
    bool, typer.Option("--synthetic", help="Rendered images in the set's shape: for tests only.")
]
LimitOption = Annotated[
    int | None,
    typer.Option("--limit", metavar="N", min=10, help="Images trained on at most."),
]


def register(app: typer.Typer) -> None:
    app.command("train")(recipe_options(train))


def train(
    *,
    dataset: Annotated[
        str | None,
        typer.Option(
            "--dataset",
            metavar="NAME",
            help="Data set; left out: cifar10, or all sets of an exported best.yaml.",
        ),
    ] = None,
    config: Annotated[
        Path | None,
        typer.Option(
            "--config",
            metavar="FILE",
            help="An exported best.yaml, trained again and compared; or a search file, whose "
            "baseline is trained.",
        ),
    ] = None,
    runs: Annotated[
        int, typer.Option("--runs", metavar="K", min=1, help="Trainings with seeds S, S+1, ...")
    ] = 1,
    seed: Annotated[
        int | None,
        typer.Option("--seed", metavar="S", min=0, help="First seed (the file's, else 0)."),
    ] = None,
    test: Annotated[
        bool,
        typer.Option(
            "--test",
            help="The formal recalculation: train on ALL training images (nothing held out, no "
            "recorded limit) and read the test images once, at the end.",
        ),
    ] = False,
    limit: LimitOption = None,
    validation: Annotated[
        float | None,
        typer.Option(
            "--validation",
            metavar="SHARE|COUNT",
            help="Training images held out (the file's, else 0.1).",
        ),
    ] = None,
    device: DeviceOption = "auto",
    data_dir: DataDirOption = None,
    synthetic: SyntheticOption = False,
    out: Annotated[
        Path | None, typer.Option("--out", metavar="FILE", help="Write the result as JSON.")
    ] = None,
    json: JsonOption = False,
    recipe: dict[str, Any],
) -> int:
    """Train one configuration and say what it reached.

    The source's baseline, as it is written there:

        nkat-search train --dataset cifar10 --conv_stem tiny --patch_size 2
        --embed_dim 384 --depth 7 --temperature 0.65 --top_k 6 --top_p 0.80
        --nkat_strength 0.0024 --nkat_decay 0.99 --dropout_attn 0.17
        --dropout_embed 0.08 --mixup 0.1 --cutmix 0.2 --randaugment 2 9
        --cutout 8 --lr 2e-4 --epochs 40 --warmup 5 --ema 0.9995 --clip_grad 1.0

    An exported configuration again, and how far the scores agree (exit code 1 when one
    lies outside two standard deviations of its record):

        nkat-search train --config best.yaml
        nkat-search train --config best.yaml --test --dataset mnist --out mnist.json

    The formal recalculation of all sets, written into a copy of the file, is
    `nkat-search recalculate best.yaml`.

    Accuracies are of validation images, held out of the training images; --test alone
    reads test images, and chooses the averaged weights beforehand.
    """
    from nkat_errors import BadInput
    from search.export.configuration import choose
    from search.outputs import check_output
    from search.retrain.entries import entries_of, with_options

    if out is not None:
        check_output(out)
    model_fields, train_fields = split_recipe(recipe)
    chosen = choose(config, model=model_fields, train=train_fields)
    if validation is not None and not 0 < validation < math.inf:
        raise BadInput(f"--validation {validation:g}: must be a share in (0, 1) or a count >= 1")
    entries = [
        with_options(
            entry,
            given=train_fields,
            limit=limit,
            validation=validation,
            synthetic=synthetic,
            test=test,
        )
        for entry in entries_of(chosen, dataset)
    ]
    # It loads torch, which takes seconds: what is said above is said at once.
    from search.retrain.comparison import TrainRequest, agrees, print_report, retrain

    recorded_seed = 0
    if chosen.best is not None:
        recorded_seed = chosen.best.provenance.seed
    elif chosen.search_file is not None:
        recorded_seed = chosen.search_file.seed
    request = TrainRequest(
        chosen=chosen,
        given=tuple(train_fields),
        changed=bool(recipe) or limit is not None or validation is not None or synthetic,
        entries=tuple(entries),
        split_seed=recorded_seed,
        seed=seed if seed is not None else recorded_seed,
        runs=runs,
        test=test,
        device=device,
        data_dir=data_dir,
    )
    if chosen.best is not None:
        if chosen.best.kind == "nearest":
            say_warnings([f"{chosen.name} is no best.yaml: {chosen.best.headline()}"])
        say_warnings(chosen.best.provenance.notes)
        if test:
            note_console().print(
                f"`nkat-search recalculate {config}` does this for all sets with the file's "
                "recalculation budget, survives a kill, and writes down what it found.",
                soft_wrap=True,
            )
    report = retrain(request, notes=note_console())
    if json:
        print_json(report)
    else:
        print_report(report, out_console())
    if out is not None:
        _write(out, report, printed=json)
        if not json:
            out_console().print(f"written: {out}", soft_wrap=True)
    if report["interrupted"]:
        return EXIT_INTERRUPTED
    return EXIT_DONE if agrees(report) else EXIT_FAILED


def _write(path: Path, report: dict[str, Any], *, printed: bool) -> None:
    """The report as a file; on stdout when there is no room for it after all."""
    import json

    from nkat_errors import NkatError
    from search.cli.common import finite

    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(finite(report), indent=2) + "\n", encoding="utf-8")
    except OSError as error:
        if not printed:
            print_json(report)
        raise NkatError(
            f"--out {path}: could not be written after all ({error.strerror}); the result stands "
            "on stdout"
        ) from None
