"""A checked search file: what is fixed, what is searched, on which data, behind which gate.

    search_file = load_search_file(Path("configs/search.yaml"))  # search/file/load.py
    params = search_file.space.suggest(trial)
    model_config, train_config = search_file.resolve(params)

No torch here: workers' parents load it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

from model.config import ModelConfig, TrainConfig
from nkat_errors import BadInput
from search.file.sections import (
    MODEL_FIELDS,
    TRAIN_FIELDS,
    BoundSection,
    DatasetSection,
    FinalistsSection,
    GateSection,
    LimitsSection,
    RecalculationSection,
    RungsSection,
    SamplerSection,
)
from search.file.service_section import ServiceSection
from search.file.yaml_text import dump_yaml
from search.score.gate import Gate
from search.score.tpe_score import LambdaReading
from search.space import Space, Value


class ImageFacts(Protocol):
    """What a configuration must know of a data set (model.data's DatasetInfo has it)."""

    @property
    def image_size(self) -> int: ...
    @property
    def channels(self) -> int: ...
    @property
    def classes(self) -> int: ...
    @property
    def flip(self) -> bool: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchFile:
    """A checked search file.

    Args:
        study: name of the Optuna study.
        title: free text for reports.
        cut_down: not the full search; said wherever a result is shown.
        n_trials: the budget (COMPLETE + PRUNED trials).
        seed: of the sampler, the splits and the trainings.
        lambda_reading: which reading of lambda divides the accuracies (`lambda:` in the file).
        gate: stage 1's data set and threshold.
        datasets: all data sets; the gate's is the first.
        validation: share (0..1) or count of the training images held out.
        synthetic_fallback: rendered images stand in for a set that cannot be had.
        model: fixed ModelConfig fields, by name.
        train: fixed TrainConfig fields, by name.
        space: the searched fields.
        first_trials: points of the space that are tried first.
        sampler: who proposes the others.
        limits: what a configuration may cost at most.
        rungs: when stage 1 stops because the gate is out of reach; None for never.
        bound: when a trial stops because the best score is out of reach.
        finalists: the best trials are run again at the end; None for none.
        recalculation: how the winner is trained at the end.
        service: lease, retries, checkpoints.
        warnings: sentences to show before the search starts.
    """

    study: str
    title: str
    cut_down: bool
    n_trials: int
    seed: int
    lambda_reading: LambdaReading
    gate: GateSection
    datasets: tuple[DatasetSection, ...]
    validation: float | int
    synthetic_fallback: bool
    model: Mapping[str, Value]
    train: Mapping[str, Value]
    space: Space
    limits: LimitsSection
    rungs: RungsSection | None
    bound: BoundSection
    recalculation: RecalculationSection
    service: ServiceSection
    first_trials: tuple[Mapping[str, Value], ...] = ()
    sampler: SamplerSection = field(default_factory=SamplerSection)
    finalists: FinalistsSection | None = None
    warnings: tuple[str, ...] = ()

    def new_gate(self) -> Gate:
        return Gate(threshold=self.gate.threshold)

    @property
    def names(self) -> tuple[str, ...]:
        """Of the data sets, the gate's first."""
        return tuple(entry.name for entry in self.datasets)

    def dataset(self, name: str) -> DatasetSection:
        """The entry of one data set.

        Raises:
            BadInput: the file does not name it.
        """
        for entry in self.datasets:
            if entry.name == name:
                return entry
        names = ", ".join(entry.name for entry in self.datasets)
        raise BadInput(f"data set {name!r} is not in the search file, which names {names}")

    def held_out(self, entry: DatasetSection) -> float | int:
        """Share or count of validation images of one data set."""
        return entry.validation if entry.validation is not None else self.validation

    def resolve(
        self, params: Mapping[str, Value], dataset: str | None = None
    ) -> tuple[ModelConfig, TrainConfig]:
        """The configuration of a trial, for 32x32 RGB images and 10 classes.

        Args:
            params: a value for every key of the space, and no other.
            dataset: gives the recipe this set's own fields, if the file has some.

        Raises:
            BadInput: a key too many or too few, or values that do not fit together.
        """
        self._require_the_space(params)
        return self._configuration(params, dataset)

    def why_infeasible(self, params: Mapping[str, Value]) -> str | None:
        """Why drawn parameters make no network that may be trained; None if they make one.

        A sampler draws each parameter by itself, so it can draw values that do not fit
        together, or a network beyond `limits`.  Nothing is built or trained here.

        Args:
            params: a value for every key of the space, and no other.

        Returns:
            One sentence, such as `1024 tokens are more than limits.tokens = 256`.

        Raises:
            BadInput: a key too many or too few: these are no parameters of this space.
        """
        self._require_the_space(params)
        try:
            model, _ = self._configuration(params, None)
        except BadInput as error:
            return str(error)
        if self.limits.tokens is not None and model.tokens > self.limits.tokens:
            return f"{model.tokens} tokens are more than limits.tokens = {self.limits.tokens}"
        return None

    def _require_the_space(self, params: Mapping[str, Value]) -> None:
        given, wanted = set(params), set(self.space.parameters)
        if given != wanted:
            odd = sorted(given ^ wanted)[0]
            what = "is not in the space" if odd in given else "has no value"
            raise BadInput(f"parameter {odd!r} {what}; the space is {', '.join(sorted(wanted))}")

    def _configuration(
        self, params: Mapping[str, Value], dataset: str | None
    ) -> tuple[ModelConfig, TrainConfig]:
        model: dict[str, Any] = {**self.model}
        train: dict[str, Any] = {**self.train}
        for name, value in params.items():
            (model if name in MODEL_FIELDS else train)[name] = value
        if dataset is not None:
            train |= self.dataset(dataset).recipe()
        return ModelConfig.from_dict(model), TrainConfig.from_dict(train)

    def resolve_for(
        self, params: Mapping[str, Value], entry: DatasetSection, images: ImageFacts
    ) -> tuple[ModelConfig, TrainConfig]:
        """The same configuration on one data set: its image shape and classes, the fields
        of the recipe that it has for itself, no flips where the set forbids them."""
        model, train = self.resolve(params, entry.name)
        return (
            model.for_images(
                image_size=images.image_size, channels=images.channels, classes=images.classes
            ),
            replace(train, flip=train.flip and images.flip),
        )

    def baseline(self) -> dict[str, Value]:
        """The fields' defaults (the source's baseline) as parameters of this space,
        where the space has them; else its first value."""
        defaults = {k: facts.default for k, facts in (MODEL_FIELDS | TRAIN_FIELDS).items()}
        return {
            name: defaults[name] if parameter.has(defaults[name]) else parameter.values()[0]
            for name, parameter in self.space.parameters.items()
        }

    def identity(self) -> dict[str, Any]:
        """What changes the meaning of a score, and so may not change within a study.

        Not in it, so free to change between runs: study and title, n_trials (the
        budget may be raised), what proposes trials (first_trials, sampler), rungs and bound
        (a score that was measured stays what it is), finalists, recalculation, service, and
        what only steers where data comes from (alternatives, synthetic_fallback,
        stand_in_for; the data set's own name is in it).  Fields left out of `model` and
        `train` count with their defaults; a limit or a set's own recipe that is left out is
        not named, so that files from before there were any keep their hash.
        """
        searched = set(self.space.parameters)
        model = {k: facts.default for k, facts in MODEL_FIELDS.items()} | dict(self.model)
        train = {k: facts.default for k, facts in TRAIN_FIELDS.items()} | dict(self.train)
        return {
            "cut_down": self.cut_down,
            "seed": self.seed,
            "lambda": self.lambda_reading,
            "gate": self.gate.model_dump(),
            "datasets": [self._entry_identity(entry) for entry in self.datasets],
            "model": {k: v for k, v in model.items() if k not in searched},
            "train": {k: v for k, v in train.items() if k not in searched},
            "space": {k: p.to_plain() for k, p in self.space.parameters.items()},
            **self._limits(),
        }

    def _entry_identity(self, entry: DatasetSection) -> dict[str, Any]:
        recipe = entry.recipe()
        identity: dict[str, Any] = {
            "name": entry.name,
            "epochs": recipe.pop("epochs", None),
            "limit": entry.limit,
            "synthetic": entry.synthetic,
            "validation": self.held_out(entry),
        }
        return identity | ({"train": recipe} if recipe else {})

    def _limits(self) -> dict[str, Any]:
        limits = self.limits.model_dump(exclude_none=True)
        return {"limits": limits} if limits else {}

    def _free_sections(self) -> dict[str, Any]:
        """Those that may change between runs and that the file may leave out."""
        found: dict[str, Any] = {
            "first_trials": [dict(point) for point in self.first_trials],
            "sampler": self.sampler.model_dump(exclude_defaults=True),
            "rungs": None if self.rungs is None else self.rungs.model_dump(),
            "bound": self.bound.model_dump(exclude_defaults=True),
            "finalists": None if self.finalists is None else self.finalists.model_dump(),
            "recalculation": self.recalculation.model_dump(exclude_defaults=True),
        }
        return {name: given for name, given in found.items() if given}

    def hash(self) -> str:
        """16 hex digits of `identity`: comments and the order of keys do not matter
        (the order of data sets does: it is the order of stage 2)."""
        text = json.dumps(_numbers_alike(self.identity()), sort_keys=True, allow_nan=False)
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def to_dict(self) -> dict[str, Any]:
        """Plain values in the file's own form."""
        return {
            "study": self.study,
            "title": self.title,
            "cut_down": self.cut_down,
            "n_trials": self.n_trials,
            "seed": self.seed,
            "lambda": self.lambda_reading,
            "gate": self.gate.model_dump(),
            "datasets": [_entry_to_dict(entry) for entry in self.datasets],
            "validation": self.validation,
            "synthetic_fallback": self.synthetic_fallback,
            "model": dict(self.model),
            "train": dict(self.train),
            "space": {k: p.to_plain() for k, p in self.space.parameters.items()},
            **self._limits(),
            **self._free_sections(),
            "service": self.service.model_dump(exclude={"bound_check"}, exclude_none=True),
        }

    def to_yaml(self) -> str:
        """The file again (without comments); parses to an equal SearchFile."""
        return dump_yaml(self.to_dict())

    def with_datasets(self, entries: tuple[DatasetSection, ...]) -> SearchFile:
        """The same search on other data sets, the gate's being the first."""
        gate = self.gate.model_copy(update={"dataset": entries[0].name})
        return replace(self, datasets=entries, gate=gate)


def _entry_to_dict(entry: DatasetSection) -> dict[str, Any]:
    plain = entry.model_dump(exclude_defaults=True, exclude={"train"})
    if "alternatives" in plain:
        plain["alternatives"] = list(plain["alternatives"])
    # A field that is given as its default may still differ from the file's own value.
    recipe = entry.train.given()
    return plain | ({"train": recipe} if recipe else {})


def _numbers_alike(value: Any) -> Any:
    """`1` and `1.0` mean the same in a search file, so they hash the same."""
    if isinstance(value, dict):
        return {key: _numbers_alike(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_numbers_alike(item) for item in value]
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return value
