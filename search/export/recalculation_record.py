"""What a recalculation found, as best.yaml's copy records it.

Per-seed accuracies are what was measured; means, deviations, scores and PASS or FAIL follow
from them (`search/export/recalculation_check.py` looks whether they do).
"""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field

from search.file.base import Section
from search.file.sections import LongTrainSection, RecalculationSection
from search.score.seeds import OVER_ALL, TARGETS, Judgement, MeanStd, SeedScores, judge


class Spread(Section):
    """Mean and sample standard deviation of several seeds (null for a single one)."""

    mean: float | None
    std: float | None = Field(default=None, ge=0)

    @property
    def text(self) -> str:
        """`0.7012 +- 0.0009`, or `none`."""
        if self.mean is None:
            return "none"
        return f"{self.mean:.4f}" + ("" if self.std is None else f" +- {self.std:.4f}")


class RecalculatedScore(Spread):
    """A score over all data sets, beside its target where it has one."""

    target: float | None = None
    verdict: Judgement | None = None

    @classmethod
    def of(cls, name: str, value: MeanStd) -> Self:
        """The score of that name (of `OVER_ALL`), judged."""
        return cls(
            mean=value.mean,
            std=value.std,
            target=TARGETS.get(name),
            verdict=judge(name, value.mean),
        )


class RecalculatedScores(Section):
    """All scores over all data sets, on test images."""

    global_tpe_score: RecalculatedScore
    consistency: RecalculatedScore
    robustness: RecalculatedScore
    generalization: RecalculatedScore

    @classmethod
    def of(cls, scores: SeedScores) -> Self:
        return cls(
            **{name: RecalculatedScore.of(name, scores.over_all[name]) for name in OVER_ALL}
        )


class SourceLine(Section):
    """The source's own target for a data set, shown for comparison."""

    accuracy: float = Field(ge=0, le=1)
    tpe_score: float


class RecalculatedRun(Section):
    """One training of one set.

    `accuracy` is of the test images, null when the training broke down (`failure` says how).
    """

    seed: int = Field(ge=0)
    accuracy: float | None = Field(ge=0, le=1)
    loss: float | None = None
    seconds: float = Field(ge=0)
    failure: str = ""


class RecalculatedSet(Section):
    """One data set: which images, how long, and what every seed reached.

    `per_class` and `confusion` are of the first seed: `confusion[i][j]` counts test images
    of class i that were taken for class j, in the order of `per_class`.
    """

    title: str
    stand_in_for: str | None = None
    source: str
    checksum: str
    test_checksum: str
    epochs: int = Field(ge=1)
    train_images: int = Field(ge=1)
    test_images: int = Field(ge=1)
    weights: str
    weights_file: str | None = None
    runs: list[RecalculatedRun] = Field(min_length=1)
    accuracy: Spread
    tpe_score: Spread
    source_target: SourceLine | None = None
    per_class: dict[str, float | None] | None = None
    confusion: list[list[int]] | None = None


class RecalculationResult(Section):
    """A formal recalculation that was done."""

    test_images_read: Literal[True] = True
    date_utc: str
    device: str
    code_version: str
    package_versions: dict[str, str]
    epochs_factor: float = Field(gt=0)
    train: LongTrainSection = Field(default_factory=LongTrainSection)
    seeds: list[int] = Field(min_length=1)
    scores: RecalculatedScores
    sets: dict[str, RecalculatedSet] = Field(min_length=1)

    @property
    def passed(self) -> bool:
        """The Global TPE score reaches its target."""
        return self.scores.global_tpe_score.verdict == "PASS"

    def headline(self) -> str:
        """The verdict in a few words."""
        score = self.scores.global_tpe_score
        seeds = "1 seed" if len(self.seeds) == 1 else f"{len(self.seeds)} seeds"
        return (
            f"Global TPE score {score.text} on test images ({seeds}), target "
            f"{score.target:.2f}: {score.verdict}"
        )


class BestRecalculation(RecalculationSection):
    """How the file is to be recalculated, and what that gave once it was done."""

    result: RecalculationResult | None = None
