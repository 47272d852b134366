"""The JSON schema of a search file, for editors: completion, hover texts, red lines.

It is made from the classes and fields that check a file, so it allows what they allow.
What no schema can say (fields that must fit together) only loading finds out.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from pydantic import BaseModel

from search.file.sections import NAME, FileSections, ModelSection, TrainSection
from search.file.space_section import SEARCHABLE, ChoicesInput, FloatInput, IntInput

DIALECT = "https://json-schema.org/draft/2020-12/schema"


def search_file_schema() -> dict[str, Any]:
    """The schema as plain values."""
    schema = _schema_of(FileSections)
    fields = {name: _with_unit(name, field) for name, field in _config_fields(schema)}
    properties = schema["properties"]
    datasets = properties["datasets"]
    datasets["items"] = {
        "anyOf": [
            {"type": "string", "pattern": NAME, "description": "short for {name: NAME}"},
            datasets["items"],
        ]
    }
    for name in ("rungs", "finalists"):
        properties[name]["anyOf"].append({"const": False})
    properties["space"] |= {
        "additionalProperties": False,
        # For every field a list of its values; for a number also a range.
        "properties": {name: _parameter(name, field) for name, field in fields.items()},
    }
    return {"$schema": DIALECT, "title": "nkat-search: a search file", **schema}


def schema_text() -> str:
    """The schema as it is written to a file."""
    return json.dumps(search_file_schema(), indent=2, ensure_ascii=False) + "\n"


def _config_fields(schema: Mapping[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """The fields of the network and of the recipe, where the schema defines them."""
    for section in (ModelSection, TrainSection):
        yield from schema["$defs"][section.__name__]["properties"].items()


def _with_unit(name: str, field: dict[str, Any]) -> dict[str, Any]:
    """Tells the field's unit, for which JSON schema has no word, in its description."""
    if unit := SEARCHABLE[name].unit:
        field["description"] += f" ({unit})"
    return field


def _parameter(name: str, field: Mapping[str, Any]) -> dict[str, Any]:
    value = {key: part for key, part in field.items() if key not in ("default", "description")}
    choices = {"type": "array", "items": value, "minItems": 1, "uniqueItems": True}
    written_out = _schema_of(ChoicesInput)
    written_out["properties"]["choices"] = choices
    forms = [choices, written_out]
    kind = SEARCHABLE[name].kind
    if kind in (int, float):
        number = next(one for one in value.get("anyOf", [value]) if one.get("type") != "null")
        span = _schema_of(IntInput if kind is int else FloatInput)
        span["properties"] |= {"low": number, "high": number}
        forms.append(span)
    return {"description": field["description"], "anyOf": forms}


def _schema_of(section: type[BaseModel]) -> dict[str, Any]:
    """pydantic's schema without its titles, which only repeat the names."""
    schema: dict[str, Any] = _untitled(section.model_json_schema(by_alias=True))
    return schema


def _untitled(schema: Any, *, names: bool = False) -> Any:
    """`names`: the keys of this mapping are names (a property may be called title)."""
    if isinstance(schema, list):
        return [_untitled(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    return {
        key: _untitled(value, names=not names and key in ("properties", "$defs"))
        for key, value in schema.items()
        if names or key != "title"
    }
