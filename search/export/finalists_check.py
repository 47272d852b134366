"""Whether the finalists of a best.yaml are what their runs give."""

from __future__ import annotations

import math
from collections.abc import Iterator
from statistics import fmean

from search.export.best_file import BestFile
from search.export.finalists_record import BestFinalists
from search.file.yaml_text import KeyPath, Problem, dotted
from search.score.probability_best import pooled_deviation, probabilities_best

CLOSE = 1e-6
"""Probabilities are sums over a grid, which another machine may add up in another order."""


def check_finalists(best: BestFile) -> None:
    """Raises `Problem` for the first number that does not follow from the scores."""
    block = best.finalists
    if block is None:
        return
    for index, one in enumerate(block.ranked):
        path: KeyPath = ("finalists", "ranked", index, "scores")
        if len(one.scores) != block.runs:
            raise Problem(
                path,
                f"{dotted(path)}: has {len(one.scores)} scores, but finalists.runs = {block.runs}",
            )
    for path, found, expected in _numbers(best, block):
        if (found is None) != (expected is None) or (
            found is not None
            and expected is not None
            and not math.isclose(found, expected, rel_tol=CLOSE, abs_tol=CLOSE)
        ):
            raise Problem(
                path,
                f"{dotted(path)} = {_shown(found)}: the file's own numbers give "
                f"{_shown(expected)}; it was edited, so export the trial again",
            )
    means = [one.mean for one in block.ranked]
    if means != sorted(means, reverse=True):
        raise Problem(("finalists", "ranked"), "finalists.ranked: the best mean must come first")


def _numbers(
    best: BestFile, block: BestFinalists
) -> Iterator[tuple[KeyPath, float | None, float | None]]:
    """Key, the file's number, and the number it must be."""
    runs = [one.scores for one in block.ranked]
    yield ("finalists", "deviation"), block.deviation, pooled_deviation(runs)
    chances = probabilities_best(runs) or (None,) * len(runs)
    for index, (one, chance) in enumerate(zip(block.ranked, chances, strict=True)):
        path = ("finalists", "ranked", index)
        yield (*path, "mean"), one.mean, fmean(one.scores)
        yield (*path, "probability"), one.probability, chance
        if one.trial == best.provenance.trial and best.kind == "best":
            yield (*path, "score"), one.score, best.scores.global_tpe_score


def _shown(number: float | None) -> str:
    return "null" if number is None else f"{number:.10g}"
