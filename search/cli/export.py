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
    note_console,
    out_console,
    print_json,
)
from search.terminal import plain


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
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            metavar="FILE",
            help="Where to write (best.yaml, or nearest.yaml).",
        ),
    ] = None,
    nearest: Annotated[
        bool,
        typer.Option(
            "--nearest",
            help="Where nothing passed: the trial that came nearest, as nearest.yaml.",
        ),
    ] = False,
    onnx: Annotated[
        Path | None,
        typer.Option(
            "--onnx",
            metavar="FILE",
            help="Instead: the network of --weights as ONNX, checked against torch on 100 images.",
        ),
    ] = None,
    weights: Annotated[
        Path | None,
        typer.Option(
            "--weights",
            metavar="FILE",
            help="With --onnx: a *.safetensors that `nkat-search recalculate` wrote.",
        ),
    ] = None,
    force: Annotated[
        bool,
        typer.Option("--force", help="Replace a file of another search, or of another kind."),
    ] = False,
    json: JsonOption = False,
) -> None:
    """Write the best trial's configuration, scores and origin as YAML.

    The file is all that `nkat-search train --config` needs to train it again.

        nkat-search export
        nkat-search export --study nkat-round2 --top 3 --out results/best.yaml
        nkat-search export --trial 17 --out trial17.yaml
        nkat-search export --nearest

    With --onnx no database is needed.  The file takes images as they are (uint8, [batch,
    channels, height, width]) and gives probabilities; the class names are in its metadata.

        nkat-search export --onnx mnist.onnx --weights best-recalculated/best-mnist.safetensors
    """
    from nkat_errors import BadInput
    from search.export.best_file import numbered
    from search.export.choice import (
        NEAREST_NAME,
        check_replaceable,
        export_files,
        pick,
        pick_nearest,
    )
    from search.study.session import database, opened
    from search.study.trial_record import TrialRecord

    if onnx is not None or weights is not None:
        if trial is not None or top != 1 or nearest or out is not None:
            raise BadInput(
                "--onnx and --weights go with neither --trial, --top, --nearest nor --out"
            )
        _as_onnx(onnx, weights, json=json)
        return
    if trial is not None and top != 1:
        raise BadInput(f"--trial {trial} and --top {top}: give one of the two")
    if nearest and (trial is not None or top != 1):
        raise BadInput("--nearest goes with neither --trial nor --top: give one of the three")
    if out is None:
        out = Path(NEAREST_NAME if nearest else "best.yaml")
    with (
        database(storage, state_dir) as url,
        opened(url, study, role="export") as session,
    ):
        records = [TrialRecord.of(row) for row in session.board.trials()]
        search = session.search
        if nearest:
            chosen = [pick_nearest(records)]
        else:
            chosen = pick(records, search, number=trial, top=top)
        files = export_files(chosen, records, search, study=session.record.study_name)
    written = [(numbered(out, rank), best) for rank, best in enumerate(files, start=1)]
    if not force:
        for path, best in written:
            check_replaceable(path, best)
    for path, best in written:
        best.save(path)
    if len(files) < top:
        note_console().print(
            plain(f"--top {top}: {len(files)} written, for no more trials are complete")
        )
    if json:
        print_json([{"path": str(p), **b.model_dump(by_alias=True)} for p, b in written])
        return
    for path, best in written:
        cut_down = ", CUT DOWN" if best.cut_down else ""
        out_console().print(
            plain(f"{path}: trial {best.provenance.trial}, {best.headline()}{cut_down}"),
            soft_wrap=True,
        )


def _as_onnx(onnx: Path | None, weights: Path | None, *, json: bool) -> None:
    from nkat_errors import BadInput
    from search.outputs import check_output

    if onnx is None or weights is None:
        raise BadInput(
            "--onnx FILE and --weights FILE go together: the network that is exported, and its "
            "weights, which `nkat-search recalculate` writes"
        )
    check_output(onnx, option="--onnx")
    from search.trained.onnx_file import export_onnx, require_onnx
    from search.trained.prediction import Trained

    require_onnx()
    done = export_onnx(Trained.load(weights, device="cpu"), onnx)
    if json:
        print_json(done.to_dict())
        return
    out_console().print(
        plain(
            f"{done.path}: {done.size_bytes / 1e6:.1f} MB; on {done.images} images its "
            f"probabilities are torch's to {done.difference:.1g}"
        ),
        soft_wrap=True,
    )
