"""docs/search-file.md is the page that the schema makes, and has every key."""

from __future__ import annotations

import re
from pathlib import Path

from search.file.reference import SECTIONS, reference_text
from search.file.sections import MODEL_FIELDS, TRAIN_FIELDS, FileSections
from search.file.service_section import ServiceSection

PAGE = Path(__file__).parents[4] / "docs" / "search-file.md"


def test_the_shipped_page_is_the_one_that_is_made():
    assert PAGE.read_text(encoding="utf-8") == reference_text(), (
        "stale: nkat-search schema --reference --out docs/search-file.md"
    )


def test_every_key_and_every_link_is_there():
    text = reference_text()
    keys = {field.alias or name for name, field in FileSections.model_fields.items()}
    for key in (*keys, *MODEL_FIELDS, *TRAIN_FIELDS, *ServiceSection.model_fields):
        assert f"`{key}`" in text, key
    chapters = {line.removeprefix("## ") for line in text.splitlines() if line.startswith("## ")}
    assert set(SECTIONS) < chapters
    assert set(re.findall(r"\(#(\w+)\)", text)) <= chapters
    rows = [line for line in text.splitlines() if line.startswith("|")]
    assert {len(re.findall(r"(?<!\\)\|", row)) for row in rows} == {3, 5}, "whole tables"
