"""`nkat-search data`: get the data sets, look at them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from search.cli.common import DataDirOption, JsonOption, note_console, out_console, print_json
from search.exit_codes import EXIT_BAD_INPUT, EXIT_DONE, EXIT_FAILED

data = typer.Typer(
    no_args_is_help=True,
    help="""Get the data sets, look at them.

    nkat-search data prepare                     download the originals once
    nkat-search data check --data-dir ~/images   what is here, and is it whole
""",
)

NamesArgument = Annotated[
    list[str] | None,
    typer.Argument(metavar="[NAME]...", help="Data sets; left out, the four originals."),
]
ConfigOption = Annotated[
    Path | None,
    typer.Option("--config", metavar="FILE", help="The sets of this search file instead."),
]


def register(app: typer.Typer) -> None:
    app.add_typer(data, name="data")


@data.command()
def prepare(
    names: NamesArgument = None,
    *,
    config: ConfigOption = None,
    data_dir: DataDirOption = None,
    json: JsonOption = False,
) -> None:
    """Make sure that every set is on this machine: download what is not.

    A NAME.npz in the data folder is taken as it is; else the original is downloaded
    once into the cache (NKAT_CACHE_DIR).

        nkat-search data prepare
        nkat-search data prepare cifar10 --data-dir ~/images
        nkat-search data prepare --config configs/laptop.yaml
    """
    from model.data import load_dataset
    from model.known_sets import ORIGINALS

    notes = note_console()
    if config is not None:
        from search.cli.common import say_warnings
        from search.file.data_choice import settle
        from search.file.load import load_search_file

        settled = settle(load_search_file(config), data_dir=data_dir, tell=notes.print)
        say_warnings(settled.notes)
        infos = list(settled.infos.values())
    else:
        infos = [
            load_dataset(name, data_dir=data_dir, progress=notes.print).info
            for name in names or ORIGINALS
        ]
    _show([info.to_dict() for info in infos], as_json=json)


@data.command()
def check(
    names: NamesArgument = None,
    *,
    data_dir: DataDirOption = None,
    json: JsonOption = False,
) -> int:
    """Read every set that is here, training and test images, and show what it is, with
    what is wrong or doubtful about it.

    Nothing is downloaded.  Exit code 1 when a named set is not here, 2 when a file is
    damaged.

        nkat-search data check --data-dir ~/images
        nkat-search data check sd19_letters --json
    """
    from model.data.survey import check as survey

    reports = survey(data_dir, list(names) if names else None)
    rows = [report.to_dict() for report in reports]
    _show(rows, as_json=json)
    notes = note_console()
    for report in reports:
        for problem in report.problems:
            notes.print(f"{report.name}: {problem}", soft_wrap=True)
    if any(report.info is None and not report.damaged for report in reports):
        notes.print(
            "`nkat-search data prepare` downloads the originals, --data-dir names a folder of "
            "prepared files",
            soft_wrap=True,
        )
    if any(report.damaged for report in reports):
        return EXIT_BAD_INPUT
    return EXIT_FAILED if any(report.info is None for report in reports) else EXIT_DONE


def _show(rows: list[dict[str, Any]], *, as_json: bool) -> None:
    if as_json:
        print_json(rows)
        return
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    table = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
    for heading in ("data set", "from", "images", "classes", "train", "test", "sha256"):
        table.add_column(heading, no_wrap=heading in ("data set", "from", "sha256"))
    for row in rows:
        if "checksum" not in row:
            state = "damaged" if row["damaged"] else "not here"
            table.add_row(row["name"], state)
            continue
        size = row["image_size"]
        table.add_row(
            row["name"],
            row["source"],
            f"{size}x{size}x{row['channels']}",
            str(row["classes"]),
            f"{row['train_size']:,}",
            f"{row['test_size']:,}",
            row["checksum"][:12],
        )
    out_console().print(table)
