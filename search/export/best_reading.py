"""Reading a best.yaml or nearest.yaml, with every mistake in it found.

A person may have edited it: keys, types, ranges, fields that do not go together, and
scores that do not follow from the accuracies.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, TypeVar

from pydantic import ValidationError

from model.config import BadField, Config, ModelConfig, TrainConfig
from search.export.best_check import check_scores
from search.export.best_file import FORMAT, BestFile
from search.export.finalists_check import check_finalists
from search.export.recalculation_check import check_recalculation
from search.file.base import Section
from search.file.problems import first_problem
from search.file.sections import ModelSection, TrainSection
from search.file.yaml_text import KeyPath, Problem, YamlSource, read_file, read_yaml

S = TypeVar("S", bound=Section)


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
    check_scores(best)
    check_finalists(best)
    check_recalculation(best)
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
