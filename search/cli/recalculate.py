"""`nkat-search recalculate`: the formal recalculation of an exported configuration."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

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
from search.exit_codes import EXIT_DONE, EXIT_FAILED


def register(app: typer.Typer) -> None:
    app.command("recalculate")(recalculate)


def recalculate(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="An exported best.yaml.")],
    *,
    runs: Annotated[
        int | None,
        typer.Option(
            "--runs",
            metavar="N",
            min=1,
            max=1000,
            help="Trainings of each set (the file's, else 3).",
        ),
    ] = None,
    epochs_factor: Annotated[
        float | None,
        typer.Option(
            "--epochs-factor",
            metavar="X",
            help="Every set's epochs times X (the file's, else 1).",
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            metavar="FILE",
            help="The copy with the result (best-recalculated/best.yaml beside best.yaml); the "
            "weights and a README.md come beside it.",
        ),
    ] = None,
    work_dir: Annotated[
        Path | None,
        typer.Option(
            "--work-dir", metavar="DIR", help="Where progress is kept until the end (beside OUT)."
        ),
    ] = None,
    checkpoint_every: Annotated[
        float,
        typer.Option(
            "--checkpoint-every", metavar="S", min=0, help="Least seconds between two checkpoints."
        ),
    ] = 30.0,
    again: Annotated[
        bool,
        typer.Option("--again", help="Although the file's test images have been read already."),
    ] = False,
    data_dir: DataDirOption = None,
    device: DeviceOption = "auto",
    json: JsonOption = False,
) -> int:
    """The formal recalculation: train the winner in full and read the test images, once.

    Every data set of the file is trained on ALL its training images (nothing held out, no
    limit), with several seeds and as many epochs as the search file's `recalculation`
    says; at the end of each training its test images are read.  Global TPE score,
    Consistency, Robustness and Generalization come as mean and standard deviation, beside
    their targets 0.70, 0.80 and 0.75.

        nkat-search recalculate best.yaml
        nkat-search recalculate best.yaml --runs 5 --epochs-factor 4
        nkat-search recalculate best.yaml --out final/best.yaml --data-dir ~/images

    It may be stopped or killed at any time: the same command goes on.  What it leaves:
    a copy of the file with all results, the weights of each set (*.safetensors, first
    seed) and a model card (README.md).

    Exit codes: 0 the Global TPE score reaches its target, 1 it does not, 2 bad input.
    """
    import math

    from nkat_errors import BadInput
    from search.export.best_reading import load_best

    if epochs_factor is not None and not (epochs_factor > 0 and math.isfinite(epochs_factor)):
        raise BadInput(f"--epochs-factor {epochs_factor:g}: must be a number > 0")
    best = load_best(file)
    # They load torch, which takes seconds: what is wrong with the file is said at once.
    from search.retrain.recalculation import (
        RecalculationRequest,
        changed_settings,
        default_out,
        default_work_dir,
        recalculate,
        result_dict,
    )
    from search.retrain.recalculation_report import print_result

    out = out or default_out(file)
    request = RecalculationRequest(
        path=file,
        best=best,
        settings=changed_settings(best.recalculation, runs=runs, epochs_factor=epochs_factor),
        out=out,
        work_dir=work_dir or default_work_dir(out),
        device=device,
        data_dir=data_dir,
        checkpoint_every_s=checkpoint_every,
        again=again,
    )
    if best.kind == "nearest":
        say_warnings([f"{file} is no best.yaml: {best.headline()}"])
    say_warnings(best.provenance.notes)
    try:
        done = recalculate(request, notes=note_console())
    except KeyboardInterrupt:
        note_console().print("\nstopped; the same command goes on", soft_wrap=True)
        raise
    if json:
        print_json(result_dict(done, out))
    else:
        print_result(done, out, out_console())
    result = done.recalculation.result
    return EXIT_DONE if result is not None and result.passed else EXIT_FAILED
