"""best.yaml: one trial's whole configuration, its scores and where they came from.

`nkat-search train --config best.yaml` trains it again; nothing else is needed.  Where
no trial passed, nearest.yaml is the same of the trial that came nearest, and says so.
"""

from __future__ import annotations

import datetime
from dataclasses import asdict
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import Field

from model.config import FROM_DATA, ModelConfig, TrainConfig
from model.known_sets import title_of
from nkat_errors import BadInput
from search.export.finalists_record import BestFinalists
from search.export.recalculation_record import BestRecalculation
from search.file.base import Section
from search.file.search_file import SearchFile
from search.file.sections import DatasetSection, HeldOut, TrainSection
from search.file.yaml_text import dump_yaml
from search.provenance import DataSource, code_version, package_versions
from search.score.gate import threshold_text
from search.score.seeds import OVER_ALL
from search.score.tpe_score import LambdaReading
from search.study.finalists import Finalists
from search.study.saved import SavedHours
from search.study.trial_record import TrialRecord

FORMAT = "nkat-best/1"


class BestScore(Section):
    """One data set's result."""

    accuracy: float = Field(ge=0, le=1)
    tpe_score: float = Field(ge=0)
    weights: str = ""


class BestScores(Section):
    """All results of the trial; those over all sets are null in a nearest.yaml."""

    global_tpe_score: float | None = Field(ge=0)
    consistency: float | None = Field(le=1)
    robustness: float | None = Field(ge=0, le=1)
    generalization: float | None = Field(ge=0)
    sets: dict[str, BestScore]


class BestGate(Section):
    """The gate and by how much it was passed (or missed: a negative margin)."""

    dataset: str
    threshold: float = Field(gt=0)
    score: float = Field(ge=0)
    margin: float


class BestLambda(Section):
    """The reading in use, its value, and all three."""

    reading: LambdaReading
    value: float = Field(gt=0)
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
    train_size: int | None = Field(default=None, ge=1)
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

    parameters: int = Field(ge=1)
    tokens: int = Field(ge=1)


class BestEffort(Section):
    """What the trial cost, all its attempts together: how long a recalculation will take."""

    epochs: int = Field(ge=0)
    seconds_stage1: float = Field(ge=0)
    seconds_stage2: float = Field(ge=0)


class BestSavedPart(Section):
    """What one kind of stop saved, against what."""

    stopped: int = Field(ge=0)
    hours: float | None = Field(ge=0)
    counterfactual: str


class BestSaved(Section):
    """Device-hours that stopping trials early saved its search (`search.study.saved`)."""

    hours: float | None = Field(ge=0)
    spent_hours: float = Field(ge=0)
    stage2_ratio: float | None = Field(ge=0)
    complete: int = Field(ge=0)
    by: dict[str, BestSavedPart]


class BestProvenance(Section):
    """Where the numbers came from."""

    study: str
    trial: int = Field(ge=0)
    attempt: int = Field(ge=1)
    seed: int = Field(ge=0)
    search_hash: str
    code_version: str
    package_versions: dict[str, str]
    device: str
    date_utc: str
    notes: list[str] = Field(default_factory=list)


class BestFile(Section):
    """A whole best.yaml; `to_yaml` writes it, `search.export.best_reading` reads one.

    `kind` is `nearest` for a trial that did not pass or was not trained on all sets.
    """

    format: Literal["nkat-best/1"]
    kind: Literal["best", "nearest"] = "best"
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
    recalculation: BestRecalculation = Field(default_factory=BestRecalculation)
    effort: BestEffort | None = None
    saved: BestSaved | None = None
    finalists: BestFinalists | None = None
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

    def headline(self) -> str:
        """What the trial reached, in a few words."""
        if self.scores.global_tpe_score is not None:
            return f"Global TPE score {self.scores.global_tpe_score:.4f}"
        return (
            f"NOT BEST but nearest: local TPE score {self.gate.score:.4f} on {self.gate.dataset}, "
            f"gate {threshold_text(self.gate.threshold)}, margin {self.gate.margin:+.4f}"
        )

    def _heading(self) -> list[str]:
        origin = self.provenance
        name = f"Trial {origin.trial} of study {origin.study}"
        lines = ["Train it again: nkat-search train --config THIS_FILE"]
        lines.insert(0, f"{name}: {self.headline()}, on validation images.")
        if self.finalists is not None and (text := self.finalists.sentence(origin.trial)):
            lines.insert(1, text)
        if self.recalculation.result is not None:
            lines.append(f"Recalculated: {self.recalculation.result.headline()}.")
        else:
            lines.append("Its formal recalculation: nkat-search recalculate THIS_FILE")
        if self.kind == "nearest":
            lines.insert(
                0, "NEAREST, NOT BEST: no trial of its search passed; this one came nearest."
            )
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
        saved: SavedHours | None = None,
        finalists: Finalists | None = None,
        now: datetime.datetime | None = None,
    ) -> Self:
        """The file of a complete trial, or (`kind: nearest`) of one that ended early.

        Args:
            trial: complete, or at least trained on the gate's data set.
            study: the study's name, where it is not the file's (`--force-new`).
            saved: what stopping early saved the whole search.
            finalists: of the search; they are written once their runs have ended.
            now: the date to write, UTC; the clock's by default.

        Raises:
            BadInput: the trial lacks an attribute that the file must have, or is a run of a
                finalist.
        """
        if trial.repeats is not None:
            raise BadInput(
                f"trial {trial.number} is {trial.repeats}, with a training seed of its own: "
                f"export trial {trial.repeats.trial}"
            )
        attributes = trial.whole()
        verdict, facts = attributes.verdict, attributes.facts
        if verdict.scores is None or verdict.gate_accuracy is None or facts is None:
            raise BadInput(f"trial {trial.number} was trained on no data set: {trial.outcome}")
        model, train = search_file.resolve(trial.params)
        found = {source.name: source for source in facts.data}
        datasets = [
            _dataset(entry, search_file, train, found.get(entry.name))
            for entry in search_file.datasets
        ]
        moment = now or datetime.datetime.now(datetime.UTC)
        return cls.model_validate(
            {
                "format": FORMAT,
                "kind": "best" if verdict.complete else "nearest",
                "title": search_file.title,
                "cut_down": search_file.cut_down,
                "scores": {
                    **{
                        name: getattr(verdict.scores, name) if verdict.complete else None
                        for name in OVER_ALL
                    },
                    "sets": {
                        name: {
                            "accuracy": result.accuracy,
                            "tpe_score": verdict.tpe_score(name),
                            "weights": result.weights,
                        }
                        for name, result in verdict.results.items()
                    },
                },
                "gate": {
                    "dataset": verdict.gate_dataset,
                    "threshold": verdict.gate.threshold,
                    "score": verdict.gate.score,
                    "margin": verdict.gate.margin,
                },
                "lambda": {
                    "reading": verdict.reading,
                    "value": verdict.lam,
                    **(asdict(verdict.lambdas) if verdict.lambdas is not None else {}),
                },
                "params": dict(trial.params),
                "model": {k: v for k, v in model.to_dict().items() if k not in FROM_DATA},
                "train": train.to_dict(),
                "datasets": datasets,
                "network": {"parameters": facts.parameters, "tokens": facts.tokens},
                "recalculation": search_file.recalculation.model_dump(),
                "effort": asdict(verdict.effort),
                "saved": None if saved is None else saved.to_dict(),
                "finalists": finalists.to_dict() if finalists and finalists.winner else None,
                "provenance": {
                    "study": study or search_file.study,
                    "trial": trial.number,
                    "attempt": attributes.attempt,
                    "seed": search_file.seed,
                    "search_hash": search_file.hash(),
                    "code_version": facts.code_version or code_version(),
                    "package_versions": dict(facts.versions) or package_versions(),
                    "device": facts.device,
                    "date_utc": moment.strftime("%Y-%m-%dT%H:%M:%SZ"),
                    "notes": data_notes(datasets, cut_down=search_file.cut_down),
                },
            }
        )


def _dataset(
    entry: DatasetSection, search_file: SearchFile, train: TrainConfig, source: DataSource | None
) -> dict[str, Any]:
    """A data set's section: how the file uses it and, where a worker said so, what it was."""
    recipe = entry.recipe()
    return {
        "name": entry.name,
        "epochs": recipe.pop("epochs", train.epochs),
        "train": recipe,
        "limit": entry.limit,
        "validation": search_file.held_out(entry),
        "synthetic": entry.synthetic or (source is not None and source.source == "synthetic"),
        "stand_in_for": entry.stand_in_for,
        "source": source.source if source else None,
        "train_size": source.train_size if source else None,
        "checksum": source.checksum if source else None,
    }


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
