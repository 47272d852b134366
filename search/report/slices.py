"""One panel a searched parameter: its value against the local TPE score on the gate's set."""

from __future__ import annotations

from collections import defaultdict
from statistics import fmean, median
from typing import Any

from search.report import words
from search.report.collected import Collected
from search.report.comparable import Comparable
from search.report.figure import Figure, Panel
from search.report.plot import Plot
from search.report.scales import Named, around, scale_of, short, stacked
from search.score.gate import threshold_text
from search.study.trial_record import TrialRecord

JITTER = 0.02
"""Half the width, as a share of the axis, over which equal values are spread."""


def slices(data: Collected) -> Figure:
    """Every trial that can be compared on the gate's set, once in each panel."""
    title = "Searched parameters, one by one"
    compared = Comparable.of(data)
    scores = compared.scores
    if not compared.trials:
        sentence = "No trial was trained on the gate's set to its end, so there is nothing to see."
        return Figure(key="slices", title=title, sentence=sentence)
    threshold = data.search.gate.threshold
    at_gate = compared.epoch is None
    heights = around([*scores.values(), *([threshold] if at_gate else [])])
    panels, gaps = [], []
    for name, parameter in data.search.space.parameters.items():
        plot = Plot(
            x=scale_of(parameter),
            y=heights,
            x_title=name,
            y_title="local TPE score",
            width=320,
            height=240,
            points=len(compared.trials),
        )
        for passed in (False, True):
            points = [
                plot.at(
                    trial.params.get(name),
                    scores[trial.number],
                    shift=_jitter(trial.number) if stacked(parameter) else 0.0,
                )
                for trial in compared.trials
                if _passed(trial) is passed
            ]
            if passed:
                plot.dots(points, "complete")
            else:
                plot.crosses(points, "gate")
        if at_gate:
            plot.level(threshold, "", "threshold")
        if data.best and data.best[0].number in scores:
            best = data.best[0]
            shift = _jitter(best.number) if stacked(parameter) else 0.0
            plot.ring(plot.at(best.params.get(name), scores[best.number], shift=shift), "")
        caption, gap = _compared(compared, name, isinstance(scale_of(parameter), Named))
        gaps.append((gap, name))
        alt = f"Local TPE score against {name}: {caption}"
        panels.append(Panel(svg=plot.svg(alt), caption=caption))
    widest, name = max(gaps, default=(0.0, ""))
    passed_trials = sum(map(_passed, compared.trials))
    sentence = f"{compared.count} measured {compared.where}, {passed_trials:,} of them "
    if at_gate:
        sentence += f"above the gate of {threshold_text(threshold)} (dashed line)"
    else:
        sentence += "above the gate at the end of stage 1 (dots)"
    if widest > 0:
        sentence += f"; the mean score differs most along {name}, by {words.score(widest)}"
    if data.best:
        sentence += f".  The ring is trial {data.best[0].number}, the best one"
    return Figure(
        key="slices", title=title, sentence=words.capital(sentence), panels=tuple(panels)
    )


def _compared(compared: Comparable, name: str, named: bool) -> tuple[str, float]:
    """Mean scores of the values (or halves of the range), in words, and how far apart."""
    values = [
        (trial.params[name], compared.scores[trial.number])
        for trial in compared.trials
        if name in trial.params
    ]
    if not values:
        return "no trial has it", 0.0
    groups: dict[str, list[float]] = defaultdict(list)
    middle = None if named else median(value for value, _ in values)
    for value, height in values:
        groups[_group(value, middle)].append(height)
    means = sorted(
        ((fmean(heights), label, len(heights)) for label, heights in groups.items()), reverse=True
    )
    if len(means) == 1:
        mean, label, _ = means[0]
        return f"all {len(values):,} {label}: mean {words.score(mean)}", 0.0
    told = [f"{label}: mean {words.score(mean)} ({size:,})" for mean, label, size in means[:3]]
    return "; ".join(told), means[0][0] - means[-1][0]


def _group(value: Any, middle: float | None) -> str:
    if middle is None:
        return short(value)
    return f"up to {short(middle)}" if value <= middle else f"above {short(middle)}"


def _jitter(number: int) -> float:
    return JITTER * (number * 7 % 11 - 5) / 5


def _passed(trial: TrialRecord) -> bool:
    return trial.verdict is not None and trial.verdict.gate.passed
