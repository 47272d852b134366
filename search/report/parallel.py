"""The top trials over all parameters at once: one line a trial, one axis a parameter.

The axes lie and the lines run down, so that names and values have room on a phone.
"""

from __future__ import annotations

from collections.abc import Sequence

from markupsafe import Markup

from search.report import words
from search.report.collected import Collected
from search.report.figure import Figure, Panel
from search.report.plot import WIDTH, Point, drawing, n, polyline, text
from search.report.scales import Scale, around, scale_of, short
from search.study.trial_record import TrialRecord

TOP = 10
"""Trials shown: beyond some tens the lines cannot be told apart."""

ROW = 52
LEFT, RIGHT, HEAD = 160, 24, 14


def top_trials(data: Collected) -> tuple[TrialRecord, ...]:
    """The best complete ones; where nothing is complete, the nearest to the gate."""
    if data.best:
        return data.best[:TOP]
    nearest = sorted(data.measured, key=lambda t: (-_gate_score(t), t.number))
    return tuple(nearest[:TOP])


def parallel(data: Collected) -> Figure:
    """The top trials' parameters and score."""
    shown = top_trials(data)
    what = "best" if data.best else "nearest"
    title = f"The {what} trials, all parameters at once"
    if not shown:
        sentence = "No trial was trained on the gate's set to its end yet."
        return Figure(key="parallel", title=title, sentence=sentence)
    axes: list[tuple[str, Scale]] = [
        (name, scale_of(parameter)) for name, parameter in data.search.space.parameters.items()
    ]
    scores = [_height(trial) for trial in shown]
    axes.append(("Global TPE score" if data.best else "local TPE score", around(scores)))
    parts = [_axis(index, name, scale) for index, (name, scale) in enumerate(axes)]
    for rank in reversed(range(len(shown))):  # the best one over the others
        trial = shown[rank]
        points = _line(trial, axes)
        style = "line best" if rank == 0 else f"line {'complete' if data.best else 'gate'} faded"
        if len(points) > 1:
            parts.append(Markup('<path class="{}" d="{}"/>').format(style, polyline(points)))
        dots = "".join(f"M{n(x)} {n(y)}h0" for x, y in points)
        style = "dots best" if rank == 0 else "dots complete faded"
        parts.append(Markup('<path class="{}" d="{}"/>').format(style, dots))
    height = HEAD + ROW * len(axes)
    alt = f"Parameters of {words.listed([f'trial {trial.number}' for trial in shown])}"
    svg = drawing(Markup("").join(parts), alt=alt, width=WIDTH, height=height)
    caption = f"Heavy line: trial {shown[0].number}.  The table below has the values."
    return Figure(
        key="parallel",
        title=title,
        sentence=_sentence(data, shown, what),
        panels=(Panel(svg=svg, caption=caption),),
    )


def _sentence(data: Collected, shown: Sequence[TrialRecord], what: str) -> str:
    if len(shown) == 1:
        return (
            f"There is one {'complete trial' if data.best else 'trial'} so far: {shown[0].number}."
        )
    same, spread = [], []
    for name, parameter in data.search.space.parameters.items():
        values = {trial.params.get(name) for trial in shown}
        if len(values) == 1:
            same.append(f"{name} = {short(next(iter(values)))}")
            continue
        scale = scale_of(parameter)
        places = [p for v in values if (p := scale.place(v)) is not None]
        spread.append((max(places, default=0.0) - min(places, default=0.0), name))
    agree = f"all have {words.listed(same)}" if same else "they agree on no parameter"
    sentence = f"Of the {len(shown)} {what} trials, {agree}"
    if spread:
        width, name = min(spread)
        sentence += (
            f"; of the rest they lie closest in {name} (over {100 * width:.0f} % of its range)"
        )
    return words.capital(sentence)


def _axis(index: int, name: str, scale: Scale) -> Markup:
    y = HEAD + index * ROW + 12
    parts = [
        Markup('<path class="axis" d="M{} {}H{}"/>').format(LEFT, y, WIDTH - RIGHT),
        text(LEFT - 8, y + 4, short(name, 17), "name", anchor="end"),
    ]
    ends = -float("inf")
    for place, label in scale.ticks():
        x, half = LEFT + place * (WIDTH - LEFT - RIGHT), len(label) * 3.6
        if x - half > ends:
            parts.append(text(x, y + 19, label, "tick"))
            ends = x + half + 4
    return Markup("").join(parts)


def _line(trial: TrialRecord, axes: Sequence[tuple[str, Scale]]) -> list[Point]:
    points = []
    for index, (name, scale) in enumerate(axes):
        last = index == len(axes) - 1
        place = scale.place(_height(trial) if last else trial.params.get(name))
        if place is not None:
            points.append((LEFT + place * (WIDTH - LEFT - RIGHT), HEAD + index * ROW + 12.0))
    return points


def _height(trial: TrialRecord) -> float:
    return trial.value or 0.0 if trial.complete else _gate_score(trial)


def _gate_score(trial: TrialRecord) -> float:
    return trial.verdict.gate.score if trial.verdict else 0.0
