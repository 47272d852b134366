"""A search file rehearsed in seconds: everything real except the training.

Real database, real worker processes, real checkpoints, faults injected at given
rates; at the end the promises of the service as a table, each held or broken,
with the counts behind it.
"""

from __future__ import annotations

import itertools
import random
import tempfile
import time
from collections import Counter
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from statistics import median
from typing import Any

import sqlalchemy
from optuna.trial import FrozenTrial, TrialState
from rich.console import Console

from nkat_errors import NkatError
from search.config import SearchFile
from search.faults import Injector
from search.messages import Job
from search.orchestrator import NOTE, Orchestrator
from search.outcome import Judge
from search.progress import SearchProgress
from search.rehearsal import Rehearsal, RehearsedSetTrainer
from search.sessions import Session, opened
from search.signals import StopRequest
from search.worker_pool import WorkerPool
from storage.embedded import EmbeddedPostgres
from storage.engine import make_engine
from storage.records import AttemptRow
from storage.schema import ensure_schema
from storage.states import Attempt, Command
from storage.study import create_search

TICK_S = 0.1
PATIENCE_S = 120.0
"""Without a trial ending for this long, the rehearsal gives up and reports."""
RESTART_BACKOFF_S = 0.2


@dataclass(frozen=True, slots=True, kw_only=True)
class Promise:
    """One row of the table.

    Args:
        text: what must hold.
        held: whether it did.
        counts: the numbers behind it.
    """

    text: str
    held: bool
    counts: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RehearsalReport:
    """What a rehearsal found (all times in seconds)."""

    promises: tuple[Promise, ...]
    faults: Mapping[str, int]
    trials: int
    seconds: float
    recovery_p50_s: float | None
    recovery_max_s: float | None
    best: tuple[int, float] | None
    passed: int

    @property
    def held(self) -> bool:
        return all(promise.held for promise in self.promises)

    def to_dict(self) -> dict[str, Any]:
        return asdict(self) | {"held": self.held}


@dataclass(frozen=True, slots=True, kw_only=True)
class RehearsalOptions:
    """What is rehearsed.

    Args:
        search: the search file; its lease is shortened to `lease_s`.
        workers: processes.
        plan: the made-up training and its inner faults.
        rates: of the faults from outside (search/faults.py).
        lease_s: seconds.
        stop: set by signal handlers.
        folder: for database, checkpoints and logs; None is a temporary one.
    """

    search: SearchFile
    workers: int
    plan: Rehearsal
    rates: Mapping[str, float]
    lease_s: float
    stop: StopRequest
    folder: Path | None = None


def rehearse(options: RehearsalOptions, console: Console) -> RehearsalReport:
    """Runs the whole search on made-up accuracies and checks every promise."""
    service = options.search.service.model_copy(
        update={
            "lease_s": options.lease_s,
            "checkpoint_every_s": 0.0,
            "stall_s": max(3 * options.lease_s, 5.0),
            # Faults hit at random here: many in a row say nothing about a worker.
            "max_worker_failures": 1000,
            "max_failure_rate": 1.0,
            "max_attempts": 10,
        }
    )
    search = replace(options.search, service=service)
    with ExitStack() as stack:
        folder = options.folder or Path(
            stack.enter_context(tempfile.TemporaryDirectory(prefix="nkat-rehearsal-"))
        )
        # Under root, Postgres runs as another user, who must be able to get there.
        folder.chmod(0o755)
        server = stack.enter_context(EmbeddedPostgres(data_dir=folder / "postgres"))
        engine = make_engine(server.url, application_name="nkat-rehearsal")
        ensure_schema(engine)
        record = create_search(
            engine,
            study_name=search.study,
            search_text=search.to_yaml(),
            search_hash=search.hash(),
            budget=search.n_trials,
            force_new=True,
        )
        engine.dispose()
        session = stack.enter_context(opened(server.url, record.study_name, role="rehearsal"))
        return _Rehearsing(options, session, server, folder).run(console)


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
        self._longest_silence_s = 0.0

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
        return self._report(time.monotonic() - began)

    def _watch(self, orchestrator: Orchestrator, console: Console) -> None:
        moved_at, ended = time.monotonic(), -1
        with SearchProgress(
            console=console,
            title="rehearsal",
            done=0,
            clock=time.monotonic,
        ) as progress:
            while not self._options.stop:
                for line in self._pool.tick():
                    console.print(line, highlight=False)
                counts = orchestrator.tick()
                workers = [w for w in self._board.workers() if w.note != NOTE]
                owners = [w.beat_age_s for w in workers if w.trial is not None]
                self._longest_silence_s = max(self._longest_silence_s, *owners, 0.0)
                progress.update(counts, self._board.best(), workers)
                if counts.done != ended:
                    moved_at, ended = time.monotonic(), counts.done
                if counts.done >= counts.budget or orchestrator.command is not Command.RUN:
                    return
                if time.monotonic() - moved_at > PATIENCE_S:
                    console.print(f"no trial ended for {PATIENCE_S:.0f} s: giving up")
                    return
                self._injector.tick(counts.done)
                time.sleep(TICK_S)

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

    def _report(self, seconds: float) -> RehearsalReport:
        counts = self._board.counts()
        trials = self._board.with_study("trials", lambda study: study.get_trials())
        counted = [t for t in trials if t.state in (TrialState.COMPLETE, TrialState.PRUNED)]
        attempts = self._board.attempts()
        endings = Counter(
            a.number for a in attempts if a.outcome in (Attempt.COMPLETE, Attempt.PRUNED)
        )
        unfinished = [t for t in trials if t.state in (TrialState.RUNNING, TrialState.WAITING)]
        unexplained = [
            t
            for t in trials
            if t.state == TrialState.FAIL and not any(a.number == t.number for a in attempts)
        ]
        wrong = [t.number for t in counted if not self._is_its_own(t)]
        retried = {a.number for a in attempts if a.attempt > 1}
        reached = _first_reached_stage_2(attempts)
        repeated = [
            a.number
            for a in attempts
            if a.first_stage == "1" and a.attempt > reached.get(a.number, a.attempt)
        ]
        lease_s = self._options.lease_s
        allowed_s = 1.5 * lease_s + 2.0  # the lease, the reaper's interval, one round
        recoveries = self._recoveries(attempts)
        promises = (
            Promise(
                text=f"exactly {counts.budget} trials count",
                held=len(counted) == counts.budget == counts.done,
                counts=f"{counts.complete} complete + {counts.pruned} pruned = {len(counted)}",
            ),
            Promise(
                text="no trial is left running or waiting, none is held by a silent worker "
                f"for more than {allowed_s:.1f} s",
                held=not unfinished and self._longest_silence_s <= allowed_s,
                counts=f"{len(unfinished)} left, longest silence {self._longest_silence_s:.1f} s",
            ),
            Promise(
                text="each result is counted once",
                held=all(endings[t.number] == 1 for t in counted),
                counts=f"{sum(endings.values())} results for {len(counted)} trials, "
                f"{counts.late} late ones refused",
            ),
            Promise(
                text="no trial is lost: each one counts or is given up with a reason",
                held=not unexplained,
                counts=f"{counts.lost} attempts lost, {counts.failed_attempts} failed, "
                f"{counts.handed_back} handed back; {len(retried)} trials retried, "
                f"{counts.failed} given up",
            ),
            Promise(
                text="each result belongs to its own parameters",
                held=not wrong,
                counts=f"{len(wrong)} of {len(counted)} differ",
            ),
            Promise(
                text="stage 1 is not repeated when stage 2 was under way",
                held=not repeated,
                counts=f"{len(repeated)} repeated",
            ),
        )
        return RehearsalReport(
            promises=promises,
            faults=dict(self._injector.fired),
            trials=len(counted),
            seconds=seconds,
            recovery_p50_s=median(recoveries) if recoveries else None,
            recovery_max_s=max(recoveries, default=None),
            best=self._board.best(),
            passed=counts.complete,
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

    def _is_its_own(self, trial: FrozenTrial) -> bool:
        """The recorded accuracies are those the formula gives for its parameters."""
        search = self._session.search
        trainer = RehearsedSetTrainer(search=search, plan=self._options.plan)
        job = Job(trial_number=trial.number, attempt=1, params=dict(trial.params))
        results = trainer.final_results(job.params)
        for name, accuracy in results.items():
            recorded = trial.user_attrs.get(f"accuracy_{name}")
            if recorded is not None and abs(recorded - accuracy) > 1e-9:
                return False
        if trial.state != TrialState.COMPLETE:
            return True
        judge = Judge(search=search, params=trial.params, trainer_facts=trainer.facts)
        scores = [judge.local(accuracy) for accuracy in results.values()]
        expected = sum(scores) / len(scores)
        if trial.value is None:
            raise NkatError(f"trial {trial.number} is complete without a value")
        return abs(trial.value - expected) < 1e-9


def _first_reached_stage_2(attempts: list[AttemptRow]) -> dict[int, int]:
    """The first attempt of each trial that was seen in stage 2."""
    reached: dict[int, int] = {}
    for row in attempts:
        if row.stage == "2":
            reached[row.number] = min(row.attempt, reached.get(row.number, row.attempt))
    return reached
