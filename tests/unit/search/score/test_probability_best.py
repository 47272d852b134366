"""How sure a choice by a few runs is."""

from __future__ import annotations

import math
import random
from statistics import fmean

import pytest

from search.score.probability_best import pooled_deviation, probabilities_best


def drawn(runs: list[list[float]], draws: int) -> list[float]:
    """The module's formula by drawing: how often each true score was the largest."""
    deviation = pooled_deviation(runs)
    assert deviation is not None
    freedom = sum(len(scores) - 1 for scores in runs)
    draw, wins = random.Random(3), [0] * len(runs)
    for _ in range(draws):
        chi = sum(draw.gauss(0, 1) ** 2 for _ in range(freedom))
        spread = deviation * math.sqrt(freedom / chi) / math.sqrt(len(runs[0]))
        true = [fmean(scores) + spread * draw.gauss(0, 1) for scores in runs]
        wins[true.index(max(true))] += 1
    return [count / draws for count in wins]


@pytest.mark.parametrize(
    "runs",
    [
        [[0.7091, 0.7095], [0.7085, 0.7089], [0.7080, 0.7090]],
        [[0.1, 0.12], [0.1, 0.13]],  # two degrees of freedom
        [[0.50, 0.51, 0.52], [0.50, 0.52, 0.54], [0.49, 0.53, 0.50], [0.30, 0.31, 0.30]],
    ],
)
def test_it_is_what_drawing_gives(runs: list[list[float]]) -> None:
    found = probabilities_best(runs)
    assert found is not None
    assert sum(found) == pytest.approx(1.0)
    assert found == pytest.approx(drawn(runs, 40_000), abs=0.01)
    assert found == probabilities_best(runs)


def test_what_is_known_without_a_spread() -> None:
    assert probabilities_best([[0.7, 0.71]]) == (1.0,)
    assert probabilities_best([[0.7], [0.8]]) is None
    assert probabilities_best([[1.0, 1.0], [1.0, 1.0], [0.9, 0.9]]) == (0.5, 0.5, 0.0)


def test_the_spread_is_pooled() -> None:
    assert pooled_deviation([[1.0, 3.0], [10.0, 12.0]]) == pytest.approx(math.sqrt(2))
    assert pooled_deviation([[1.0], [2.0]]) is None
