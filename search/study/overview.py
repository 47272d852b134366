"""The studies of a database: all of them in a list, or two of them side by side."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from statistics import fmean, median
from typing import Any

from sqlalchemy import Engine

from nkat_errors import BadInput
from search.file.search_file import SearchFile
from search.study.saved import S_PER_HOUR
from search.study.session import Session
from search.study.trial_record import TrialRecord, best_first
from storage.board_reader import BoardReader
from storage.checkpoints import CheckpointStore
from storage.engine import make_engine
from storage.records import SearchRecord
from storage.schema import wait_for_schema
from storage.searches import delete_search, list_searches, load_search
from storage.states import WorkerState

TOP = 5
"""Trials whose mean says more about a search than its best one alone."""

SILENT_S = 120.0
"""After so long a silence, seconds, a worker counts as gone here, whatever its study's lease."""

MOST_LINES = 40
"""Of the difference of two search files."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StudyLine:
    """One study in a list.

    Args:
        created_at: when it was made.
        budget, done: trials it is to have, and has.
        complete: of those, trials that passed everything.
        best: best Global TPE score so far.
        state: `done`, `run`, `pause` or `stop`.
        workers: that are alive.
    """

    name: str
    created_at: datetime
    budget: int
    done: int
    complete: int
    best: float | None
    state: str
    workers: int


def studies(url: str) -> list[StudyLine]:
    """All studies of a database, the newest first; also those whose search file this version
    cannot read."""
    with _engine(url) as engine:
        return [_line(engine, record) for record in list_searches(engine)]


def delete_study(url: str, name: str, *, folder: Path, ask: Callable[[str], None]) -> int:
    """Deletes a study with its checkpoints; returns how many trials had some.

    Args:
        folder: of the checkpoints of all studies.
        ask: is told what will be deleted, and raises to prevent it.

    Raises:
        BadInput: there is no such study, or a process is working on it.
    """
    with _engine(url) as engine:
        record = load_search(engine, name)
        with _reader(engine, record) as reader:
            counts = reader.counts()
            alive = [row for row in reader.workers() if row.state is WorkerState.ALIVE]
        if alive:
            raise BadInput(
                f"study {name} is worked on by {alive[0].host}, pid {alive[0].pid}"
                + (f", and {len(alive) - 1} more" if len(alive) > 1 else "")
                + ": stop that first, or wait for the end of the search"
            )
        ask(f"study {name} with {counts.done} trials that count")
        delete_search(engine, name)
    store = CheckpointStore(folder=folder, study_name=record.study_name, salt=record.salt)
    return store.delete()


def _line(engine: Engine, record: SearchRecord) -> StudyLine:
    with _reader(engine, record) as reader:
        counts, best, workers = reader.counts(), reader.best(), reader.workers()
    return StudyLine(
        name=record.study_name,
        created_at=record.created_at,
        budget=counts.budget,
        done=counts.done,
        complete=counts.complete,
        best=None if best is None else best[1],
        state=counts.state(record.command),
        workers=sum(row.state is WorkerState.ALIVE and row.trains for row in workers),
    )


@contextmanager
def _engine(url: str) -> Iterator[Engine]:
    """The database, its tables there."""
    engine = make_engine(url, application_name="nkat-study")
    try:
        wait_for_schema(engine, 0.0)
        yield engine
    finally:
        engine.dispose()


@contextmanager
def _reader(engine: Engine, record: SearchRecord) -> Iterator[BoardReader]:
    reader = BoardReader(engine=engine, study_name=record.study_name, lease_s=SILENT_S)
    try:
        yield reader
    finally:
        reader.close()


@dataclass(frozen=True, slots=True, kw_only=True)
class StudyFigures:
    """One study in a comparison.

    Args:
        name: of the study.
        ended: trials that count (complete and pruned).
        complete: those that passed everything.
        best: its best trial.
        top_mean: mean Global TPE score of the TOP best, or of all if there are fewer.
        median_gate: median local TPE score at the gate, of all that were measured there.
        hours: of training, all trials together.
    """

    name: str
    ended: int
    complete: int
    best: TrialRecord
    top_mean: float
    median_gate: float
    hours: float

    def numbers(self, datasets: Sequence[str]) -> dict[str, float | None]:
        """What can be compared, by name."""
        verdict = self.best.verdict
        accuracies = {
            f"accuracy on {name}": None
            if verdict is None or name not in verdict.results
            else verdict.results[name].accuracy
            for name in datasets
        }
        return {
            "best Global TPE score": self.best.value,
            f"mean of the best {TOP}": self.top_mean,
            "median score at the gate": self.median_gate,
            "share that passed all": self.complete / self.ended if self.ended else None,
            "trials": float(self.ended),
            "hours of training": self.hours,
            **accuracies,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """Two studies side by side.

    Args:
        first, second: their figures.
        datasets: of either.
        difference: of their search files, a unified diff without its heading.
    """

    first: StudyFigures
    second: StudyFigures
    datasets: tuple[str, ...]
    difference: tuple[str, ...]

    def rows(self) -> list[tuple[str, float | None, float | None]]:
        """(what, the first's, the second's)."""
        first, second = (one.numbers(self.datasets) for one in (self.first, self.second))
        return [(name, first[name], second[name]) for name in first]

    def to_dict(self) -> dict[str, Any]:
        return {
            "studies": [self.first.name, self.second.name],
            "best_trials": [
                {"trial": one.best.number, "params": dict(one.best.params)}
                for one in (self.first, self.second)
            ],
            "rows": [
                {"what": name, "first": one, "second": other} for name, one, other in self.rows()
            ],
            "difference": list(self.difference),
        }


def figures(session: Session) -> StudyFigures:
    """A study's figures.

    Raises:
        BadInput: it has no complete trial.
    """
    name = session.record.study_name
    trials = [TrialRecord.of(row) for row in session.board.trials()]
    ranked = best_first(trials)
    if not ranked:
        raise BadInput(
            f"study {name} has no complete trial to compare; `nkat-search study show {name}` "
            "says how far its trials came"
        )
    verdicts = [trial.verdict for trial in trials if trial.verdict is not None]
    gates = [verdict.gate.score for verdict in verdicts if verdict.gate_accuracy is not None]
    return StudyFigures(
        name=name,
        ended=sum(trial.state in ("complete", "pruned") for trial in trials),
        complete=len(ranked),
        best=ranked[0],
        top_mean=fmean(trial.value or 0.0 for trial in ranked[:TOP]),
        median_gate=median(gates) if gates else 0.0,
        hours=sum(verdict.effort.seconds for verdict in verdicts) / S_PER_HOUR,
    )


def compare(first: Session, second: Session) -> Comparison:
    """Two opened studies side by side.

    Raises:
        BadInput: one of them has no complete trial.
    """
    names = dict.fromkeys((*first.search.names, *second.search.names))
    return Comparison(
        first=figures(first),
        second=figures(second),
        datasets=tuple(names),
        difference=tuple(_difference(first.search, second.search)),
    )


def _difference(first: SearchFile, second: SearchFile) -> list[str]:
    """Of the files as they are understood: comments and order do not count."""
    one, other = (search.to_yaml().splitlines() for search in (first, second))
    lines = list(difflib.unified_diff(one, other, lineterm="", n=0))[2:]
    kept = [line for line in lines if not line.startswith("@@")]
    if len(kept) > MOST_LINES:
        kept[MOST_LINES:] = [f"... and {len(kept) - MOST_LINES} more lines"]
    return kept
