"""The long form of `nkat-search rehearse`: every fault on, thousands of trials.

    python benchmarks/chaos.py --out chaos.json           2,000 trials, 8 workers
    python benchmarks/chaos.py --trials 300 --seed 3      a few minutes

A real database, real worker processes and their training children; the training itself
is a formula.  kill -9, SIGTERM and SIGSTOP of workers, kill -9 of training children, cut
connections, database restarts, lack of memory, NaN, exceptions and hangs, rarer than
`nkat-search rehearse --faults all` has them for its few trials.  Exit code 1 when a promise
was broken or a fault never fired.

zombies: trials left running or waiting.  duplicates: results beyond one a trial.
recovery: from the last sign of a lost worker until its trial went on elsewhere.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

# Before torch could be loaded anywhere; nothing here uses it.
os.environ.setdefault("OMP_NUM_THREADS", "1")

from facts import facts, text_table
from rich.console import Console

from search.exit_codes import EXIT_INTERRUPTED
from search.file.load import load_search_file
from search.logs import set_up_logging
from search.objective.simulated_trainer import Rehearsal
from search.rehearsal.faults import KINDS, parse_rates
from search.rehearsal.run import RehearsalOptions, RehearsalReport, rehearse
from search.worker.signals import StopRequest, stop_on_signals

FAULTS = (
    "kill=0.02,term=0.02,stall=0.02,kill_child=0.02,drop=0.02,restart=0.002,"
    "oom=0.02,nan=0.02,crash=0.002,hang=0.001"
)
CONFIG = Path(__file__).resolve().parent.parent / "configs/search.yaml"


def rows(report: RehearsalReport, budget: int) -> list[tuple[str, str]]:
    """What issue 3 asks for."""
    tally = report.tally
    fired = ", ".join(f"{n} {kind}" for kind, n in sorted(report.faults.items())) or "none"

    def seconds(value: float | None) -> str:
        return "none was lost" if value is None else f"{value:.1f} s"

    return [
        ("trials wanted, counted", f"{budget}, {report.trials}"),
        ("budget error", f"{report.trials - budget:+d}" if report.trials != budget else "0"),
        ("trials lost", str(tally.get("lost_trials", "not known"))),
        ("duplicates", str(tally.get("duplicates", "not known"))),
        ("zombies", str(tally.get("zombies", "not known"))),
        ("recovery p50", seconds(report.recovery_p50_s)),
        ("recovery max", seconds(report.recovery_max_s)),
        ("faults fired", fired),
        ("time", f"{report.seconds:.0f} s"),
    ]


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--trials", type=int, default=2000)
    parser.add_argument("--workers", type=int, default=8)
    parser.add_argument("--seed", type=int, default=0, help="of the faults and the formula")
    parser.add_argument("--faults", default=FAULTS, help="as of `nkat-search rehearse`")
    parser.add_argument("--lease-s", type=float, default=8.0)
    parser.add_argument("--epoch-s", type=float, default=0.02)
    parser.add_argument("--epochs", type=int, default=2, help="per data set")
    parser.add_argument("--config", type=Path, default=CONFIG)
    parser.add_argument("--out", type=Path, help="JSON file")
    options = parser.parse_args()
    rates = parse_rates(options.faults)
    machine = facts()
    set_up_logging(level="ERROR")
    stop = StopRequest()
    with stop_on_signals(stop):
        report = rehearse(
            RehearsalOptions(
                search=replace(load_search_file(options.config), n_trials=options.trials),
                workers=options.workers,
                plan=Rehearsal(
                    seed=options.seed,
                    epoch_s=options.epoch_s,
                    epochs=options.epochs,
                    memory_rate=rates.get("oom", 0.0),
                    nan_rate=rates.get("nan", 0.0),
                    crash_rate=rates.get("crash", 0.0),
                    hang_rate=rates.get("hang", 0.0),
                ),
                rates={kind: rates[kind] for kind in KINDS if kind in rates},
                lease_s=options.lease_s,
                stop=stop,
            ),
            Console(stderr=True, highlight=False),
        )
    table = rows(report, options.trials)
    print(", ".join(f"{key} {value}" for key, value in machine.items()))
    print(f"{options.workers} workers, seed {options.seed}, lease {options.lease_s:.0f} s\n")
    print(text_table(table, header=("", "figure")) + "\n")
    for promise in report.promises:
        print(f"{'held  ' if promise.held else 'BROKEN'}  {promise.text}: {promise.counts}")
    if report.not_fired:
        print(f"BROKEN  never fired: {', '.join(report.not_fired)}; more trials, or another seed")
    if report.folder is not None:
        print(f"database and logs are in {report.folder}")
    if options.out is not None:
        document: dict[str, Any] = {
            "benchmark": "chaos",
            "machine": machine,
            "options": {key: str(value) for key, value in vars(options).items()},
            "rates": rates,
            "budget_error": report.trials - options.trials,
            "report": report.to_dict(),
        }
        options.out.write_text(json.dumps(document, indent=2) + "\n")
    if report.interrupted:
        return EXIT_INTERRUPTED
    return 0 if report.held and not report.not_fired else 1


if __name__ == "__main__":
    sys.exit(main())
