"""Whether the numbers of a recorded recalculation follow from its per-seed accuracies.

The same rule as for the search's own scores (`search/export/best_check.py`): what was
measured stands by itself, everything else is arithmetic on it.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

from search.export.best_file import BestFile
from search.export.recalculation_record import RecalculatedScore, RecalculatedSet
from search.file.yaml_text import KeyPath, Problem, dotted
from search.score.seeds import OVER_ALL, MeanStd, SeedScores

PLACE: KeyPath = ("recalculation", "result")
TOLERANCE = 1e-9
"""Numbers are written with all their digits, so only rounding may differ."""


def check_recalculation(best: BestFile) -> None:
    """Raises `Problem` for the first number that does not follow from the others."""
    result = best.recalculation.result
    if result is None:
        return
    names = [one.name for one in best.datasets]
    if sorted(result.sets) != sorted(names):
        raise Problem(
            (*PLACE, "sets"),
            f"{dotted((*PLACE, 'sets'))} are {', '.join(result.sets)}: must be the file's data "
            f"sets, {', '.join(names)}",
        )
    for name, one in result.sets.items():
        seeds = [run.seed for run in one.runs]
        if seeds != result.seeds:
            path = (*PLACE, "sets", name, "runs")
            raise Problem(path, f"{dotted(path)} have the seeds {seeds}, not {result.seeds}")
        _check_confusion(name, one)
    for path, found, expected in _numbers(best):
        if not _same(found, expected):
            raise Problem(
                path,
                f"{dotted(path)} = {_text(found)}: the accuracies of the seeds give "
                f"{_text(expected)}; it was edited",
            )


def _numbers(best: BestFile) -> Iterator[tuple[KeyPath, float | str | None, float | str | None]]:
    """Key, the file's value, the value it must be."""
    result = best.recalculation.result
    if result is None:
        return
    accuracies = {
        one.name: [run.accuracy for run in result.sets[one.name].runs] for one in best.datasets
    }
    scores = SeedScores.of(accuracies, best.lambda_.value)
    for name, values in accuracies.items():
        one, path = result.sets[name], (*PLACE, "sets", name)
        for key, spread, expected in (
            ("accuracy", one.accuracy, MeanStd.of(values)),
            ("tpe_score", one.tpe_score, scores.local[name]),
        ):
            yield (*path, key, "mean"), spread.mean, expected.mean
            yield (*path, key, "std"), spread.std, expected.std
    for name in OVER_ALL:
        found: RecalculatedScore = getattr(result.scores, name)
        judged = RecalculatedScore.of(name, scores.over_all[name])
        for key in ("mean", "std", "target", "verdict"):
            yield (*PLACE, "scores", name, key), getattr(found, key), getattr(judged, key)


def _check_confusion(name: str, one: RecalculatedSet) -> None:
    """The confusion matrix counts every test image once, and its diagonal the right ones."""
    accuracy = one.runs[0].accuracy
    if one.confusion is None or one.per_class is None or accuracy is None:
        return
    path = (*PLACE, "sets", name, "confusion")
    rows, classes = one.confusion, len(one.per_class)
    if len(rows) != classes or any(len(row) != classes for row in rows):
        raise Problem(path, f"{dotted(path)}: must be {classes} rows of {classes} counts")
    counted = sum(map(sum, rows))
    right = sum(row[index] for index, row in enumerate(rows))
    if counted != one.test_images or not _same(right / counted, accuracy):
        raise Problem(
            path,
            f"{dotted(path)} counts {right} right of {counted}: runs[0].accuracy is "
            f"{accuracy:.10g} of {one.test_images}; it was edited",
        )


def _same(found: float | str | None, expected: float | str | None) -> bool:
    if isinstance(found, float | int) and isinstance(expected, float | int):
        return math.isclose(found, expected, rel_tol=TOLERANCE, abs_tol=TOLERANCE)
    return found == expected


def _text(value: float | str | None) -> str:
    return f"{value:.10g}" if isinstance(value, float | int) else str(value)
