"""`nkat-search export`: a trial's whole configuration as best.yaml."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from search.cli.common import (
    JsonOption,
    StateDirOption,
    StorageOption,
    StudyOption,
    out_console,
    print_json,
)


def register(app: typer.Typer) -> None:
    app.command("export")(export)


def export(
    *,
    storage: StorageOption = None,
    study: StudyOption = None,
    state_dir: StateDirOption = None,
    trial: Annotated[
        int | None, typer.Option("--trial", metavar="N", min=0, help="This trial.")
    ] = None,
    top: Annotated[
        int,
        typer.Option(
            "--top", metavar="K", min=1, help="The K best: best.yaml, best-2.yaml, best-3.yaml ..."
        ),
    ] = 1,
    out: Annotated[Path, typer.Option("--out", metavar="FILE", help="Where to write.")] = Path(
        "best.yaml"
    ),
    json: JsonOption = False,
) -> None:
    """Write the best trial's configuration, scores and origin as YAML.

    The file is all that `nkat-search train --config` needs to train it again.

        nkat-search export
        nkat-search export --study nkat-round2 --top 3 --out results/best.yaml
        nkat-search export --trial 17 --out trial17.yaml
    """
    from nkat_errors import BadInput
    from search.export.best_file import BestFile, numbered
    from search.study.session import database, opened
    from search.study.trial_record import TrialRecord, pick

    if trial is not None and top != 1:
        raise BadInput(f"--trial {trial} and --top {top}: give one of the two")
    with (
        database(storage, state_dir) as url,
        opened(url, study, role="export") as session,
    ):
        records = [TrialRecord.of(row) for row in session.board.trials()]
        chosen = pick(records, number=trial, top=top)
        files = [
            BestFile.of_trial(one, session.search, study=session.record.study_name)
            for one in chosen
        ]
    written = []
    for rank, best in enumerate(files, start=1):
        path = numbered(out, rank)
        best.save(path)
        written.append((path, best))
    if json:
        print_json([{"path": str(p), **b.model_dump(by_alias=True)} for p, b in written])
        return
    console = out_console()
    for path, best in written:
        cut_down = ", CUT DOWN" if best.cut_down else ""
        console.print(
            f"{path}: trial {best.provenance.trial}, Global TPE score "
            f"{best.scores.global_tpe_score:.4f}{cut_down}",
            soft_wrap=True,
        )
