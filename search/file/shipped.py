"""The search files that come with the package, in a clone and in an installed wheel."""

from __future__ import annotations

import importlib.resources
from pathlib import Path

STARTED = Path("search.yaml")
"""What `nkat-search init` writes into the current folder, where `run` looks first."""

FULL, LAPTOP, SOURCE = "search.yaml", "laptop.yaml", "source.yaml"
SCHEMA = "search.schema.json"
"""The first line of every shipped file names it, for editors."""


def shipped_file(name: str) -> Path:
    """One of the shipped files.

    search/configs is a link to configs in a clone and a folder in a wheel, so each file
    stands once in the repository.
    """
    return Path(str(importlib.resources.files("search").joinpath("configs", name))).resolve()


def default_search_file(*, gpu: bool) -> Path:
    """search.yaml of the current folder; without one, a shipped file.

    Args:
        gpu: whether this machine has one; it chooses among the shipped files.
    """
    if STARTED.is_file():
        return STARTED
    return shipped_file(FULL if gpu else LAPTOP)
