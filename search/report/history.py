"""Every trial in the order in which it was drawn, those that were stopped drawn apart."""

from __future__ import annotations

from itertools import accumulate

from search.report import words
from search.report.collected import Collected, Kind
from search.report.figure import Figure, Panel
from search.report.plot import Plot
from search.report.scales import around
from search.score.explain import STOOD_AT, TARGET
from search.score.gate import threshold_text
from search.study.trial_record import TrialRecord

KINDS = {
    Kind.COMPLETE: "complete",
    Kind.RUNG: "stopped within stage 1",
    Kind.GATE: "stopped at the gate",
    Kind.BOUND: "stopped by the bound",
    Kind.UNTRAINED: "could not be trained",
    Kind.GIVEN_UP: "given up",
    Kind.OPEN: "open",
}

GIVEN = "fixed_params"
"""Optuna's system attribute of a trial that was enqueued."""


def history(data: Collected) -> Figure:
    """Global TPE score of the complete trials, local TPE score of the stopped ones."""
    title = "History"
    if not data.ended:
        return Figure(key="history", title=title, sentence="No trial has ended yet.")
    complete, bound = data.by_kind[Kind.COMPLETE], data.by_kind[Kind.BOUND]
    gate = (*data.by_kind[Kind.RUNG], *data.by_kind[Kind.GATE])
    no_score = (*data.by_kind[Kind.UNTRAINED], *data.by_kind[Kind.GIVEN_UP])
    threshold = data.search.gate.threshold
    heights = [height for t in (*complete, *gate, *bound) if (height := _height(t)) is not None]
    numbers = [trial.number for trial in data.trials]
    plot = Plot(
        x=around(numbers, whole=True),
        y=around([*heights, threshold, STOOD_AT, TARGET]),
        x_title="trial",
        y_title="TPE score",
        points=len(numbers),
    )
    plot.at_the_foot([trial.number for trial in no_score], "untrained")
    plot.crosses([plot.at(trial.number, _height(trial)) for trial in gate], "gate")
    plot.triangles([plot.at(trial.number, _height(trial)) for trial in bound], "bound")
    best_so_far = list(accumulate((trial.value or 0.0 for trial in complete), max))
    steps = []
    for index, trial in enumerate(complete):
        if index:
            steps.append(plot.at(trial.number, best_so_far[index - 1]))
        steps.append(plot.at(trial.number, best_so_far[index]))
    if complete:
        steps.append(plot.at(max(numbers), best_so_far[-1]))
    plot.line(steps, "complete")
    plot.dots([plot.at(trial.number, trial.value) for trial in complete], "complete")
    plot.level(TARGET, f"target {TARGET:.2f}", "target", left=True)
    plot.level(threshold, f"gate {threshold_text(threshold)} (local)", "threshold")
    plot.level(STOOD_AT, f"stood at {STOOD_AT:.2f}", "stood", left=True)
    if data.best:
        best = data.best[0]
        plot.ring(plot.at(best.number, best.value), f"trial {best.number}")
    counts = words.listed(
        [
            f"{len(trials):,} {KINDS[kind]}"
            for kind, trials in data.by_kind.items()
            if trials and kind is not Kind.OPEN
        ]
    )
    alt = f"Scores of {words.count(data.ended, 'ended trial')}: {counts}"
    caption = (
        f"Dots: Global TPE score of complete trials, the line their best so far.  Crosses "
        f"(stopped at the gate or before) and triangles (by the bound): local TPE score "
        f"reached on {data.gate_title}.  Strokes at the foot: no score."
    )
    ended = words.capital(f"of {data.ended:,} ended, {counts}")
    return Figure(
        key="history",
        title=title,
        sentence=f"{ended}  {_progress(data)}{_given(data)}",
        panels=(Panel(svg=plot.svg(alt), caption=caption),),
    )


def _progress(data: Collected) -> str:
    """How the best score came about."""
    complete = data.by_kind[Kind.COMPLETE]
    if not complete:
        return "No Global TPE score was reached, so there is no line of the best so far."
    first, best = complete[0], data.best[0]
    if first is best:
        later = len(complete) - 1
        rest = f"; {words.count(later, 'later one')} did not beat it" if later else ""
        return f"The first complete trial, {first.number}, is the best one{rest}."
    after = sum(trial.number > best.number for trial in complete)
    rest = (
        f"; {words.count(after, 'complete trial')} since then did not improve it" if after else ""
    )
    return (
        f"The best score rose from {words.score(first.value or 0.0)} (trial {first.number}) to "
        f"{words.score(best.value or 0.0)} (trial {best.number}){rest}."
    )


def _given(data: Collected) -> str:
    """How many trials were named in advance (`first_trials`), not drawn; empty for none."""
    given = {trial.number for trial in data.frozen if GIVEN in trial.system_attrs}
    if not given:
        return ""
    best = ", the best one among them" if data.best and data.best[0].number in given else ""
    verb = "was" if len(given) == 1 else "were"
    return f"  {words.count(len(given), 'trial')} {verb} given, not drawn{best}."


def _height(trial: TrialRecord) -> float | None:
    if trial.complete:
        return trial.value
    verdict = trial.verdict
    if verdict is not None and verdict.rung is not None:
        return verdict.rung.score
    return None if verdict is None or verdict.gate_accuracy is None else verdict.gate.score
