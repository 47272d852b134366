"""The shape of a search file, section by section, for pydantic to check.

`model` and `train` are made from the fields of `ModelConfig` and `TrainConfig`, so a new
field there is a new key here.  `search/file/json_schema.py` makes the JSON schema of these
classes; their descriptions are what an editor shows.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import (
    BeforeValidator,
    Discriminator,
    Field,
    Tag,
    create_model,
    field_validator,
    model_serializer,
)

from model.config import FROM_DATA, FieldFacts, ModelConfig, TrainConfig, facts_of
from search.file.base import Section
from search.file.service_section import ServiceSection
from search.score.tpe_score import LambdaReading
from search.space import Value

NAME = r"^[A-Za-z0-9][A-Za-z0-9_.-]*$"

MOST_TRIALS = 1_000_000
"""Far more than any search needs; a larger number is a slip of the finger."""

LARGEST_SEED = 2**32 - 1
"""The sampler's generator takes no larger one."""

MODEL_FIELDS: dict[str, FieldFacts] = {
    name: facts for name, facts in facts_of(ModelConfig).items() if name not in FROM_DATA
}
"""What a search file may say about the network."""

TRAIN_FIELDS: dict[str, FieldFacts] = facts_of(TrainConfig)
"""What a search file may say about the training recipe."""


class ConfigSection(Section):
    """Some fields of a configuration, by name.

    What is left out differs from what is spelt out as its default: only the latter
    goes before what another section says.
    """

    @model_serializer
    def given(self) -> dict[str, Value]:
        """The fields that stand in the file."""
        names = type(self).model_fields
        return {name: getattr(self, name) for name in names if name in self.model_fields_set}

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ConfigSection) and self.given() == other.given()

    def __hash__(self) -> int:
        return hash(tuple(self.given().items()))


if TYPE_CHECKING:

    class ModelSection(ConfigSection):
        """Fields of the network."""

    class TrainSection(ConfigSection):
        """Fields of the training recipe."""

    class LongTrainSection(ConfigSection):
        """Fields of the training recipe, for the recalculation."""

else:

    def _section(name: str, fields: dict[str, FieldFacts], *, doc: str) -> type[ConfigSection]:
        members = {key: (facts.annotation, facts.default) for key, facts in fields.items()}
        return create_model(
            name, __base__=ConfigSection, __doc__=doc, __module__=__name__, **members
        )

    ModelSection = _section("ModelSection", MODEL_FIELDS, doc="Fields of the network.")
    TrainSection = _section("TrainSection", TRAIN_FIELDS, doc="Fields of the training recipe.")
    LongTrainSection = _section(
        "LongTrainSection",
        {name: facts for name, facts in TRAIN_FIELDS.items() if name != "epochs"},
        doc="Fields of the training recipe, for the recalculation.",
    )


def _held_out_kind(value: object) -> str:
    return "count" if isinstance(value, int) and not isinstance(value, bool) else "share"


HeldOut = Annotated[
    Annotated[int, Field(ge=1), Tag("count")] | Annotated[float, Field(gt=0, lt=1), Tag("share")],
    Discriminator(_held_out_kind),
]
"""Validation images: a share of the training images in (0, 1), or a count >= 1."""


class GateSection(Section):
    """Stage 1."""

    dataset: str = Field(pattern=NAME, description="the set it trains on, the first of datasets")
    threshold: float = Field(gt=0, description="the local TPE score that passes")


class DatasetSection(Section):
    """One data set of the search."""

    name: str = Field(pattern=NAME, description="a known set, or NAME of a NAME.npz")
    epochs: int | None = Field(
        default=None, ge=1, description="instead of train.epochs on this set"
    )
    train: TrainSection = Field(
        default_factory=TrainSection,
        description="fields of the recipe that are different on this set, searched ones included",
    )
    limit: int | None = Field(
        default=None,
        ge=10,
        description="training images kept at most (the validation part is not counted)",
    )
    validation: HeldOut | None = Field(
        default=None, description="instead of the file's `validation` on this set"
    )
    alternatives: Annotated[tuple[str, ...], Field(strict=False)] = Field(
        default=(),
        description="sets that may stand in, under their own names, when this one can be had "
        "neither from the data folder nor by download",
    )
    synthetic: bool = Field(
        default=False, description="rendered images in the set's shape instead of the set"
    )
    stand_in_for: str | None = Field(
        default=None, description="the set this one replaced (written when a study is made)"
    )

    def recipe(self) -> dict[str, Value]:
        """The fields of TrainConfig that this set has for itself."""
        short = {} if self.epochs is None else {"epochs": self.epochs}
        return self.train.given() | short


class LimitsSection(Section):
    """What a configuration may cost at most; a costlier one is not trained."""

    tokens: int | None = Field(
        default=None,
        ge=1,
        description="most tokens of a 32x32 image, class token included",
    )


class SamplerSection(Section):
    """Who proposes the next trial; it changes no score."""

    name: str = Field(
        default="TPESampler",
        pattern=r"^[A-Za-z_][\w.]*(:[A-Za-z_]\w*)?$",
        description="a class of optuna.samplers that heeds constraints (TPESampler, GPSampler, "
        "RandomSampler, ...), or package.module:Class",
    )
    options: dict[str, Any] = Field(
        default_factory=dict, description="of its constructor, besides the seed"
    )
    duplicate: float = Field(
        default=0.01,
        ge=0,
        le=1,
        description="a draw that is this near to an earlier trial in every parameter (as a "
        "share of its range) is drawn again; 0 draws again only what is equal",
    )


class RungsSection(Section):
    """When stage 1 of a trial stops because the gate is out of its reach."""

    after: int = Field(
        default=10,
        ge=2,
        description="trials that must have ended stage 1 (with as many epochs) before others "
        "are stopped by what those gained",
    )
    earliest: float = Field(
        default=0.33,
        ge=0,
        le=1,
        description="share of stage 1's epochs that every trial gets",
    )
    spread: float = Field(
        default=4.0,
        ge=0,
        description="standard deviations above the mean gain from an epoch to the end that a "
        "trial is given; it stops when even that leaves it below the gate",
    )


class BoundSection(Section):
    """When a trial stops because the best Global TPE score is out of its reach."""

    kind: Literal["off", "exact", "best_seen"] = Field(
        default="exact",
        description="what the sets that are left may still score: off asks nothing; exact: "
        "accuracy 1, which stops no trial that could win; best_seen: at most the best accuracy "
        "of this study on that set plus `slack`, which stops earlier",
    )
    slack: float = Field(
        default=0.002,
        ge=0,
        le=1,
        description="of best_seen: accuracy that a set may give beyond the best one seen",
    )
    after: int = Field(
        default=3,
        ge=1,
        description="of best_seen: trials that must have trained a set before their best "
        "accuracy counts; 1 is taken until then",
    )
    spread: float | None = Field(
        default=None,
        ge=0,
        description="asks within stage 1 too: on the gate's set a trial is given the mean gain "
        "from an epoch to the end plus this many standard deviations (more while the trials "
        "that gained it are few), on the others what `kind` says; null: in stage 2 alone",
    )
    curves: int = Field(
        default=3,
        ge=3,
        description="of `spread`: trials that must have ended stage 1 (with as many epochs) "
        "before the gains of those count",
    )


class FinalistsSection(Section):
    """The best trials are run again at the end, and the winner is chosen among them anew."""

    count: int = Field(
        default=3, ge=1, le=20, description="trials that are run again: the best of the search"
    )
    runs: int = Field(
        default=2,
        ge=2,
        le=100,
        description="new runs of each, with the training seeds seed + 1, seed + 2, ...; at least "
        "2, for their spread says how sure the choice is",
    )


class RecalculationSection(Section):
    """The formal recalculation of a winner; none of it changes the search."""

    epochs_factor: float = Field(
        default=1, gt=0, description="every set's epochs are multiplied by it, and rounded"
    )
    runs: int = Field(
        default=3, ge=1, le=1000, description="trainings of each set, each with its own seed"
    )
    train: LongTrainSection = Field(
        default_factory=LongTrainSection,
        description="fields of the recipe that pay only when training is long; a set's own "
        "`train` goes before them, they go before the file's `train` and `space`",
    )

    def epochs(self, epochs: int) -> int:
        """Epochs of a set that has `epochs` in the search; at least 1."""
        return max(1, round(epochs * self.epochs_factor))


def _off(value: object) -> object:
    """`rungs: false` is the same as no rungs, and so for finalists."""
    return None if value is False else value


class FileSections(Section):
    """The whole file; `space` is looked at again later."""

    study: str = Field(pattern=NAME, description="the study's name in the database")
    title: str = Field(default="", description="free text for reports")
    cut_down: bool = Field(
        default=False, description="not the full search; said wherever a result is shown"
    )
    n_trials: int = Field(
        ge=1, le=MOST_TRIALS, description="trials that end (complete or stopped)"
    )
    seed: int = Field(
        default=0,
        ge=0,
        le=LARGEST_SEED,
        description="of the sampler, the validation splits and the trainings",
    )
    lambda_reading: LambdaReading = Field(
        default="theory",
        alias="lambda",
        description="the reading of lambda that divides accuracies; all three are recorded",
    )
    gate: GateSection
    datasets: Annotated[tuple[DatasetSection, ...], Field(strict=False)] = Field(
        min_length=1, description="all data sets: the gate's first, then stage 2's in order"
    )
    validation: HeldOut = Field(
        default=0.1, description="held out of the training images: a share, or a count"
    )
    synthetic_fallback: bool = Field(
        default=False, description="rendered images for a set that can be had in no way"
    )
    model: ModelSection = Field(
        default_factory=ModelSection, description="fixed fields of the network"
    )
    train: TrainSection = Field(
        default_factory=TrainSection, description="fixed fields of the training recipe"
    )
    space: dict[str, Any] = Field(
        min_length=1, description="searched fields of model and train: choices or ranges"
    )
    first_trials: Annotated[tuple[dict[str, Any], ...], Field(strict=False)] = Field(
        default=(),
        description="points of the space that are tried before the sampler draws any: a value "
        "for every searched field",
    )
    sampler: SamplerSection = Field(default_factory=SamplerSection)
    limits: LimitsSection = Field(default_factory=LimitsSection)
    rungs: Annotated[RungsSection | None, BeforeValidator(_off)] = Field(
        default=None,
        description="stops hopeless trials within stage 1; false or left out: none",
    )
    bound: BoundSection = Field(default_factory=BoundSection)
    finalists: Annotated[FinalistsSection | None, BeforeValidator(_off)] = Field(
        default=None,
        description="runs the best trials again once n_trials are done; false or left out: none",
    )
    recalculation: RecalculationSection = Field(
        default_factory=RecalculationSection,
        description="how `nkat-search recalculate` trains the winner",
    )
    service: ServiceSection = Field(default_factory=ServiceSection)

    @field_validator("datasets", mode="before")
    @classmethod
    def _names_alone(cls, value: Any) -> Any:
        """`- mnist` is short for `- {name: mnist}`."""
        if isinstance(value, list):
            return [{"name": item} if isinstance(item, str) else item for item in value]
        return value
