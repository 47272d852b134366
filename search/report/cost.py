"""Accuracy on the gate's set against what it took: seconds of stage 1."""

from __future__ import annotations

from dataclasses import dataclass

from search.report import words
from search.report.collected import Collected
from search.report.figure import Figure, Panel
from search.report.plot import Plot
from search.report.scales import around

WIDE = 8.0
"""Costs that lie further apart than by this factor are shown on a logarithmic axis."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Paid:
    """What one trial took on the gate's set (seconds) and reached there (0..1)."""

    number: int
    seconds: float
    accuracy: float
    passed: bool


def cost(data: Collected) -> Figure:
    """Stage 1 alone: a stopped trial has no other, so that all are compared alike."""
    title = "Accuracy against cost"
    paid = [
        Paid(
            number=trial.number,
            seconds=trial.verdict.effort.seconds_stage1,
            accuracy=trial.verdict.gate_accuracy,
            passed=trial.verdict.gate.passed,
        )
        for trial in data.measured
        if trial.verdict is not None and trial.verdict.gate_accuracy is not None
    ]
    if not paid:
        sentence = "No trial was trained on the gate's set to its end yet."
        return Figure(key="cost", title=title, sentence=sentence)
    spent = [one.seconds for one in paid]
    log = min(spent) > 0 and max(spent) / min(spent) > WIDE
    plot = Plot(
        x=around(spent, log=log),
        y=around([100 * one.accuracy for one in paid]),
        x_title="seconds of stage 1" + (", logarithmic" if log else ""),
        y_title=f"accuracy on {data.gate_title}, %",
        points=len(paid),
    )
    front = frontier(paid)
    plot.line([plot.at(one.seconds, 100 * one.accuracy) for one in front], "stood")
    failed = [one for one in paid if not one.passed]
    passed = [one for one in paid if one.passed]
    plot.crosses([plot.at(one.seconds, 100 * one.accuracy) for one in failed], "gate")
    plot.dots([plot.at(one.seconds, 100 * one.accuracy) for one in passed], "complete")
    caption = (
        "Dots: passed the gate.  Crosses: did not (the accuracy that passes depends on lambda).  "
        "Line: no trial was both cheaper and better.  All attempts of a trial count."
    )
    alt = f"Accuracy against seconds of {words.count(len(paid), 'trial')}"
    return Figure(
        key="cost",
        title=title,
        sentence=_sentence(paid, front, passed),
        panels=(Panel(svg=plot.svg(alt), caption=caption),),
    )


def frontier(paid: list[Paid]) -> list[Paid]:
    """Those to which no other was both cheaper and at least as accurate, cheapest first."""
    found: list[Paid] = []
    for one in sorted(paid, key=lambda p: (p.seconds, -p.accuracy)):
        if not found or one.accuracy > found[-1].accuracy:
            found.append(one)
    return found


def _sentence(paid: list[Paid], front: list[Paid], passed: list[Paid]) -> str:
    if len(paid) == 1:
        only = paid[0]
        return (
            f"The one measured trial, {only.number}, took {words.seconds(only.seconds)} for "
            f"{words.percent(only.accuracy)}."
        )
    cheap, good = front[0], front[-1]
    if cheap is good:
        sentence = (
            f"The cheapest trial, {cheap.number} ({words.seconds(cheap.seconds)}), is also the "
            f"most accurate of {len(paid):,}: {words.percent(cheap.accuracy)}"
        )
    else:
        sentence = (
            f"From the cheapest trial, {cheap.number} ({words.seconds(cheap.seconds)}, "
            f"{words.percent(cheap.accuracy)}), to the most accurate, {good.number} "
            f"({words.seconds(good.seconds)}, {words.percent(good.accuracy)}), "
            f"{100 * (good.accuracy - cheap.accuracy):.2f} points cost "
            f"{words.seconds(good.seconds - cheap.seconds)} more"
        )
    if passed:
        least = min(passed, key=lambda one: one.seconds)
        sentence += (
            f"; the cheapest that passed the gate is trial {least.number}, "
            f"{words.seconds(least.seconds)}"
        )
    return words.capital(sentence)
