"""Which configuration a command is about: a search file, a best.yaml or options."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from model.config import ModelConfig, TrainConfig
from search.export.best_file import BestFile
from search.export.best_reading import is_best_file, load_best
from search.file.load import load_search_file
from search.file.search_file import SearchFile
from search.file.sections import DatasetSection
from search.score.gate import SOURCE_GATE
from search.score.tpe_score import LambdaReading
from search.space import Value


@dataclass(frozen=True, slots=True, kw_only=True)
class Chosen:
    """A configuration and the search it belongs to.

    Args:
        name: what it is, for headings.
        model: the network, for 32x32 RGB images and 10 classes unless the file says more.
        train: the recipe.
        reading: which lambda divides the accuracies.
        gate: data set and threshold of stage 1.
        search_file: where it came from, if from a search file.
        best: or the exported configuration it came from.
    """

    name: str
    model: ModelConfig
    train: TrainConfig
    reading: LambdaReading
    gate: tuple[str, float]
    search_file: SearchFile | None = None
    best: BestFile | None = None

    def own_recipes(self) -> dict[str, dict[str, Value]]:
        """The fields of the recipe that single data sets have for themselves, by set."""
        entries: tuple[DatasetSection, ...] = ()
        if self.search_file is not None:
            entries = self.search_file.datasets
        elif self.best is not None:
            entries = tuple(one.entry() for one in self.best.datasets)
        recipes = {entry.name: entry.recipe() for entry in entries}
        return {
            name: differs for name, recipe in recipes.items() if (differs := self._new(recipe))
        }

    def _new(self, recipe: Mapping[str, Value]) -> dict[str, Value]:
        usual = self.train.to_dict()
        return {name: value for name, value in recipe.items() if value != usual[name]}


def choose(
    path: Path | None,
    *,
    model: Mapping[str, Any] | None = None,
    train: Mapping[str, Any] | None = None,
) -> Chosen:
    """The configuration of a file (a search file's baseline), or the source's baseline,
    with single fields replaced.

    Args:
        path: a search file, a best.yaml, or None.
        model, train: fields that replace the file's.

    Raises:
        BadInput: an unreadable file, or values that do not fit together.
    """
    model, train = model or {}, train or {}
    if path is None:
        model_config = ModelConfig.from_dict(dict(model))
        train_config = TrainConfig.from_dict(dict(train))
        same = (model_config, train_config) == (ModelConfig(), TrainConfig())
        return Chosen(
            name="the source's baseline" if same else "the source's baseline, changed",
            model=model_config,
            train=train_config,
            reading="theory",
            gate=SOURCE_GATE,
        )
    if is_best_file(path):
        best = load_best(path)
        return Chosen(
            name=str(path),
            model=ModelConfig.from_dict({**best.model, **model}),
            train=TrainConfig.from_dict({**best.train, **train}),
            reading=best.lambda_.reading,
            gate=(best.gate.dataset, best.gate.threshold),
            best=best,
        )
    search_file = load_search_file(path)
    file_model, file_train = search_file.resolve(search_file.baseline())
    return Chosen(
        name=f"{path} (its baseline)",
        model=ModelConfig.from_dict({**file_model.to_dict(), **model}),
        train=TrainConfig.from_dict({**file_train.to_dict(), **train}),
        reading=search_file.lambda_reading,
        gate=(search_file.gate.dataset, search_file.gate.threshold),
        search_file=search_file,
    )
