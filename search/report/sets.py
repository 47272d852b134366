"""Accuracy of the best (or nearest) trial on each set, beside the source's target lines."""

from __future__ import annotations

from markupsafe import Markup

from search.report import words
from search.report.figure import Figure, Panel
from search.report.plot import WIDTH, drawing, n, text
from search.report.verdict import Summary

ROW = 46
LEFT, RIGHT = 12, 12


def accuracy_bars(summary: Summary) -> Figure:
    """One bar a set, from 0 to 100 %."""
    title = "Accuracy on each set"
    known = [row for row in summary.sets if row.accuracy is not None]
    trial = summary.trial
    if not known or trial is None:
        return Figure(key="sets", title=title, sentence="No trial was trained on a set yet.")
    above = [row for row in known if row.difference is not None and row.difference >= 0]
    with_target = [row for row in known if row.difference is not None]
    sentence = (
        f"Trial {trial.number} lies above the source's target line on {len(above)} of "
        f"{words.count(len(with_target), 'set')}"
    )
    if with_target:
        tightest = min(with_target, key=lambda row: row.difference or 0.0)
        sentence += (
            f"; {tightest.title} is tightest, {tightest.difference:+.2f} points from the line at "
            f"{words.percent(tightest.target_accuracy or 0.0)}"
        )
    left_out = [row.title for row in summary.sets if row.accuracy is None]
    if left_out:
        sentence += f"; it was not trained on {words.listed(left_out)}"
    scale = WIDTH - LEFT - RIGHT
    parts = []
    for index, row in enumerate(known):
        top = index * ROW
        accuracy = row.accuracy or 0.0
        parts.append(text(LEFT, top + 15, row.title, "name", anchor="start"))
        parts.append(
            text(WIDTH - RIGHT, top + 15, words.percent(accuracy), "name value", anchor="end")
        )
        parts.append(
            Markup('<rect class="track" x="{}" y="{}" width="{}" height="14"/>').format(
                LEFT, top + 22, scale
            )
        )
        parts.append(
            Markup('<rect class="bar" x="{}" y="{}" width="{}" height="14"/>').format(
                LEFT, top + 22, n(accuracy * scale)
            )
        )
        if row.target_accuracy is not None:
            parts.append(
                Markup('<path class="line target" d="M{} {}v20"/>').format(
                    n(LEFT + row.target_accuracy * scale), top + 19
                )
            )
    alt = "Bars of accuracy: " + ", ".join(
        f"{row.title} {words.percent(row.accuracy or 0.0)}" for row in known
    )
    svg = drawing(Markup("").join(parts), alt=alt, width=WIDTH, height=ROW * len(known) + 4)
    caption = "Upright line: the source's target.  Validation images."
    return Figure(
        key="sets",
        title=title,
        sentence=words.capital(sentence),
        panels=(Panel(svg=svg, caption=caption),),
    )
