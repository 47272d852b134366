"""Code blocks of a page in docs/, for tests that run them."""

from __future__ import annotations

import re
import shlex

from nkat_command import ROOT

BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def blocks_of(page: str) -> list[tuple[str, str]]:
    """(language, text) of every block."""
    return BLOCK.findall((ROOT / "docs" / page).read_text(encoding="utf-8"))


def commands(text: str) -> list[list[str]]:
    """Arguments of each line of a shell block, which are nkat-search's."""
    lines = [shlex.split(line) for line in text.splitlines() if line]
    assert all(line[0] == "nkat-search" for line in lines), text
    return [line[1:] for line in lines]
