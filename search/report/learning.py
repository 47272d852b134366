"""Learning curves on the gate's set."""

from __future__ import annotations

from statistics import fmean

from search.report import words
from search.report.collected import Collected, Curve, Kind
from search.report.figure import Figure, Panel
from search.report.plot import Plot
from search.report.scales import around, spread_evenly
from search.score.gate import threshold_text

MOST = 120
"""Curves of either sort; more of them are one grey area."""

LAST_PART = 0.2
"""Share of the epochs over which it is asked whether the stopped trials still learned."""


def learning_curves(data: Collected) -> Figure:
    """Local TPE score after each epoch, the gate as a line, stopped trials faded."""
    title = f"Learning curves on {data.gate_title}"
    passed = _of_kinds(data, Kind.COMPLETE, Kind.BOUND)
    open_ones = _of_kinds(data, Kind.OPEN)
    stopped = _of_kinds(data, Kind.RUNG, Kind.GATE, Kind.UNTRAINED, Kind.GIVEN_UP)
    if not data.curves:
        return Figure(key="learning", title=title, sentence="No trial has reported an epoch yet.")
    every = [point for curve in data.curves.values() for point in curve]
    threshold = data.search.gate.threshold
    plot = Plot(
        x=around([epoch for epoch, _ in every], whole=True),
        y=around([*(value for _, value in every), threshold]),
        x_title="epoch",
        y_title="local TPE score",
    )
    shown = 0
    for style, curves in (
        ("gate faded", stopped),
        ("complete thin", passed),
        ("stood thin", open_ones),
    ):
        for curve in spread_evenly(list(curves.values()), MOST):
            shown += 1
            points = [plot.at(epoch, value) for epoch, value in curve]
            plot.line(points, style)
            if len(points) == 1:
                plot.dots(points, style)
    plot.level(threshold, f"gate {threshold_text(threshold)}", "threshold", left=True)
    best = data.best[0].number if data.best else None
    if best is not None and best in data.curves:
        points = [plot.at(epoch, value) for epoch, value in data.curves[best]]
        plot.line(points, "best")
        plot.ring(points[-1], f"trial {best}")
    caption = "Lines: passed the gate.  Faded and dashed: stopped."
    if open_ones:
        caption += f"  Grey: {words.count(len(open_ones), 'trial')} not at an end yet."
    if shown < len(data.curves):
        caption += f"  {shown:,} of {len(data.curves):,} curves are drawn, evenly chosen."
    alt = (
        f"Local TPE score by epoch of {words.count(len(passed), 'trial')} that passed the gate "
        f"and {words.count(len(data.curves) - len(passed), 'other trial')}; the gate is at "
        f"{threshold_text(threshold)}"
    )
    return Figure(
        key="learning",
        title=title,
        sentence=_sentence(data, len(passed), _of_kinds(data, Kind.GATE)),
        panels=(Panel(svg=plot.svg(alt), caption=caption),),
    )


def _of_kinds(data: Collected, *kinds: Kind) -> dict[int, Curve]:
    """The curves of the trials of these kinds, by number."""
    return {
        trial.number: curve
        for kind in kinds
        for trial in data.by_kind[kind]
        if (curve := data.curves.get(trial.number))
    }


def _sentence(data: Collected, passed: int, stopped: dict[int, Curve]) -> str:
    threshold = data.search.gate.threshold
    parts = []
    crossings = [
        (epoch, number)
        for number, curve in data.curves.items()
        for epoch, value in curve
        if value >= threshold
    ]
    if crossings:
        epoch, number = min(crossings)
        parts.append(
            f"{words.count(passed, 'trial')} passed the gate; trial {number} crossed its line "
            f"first, after {words.count(epoch, 'epoch')}"
        )
    if stopped:
        nearest = max(curve[-1][1] for curve in stopped.values())
        parts.append(
            f"{words.count(len(stopped), 'trial')} stayed below the gate, the nearest by "
            f"{words.score(threshold - nearest)}"
        )
        gains = [gain for curve in stopped.values() if (gain := _last_gain(curve)) is not None]
        if gains:
            parts.append(
                f"in the last fifth of their epochs they still gained {fmean(gains):+.4f} on "
                "average"
            )
    return words.capital("; ".join(parts) or "no trial has come to the gate yet")


def _last_gain(curve: Curve) -> float | None:
    """Score won in the last part of a curve; None where it is too short to say."""
    back = round(len(curve) * LAST_PART)
    return curve[-1][1] - curve[-1 - back][1] if 0 < back < len(curve) else None
