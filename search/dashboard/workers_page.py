"""The workers' page: who works on what, how fast, and which trials were lost or tried again.

optuna-dashboard knows trials only.  The page is made here, without a script; it asks to be
loaded again every few seconds.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any
from urllib.parse import quote

from jinja2 import DictLoader, Environment, StrictUndefined, Template

from search.study.nearest import best_at_the_gate
from search.study.saved import S_PER_HOUR, saved_hours
from search.study.session import Session
from search.study.trial_record import TrialRecord, best_first
from search.terminal import duration
from storage.records import AttemptRow, WorkerRow
from storage.states import Attempt

RELOAD_S = 10
MOST_TRIALS = 100
"""Of those that were lost or tried again, the newest."""
SHOWN = {
    Attempt.LOST: "lost with its worker",
    Attempt.FAILED: "failed",
    Attempt.HANDED_BACK: "handed back",
    Attempt.RUNNING: "under way",
    Attempt.CLOSED: "closed from outside",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Again:
    """A trial that needed more than one attempt, or lost the one it had.

    Args:
        ends: how each attempt ended, in order.
        reason: of the last attempt that gives one.
    """

    number: int
    state: str
    ends: tuple[str, ...]
    reason: str


def render_workers(session: Session, *, studies: Sequence[str]) -> str:
    """The page of one search.

    Args:
        session: the search.
        studies: names of all searches of the database.
    """
    board = session.board
    counts, workers, attempts = board.counts(), board.workers(), board.attempts()
    trials = [TrialRecord.of(row) for row in board.trials()]
    command, message = board.state()
    ranked = best_first(trials)
    # As in the report: draws that could not be trained are no saving.
    saved = saved_hours(trials)
    training = [row for row in workers if row.trains]
    return _template().render(
        study=session.record.study_name,
        query=f"?study={quote(session.record.study_name, safe='')}",
        title=session.search.title or session.record.study_name,
        cut_down=session.search.cut_down,
        study_id=session.record.study_id,
        others=[
            (name, quote(name, safe="")) for name in studies if name != session.record.study_name
        ],
        state=counts.state(command),
        message="" if counts.over else message,
        counts=counts,
        best=ranked[0] if ranked else None,
        gate=best_at_the_gate(trials),
        stopped=saved.stopped,
        saved_s=None if saved.hours is None else S_PER_HOUR * saved.hours,
        workers=training,
        watched=len(training) < len(workers),
        hardware=_hardware(trials),
        ended=_ended(attempts),
        again=list(_again(trials, attempts))[::-1][:MOST_TRIALS],
        doing=_doing,
        reload_s=RELOAD_S,
    )


def _hardware(trials: Sequence[TrialRecord]) -> dict[str, str]:
    """Worker id -> the hardware's name, as its newest ended trial has it."""
    found = {}
    for trial in trials:
        if trial.attributes is not None and trial.attributes.facts is not None:
            found[trial.attributes.worker] = trial.attributes.facts.device
    return found


def _ended(attempts: Sequence[AttemptRow]) -> dict[str, Counter[str]]:
    """Worker id -> how many of its attempts ended how."""
    found: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for row in attempts:
        found[str(row.worker_id)][row.outcome.value] += 1
    return found


def _again(trials: Sequence[TrialRecord], attempts: Sequence[AttemptRow]) -> Iterator[Again]:
    of_trial: defaultdict[int, list[AttemptRow]] = defaultdict(list)
    for row in attempts:
        of_trial[row.number].append(row)
    for trial in trials:
        rows = sorted(of_trial[trial.number], key=lambda row: row.attempt)
        if len(rows) > 1 or any(r.outcome in (Attempt.LOST, Attempt.FAILED) for r in rows):
            reasons = [row.reason for row in rows if row.reason]
            yield Again(
                number=trial.number,
                state=trial.state,
                ends=tuple(SHOWN.get(row.outcome, row.outcome.value) for row in rows),
                reason=reasons[-1] if reasons else "",
            )


def _doing(row: WorkerRow) -> str:
    if row.trial is None:
        return "idle" if row.state == "alive" else ""
    if row.stage is None:
        return "starting"
    return f"stage {row.stage}, {row.dataset}, epoch {row.epoch}"


@cache
def _template() -> Template:
    text = files("search.dashboard").joinpath("workers.html").read_text(encoding="utf-8")
    environment = Environment(
        loader=DictLoader({"workers.html": text}),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    filters: dict[str, Any] = {"duration": duration}
    environment.filters |= filters
    return environment.get_template("workers.html")
