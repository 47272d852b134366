"""Searches in the database: make, load, list, resize."""

from __future__ import annotations

import difflib
import json
import logging
from collections.abc import Mapping, Sequence
from typing import Any

import optuna
import sqlalchemy as sa
from optuna.storages import RDBStorage, get_storage
from sqlalchemy import Connection, Engine

from nkat_errors import BadInput
from storage import sql
from storage.errors import SearchDiffers
from storage.optuna_internals import LONGEST_STUDY_NAME, joined, optuna_storage, study_exists
from storage.records import SearchRecord
from storage.retry import Retrying
from storage.states import Command

_log = logging.getLogger(__name__)

MAX_BUDGET = 1_000_000


def create_search(
    engine: Engine,
    *,
    study_name: str,
    search_text: str,
    search_hash: str,
    budget: int,
    force_new: bool = False,
    versions: Mapping[str, str] | None = None,
    first_trials: Sequence[Mapping[str, Any]] = (),
) -> SearchRecord:
    """Make the study (to be maximised) and its tickets, or return the one of the same hash.

    An existing one gets this text, which workers read when they start, and is resized to
    `budget` (`set_budget`).  Safe for many callers at once.

    Args:
        search_hash: the caller's hash of what must not change within a study.
        budget: COMPLETE + PRUNED trials wanted, 1..1,000,000.
        force_new: always make one: when the name is taken, NAME-2, NAME-3, ...
        versions: package -> version, stored with the server's (`postgres`).
        first_trials: parameters of trials to be worked on first; one that the study has in
            any state is not entered again.

    Raises:
        SearchDiffers: another hash; the message has a unified diff, nothing changed.
        BadInput: the name is too long, or belongs to an Optuna study that this project did
            not make.
    """
    _check_budget(budget)
    storage = optuna_storage(engine)

    def once() -> SearchRecord:
        with engine.begin() as connection, joined(storage, connection):
            connection.execute(sql.LOCK_SEARCHES)
            name = _free_name(connection, storage, study_name) if force_new else study_name
            _check_name(name)
            found = _read(connection, name)
            if found and not study_exists(storage, name):
                # Deleted through the dashboard: its tickets are of no use any more.
                _log.warning("study %r was deleted from Optuna; it is made again", name)
                connection.execute(sql.DELETE_SEARCH, {"study": name})
                found = []
            if found:
                _require_same(found[0], search_text=search_text, search_hash=search_hash)
                text = {"study": name, "search_text": search_text}
                connection.execute(sql.SET_SEARCH_TEXT, text)
                _enqueue(storage, name, first_trials)
                _resize(connection, name, budget)
                return _read(connection, name)[0]
            if study_exists(storage, name):
                raise BadInput(
                    f"the study {name!r} is in this database but was not made by nkat-search: "
                    "choose another name"
                )
            postgres = connection.execute(sa.text("SHOW server_version")).scalar_one()
            optuna.create_study(
                study_name=name, direction="maximize", storage=get_storage(storage)
            )
            connection.execute(
                sql.INSERT_SEARCH,
                {
                    "study": name,
                    "study_id": storage.get_study_id_from_name(name),
                    "search_text": search_text,
                    "search_hash": search_hash,
                    "versions": json.dumps({**(versions or {}), "postgres": postgres}),
                    "now": None,
                },
            )
            _enqueue(storage, name, first_trials)
            _resize(connection, name, budget)
            return _read(connection, name, created=True)[0]

    return Retrying()("create search", once)


def load_search(engine: Engine, study_name: str | None = None) -> SearchRecord:
    """The named search; None is the newest one.

    Raises:
        BadInput: there is none.
    """
    found = _list(engine, study_name)
    if found:
        return found[0]
    if study_name is None:
        raise BadInput("there is no search in this database: make one with `nkat-search create`")
    others = ", ".join(repr(record.study_name) for record in _list(engine, None)[:5])
    raise BadInput(
        f"there is no search {study_name!r} in this database"
        + (f"; there is {others}" if others else ": make it with `nkat-search create`")
    )


def list_searches(engine: Engine) -> list[SearchRecord]:
    """All searches, newest first."""
    return _list(engine, None)


def delete_search(engine: Engine, study_name: str) -> None:
    """Delete a search for good: its study, trials, attempts and workers.

    Whether anybody works on it is for the caller to see.

    Raises:
        BadInput: there is no such search.
    """
    storage = optuna_storage(engine)

    def once() -> None:
        with engine.begin() as connection, joined(storage, connection):
            connection.execute(sql.LOCK_SEARCHES)
            if not _read(connection, study_name):
                raise BadInput(f"there is no search {study_name!r} in this database")
            if study_exists(storage, study_name):  # the dashboard may have deleted it
                storage.delete_study(storage.get_study_id_from_name(study_name))
            connection.execute(sql.DELETE_SEARCH, {"study": study_name})

    Retrying()("delete search", once)


def set_budget(engine: Engine, study_name: str, budget: int) -> int:
    """Add or remove open tickets; returns the budget as it now is.

    Only open tickets without a trial can be removed: what is done, leased or waiting for a
    retry stays, so the answer may be larger than `budget`.
    """
    _check_budget(budget)

    def once() -> int:
        with engine.begin() as connection:
            connection.execute(sql.LOCK_SEARCHES)
            if not _read(connection, study_name):
                raise BadInput(f"there is no search {study_name!r} in this database")
            return _resize(connection, study_name, budget)

    return Retrying()("set budget", once)


def _enqueue(storage: RDBStorage, name: str, points: Sequence[Mapping[str, Any]]) -> None:
    if points:
        study = optuna.load_study(study_name=name, storage=storage)
        for point in points:
            study.enqueue_trial(dict(point), skip_if_exists=True)


def _list(engine: Engine, study_name: str | None) -> list[SearchRecord]:
    def once() -> list[SearchRecord]:
        with engine.begin() as connection:
            return _read(connection, study_name)

    return Retrying()("read searches", once)


def _read(
    connection: Connection, study_name: str | None, *, created: bool = False
) -> list[SearchRecord]:
    rows = connection.execute(sql.SEARCHES, {"study": study_name})
    return [_record(row, created=created) for row in rows]


def _record(row: sa.Row[Any], *, created: bool) -> SearchRecord:
    values = dict(row._mapping)
    return SearchRecord(**{**values, "command": Command(row.command)}, created=created)


def _resize(connection: Connection, study_name: str, budget: int) -> int:
    have = _count(connection, study_name)
    if budget > have:
        connection.execute(sql.ADD_TICKETS, {"study": study_name, "number": budget - have})
    elif budget < have:
        connection.execute(sql.REMOVE_TICKETS, {"study": study_name, "number": have - budget})
    return _count(connection, study_name)


def _count(connection: Connection, study_name: str) -> int:
    return int(connection.execute(sql.COUNT_TICKETS, {"study": study_name}).scalar_one())


def _check_budget(budget: int) -> None:
    if not 1 <= budget <= MAX_BUDGET:
        raise BadInput(f"a budget of {budget} trials is not possible: it must be 1..{MAX_BUDGET}")


def _check_name(name: str) -> None:
    if not 1 <= len(name) <= LONGEST_STUDY_NAME:
        raise BadInput(
            f"the study name {name[:30]!r}... has {len(name)} characters: it must have "
            f"1..{LONGEST_STUDY_NAME}"
        )


def _free_name(connection: Connection, storage: RDBStorage, wanted: str) -> str:
    taken = set(connection.execute(sql.NAMES_LIKE, {"study": wanted}).scalars())
    number, name = 1, wanted
    while name in taken or study_exists(storage, name):
        number += 1
        name = f"{wanted}-{number}"
    return name


def _require_same(record: SearchRecord, *, search_text: str, search_hash: str) -> None:
    if record.search_hash == search_hash:
        return
    difference = "\n".join(
        difflib.unified_diff(
            record.search_text.splitlines(),
            search_text.splitlines(),
            "in the database",
            "given",
            lineterm="",
            n=1,
        )
    )
    raise SearchDiffers(
        f"the study {record.study_name!r} was made from another search file: use that one, "
        "or give --force-new for a new study"
        + (f"\n{difference}" if difference else " (the texts agree, their meaning does not)")
    )
