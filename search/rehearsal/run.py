"""A search file rehearsed in seconds: everything real except the training.

Real database, real worker processes, real checkpoints, faults injected at given
rates; at the end the promises of the service as a table, each held or broken,
with the counts behind it.
"""

from __future__ import annotations

import itertools
import random
import shutil
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from statistics import median
from typing import Any

import sqlalchemy
from rich.console import Console

from search.file.search_file import SearchFile
from search.objective.simulated_trainer import Rehearsal
from search.rehearsal.faults import Injector, faults_inside
from search.rehearsal.promises import Promise, Silence, check_promises
from search.service.live import LiveTrials
from search.service.orchestrator import NOTE, Orchestrator
from search.service.progress import SearchProgress
from search.study.session import Session, opened
from search.terminal import plain
from search.worker.pool import WorkerPool
from search.worker.signals import StopRequest
from storage.embedded import EmbeddedPostgres
from storage.engine import make_engine
from storage.records import AttemptRow
from storage.schema import ensure_schema
from storage.searches import create_search
from storage.states import Attempt, Command

TICK_S = 0.1
PATIENCE_S = 120.0
"""Without a trial ending for this long, the rehearsal gives up and reports."""
RESTART_BACKOFF_S = 0.2

_UP = sqlalchemy.text("SELECT extract(epoch FROM clock_timestamp() - pg_postmaster_start_time())")


@dataclass(frozen=True, slots=True, kw_only=True)
class RehearsalReport:
    """What a rehearsal found (all times in seconds).

    Args:
        promises: none when it was interrupted, for then nothing is decided.
        faults: how often each kind struck.
        not_fired: kinds that were asked for and never struck: nothing is known of them.
        tally: lost_trials, duplicates and zombies; empty when it was interrupted.
        folder: database, checkpoints and logs, where they were kept.
    """

    promises: tuple[Promise, ...]
    tally: Mapping[str, int]
    faults: Mapping[str, int]
    not_fired: tuple[str, ...]
    trials: int
    seconds: float
    recovery_p50_s: float | None
    recovery_max_s: float | None
    best: tuple[int, float] | None
    passed: int
    interrupted: bool = False
    folder: str | None = None

    @property
    def held(self) -> bool:
        return not self.interrupted and all(promise.held for promise in self.promises)

    def to_dict(self) -> dict[str, Any]:
        return asdict(self) | {"held": self.held}


@dataclass(frozen=True, slots=True, kw_only=True)
class RehearsalOptions:
    """What is rehearsed.

    Args:
        search: the search file; its lease is shortened to `lease_s`.
        workers: processes.
        plan: the made-up training and its inner faults.
        rates: of the faults from outside (search/rehearsal/faults.py).
        lease_s: seconds.
        stop: set by signal handlers.
        folder: for database, checkpoints and logs; None is a temporary one, which is kept
            when a promise was broken.
    """

    search: SearchFile
    workers: int
    plan: Rehearsal
    rates: Mapping[str, float]
    lease_s: float
    stop: StopRequest
    folder: Path | None = None

    @property
    def asked_for(self) -> list[str]:
        """Kinds of faults with a rate above 0."""
        plan = self.plan
        inside = {
            "oom": plan.memory_rate,
            "nan": plan.nan_rate,
            "crash": plan.crash_rate,
            "hang": plan.hang_rate,
        }
        return [kind for kind, rate in {**self.rates, **inside}.items() if rate > 0]


def rehearse(options: RehearsalOptions, console: Console) -> RehearsalReport:
    """Runs the whole search on made-up accuracies and checks every promise."""
    service = options.search.service.model_copy(
        update={
            "lease_s": options.lease_s,
            "checkpoint_every_s": 0.0,
            "stall_s": max(1.5 * options.lease_s, 5.0),
            # Faults hit at random here: many in a row say nothing about a worker.
            "max_worker_failures": 1000,
            "max_failure_rate": 1.0,
            "max_attempts": 10,
        }
    )
    search = replace(options.search, service=service)
    with _folder(options.folder) as (folder, discard), ExitStack() as stack:
        server = stack.enter_context(EmbeddedPostgres(data_dir=folder / "postgres"))
        engine = make_engine(server.url, application_name="nkat-rehearsal")
        ensure_schema(engine)
        record = create_search(
            engine,
            study_name=search.study,
            search_text=search.to_yaml(),
            search_hash=search.hash(),
            budget=search.n_trials,
            first_trials=search.first_trials,
            force_new=True,
        )
        engine.dispose()
        session = stack.enter_context(opened(server.url, record.study_name, role="rehearsal"))
        report = _Rehearsing(options, session, server, folder).run(console)
        discard.append(report.held or report.interrupted)
        kept = options.folder is not None or not any(discard)
        return replace(report, folder=str(folder) if kept else None)


@contextmanager
def _folder(given: Path | None) -> Iterator[tuple[Path, list[bool]]]:
    """The folder, and a list that says in the end whether a temporary one can go.

    An error keeps it: its logs are what there is to look at.
    """
    if given is not None:
        given.mkdir(parents=True, exist_ok=True)
        yield given, []
        return
    folder = Path(tempfile.mkdtemp(prefix="nkat-rehearsal-"))
    # Under root, Postgres runs as another user, who must be able to get there.
    folder.chmod(0o755)
    discard: list[bool] = []
    yield folder, discard
    if any(discard):
        shutil.rmtree(folder, ignore_errors=True)


class _Rehearsing:
    """One rehearsal under way."""

    def __init__(
        self,
        options: RehearsalOptions,
        session: Session,
        server: EmbeddedPostgres,
        folder: Path,
    ) -> None:
        self._options = options
        self._session = session
        self._board = session.board
        self._checkpoints = session.checkpoints(folder / "checkpoints")
        name = session.record.study_name
        arguments = ["worker", "--with-parent", "--study", name, "--device", "cpu"]
        arguments += ["--checkpoint-dir", str(folder / "checkpoints"), "--grace", "5"]
        arguments += ["--rehearsal", options.plan.to_json()]
        self._pool = WorkerPool(
            commands={f"worker-{i}": arguments for i in range(options.workers)},
            log_folder=folder / "logs",
            environment={"NKAT_STORAGE": server.url},
            clock=time.monotonic,
            max_restarts=None,
            backoff_s=RESTART_BACKOFF_S,
        )
        self._injector = Injector(
            rates=options.rates,
            seed=options.plan.seed,
            pids=self._pool.pids,
            cut=self._cut_connections,
            restart=lambda: server.restart(pause_s=1.0),
            stall_s=1.5 * options.lease_s,
            clock=time.monotonic,
        )
        self._silence = Silence(lease_s=options.lease_s)
        self._looked_at: float | None = None

    def run(self, console: Console) -> RehearsalReport:
        began = time.monotonic()
        orchestrator = Orchestrator(
            board=self._board,
            search=self._session.search,
            record=self._session.record,
            checkpoints=self._checkpoints,
            clock=time.monotonic,
            notes=False,
        )
        try:
            self._watch(orchestrator, console)
        finally:
            self._injector.close()
            self._pool.stop(grace_s=10.0)
            orchestrator.close("the rehearsal is over")
        return self._report(time.monotonic() - began, interrupted=bool(self._options.stop))

    def _watch(self, orchestrator: Orchestrator, console: Console) -> None:
        moved_at, ended = time.monotonic(), -1
        with SearchProgress(
            console=console,
            title="rehearsal",
            done=0,
            live=LiveTrials(
                board=self._board,
                search=self._options.search,
                clock=time.monotonic,
                made_up_epochs=self._options.plan.epochs,
            ),
        ) as progress:
            while not self._options.stop:
                for line in self._pool.tick():
                    console.print(plain(line), soft_wrap=True)
                counts = orchestrator.tick()
                workers = [w for w in self._board.workers() if w.note != NOTE]
                self._note_silence([w.beat_age_s for w in workers if w.trial is not None])
                progress.update(
                    counts,
                    self._board.best(),
                    workers,
                    gate=orchestrator.gate,
                    warning=orchestrator.warning,
                )
                if counts.ended != ended:
                    moved_at, ended = time.monotonic(), counts.ended
                if counts.over or orchestrator.command is not Command.RUN:
                    return
                if time.monotonic() - moved_at > PATIENCE_S:
                    console.print(plain(f"no trial ended for {PATIENCE_S:.0f} s: giving up"))
                    return
                injuring = time.monotonic()
                self._injector.tick(counts.ended)
                if self._looked_at is not None:
                    # Not a slow round: the restart of the database is waited for here.
                    self._looked_at += time.monotonic() - injuring
                time.sleep(TICK_S)

    def _note_silence(self, beat_ages_s: list[float]) -> None:
        now = time.monotonic()
        with self._session.engine.begin() as connection:
            up_s = connection.execute(_UP).scalar_one()
        longest_s = max((min(age_s, float(up_s)) for age_s in beat_ages_s), default=0.0)
        round_s = 0.0 if self._looked_at is None else now - self._looked_at
        self._looked_at = now
        self._silence = replace(
            self._silence,
            longest_s=max(self._silence.longest_s, longest_s),
            round_s=max(self._silence.round_s, round_s),
        )

    def _cut_connections(self, draw: random.Random) -> bool:
        with self._session.engine.begin() as connection:
            pids = connection.execute(
                sqlalchemy.text(
                    "SELECT pid FROM pg_stat_activity WHERE application_name = 'nkat-worker'"
                )
            ).scalars()
            chosen = sorted(pids)
            if not chosen:
                return False
            connection.execute(
                sqlalchemy.text("SELECT pg_terminate_backend(:pid)"), {"pid": draw.choice(chosen)}
            )
        return True

    # -- the table ------------------------------------------------------------------

    def _report(self, seconds: float, *, interrupted: bool) -> RehearsalReport:
        counts = self._board.counts()
        attempts = self._board.attempts()
        recoveries = self._recoveries(attempts)
        outcomes = [str(t.user_attrs.get("outcome", "")) for t in self._board.trials()]
        faults = Counter(self._injector.fired) + faults_inside(
            outcomes=outcomes, failures=[a.reason for a in attempts if a.outcome is Attempt.FAILED]
        )
        promises: tuple[Promise, ...] = ()
        tally: dict[str, int] = {}
        if not interrupted:
            promises, tally = check_promises(
                board=self._board,
                search=self._session.search,
                plan=self._options.plan,
                silence=replace(self._silence, restarts=self._injector.fired["restart"]),
            )
        return RehearsalReport(
            promises=promises,
            tally=tally,
            faults=dict(faults),
            not_fired=tuple(kind for kind in self._options.asked_for if not faults[kind]),
            trials=counts.complete + counts.pruned,
            seconds=seconds,
            recovery_p50_s=median(recoveries) if recoveries else None,
            recovery_max_s=max(recoveries, default=None),
            best=self._board.best(),
            passed=counts.complete,
            interrupted=interrupted,
        )

    def _recoveries(self, attempts: list[AttemptRow]) -> list[float]:
        """Seconds from the last sign of a lost attempt's owner to the next attempt."""
        found = []
        by_trial: dict[int, list[AttemptRow]] = {}
        for attempt in attempts:
            by_trial.setdefault(attempt.number, []).append(attempt)
        for row in by_trial.values():
            row.sort(key=lambda a: a.attempt)
            for lost, following in itertools.pairwise(row):
                if lost.outcome is Attempt.LOST and lost.last_seen_at is not None:
                    found.append((following.started_at - lost.last_seen_at).total_seconds())
        return found
