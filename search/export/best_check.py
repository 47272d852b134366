"""Whether the numbers of a best.yaml follow from each other.

Its accuracies and its lambda are what was measured; every score is arithmetic on them.
A score that is not was edited, and must not be quoted or compared with.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

from search.export.best_file import BestFile
from search.file.yaml_text import KeyPath, Problem, dotted
from search.score.gate import Gate
from search.score.seeds import OVER_ALL
from search.score.tpe_score import score_all

RELATIVE = 1e-9
"""Numbers are written with all their digits, so only rounding may differ."""


def check_scores(best: BestFile) -> None:
    """Raises `Problem` for the first number that does not follow from the others."""
    names = tuple(entry.name for entry in best.datasets)
    unknown = next((name for name in best.scores.sets if name not in names), None)
    if unknown is not None:
        raise Problem(
            ("scores", "sets", unknown),
            f"scores.sets.{unknown}: not one of the file's data sets, {', '.join(names)}",
        )
    gate = best.gate.dataset
    needed = names if best.kind == "best" else (gate,)
    for name in needed:
        if name not in best.scores.sets:
            raise Problem(("scores", "sets"), f"scores.sets: has no entry for {name}")
    for path, found, expected, how in _numbers(best, names):
        if found is None:
            why = "is missing; only a file of `kind: nearest` may lack it"
            if expected is not None:
                raise Problem(path, f"{dotted(path)} {why}")
        elif expected is None:
            raise Problem(path, f"{dotted(path)} = {found:g}: a nearest.yaml has none; remove it")
        elif not math.isclose(found, expected, rel_tol=RELATIVE, abs_tol=RELATIVE):
            raise Problem(
                path,
                f"{dotted(path)} = {found:.10g}: the file's own numbers give {expected:.10g} "
                f"({how}); it was edited, so export the trial again",
            )


def _numbers(
    best: BestFile, names: tuple[str, ...]
) -> Iterator[tuple[KeyPath, float | None, float | None, str]]:
    """Key, the file's number, the number it must be (None: none), and the formula."""
    lam, reading = best.lambda_.value, best.lambda_.reading
    yield ("lambda", "value"), lam, getattr(best.lambda_, reading), f"its reading is {reading}"
    sets = best.scores.sets
    accuracies = {name: sets[name].accuracy if name in sets else None for name in names}
    scores = score_all(accuracies, lam)
    for name in sets:
        path = ("scores", "sets", name, "tpe_score")
        yield path, sets[name].tpe_score, scores.local[name], "accuracy / log10(1 + lambda)"
    formulas = (
        "mean accuracy / log10(1 + lambda)",
        "1 - standard deviation of the local TPE scores",
        "share of the sets with a valid score",
        "smallest local TPE score",
    )
    for name, how in zip(OVER_ALL, formulas, strict=True):
        expected = getattr(scores, name) if best.kind == "best" else None
        yield ("scores", name), getattr(best.scores, name), expected, how
    gate = Gate(threshold=best.gate.threshold).judge(scores.local.get(best.gate.dataset))
    yield ("gate", "score"), best.gate.score, gate.score, f"the one of {best.gate.dataset}"
    yield ("gate", "margin"), best.gate.margin, gate.margin, "score - threshold"
