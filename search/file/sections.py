"""The shape of a search file, section by section, for pydantic to check.

`model` and `train` are made from the fields of `ModelConfig` and `TrainConfig`,
so a new field there is a new key here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields
from typing import Annotated, Any, get_type_hints

from pydantic import (
    BaseModel,
    ConfigDict,
    Discriminator,
    Field,
    Tag,
    ValidationError,
    create_model,
    field_validator,
)

from model.config import ModelConfig, TrainConfig
from search.file.yaml_text import KeyPath, Problem, dotted, nearest
from search.score.tpe_score import LambdaReading

NAME = r"^[A-Za-z0-9][A-Za-z0-9_.-]*$"

FROM_DATA = ("image_size", "channels", "classes")
"""ModelConfig fields that a search file cannot set: the data set decides them."""

MODEL_HINTS = {k: v for k, v in get_type_hints(ModelConfig).items() if k not in FROM_DATA}
TRAIN_HINTS = get_type_hints(TrainConfig)


class Section(BaseModel):
    """Unknown keys, conversions (`"5"` for 5), NaN and infinity are errors."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)


def _held_out_kind(value: object) -> str:
    return "count" if isinstance(value, int) and not isinstance(value, bool) else "share"


HeldOut = Annotated[
    Annotated[int, Field(ge=1), Tag("count")] | Annotated[float, Field(gt=0, lt=1), Tag("share")],
    Discriminator(_held_out_kind),
]
"""Validation images: a share of the training images in (0, 1), or a count >= 1."""


class GateSection(Section):
    """Stage 1: the data set it trains on and the local TPE score that passes."""

    dataset: str = Field(pattern=NAME)
    threshold: float = Field(gt=0)


class DatasetSection(Section):
    """One data set of the search.

    Args:
        name: cifar10, mnist, fashion_mnist, emnist_letters, or NAME of a NAME.npz.
        epochs: overrides `train.epochs` on this set.
        limit: training images kept at most (the validation part is not counted).
        validation: overrides the file's `validation` on this set.
        alternatives: sets that may stand in when this one can be had neither from
            the data folder nor by download; settled once, when a study is made.
        synthetic: rendered images in the set's shape instead of the set.
        stand_in_for: the set this one replaced (written when a study is made).
    """

    name: str = Field(pattern=NAME)
    epochs: int | None = Field(default=None, ge=1)
    limit: int | None = Field(default=None, ge=10)
    validation: HeldOut | None = None
    alternatives: Annotated[tuple[str, ...], Field(strict=False)] = ()
    synthetic: bool = False
    stand_in_for: str | None = None


class ServiceSection(Section):
    """How the search is kept alive; none of it changes what a score means.

    Args:
        lease_s: seconds without a worker's beat until its trial is given to another.
        max_attempts: times a trial is tried before it is given up.
        checkpoint_every_s: least seconds between two checkpoints, which are written at the
            end of an epoch (on a GPU an epoch can take less time than its checkpoint);
            the end of a data set is always saved.
        stall_s: seconds without progress until a training is ended as stalled.
        max_worker_failures: failures in a row after which a worker stops itself.
        max_failure_rate: share of failed attempts above which the search pauses.
        bound_check: stop stage 2 when the best score so far is out of reach.
    """

    lease_s: float = Field(default=60, ge=1)
    max_attempts: int = Field(default=3, ge=1)
    checkpoint_every_s: float = Field(default=30, ge=0)
    stall_s: float = Field(default=600, ge=1)
    max_worker_failures: int = Field(default=3, ge=1)
    max_failure_rate: float = Field(default=0.5, gt=0, le=1)
    bound_check: bool = True


def _fixed_section(name: str, config: type, hints: dict[str, Any]) -> type[BaseModel]:
    defaults = {field.name: field.default for field in fields(config)}
    members: dict[str, Any] = {key: (hint, defaults[key]) for key, hint in hints.items()}
    made: type[BaseModel] = create_model(name, __base__=Section, **members)
    return made


ModelSection = _fixed_section("ModelSection", ModelConfig, MODEL_HINTS)
TrainSection = _fixed_section("TrainSection", TrainConfig, TRAIN_HINTS)


class FileSections(Section):
    """The whole file; `model`, `train` and `space` are looked at again later."""

    study: str = Field(pattern=NAME)
    title: str = ""
    cut_down: bool = False
    n_trials: int = Field(ge=1)
    seed: int = Field(default=0, ge=0)
    lambda_reading: LambdaReading = Field(default="theory", alias="lambda")
    gate: GateSection
    datasets: Annotated[tuple[DatasetSection, ...], Field(strict=False, min_length=1)]
    validation: HeldOut = 0.1
    synthetic_fallback: bool = False
    model: dict[str, Any] = Field(default_factory=dict)
    train: dict[str, Any] = Field(default_factory=dict)
    space: dict[str, Any] = Field(min_length=1)
    service: ServiceSection = Field(default_factory=ServiceSection)

    @field_validator("datasets", mode="before")
    @classmethod
    def _names_alone(cls, value: Any) -> Any:
        """`- mnist` is short for `- {name: mnist}`."""
        if isinstance(value, list):
            return [{"name": item} if isinstance(item, str) else item for item in value]
        return value


KNOWN_KEYS: dict[str, tuple[str, ...]] = {
    "": tuple(f.alias or name for name, f in FileSections.model_fields.items()),
    "gate": tuple(GateSection.model_fields),
    "datasets": tuple(DatasetSection.model_fields),
    "service": tuple(ServiceSection.model_fields),
    "model": tuple(MODEL_HINTS),
    "train": tuple(TRAIN_HINTS),
}

_RULES = {
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "finite_number": "a finite number",
    "bool_type": "true or false",
    "string_type": "a text",
    "none_required": "null",
    "model_type": "a mapping (`key: value` lines)",
    "dict_type": "a mapping (`key: value` lines)",
    "model_attributes_type": "a mapping (`key: value` lines)",
    "list_type": "a list",
    "tuple_type": "a list",
    "string_pattern_mismatch": "a name of letters, digits, '_', '-' and '.'",
    "greater_than_equal": ">= {ge}",
    "greater_than": "> {gt}",
    "less_than_equal": "<= {le}",
    "less_than": "< {lt}",
    "literal_error": "one of {expected}",
    "too_short": "a list or mapping with at least {min_length} entry",
}


def first_problem(
    error: ValidationError, data: Any, *, known: Sequence[str], prefix: KeyPath = ()
) -> Problem:
    """The first of pydantic's errors, in this project's one-sentence form.

    Args:
        error: what pydantic raised.
        data: the plain value it was given.
        known: the valid keys at the place of an unknown one, where `KNOWN_KEYS`
            has none for it.
        prefix: where `data` stands in the file.
    """
    errors = error.errors(include_url=False)
    # Unknown keys first: a misspelt key is also a missing one, and only the first
    # of the two says what to do.
    errors.sort(key=lambda item: item["type"] != "extra_forbidden")
    first = errors[0]
    path = _real_path(first["loc"], data)
    full = (*prefix, *path)
    if first["type"] == "extra_forbidden":
        section = str(full[0]) if len(full) > 1 else ""
        names = KNOWN_KEYS.get(section, known)
        return Problem(full, f"unknown key {dotted(full)}{nearest(full[-1], names)}")
    if first["type"] == "missing":
        missing = dotted((*full, str(first["loc"][-1])))
        return Problem(full, f"key {missing!r} is missing")
    rules: list[str] = []
    for item in errors:
        if _real_path(item["loc"], data) == path:
            template = _RULES.get(item["type"], item["msg"].removeprefix("Input should be "))
            rule = template.format(**item.get("ctx", {}))
            if rule not in rules:
                rules.append(rule)
    return Problem(full, f"{dotted(full)} = {first['input']!r}: must be {' or '.join(rules)}")


def _real_path(loc: tuple[int | str, ...], data: Any) -> KeyPath:
    """pydantic's location without the names of union members."""
    path: list[str | int] = []
    here = data
    for part in loc:
        in_dict = isinstance(here, dict) and part in here
        if in_dict or (isinstance(here, list) and isinstance(part, int) and part < len(here)):
            here = here[part]
            path.append(part)
    return tuple(path)
