"""best.yaml: one trial's whole configuration, its scores and where they came from.

`nkat-search train --config best.yaml` trains it again; nothing else is needed.
"""

from __future__ import annotations

import datetime
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, Self, TypeVar

from pydantic import Field, ValidationError

from model.config import FROM_DATA, BadField, Config, ModelConfig, TrainConfig
from model.known_sets import title_of
from nkat_errors import BadInput
from search.file.problems import first_problem
from search.file.search_file import SearchFile
from search.file.sections import (
    DatasetSection,
    HeldOut,
    ModelSection,
    Section,
    TrainSection,
)
from search.file.yaml_text import KeyPath, Problem, YamlSource, dump_yaml, read_file, read_yaml
from search.provenance import code_version, package_versions, read_data_note
from search.score.tpe_score import LambdaReading
from search.study.trial_record import TrialRecord

FORMAT = "nkat-best/1"

S = TypeVar("S", bound=Section)


class BestScore(Section):
    """One data set's result."""

    accuracy: float
    tpe_score: float
    weights: str = ""


class BestScores(Section):
    """All results of the trial."""

    global_tpe_score: float
    consistency: float
    robustness: float
    generalization: float
    sets: dict[str, BestScore]


class BestGate(Section):
    """The gate and by how much it was passed."""

    dataset: str
    threshold: float
    score: float
    margin: float


class BestLambda(Section):
    """The reading in use, its value, and all three."""

    reading: LambdaReading
    value: float
    theory: float
    counted: float
    parameters: float


class BestDataset(Section):
    """One data set: how it was used, and which images they were."""

    name: str
    epochs: int = Field(ge=1)
    train: TrainSection = Field(default_factory=TrainSection)
    limit: int | None = None
    validation: HeldOut
    synthetic: bool = False
    stand_in_for: str | None = None
    source: str | None = None
    train_size: int | None = None
    checksum: str | None = None

    def entry(self) -> DatasetSection:
        """As a search file's entry."""
        return DatasetSection(
            name=self.name,
            epochs=self.epochs,
            train=self.train,
            limit=self.limit,
            validation=self.validation,
            synthetic=self.synthetic,
            stand_in_for=self.stand_in_for,
        )


class BestNetwork(Section):
    """Size of the network on the gate's data set."""

    parameters: int
    tokens: int


class BestProvenance(Section):
    """Where the numbers came from."""

    study: str
    trial: int
    attempt: int
    seed: int
    search_hash: str
    code_version: str
    package_versions: dict[str, str]
    device: str
    date_utc: str
    notes: list[str] = Field(default_factory=list)


class BestFile(Section):
    """A whole best.yaml; `load_best` reads one, `to_yaml` writes it."""

    format: Literal["nkat-best/1"]
    title: str = ""
    cut_down: bool
    scores: BestScores
    gate: BestGate
    lambda_: BestLambda = Field(alias="lambda")
    params: dict[str, Any]
    model: dict[str, Any]
    train: dict[str, Any]
    datasets: list[BestDataset] = Field(min_length=1)
    network: BestNetwork
    provenance: BestProvenance

    def configuration(self) -> tuple[ModelConfig, TrainConfig]:
        """The network (for 32x32 RGB images, 10 classes) and the recipe."""
        return ModelConfig.from_dict(self.model), TrainConfig.from_dict(self.train)

    def to_yaml(self) -> str:
        """The file's text: a heading of comments, then the values."""
        return "".join(f"# {line}\n" for line in self._heading()) + dump_yaml(
            self.model_dump(by_alias=True)
        )

    def save(self, path: Path) -> None:
        """Writes the file (whole or not at all)."""
        partial = path.with_name(f".{path.name}.partial")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            partial.write_text(self.to_yaml(), encoding="utf-8")
            partial.replace(path)
        except OSError as error:
            raise BadInput(f"{path}: cannot be written ({error.strerror})") from None

    def _heading(self) -> list[str]:
        origin = self.provenance
        lines = [
            f"Trial {origin.trial} of study {origin.study}: Global TPE score "
            f"{self.scores.global_tpe_score:.4f} on validation images.",
            "Train it again: nkat-search train --config THIS_FILE",
        ]
        if self.cut_down:
            lines.insert(
                0, "CUT-DOWN SEARCH: subsets and few epochs; quote no score of this file."
            )
        return lines + [f"Note: {note}" for note in origin.notes]

    @classmethod
    def of_trial(
        cls,
        trial: TrialRecord,
        search_file: SearchFile,
        *,
        study: str | None = None,
        now: datetime.datetime | None = None,
    ) -> Self:
        """The file of a complete trial.

        Args:
            trial: with all attributes of the search (accuracy_<set>, lambda_<reading>,
                parameters, tokens, data_note, device, attempt).
            search_file: the one the study stores.
            study: the study's name, where it is not the file's (`--force-new`).
            now: the date to write, UTC; the clock's by default.

        Raises:
            BadInput: the trial lacks an attribute that the file must have.
        """
        attributes = trial.user_attrs

        def need(name: str) -> Any:
            if attributes.get(name) is None:
                raise BadInput(
                    f"trial {trial.number} has no attribute {name!r}: it was not made by this "
                    "search, or is not complete"
                )
            return attributes[name]

        model, train = search_file.resolve(trial.params)
        reading = search_file.lambda_reading
        found = read_data_note(str(attributes.get("data_note", "")))
        datasets: list[dict[str, Any]] = []
        for entry in search_file.datasets:
            source = found.get(entry.name)
            recipe = entry.recipe()
            datasets.append(
                {
                    "name": entry.name,
                    "epochs": recipe.pop("epochs", train.epochs),
                    "train": recipe,
                    "limit": entry.limit,
                    "validation": search_file.held_out(entry),
                    "synthetic": entry.synthetic
                    or (source is not None and source.source == "synthetic"),
                    "stand_in_for": entry.stand_in_for,
                    "source": source.source if source else None,
                    "train_size": source.train_size if source else None,
                    "checksum": source.checksum if source else None,
                }
            )
        moment = now or datetime.datetime.now(datetime.UTC)
        return cls.model_validate(
            {
                "format": FORMAT,
                "title": search_file.title,
                "cut_down": search_file.cut_down,
                "scores": {
                    "global_tpe_score": need("global_tpe_score"),
                    "consistency": need("consistency"),
                    "robustness": need("robustness"),
                    "generalization": need("generalization"),
                    "sets": {
                        entry.name: {
                            "accuracy": need(f"accuracy_{entry.name}"),
                            "tpe_score": need(f"tpe_{entry.name}"),
                            "weights": str(attributes.get(f"weights_{entry.name}", "")),
                        }
                        for entry in search_file.datasets
                    },
                },
                "gate": {
                    "dataset": search_file.gate.dataset,
                    "threshold": search_file.gate.threshold,
                    "score": need("gate_score"),
                    "margin": need("gate_margin"),
                },
                "lambda": {
                    "reading": reading,
                    "value": need(f"lambda_{reading}"),
                    "theory": need("lambda_theory"),
                    "counted": need("lambda_counted"),
                    "parameters": need("lambda_parameters"),
                },
                "params": dict(trial.params),
                "model": {k: v for k, v in model.to_dict().items() if k not in FROM_DATA},
                "train": train.to_dict(),
                "datasets": datasets,
                "network": {
                    "parameters": int(need("parameters")),
                    "tokens": int(need("tokens")),
                },
                "provenance": {
                    "study": study or search_file.study,
                    "trial": trial.number,
                    "attempt": int(attributes.get("attempt", 1)),
                    "seed": search_file.seed,
                    "search_hash": search_file.hash(),
                    "code_version": str(attributes.get("code_version") or code_version()),
                    "package_versions": _versions(attributes),
                    "device": str(attributes.get("device", "unknown")),
                    "date_utc": moment.strftime("%Y-%m-%dT%H:%M:%SZ"),
                    "notes": data_notes(datasets, cut_down=search_file.cut_down),
                },
            }
        )


def data_notes(datasets: list[dict[str, Any]], *, cut_down: bool) -> list[str]:
    """What must be said wherever a score of these sets is shown."""
    notes = []
    if cut_down:
        notes.append("cut-down search: subsets, few epochs, a lower gate")
    for row in datasets:
        name = row["name"]
        if row["synthetic"]:
            notes.append(f"{name}: rendered (synthetic) images, no real data")
        if row["stand_in_for"]:
            original = row["stand_in_for"]
            notes.append(f"{name} stands in for {title_of(original)}, which could not be had")
    return notes


def numbered(path: Path, rank: int) -> Path:
    """best.yaml for the first, best-2.yaml for the second, ..."""
    return path if rank == 1 else path.with_name(f"{path.stem}-{rank}{path.suffix}")


def is_best_file(path: Path) -> bool:
    """Whether a file is an exported configuration (else it is taken for a search file)."""
    return "format" in read_yaml(read_file(path), name=str(path)).data


def load_best(path: Path) -> BestFile:
    """Reads and checks a best.yaml.

    Raises:
        BadInput: anything wrong with it, in one sentence with key, line and value.
    """
    source = read_yaml(read_file(path), name=str(path))
    try:
        return _build(source)
    except Problem as problem:
        raise source.error(problem) from None


def _build(source: YamlSource) -> BestFile:
    if "format" not in source.data:
        raise Problem((), f"key 'format' is missing: not an exported configuration ({FORMAT})")
    best = _checked(BestFile, source.data, ())
    _check_config(ModelConfig, ModelSection, source.data, "model")
    _check_config(TrainConfig, TrainSection, source.data, "train")
    return best


def _check_config(
    config: type[Config], section: type[Section], data: dict[str, Any], key: str
) -> None:
    _checked(section, data[key], (key,))
    try:
        config.from_dict(data[key])
    except BadField as error:  # each field is good, but not all of them together
        raise Problem((key, error.fields[0]), f"{key}.{error}") from None


def _checked(section: type[S], data: Any, place: KeyPath) -> S:
    try:
        return section.model_validate(data)
    except ValidationError as error:
        raise first_problem(error, data, section=section, prefix=place) from None


def _versions(attributes: Mapping[str, Any]) -> dict[str, str]:
    """The training child's versions where it recorded them, else this machine's."""
    recorded = attributes.get("versions")
    if isinstance(recorded, dict):
        return {str(name): str(version) for name, version in recorded.items()}
    return package_versions()
