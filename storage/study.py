"""Searches in the database: make, load, list, resize."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from sqlalchemy import Engine

from storage.records import SearchRecord


def create_search(
    engine: Engine,
    *,
    study_name: str,
    search_text: str,
    search_hash: str,
    budget: int,
    direction: Literal["maximize", "minimize"] = "maximize",
    force_new: bool = False,
    versions: Mapping[str, str] | None = None,
) -> SearchRecord:
    """Make the study and its tickets, or go on with the one of the same hash.

    Going on with another `budget` resizes it (`set_budget`).  Safe for many at once.

    Args:
        search_hash: the caller's hash of what must not change within a study.
        budget: COMPLETE + PRUNED trials wanted, >= 1.
        force_new: never go on: when the name is taken, NAME-2, NAME-3, ... is made.
        versions: package -> version to store beside the ones found here.

    Raises:
        SearchDiffers: another hash; the message has a unified diff, nothing changed.
        BadInput: the name belongs to an Optuna study not made by this project.
    """
    raise NotImplementedError


def load_search(engine: Engine, study_name: str | None = None) -> SearchRecord:
    """The named search; None is the newest one.  BadInput when there is none."""
    raise NotImplementedError


def list_searches(engine: Engine) -> list[SearchRecord]:
    """All searches, newest first."""
    raise NotImplementedError


def set_budget(engine: Engine, study_name: str, budget: int) -> int:
    """Add or remove open tickets; returns the budget as it now is.

    Only open tickets without a trial can go, so the answer may be more than was asked:
    what is done, leased or waiting for a retry stays.
    """
    raise NotImplementedError
