"""pydantic's errors about a file, in this project's one-sentence form."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, get_args

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo

from model.config import FROM_DATA
from model.config.facts import refusal, sentence
from nkat_errors import nearest
from search.file.sections import LongTrainSection
from search.file.yaml_text import KeyPath, Problem, dotted

_RULES = {
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "finite_number": "a finite number",
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
    "too_short": "a list or mapping with at least {min_length} entry",
}
"""By pydantic's error type, for fields that `refusal` has no words for."""


def first_problem(
    error: ValidationError, data: Any, *, section: type[BaseModel], prefix: KeyPath = ()
) -> Problem:
    """The first of pydantic's errors.

    Args:
        error: what pydantic raised.
        data: the plain value it was given.
        section: the class that it was checked with.
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
        return _unknown_key(full, _section_at(section, path[:-1]))
    if first["type"] == "missing":
        missing = dotted((*full, str(first["loc"][-1])))
        return Problem(full, f"key {missing!r} is missing")
    info = _field_at(section, path)
    text = refusal(info, name=dotted(full), value=first["input"]) if info else None
    if text is None:
        rules = dict.fromkeys(
            _rule(item) for item in errors if _real_path(item["loc"], data) == path
        )
        text = sentence(dotted(full), first["input"], " or ".join(rules))
    return Problem(full, text)


def _rule(item: Any) -> str:
    template: str = _RULES.get(item["type"], item["msg"].removeprefix("Input should be "))
    return template.format(**item.get("ctx", {}))


def _unknown_key(full: KeyPath, section: type[BaseModel] | None) -> Problem:
    if full[0] == "model" and full[-1] in FROM_DATA:
        return Problem(full, f"{dotted(full)}: the data set decides it; remove it")
    if full[-1] == "epochs" and section is LongTrainSection:
        return Problem(full, f"{dotted(full)}: epochs_factor says how long; remove it")
    names = () if section is None else [name for name, _ in _keys(section)]
    return Problem(full, f"unknown key {dotted(full)}{nearest(full[-1], names)}")


def _keys(section: type[BaseModel]) -> Iterator[tuple[str, FieldInfo]]:
    """Every key of a section as the file spells it."""
    for name, info in section.model_fields.items():
        yield info.alias or name, info


def _field_at(section: type[BaseModel], path: KeyPath) -> FieldInfo | None:
    parent = _section_at(section, path[:-1]) if path else None
    return dict(_keys(parent)).get(str(path[-1])) if parent else None


def _section_at(section: type[BaseModel], path: KeyPath) -> type[BaseModel] | None:
    """The class of the mapping that stands at `path`."""
    here: type[BaseModel] | None = section
    for part in path:
        if isinstance(part, str):
            info = dict(_keys(here)).get(part) if here else None
            here = _section_in(info.annotation) if info else None
    return here


def _section_in(annotation: Any) -> type[BaseModel] | None:
    """The section in a field's type: itself, or that of a list's items."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    found = (_section_in(part) for part in get_args(annotation))
    return next((one for one in found if one), None)


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
