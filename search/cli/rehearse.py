"""`nkat-search rehearse`: try a search file in seconds, with faults, before it costs days."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from search.cli.common import JsonOption, note_console, out_console, print_json, say_warnings
from search.exit_codes import EXIT_DONE, EXIT_FAILED, EXIT_INTERRUPTED
from search.terminal import plain

if TYPE_CHECKING:
    from search.rehearsal.run import RehearsalReport


def register(app: typer.Typer) -> None:
    app.command("rehearse")(rehearse)


def rehearse(
    config: Annotated[
        Path | None,
        typer.Option(
            "--config",
            metavar="FILE",
            help="The search file (default: ./search.yaml; without one, the shipped one).",
        ),
    ] = None,
    trials: Annotated[
        int | None,
        typer.Option("--trials", metavar="N", min=1, help="Budget, instead of the file's."),
    ] = None,
    workers: Annotated[
        int, typer.Option("--workers", metavar="N", min=1, help="Worker processes.")
    ] = 2,
    faults: Annotated[
        str,
        typer.Option(
            "--faults",
            metavar="LIST",
            help="Like `kill=0.05,drop=0.1`; a rate is faults per ended trial for kill, term, "
            "stall, kill_child, drop and restart, a share of configurations for oom and nan, a "
            "probability per epoch for crash and hang.  `all` is every one of them, often enough "
            "for 50 trials; `none` none.",
        ),
    ] = "none",
    seed: Annotated[int, typer.Option("--seed", help="Of the faults and the formula.")] = 0,
    epochs: Annotated[
        int, typer.Option("--epochs", min=1, help="Made-up epochs per data set.")
    ] = 2,
    epoch_s: Annotated[
        float, typer.Option("--epoch-s", metavar="SECONDS", min=0, help="Time of each.")
    ] = 0.02,
    lease_s: Annotated[
        float, typer.Option("--lease-s", metavar="SECONDS", min=0.5, help="Lease of a trial.")
    ] = 4.0,
    table: Annotated[
        Path | None,
        typer.Option(
            "--table",
            metavar="CSV",
            help="Accuracies to answer with (columns: the searched parameters and "
            "accuracy_<set>), instead of the formula.",
        ),
    ] = None,
    keep: Annotated[
        Path | None,
        typer.Option(
            "--keep",
            metavar="DIR",
            help="Folder for database, checkpoints and logs, kept (default: a temporary one, kept "
            "when a promise was broken).",
        ),
    ] = None,
    as_json: JsonOption = False,
) -> int:
    """Run a whole search with made-up accuracies on a real database with real worker
    processes, injure it on purpose, and check what the service promises.

    Exit code 0 when every promise held, 1 when one was broken, 130 after Ctrl-C.

        nkat-search rehearse --config configs/search.yaml
        nkat-search rehearse --trials 200 --workers 4 --faults all --seed 7
    """
    from dataclasses import replace

    from search.file.load import load_search_file
    from search.file.shipped import default_search_file
    from search.logs import set_up_logging
    from search.objective.simulated_trainer import Rehearsal, Table
    from search.rehearsal.faults import KINDS, parse_rates
    from search.rehearsal.run import RehearsalOptions
    from search.rehearsal.run import rehearse as run_rehearsal
    from search.worker.signals import StopRequest, stop_on_signals

    search = load_search_file(config or default_search_file(gpu=True))
    if trials is not None:
        search = replace(search, n_trials=trials)
    rates = parse_rates(faults)
    if table is not None:
        Table(table, search)  # a bad table is said now, not by eight workers
    plan = Rehearsal(
        seed=seed,
        epoch_s=epoch_s,
        epochs=epochs,
        memory_rate=rates.get("oom", 0.0),
        nan_rate=rates.get("nan", 0.0),
        crash_rate=rates.get("crash", 0.0),
        hang_rate=rates.get("hang", 0.0),
        table=None if table is None else str(table.resolve()),
    )
    set_up_logging(level="ERROR")
    stop = StopRequest()
    with stop_on_signals(stop):
        report = run_rehearsal(
            RehearsalOptions(
                search=search,
                workers=workers,
                plan=plan,
                rates={kind: rates[kind] for kind in KINDS if kind in rates},
                lease_s=lease_s,
                stop=stop,
                folder=None if keep is None else keep.resolve(),
            ),
            note_console(),
        )
    if as_json:
        print_json(report.to_dict())
    else:
        _show(report)
    if report.folder is not None:
        note_console().print(f"database and logs are in {report.folder}", soft_wrap=True)
    if report.interrupted:
        note_console().print("interrupted: nothing was decided")
        return EXIT_INTERRUPTED
    return EXIT_DONE if report.held else EXIT_FAILED


def _show(report: RehearsalReport) -> None:
    from rich.table import Table

    console = out_console()
    if report.promises:
        table = Table("promise", "", "counts")
        for promise in report.promises:
            held = plain("held", "green") if promise.held else plain("BROKEN", "red")
            table.add_row(plain(promise.text), held, plain(promise.counts))
        console.print(table)
    fired = ", ".join(f"{n} {kind}" for kind, n in sorted(report.faults.items())) or "none"
    console.print(f"{report.trials} trials in {report.seconds:.1f} s; faults fired: {fired}")
    if report.not_fired:
        say_warnings(
            [
                f"asked for and never fired, so not rehearsed: {', '.join(report.not_fired)} "
                "(more --trials, or a higher rate)"
            ]
        )
    if report.recovery_p50_s is not None and report.recovery_max_s is not None:
        console.print(
            f"lost trials went on after {report.recovery_p50_s:.1f} s (median), "
            f"{report.recovery_max_s:.1f} s (longest)"
        )
    if report.best is not None:
        console.print(
            f"{report.passed} complete; best made-up Global TPE score "
            f"{report.best[1]:.4f} (trial {report.best[0]})"
        )
