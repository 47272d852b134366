"""How fast the service hands out and takes back trials, beside plain Optuna.

    python benchmarks/service_load.py                     1, 8, 32, 64 workers, 1,000 trials
    python benchmarks/service_load.py --trials 5000 --rounds 1 --out load.json
    python benchmarks/service_load.py --quick             a minute

Worker processes that do not train ask and tell as fast as they can: ours through the
board (`Board.claim` and `suggest`; `report` and `finish`), plain Optuna through
`study.optimize` (heartbeat off, pre-ping on, `MaxTrialsCallback` for the budget), with
the same sampler, parameters, attributes and constraint, on the same embedded database,
in turns; who begins changes every round.

ask: until all parameters are known; tell: until the result is in the database (with one
intermediate value).  service: all that a worker waits for the service in one trial (ask,
tell, beat, reaping, best value so far, budget check).  idle: the share of its time that a
worker whose trials take 30 s would so spend waiting, service / (service + 30 s), with the
mean of service.  Saturated rows are the worst case: every worker asks again at once.  The
paced rows measure it: trials that do take 30 s, on the study as the last round left it.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from multiprocessing.process import BaseProcess
from pathlib import Path
from statistics import fmean, median
from typing import Any

# Before torch could be loaded anywhere; nothing here uses it.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import optuna
import sqlalchemy as sa
from facts import facts, quantile, text_table
from load_workers import APPLICATION, COUNTED, Order, Record, ours, own_seed, plain
from optuna.storages import RDBStorage
from optuna.trial import TrialState

from search.file.load import load_search_file
from search.file.search_file import SearchFile
from storage.embedded import EmbeddedPostgres
from storage.engine import make_engine
from storage.schema import ensure_schema
from storage.searches import create_search, set_budget

CONFIG = Path(__file__).resolve().parent.parent / "configs/search.yaml"
SYSTEMS: dict[str, Callable[[Order, Any], None]] = {"nkat-search": ours, "plain Optuna": plain}
TRIAL_S = 30.0
"""Length of the trials for which the idle share is stated."""
PACED_TRIALS = 2
"""Trials a worker of the paced rows."""
START_TIMEOUT_S = 600.0
WATCH_S = 0.1


@dataclass(frozen=True, slots=True, kw_only=True)
class Phase:
    """One system with one number of workers, once."""

    records: list[Record]
    connections: int
    crashed: int
    counted: int
    lost: int
    budget: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """A line of the table; times in milliseconds, quantiles over the trials of all rounds.

    Args:
        spread: p50 of ask in the quickest and in the slowest round.
        budget_error: trials that count, less the budget; the worst round's.
        lost: trials left running or waiting; crashed: workers that ended with an error.
    """

    system: str
    workers: int
    pace_s: float
    trials: int
    rounds: int
    ask_p50: float
    ask_p99: float
    spread: tuple[float, float]
    tell_p50: float
    tell_p99: float
    service_mean: float
    idle_share: float
    ask_sql: float
    tell_sql: float
    trials_per_s: float
    connections: int
    lost: int
    crashed: int
    budget_error: int


class Bench:
    """One embedded server, a fresh database for every phase."""

    def __init__(self, server: EmbeddedPostgres, search: SearchFile, folder: Path) -> None:
        self._server = server
        self._search = search
        self._folder = folder

    def make(self, system: str, database: str, budget: int) -> str:
        """A database with tables and a study; its URL."""
        self._server.create_database(database)
        url = self._server.url_of(database)
        engine = make_engine(url)
        ensure_schema(engine)
        if system == "nkat-search":
            create_search(
                engine,
                study_name="load",
                search_text=self._search.to_yaml(),
                search_hash=self._search.hash(),
                budget=budget,
            )
        else:
            storage = RDBStorage(url, skip_table_creation=True)
            optuna.create_study(study_name="load", storage=storage, direction="maximize")
            storage.engine.dispose()
        engine.dispose()
        return url

    def drop(self, database: str) -> None:
        self._server.drop_database(database)

    def extend(self, system: str, url: str, budget: int) -> None:
        if system == "nkat-search":
            engine = make_engine(url)
            set_budget(engine, "load", budget)
            engine.dispose()

    def run(
        self, system: str, url: str, *, workers: int, budget: int, seed: int, pace_s: float = 0.0
    ) -> Phase:
        """All workers begin together, once all of them have come up."""
        context = multiprocessing.get_context("spawn")
        barrier = context.Barrier(workers + 1)
        orders = [
            Order(
                url=url,
                study="load",
                search_text=self._search.to_yaml(),
                budget=budget,
                seed=own_seed(seed, index),
                pace_s=pace_s,
                delay_s=pace_s * index / workers,
                out=self._folder / f"record-{index}.json",
            )
            for index in range(workers)
        ]
        processes = [
            context.Process(target=SYSTEMS[system], args=(o, barrier), daemon=True) for o in orders
        ]
        for order in orders:
            order.out.unlink(missing_ok=True)
        for process in processes:
            process.start()
        barrier.wait(START_TIMEOUT_S)
        connections = self._watch(url, processes)
        records = [Record(**json.loads(o.out.read_text())) for o in orders if o.out.exists()]
        states = Counter(trial.state for trial in self._trials(url))
        return Phase(
            records=records,
            connections=connections,
            crashed=sum(process.exitcode != 0 for process in processes),
            counted=sum(states[state] for state in COUNTED),
            lost=states[TrialState.RUNNING] + states[TrialState.WAITING],
            budget=budget,
        )

    def _watch(self, url: str, processes: Sequence[BaseProcess]) -> int:
        """Waits for the workers; the most connections they had at one time."""
        engine = make_engine(url)
        count = sa.text("SELECT count(*) FROM pg_stat_activity WHERE application_name = :name")
        most = 0
        with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            while any(process.is_alive() for process in processes):
                most = max(most, connection.execute(count, {"name": APPLICATION}).scalar_one())
                time.sleep(WATCH_S)
        engine.dispose()
        return most

    @staticmethod
    def _trials(url: str) -> list[optuna.trial.FrozenTrial]:
        storage = RDBStorage(url, skip_table_creation=True)
        study = optuna.load_study(study_name="load", storage=storage)
        trials = study.get_trials(deepcopy=False)
        storage.engine.dispose()
        return trials


def summarise(system: str, workers: int, pace_s: float, phases: Sequence[Phase]) -> Row:
    records = [record for phase in phases for record in phase.records]
    ask = [value for record in records for value in record.ask_s]
    tell = [value for record in records for value in record.tell_s]
    service_s = fmean(value for record in records for value in record.service_s)
    rounds = [median(v for r in phase.records for v in r.ask_s) for phase in phases]
    busy_s = sum(
        max(r.ended for r in phase.records) - min(r.began for r in phase.records)
        for phase in phases
    )
    return Row(
        system=system,
        workers=workers,
        pace_s=pace_s,
        trials=len(ask),
        rounds=len(phases),
        ask_p50=1e3 * median(ask),
        ask_p99=1e3 * quantile(ask, 0.99),
        spread=(1e3 * min(rounds), 1e3 * max(rounds)),
        tell_p50=1e3 * median(tell),
        tell_p99=1e3 * quantile(tell, 0.99),
        service_mean=1e3 * service_s,
        idle_share=service_s / (service_s + TRIAL_S),
        ask_sql=fmean(value for record in records for value in record.ask_sql),
        tell_sql=fmean(value for record in records for value in record.tell_sql),
        trials_per_s=len(ask) / busy_s,
        connections=max(phase.connections for phase in phases),
        lost=sum(phase.lost for phase in phases),
        crashed=sum(phase.crashed for phase in phases),
        budget_error=max((p.counted - p.budget for p in phases), key=abs),
    )


HEADER = (
    "workers", "trials", "system", "ask p50", "rounds'", "ask p99", "tell p50", "tell p99",
    "service", "idle", "SQL ask", "tell", "trials/s", "conns", "lost", "crashed", "budget error",
)  # fmt: skip


def shown(row: Row) -> list[object]:
    pace = f" ({row.pace_s:.0f} s trials)" if row.pace_s else ""
    return [
        row.workers, row.trials, row.system + pace, f"{row.ask_p50:.0f}",
        f"{row.spread[0]:.0f}..{row.spread[1]:.0f}", f"{row.ask_p99:.0f}", f"{row.tell_p50:.0f}",
        f"{row.tell_p99:.0f}", f"{row.service_mean:.0f}", f"{row.idle_share:.2%}",
        f"{row.ask_sql:.0f}", f"{row.tell_sql:.0f}", f"{row.trials_per_s:.1f}", row.connections,
        row.lost, row.crashed, f"{row.budget_error:+d}" if row.budget_error else "0",
    ]  # fmt: skip


def targets(rows: Sequence[Row]) -> list[tuple[str, bool]]:
    """Issue 3's targets for our own rows."""
    found = []
    plain_ask = {row.workers: row.ask_p50 for row in rows if row.system != "nkat-search"}
    for row in rows:
        if row.system != "nkat-search":
            continue
        name = f"{row.workers} workers" + (f", {row.pace_s:.0f} s trials" if row.pace_s else "")
        exact = not (row.lost or row.crashed or row.budget_error)
        found.append((f"{name}: 0 lost, budget exact", exact))
        if row.pace_s:
            found.append((f"{name}: idle {row.idle_share:.2%} < 1 %", row.idle_share < 0.01))
        elif row.workers in plain_ask:
            theirs = plain_ask[row.workers]
            text = f"{name}: ask p50 {row.ask_p50:.0f} ms, plain Optuna's {theirs:.0f} ms"
            found.append((text, row.ask_p50 <= theirs))
    return found


def _tell(row: Row) -> None:
    """One line of progress on stderr."""
    line = ", ".join(f"{k} {v}" for k, v in zip(HEADER, shown(row), strict=True))
    print(line, file=sys.stderr, flush=True)


def measure(bench: Bench, options: argparse.Namespace) -> list[Row]:
    rows = []
    for workers in options.workers:
        phases: dict[str, list[Phase]] = {system: [] for system in SYSTEMS}
        paced: list[Phase] = []
        for turn in range(options.rounds):
            order = list(SYSTEMS) if turn % 2 == 0 else list(SYSTEMS)[::-1]
            for system in order:
                database = f"load_{workers}_{turn}_{'ours' if system == order[0] else 'other'}"
                url = bench.make(system, database, options.trials)
                phases[system].append(
                    bench.run(system, url, workers=workers, budget=options.trials, seed=turn)
                )
                last = turn == options.rounds - 1
                if last and system == "nkat-search" and options.pace_s:
                    budget = options.trials + PACED_TRIALS * workers
                    bench.extend(system, url, budget)
                    paced.append(
                        bench.run(
                            system,
                            url,
                            workers=workers,
                            budget=budget,
                            seed=options.rounds,
                            pace_s=options.pace_s,
                        )
                    )
                bench.drop(database)
        for system in SYSTEMS:
            rows.append(summarise(system, workers, 0.0, phases[system]))
            _tell(rows[-1])
        if paced:
            rows.append(summarise("nkat-search", workers, options.pace_s, paced))
            _tell(rows[-1])
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    counts: Callable[[str], list[int]] = lambda text: [int(part) for part in text.split(",")]  # noqa: E731
    parser.add_argument("--workers", type=counts, default=[1, 8, 32, 64], metavar="1,8,...")
    parser.add_argument("--trials", type=int, default=1000, help="budget of each phase")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument(
        "--pace-s", type=float, default=TRIAL_S, help="of the paced rows; 0 leaves them out"
    )
    parser.add_argument("--config", type=Path, default=CONFIG)
    parser.add_argument("--out", type=Path, help="JSON file")
    parser.add_argument("--quick", action="store_true", help="1 and 8 workers, 60 trials, 1 round")
    options = parser.parse_args()
    if options.quick:
        options.workers, options.trials, options.rounds = [1, 8], 60, 1
        options.pace_s = 0.0
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    # A SIGTERM must stop the database and the workers too.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    machine = facts()
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="nkat-load-") as name:
        folder = Path(name)
        folder.chmod(0o755)
        with EmbeddedPostgres(data_dir=folder / "postgres") as server:
            rows = measure(Bench(server, load_search_file(options.config), folder), options)
    print("\n" + ", ".join(f"{key} {value}" for key, value in machine.items()))
    print(
        f"n = {options.rounds} rounds of {options.trials} trials each, in turns, "
        f"{time.monotonic() - began:.0f} s; times in ms\n"
    )
    print(text_table([shown(row) for row in rows], header=HEADER) + "\n")
    verdicts = targets(rows)
    for text, met in verdicts:
        print(f"{'met   ' if met else 'MISSED'}  {text}")
    if options.out is not None:
        document = {
            "benchmark": "service_load",
            "machine": machine,
            "rounds": options.rounds,
            "trials": options.trials,
            "rows": [asdict(row) for row in rows],
            "targets": [{"target": text, "met": met} for text, met in verdicts],
        }
        options.out.write_text(json.dumps(document, indent=2) + "\n")


if __name__ == "__main__":
    main()
