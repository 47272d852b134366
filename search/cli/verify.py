"""`nkat-search verify`: whether an exported configuration's scores come out again."""

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
    app.command("verify")(verify)


def verify(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="An exported best.yaml.")],
    *,
    anyway: Annotated[
        bool,
        typer.Option("--anyway", help="Although data, code or packages differ from the record."),
    ] = False,
    data_dir: DataDirOption = None,
    device: DeviceOption = "auto",
    json: JsonOption = False,
) -> int:
    """Train a best.yaml again, from the file alone, and say whether its scores reproduce.

    With the search's budget, its validation images and its seed.  Accuracies must lie within
    two standard deviations of the recorded ones: of the seeds, where the file records a
    recalculation, or of drawing that many validation images, whichever is larger.

        nkat-search verify best.yaml
        nkat-search verify best.yaml --anyway --data-dir ~/images

    First it looks whether data (checksums), code and package versions are those of the
    record, and refuses with a list where they are not.  A file whose scores do not follow
    from its accuracies was edited, and is refused in any case.

    Exit codes: 0 reproduced, 1 not reproduced, 2 bad input (what differs included).
    """
    from nkat_errors import BadInput
    from search.export.best_reading import load_best

    best = load_best(file)
    # They load torch, which takes seconds: what is wrong with the file is said at once.
    from search.retrain.verification import differences, print_verification
    from search.retrain.verification import verify as train_again

    notes = note_console()
    if best.kind == "nearest":
        say_warnings([f"{file} is no best.yaml: {best.headline()}"])
    say_warnings(best.provenance.notes)
    found = differences(best, data_dir=data_dir)
    if found and not anyway:
        for sentence in found:
            notes.print(f"  {sentence}", soft_wrap=True)
        things = "1 thing differs" if len(found) == 1 else f"{len(found)} things differ"
        raise BadInput(
            f"{file}: {things} from the record (above), so other scores would prove nothing; "
            "make them equal, or give --anyway"
        )
    result = train_again(best, device=device, data_dir=data_dir, found=tuple(found), notes=notes)
    if json:
        print_json(result.to_dict())
    else:
        print_verification(result, str(file), out_console())
    return EXIT_DONE if result.reproduced else EXIT_FAILED
