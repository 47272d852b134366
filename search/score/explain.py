"""The arithmetic of the TPE score for one lambda, the source's contradiction included."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from model.known_sets import title_of
from search.score.tpe_score import (
    accuracy_needed,
    global_tpe_score,
    lambda_for,
    largest_score,
    local_tpe_score,
    weight,
)

TARGET = 0.70
"""The source's goal for the Global TPE score."""

STOOD_AT = 0.53
"""The Global TPE score where things stood when the source was written."""

SOURCE_TARGETS: dict[str, tuple[float, float]] = {
    "mnist": (0.91, 0.69),
    "fashion_mnist": (0.87, 0.67),
    "emnist_letters": (0.75, 0.60),
    "cifar10": (0.60, 0.45),
}
"""The source's per-set targets, by data set: accuracy, local TPE score."""

SOURCE_FORECAST = 0.72
"""What the source expects those accuracies to give as Global TPE score."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Need:
    """One line of the table: a target and the accuracy it takes."""

    target: str
    score: float
    accuracy: float

    @property
    def reachable(self) -> bool:
        return self.accuracy <= 1


@dataclass(frozen=True, slots=True, kw_only=True)
class SetTarget:
    """One of the source's per-set targets beside what its formula gives."""

    dataset: str
    accuracy: float
    source_score: float
    score: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Explanation:
    """Everything `nkat-search explain` shows for one lambda.

    Args:
        lam: the lambda in use.
        weight: log10(1 + lam).
        needs: the gate's and the target's line.
        largest: the score of accuracy 1.
        sets: the source's per-set targets.
        forecast: Global TPE score that the source's accuracies give at `lam`.
        forecast_lambda: the only lambda at which they give `SOURCE_FORECAST`.
    """

    lam: float
    weight: float
    needs: tuple[Need, ...]
    largest: float
    sets: tuple[SetTarget, ...]
    forecast: float
    forecast_lambda: float

    def to_dict(self) -> dict[str, Any]:
        plain = asdict(self)
        plain["lambda"] = plain.pop("lam")
        for need, row in zip(self.needs, plain["needs"], strict=True):
            row["reachable"] = need.reachable
        plain["source_forecast"] = SOURCE_FORECAST
        return plain


def explain(lam: float, *, gate_dataset: str, threshold: float) -> Explanation:
    """The table for one lambda.

    Args:
        lam: > 0.
        gate_dataset: the set stage 1 trains on.
        threshold: local TPE score that passes the gate.

    Raises:
        BadInput: lambda <= 0.
    """
    accuracies = [accuracy for accuracy, _ in SOURCE_TARGETS.values()]
    mean = sum(accuracies) / len(accuracies)
    return Explanation(
        lam=lam,
        weight=weight(lam),
        needs=(
            Need(
                target=f"gate: local TPE score on {title_of(gate_dataset)}",
                score=threshold,
                accuracy=accuracy_needed(threshold, lam),
            ),
            Need(target="Global TPE score", score=TARGET, accuracy=accuracy_needed(TARGET, lam)),
        ),
        largest=largest_score(lam),
        sets=tuple(
            SetTarget(
                dataset=title_of(name),
                accuracy=accuracy,
                source_score=score,
                score=local_tpe_score(accuracy, lam),
            )
            for name, (accuracy, score) in SOURCE_TARGETS.items()
        ),
        forecast=global_tpe_score(accuracies, lam),
        forecast_lambda=lambda_for(SOURCE_FORECAST, mean),
    )


def sentences(explanation: Explanation, *, configuration: Mapping[str, object]) -> list[str]:
    """What the table means, in words.

    Args:
        explanation: the table.
        configuration: what lambda was computed from, such as conv_stem and embed_dim.
    """
    source = ", ".join(f"{name} {value}" for name, value in configuration.items())
    lines = [
        f"lambda = {explanation.lam:.4g}" + (f" ({source})" if source else "") + ": "
        f"every accuracy is divided by log10(1 + lambda) = {explanation.weight:.4f}."
    ]
    for need in explanation.needs:
        if not need.reachable:
            lines.append(
                f"{need.target} >= {need.score:.2f} is out of reach at this lambda: it would need "
                f"an accuracy of {need.accuracy:.4f}, and accuracy 1 gives "
                f"{explanation.largest:.4f}."
            )
    accuracies = ", ".join(f"{accuracy:.2f}" for accuracy, _ in SOURCE_TARGETS.values())
    lines.append(
        f"The source expects the accuracies {accuracies} to give a Global TPE score of about "
        f"{SOURCE_FORECAST}. By its own formula they give {explanation.forecast:.3f} at this "
        f"lambda, and {SOURCE_FORECAST} only at lambda {explanation.forecast_lambda:.1f}: take "
        "its forecast as a wish."
    )
    return lines
