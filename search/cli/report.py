"""`nkat-search report`: a search as one page for a browser."""

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
from search.terminal import plain


def register(app: typer.Typer) -> None:
    app.command("report")(report)


def report(
    *,
    storage: StorageOption = None,
    study: StudyOption = None,
    state_dir: StateDirOption = None,
    out: Annotated[
        Path, typer.Option("--out", metavar="FILE", help="Where to write the page.")
    ] = Path("report.html"),
    force: Annotated[
        bool, typer.Option("--force", help="Replace a file that is no report.")
    ] = False,
    json: JsonOption = False,
) -> None:
    """Write a search as one HTML page: verdict, figures, what went wrong, environment.

    The page needs no network and no script; it can be mailed, printed and read on a
    phone.  The search may go on meanwhile.

        nkat-search report
        nkat-search report --study nkat-round2 --out results/report.html
    """
    from search.report.page import Report
    from search.study.session import database, opened

    with database(storage, state_dir) as url, opened(url, study, role="report") as session:
        made = Report.of(session)
    made.save(out, force=force)
    size_bytes = out.stat().st_size
    if json:
        print_json(
            {
                "path": str(out),
                "study": made.study,
                "trials": made.trials,
                "size_bytes": size_bytes,
            }
        )
        return
    out_console().print(
        plain(f"{out}: study {made.study}, {made.trials:,} trials ({size_bytes / 1e3:.0f} kB)"),
        soft_wrap=True,
    )
