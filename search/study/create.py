"""Making a search's study in a database, or going on with it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from search.file.data_choice import Settled, settled_before
from search.file.load import parse_search_text
from search.provenance import code_version, package_versions
from search.study.sampler import new_sampler
from storage.schema import check_versions, ensure_schema, our_version
from storage.searches import create_search, list_searches

if TYPE_CHECKING:
    from sqlalchemy import Engine

    from search.file.search_file import SearchFile
    from storage.records import SearchRecord


def stored_file(engine: Engine, study: str) -> SearchFile | None:
    """The search file that a study was made from; None when there is no such study."""
    check_versions(engine)
    with engine.connect() as connection:
        if our_version(connection) == 0:
            return None
    found = [record for record in list_searches(engine) if record.study_name == study]
    return parse_search_text(found[0].search_text, name=f"study {study}") if found else None


def settled_in_study(
    engine: Engine, search_file: SearchFile, *, force_new: bool
) -> Settled | None:
    """The data sets that the study of this file has: it goes on with them, whatever can be had
    now.  None where there is no such study, or the file asks for others."""
    known = None if force_new else stored_file(engine, search_file.study)
    return None if known is None else settled_before(search_file, known)


def create_study(
    engine: Engine, search_file: SearchFile, *, force_new: bool = False
) -> SearchRecord:
    """Makes the tables and the study, or goes on with the study of an equal file.

    Args:
        engine: the database.
        search_file: settled (`search.file.data_choice`); its text is stored for all workers.
        force_new: make a new study (NAME-2, ...) instead of going on.

    Raises:
        BadInput: the study exists with another search file (the difference is shown), or
            the file names a sampler that cannot be made.
    """
    new_sampler(search_file, rank=0)  # refused here rather than in every worker
    ensure_schema(engine)
    return create_search(
        engine,
        study_name=search_file.study,
        search_text=search_file.to_yaml(),
        search_hash=search_file.hash(),
        budget=search_file.n_trials,
        force_new=force_new,
        first_trials=search_file.first_trials,
        versions=package_versions() | {"nkat-search": code_version()},
    )
