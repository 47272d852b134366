"""How sure a choice by means of a few runs is: the probability of each to be the best.

The runs of each candidate are taken as normal around its true score, all with one standard
deviation, about which nothing else is known.  Then, given s pooled over the candidates with
f degrees of freedom and n runs of each,

    true score of i = mean_i + s * sqrt(f / c) / sqrt(n) * z_i,

with z_i standard normal, independent, and c chi-squared with f degrees of freedom, common to
all.  (Each true score by itself is then t-distributed.)  The probability that i's is the
largest is the integral over c and z_i of density(c) * density(z_i) * product over the others
of P(true score of j < that of i); both are summed over fixed grids, so that equal runs
always give equal figures.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import fmean

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]

_STEPS = 400
_WIDEST_Z = 8.0
"""Standard deviations beyond which no normal density is worth a step."""


def pooled_deviation(runs: Sequence[Sequence[float]]) -> float | None:
    """Standard deviation of a single run, pooled over the candidates: each may have its own
    mean, all have one spread.  None when no candidate has two runs."""
    freedom = sum(len(scores) - 1 for scores in runs)
    if freedom < 1:
        return None
    squares = math.fsum((x - fmean(scores)) ** 2 for scores in runs for x in scores)
    return math.sqrt(squares / freedom)


def probabilities_best(runs: Sequence[Sequence[float]]) -> tuple[float, ...] | None:
    """Of each candidate, that its true score is the largest; they add up to 1.

    Args:
        runs: scores of each candidate, equally many, at least one candidate.

    Returns:
        None when nothing is known of the spread (one run each).
    """
    deviation = pooled_deviation(runs)
    if deviation is None:
        return None
    means = np.array([fmean(scores) for scores in runs])
    if deviation < 1e-12:  # runs that do not differ: only the means speak
        best = means >= means.max() - 1e-12
        return tuple(float(share) for share in best / best.sum())
    count, freedom = len(runs[0]), sum(len(scores) - 1 for scores in runs)
    gaps = (means[:, None] - means[None, :]) * math.sqrt(count) / deviation
    z = np.linspace(-_WIDEST_Z, _WIDEST_Z, _STEPS)
    weight_z = np.exp(-z * z / 2)
    found = np.zeros(len(runs))
    for root, weight in zip(*_chi(freedom), strict=True):
        # In units of the true scores' own spread the gaps grow with the root of c / f.
        chances = _normal(gaps[:, :, None] * root / math.sqrt(freedom) + z)
        for i in range(len(runs)):
            others = np.delete(chances[i], i, axis=0).prod(axis=0)
            found[i] += weight * float((weight_z * others).sum())
    return tuple(float(share) for share in found / found.sum())


def _chi(freedom: int) -> tuple[Array, Array]:
    """A grid of the square root of c, and its density there, to a factor."""
    middle = math.sqrt(freedom)
    root = np.linspace(max(middle - 6, 0.0), middle + 6, _STEPS // 4 + 1)[1:]
    log_density = (freedom - 1) * np.log(root) - root * root / 2
    return root, np.exp(log_density - log_density.max())


_TABLE = np.linspace(-_WIDEST_Z, _WIDEST_Z, 4001)
_TABLE_CDF = np.array([0.5 * math.erfc(-x / math.sqrt(2)) for x in _TABLE])


def _normal(x: Array) -> Array:
    """The normal distribution's P(z < x), from a table (numpy has no error function)."""
    found: Array = np.interp(x, _TABLE, _TABLE_CDF)
    return found
