"""Where a search begins: points of a best.yaml or of another study, tried first."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from sqlalchemy import Engine

from nkat_errors import BadInput
from search.export.best_reading import load_best
from search.file.search_file import SearchFile
from search.space import Value
from search.study.trial_record import TrialRecord, best_first
from storage.board import Board

BEST_OF_A_STUDY = 3
"""So many of another study's trials are tried again."""


def with_first_trials(
    search: SearchFile, *, files: Sequence[Path], studies: Sequence[str], engine: Engine
) -> SearchFile:
    """The search with more points to try first: the files', the studies', then its own.

    Args:
        files: exported configurations (best.yaml).
        studies: names of studies in the same database; the best three of each.
        engine: that database.

    Raises:
        BadInput: a file cannot be read, a study is not there or has no complete trial, or a
            point is not in the search's space.
    """
    points = [
        _point(search, {**best.model, **best.train, **best.params}, source=str(path))
        for path, best in ((path, load_best(path)) for path in files)
    ]
    for name in studies:
        points += _of_study(search, name, engine)
    return replace(search, first_trials=_once((*points, *search.first_trials)))


def _of_study(search: SearchFile, name: str, engine: Engine) -> list[dict[str, Value]]:
    board = Board(engine=engine, study_name=name)
    try:
        ranked = best_first(TrialRecord.of(row) for row in board.trials())
    finally:
        board.close()
    if not ranked:
        raise BadInput(f"study {name!r} has no complete trial to start from")
    defaults = {**search.model, **search.train}
    return [
        _point(
            search, {**defaults, **trial.params}, source=f"study {name!r}, trial {trial.number}"
        )
        for trial in ranked[:BEST_OF_A_STUDY]
    ]


def _point(search: SearchFile, values: Mapping[str, Any], *, source: str) -> dict[str, Value]:
    """The searched fields among a configuration's values.

    Raises:
        BadInput: one is missing or outside of the space, or they make no network.
    """
    point: dict[str, Value] = {}
    for name, parameter in search.space.parameters.items():
        if name not in values:
            raise BadInput(f"{source} has no value for {name}, which this search searches")
        if not parameter.has(values[name]):
            raise BadInput(
                f"{source}: {name} = {values[name]!r} is not in space.{name} of this search, "
                f"which is {parameter.to_plain()}"
            )
        point[name] = values[name]
    why = search.why_infeasible(point)
    if why is not None:
        raise BadInput(f"{source} cannot be trained in this search: {why}")
    return point


def _once(points: Sequence[Mapping[str, Value]]) -> tuple[Mapping[str, Value], ...]:
    kept: list[Mapping[str, Value]] = []
    for point in points:
        if point not in kept:
            kept.append(point)
    return tuple(kept)
