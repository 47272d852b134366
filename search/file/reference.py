"""The search file's reference as Markdown, made from the JSON schema that checks a file."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from search.file.json_schema import search_file_schema

INTRODUCTION = """\
# The search file

Made from the schema by `nkat-search schema --reference --out docs/search-file.md`; a test says
when it is stale.  [configs/search.yaml](../configs/search.yaml) is a file to begin with, and an
editor that knows YAML completes and checks it by
[the schema](../configs/search.schema.json).  A mistake is one sentence with key, line and the
nearest valid name, and exit code 2.
"""

SPACE = """\
Any field of `model` and `train` may stand here instead of there, and then is searched:

| form | means |
| --- | --- |
| `patch_size: [2, 4]` | one of these, without order |
| `patch_size: {choices: [2, 4]}` | the same |
| `depth: {low: 5, high: 9}` | 5, 6, ... 9; `step: 2` leaves some out, `log: true` is logarithmic |
| `temperature: {low: 0.6, high: 1.0}` | any number between; `step` and `log` as above |

A draw that makes no network, or one beyond `limits`, is drawn again.
"""

SECTIONS = (
    "gate", "datasets", "model", "train", "space", "limits", "sampler", "rungs", "bound",
    "finalists", "recalculation", "service",
)  # fmt: skip
"""Keys with a chapter of their own, in this order."""

SAME = {"LongTrainSection": "fields of [train](#train)"}
"""Sections whose fields are those of another."""

Schema = Mapping[str, Any]


def reference_text() -> str:
    """The page."""
    schema = search_file_schema()
    return "\n".join(_page(schema)).rstrip() + "\n"


def _page(schema: Schema) -> Iterator[str]:
    properties = schema["properties"]
    yield INTRODUCTION
    yield "## The whole file"
    yield ""
    yield from _table(schema, schema)
    for key in SECTIONS:
        yield ""
        yield f"## {key}"
        yield ""
        if key == "space":
            yield SPACE.rstrip()
            continue
        section = _resolved(_section(properties[key]), schema)
        what = _cell(properties[key].get("description") or section.get("description", ""))
        yield f"{what[:1].upper()}{what[1:]}".rstrip(".") + "."
        yield ""
        yield from _table(section, schema)


def _section(entry: Schema) -> Schema:
    """Of a list, its (longest) kind of item; of a section that may be left out, the section."""
    found: Schema = entry.get("items", entry)
    return next((one for one in found.get("anyOf", []) if "$ref" in one), found)


def _table(section: Schema, schema: Schema) -> Iterator[str]:
    required = section.get("required", ())
    yield "| key | values | default | what |"
    yield "| --- | --- | --- | --- |"
    for key, entry in section["properties"].items():
        name = f"[`{key}`](#{key})" if section is schema and key in SECTIONS else f"`{key}`"
        default = "required" if key in required else _default(entry)
        what = entry.get("description") or _resolved(entry, schema).get("description", "")
        yield f"| {name} | {_cell(_values(entry, schema))} | {default} | {_cell(what)} |"


def _default(entry: Schema) -> str:
    if "default" not in entry:
        return ""
    return f"`{json.dumps(entry['default'])}`"


def _resolved(entry: Schema, schema: Schema) -> Schema:
    reference = entry.get("$ref")
    if reference is None:
        return entry
    found: Schema = schema["$defs"][str(reference).rpartition("/")[2]]
    return found


def _values(entry: Schema, schema: Schema) -> str:
    """What may stand there, in words."""
    if "$ref" in entry:
        name = str(entry["$ref"]).rpartition("/")[2]
        return SAME.get(name) or f"see [{_chapter(name)}](#{_chapter(name)})"
    for several in ("anyOf", "oneOf"):
        if several in entry:
            return " or ".join(_values(one, schema) for one in entry[several])
    if "enum" in entry:
        return ", ".join(f"`{value}`" for value in entry["enum"])
    kind = str(entry.get("type", ""))
    if kind == "array":
        return f"a list, each {_values(entry['items'], schema)}"
    words: dict[str, str] = {
        "integer": "whole number",
        "number": "number",
        "string": "text",
        "boolean": "`true` or `false`",
        "null": "`null`",
        "object": "a mapping",
    }
    return words.get(kind, kind) + _bounds(entry)


def _bounds(entry: Schema) -> str:
    signs = (
        ("minimum", ">= "),
        ("exclusiveMinimum", "> "),
        ("maximum", "<= "),
        ("exclusiveMaximum", "< "),
    )
    bounds = [f"{sign}{entry[name]:,}" for name, sign in signs if name in entry]
    return f" {', '.join(bounds)}" if bounds else ""


def _chapter(section: str) -> str:
    """`TrainSection` is described under `train`."""
    name = section.removesuffix("Section").lower()
    return "datasets" if name == "dataset" else name


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")
