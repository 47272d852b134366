"""Reads and checks a search file: YAML, sections, space, then what must fit together.

configs/search.yaml shows every section, `nkat-search schema` every key.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from pydantic import ValidationError

from search.file.cross_checks import check_together
from search.file.problems import first_problem
from search.file.search_file import SearchFile
from search.file.sections import BoundSection, FileSections
from search.file.space_section import parse_space
from search.file.yaml_text import Problem, YamlSource, read_file, read_yaml
from search.space import Space


def load_search_file(path: Path) -> SearchFile:
    """Reads and checks a search file.

    Raises:
        BadInput: anything wrong with it, in one sentence with key, line and value.
    """
    return parse_search_text(read_file(path), name=str(path))


def parse_search_text(text: str, *, name: str = "search file") -> SearchFile:
    """As `load_search_file`, for a text (what a study stores); `name` stands in errors."""
    source = read_yaml(text, name=name)
    try:
        return _build(source)
    except Problem as problem:
        raise source.error(problem) from None


def _build(source: YamlSource) -> SearchFile:
    try:
        sections = FileSections.model_validate(source.data)
    except ValidationError as error:
        raise first_problem(error, source.data, section=FileSections) from None
    parsed = SearchFile(
        study=sections.study,
        title=sections.title,
        cut_down=sections.cut_down,
        n_trials=sections.n_trials,
        seed=sections.seed,
        lambda_reading=sections.lambda_reading,
        gate=sections.gate,
        datasets=sections.datasets,
        validation=sections.validation,
        synthetic_fallback=sections.synthetic_fallback,
        model=sections.model.given(),
        train=sections.train.given(),
        space=Space(parse_space(sections.space)),
        limits=sections.limits,
        rungs=sections.rungs,
        bound=_bound(sections),
        recalculation=sections.recalculation,
        service=sections.service.model_copy(update={"bound_check": None}),
        first_trials=sections.first_trials,
        sampler=sections.sampler,
        finalists=sections.finalists,
    )
    return replace(parsed, warnings=check_together(parsed))


def _bound(sections: FileSections) -> BoundSection:
    """The bound, also as files from before there was this section say it."""
    check = sections.service.bound_check
    if check is None:
        return sections.bound
    if "bound" in sections.model_fields_set:
        raise Problem(
            ("service", "bound_check"),
            f"service.bound_check = {check}: bound.kind = {sections.bound.kind!r} says the same; "
            "remove service.bound_check",
        )
    return BoundSection(kind="exact" if check else "off")
