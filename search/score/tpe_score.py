"""What a trial is worth: the TPE score (Theory-Practical Equilibrium) and its kin.

The metric is always called "TPE score"; Optuna's sampler of a similar name is
`TPESampler` and stands nowhere in this module.  Plain floats in, plain floats
out; accuracies are shares in 0..1.  Definitions: spec section 2.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from statistics import fmean, pstdev
from typing import TYPE_CHECKING, Literal

from nkat_errors import BadInput

if TYPE_CHECKING:
    from model.config import ModelConfig

LambdaReading = Literal["theory", "counted", "parameters"]
LAMBDA_READINGS: tuple[LambdaReading, ...] = ("theory", "counted", "parameters")

BASE_LAMBDA = 20.0
"""lambda of the earlier best model: 4 NKAT scalars in each of 5 blocks."""

BASE_EMBED_DIM = 384
STEM_WEIGHT: dict[str, float] = {"off": 1.0, "tiny": 1.0, "small": 1.1}

SMALLEST_THEORY_EMBED_DIM = BASE_EMBED_DIM / math.e
"""The `theory` reading reaches 0 here (141.3 features) and is negative below."""


def lambda_theory(*, conv_stem: str, embed_dim: int) -> float:
    """The source's cost model: 20 * stem * (1 + ln(embed_dim / 384)).

    stem = 1.0 off, 1.0 tiny, 1.1 small; depth and patch size leave it unchanged.
    Negative below `SMALLEST_THEORY_EMBED_DIM`, where no TPE score exists.
    """
    return BASE_LAMBDA * STEM_WEIGHT[conv_stem] * (1 + math.log(embed_dim / BASE_EMBED_DIM))


def lambda_counted(*, nkat_scalars: int) -> float:
    """The number of NKAT scalars in the network that was built (4 * depth)."""
    return float(nkat_scalars)


def lambda_parameters(*, parameters: int) -> float:
    """Trainable parameters, in millions."""
    return parameters / 1e6


@dataclass(frozen=True, slots=True, kw_only=True)
class Lambdas:
    """The three readings of one configuration's lambda; all are recorded."""

    theory: float
    counted: float
    parameters: float

    def of(self, reading: LambdaReading) -> float:
        """The reading that the search file chose."""
        return {
            "theory": self.theory,
            "counted": self.counted,
            "parameters": self.parameters,
        }[reading]


def lambdas(config: ModelConfig, *, parameters: int) -> Lambdas:
    """All three readings.

    Args:
        config: the network.
        parameters: its trainable parameters (model.cost counts them without
            allocating any).
    """
    return Lambdas(
        theory=lambda_theory(conv_stem=config.conv_stem, embed_dim=config.embed_dim),
        counted=lambda_counted(nkat_scalars=config.nkat_scalars),
        parameters=lambda_parameters(parameters=parameters),
    )


def weight(lam: float) -> float:
    """log10(1 + lambda), what accuracies are divided by.

    Raises:
        BadInput: lambda <= 0, for which no TPE score exists.
    """
    if not (math.isfinite(lam) and lam > 0):
        raise BadInput(
            f"lambda = {lam:.6g}: the TPE score needs lambda > 0 (the reading `theory` is "
            f"positive from embed_dim {math.ceil(SMALLEST_THEORY_EMBED_DIM)} on; "
            "`lambda: counted` always is)"
        )
    return math.log10(1 + lam)


def local_tpe_score(accuracy: float, lam: float) -> float:
    """accuracy / log10(1 + lambda) on one data set."""
    return accuracy / weight(lam)


def is_valid(score: float | None) -> bool:
    """A local TPE score counts when its training ended and it is above 0."""
    return score is not None and math.isfinite(score) and score > 0


def global_tpe_score(accuracies: Iterable[float | None], lam: float) -> float:
    """mean_d(accuracy_d) / log10(1 + lambda) over all data sets of the search.

    A set without a valid accuracy (None, NaN) counts as 0: leaving it out of the
    mean would reward a configuration for failing on a hard set.
    """
    values = [a if is_valid(a) and a is not None else 0.0 for a in accuracies]
    if not values:
        raise BadInput("the Global TPE score needs at least one data set")
    return fmean(values) / weight(lam)


def consistency(local_scores: Iterable[float | None]) -> float:
    """1 - population standard deviation of the valid local TPE scores.

    NaN when no set gave a valid score; missing sets are `robustness`'s business.
    """
    values = [s for s in local_scores if is_valid(s) and s is not None]
    return 1 - pstdev(values) if values else math.nan


def robustness(local_scores: Iterable[float | None]) -> float:
    """Share of the data sets that gave a valid score, 0..1."""
    values = list(local_scores)
    return sum(is_valid(s) for s in values) / len(values) if values else 0.0


def generalization(local_scores: Iterable[float | None]) -> float:
    """min(local TPE scores); a set without a valid score counts as 0."""
    return min((s if is_valid(s) and s is not None else 0.0 for s in local_scores), default=0.0)


def accuracy_needed(score: float, lam: float) -> float:
    """Accuracy (or mean accuracy) that gives `score`: score * log10(1 + lambda).

    Above 1 the score is out of reach at this lambda.
    """
    return score * weight(lam)


def largest_score(lam: float) -> float:
    """The score of accuracy 1: 1 / log10(1 + lambda)."""
    return 1 / weight(lam)


def lambda_for(score: float, accuracy: float) -> float:
    """The lambda at which `accuracy` gives `score`: 10^(accuracy / score) - 1."""
    return float(10 ** (accuracy / score)) - 1


def global_bound(accuracies: Iterable[float], *, sets: int, lam: float) -> float:
    """The highest Global TPE score still possible when the other sets score 1.

    Args:
        accuracies: of the data sets that are done.
        sets: data sets in the search, done or not.
        lam: the lambda in use.
    """
    done = list(accuracies)
    return (sum(done) + (sets - len(done))) / sets / weight(lam)


@dataclass(frozen=True, slots=True, kw_only=True)
class Scores:
    """Every score of one trial over all data sets of its search."""

    local: dict[str, float | None]
    global_tpe_score: float
    consistency: float
    robustness: float
    generalization: float


def score_all(accuracies: Mapping[str, float | None], lam: float) -> Scores:
    """All scores at once.

    Args:
        accuracies: for every data set of the search, in its order; None (or NaN)
            where training did not end.
        lam: the lambda in use.
    """
    local = {
        name: local_tpe_score(a, lam) if a is not None and math.isfinite(a) else None
        for name, a in accuracies.items()
    }
    return Scores(
        local=local,
        global_tpe_score=global_tpe_score(accuracies.values(), lam),
        consistency=consistency(local.values()),
        robustness=robustness(local.values()),
        generalization=generalization(local.values()),
    )
