"""Backing a database up and restoring it, here or on another machine."""

from __future__ import annotations

import hashlib
import importlib.metadata
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC
from pathlib import Path

import sqlalchemy as sa
from sqlalchemy import Engine

from nkat_errors import BadInput
from storage import sql
from storage.backup.archive import Archive, BackupInfo, Writer, writing
from storage.backup.programs import ClientPrograms
from storage.board import Board
from storage.checkpoints import CheckpointStore
from storage.engine import shown
from storage.optuna_internals import expected_revision, found_revision
from storage.schema import (
    check_versions,
    ensure_schema,
    newest_version,
    our_version,
    wait_for_schema,
)
from storage.searches import list_searches

RELEASED = "its search was restored from a backup"
TRANSACTION_TIMEOUT = b"SET transaction_timeout = 0;\n"
TRANSACTION_TIMEOUT_SINCE = 17
"""pg_restore writes that line for every server, and older ones do not know the setting."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Restored:
    """What a restore did.

    Args:
        released: numbers of trials that had a worker when the backup was made, by study.
        checkpoints: checkpoint files written.
        strays: checkpoint folders deleted because the restored search does not know them.
    """

    info: BackupInfo
    released: dict[str, list[int]]
    checkpoints: int
    strays: int


def make_backup(engine: Engine, path: Path, *, checkpoint_folder: Path | None) -> BackupInfo:
    """Write the whole database of `engine` to one file; the search may go on meanwhile.

    Args:
        path: replaced when it is there, and only by a whole backup.
        checkpoint_folder: the folder of checkpoints to pack; None packs none.

    Raises:
        BadInput: no search in this database, tables of another version, a file that
            cannot be written, no pg_dump for this server.
    """
    check_versions(engine)
    wait_for_schema(engine, timeout_s=0)
    searches = list_searches(engine)
    if not searches:
        raise BadInput(f"there is no search in {shown(engine.url)}, so nothing to back up")
    with engine.connect() as connection:
        server = str(connection.execute(sa.text("SHOW server_version")).scalar_one())
        made_at = connection.execute(sql.CLOCK, {"now": None}).one().now
        tables, revision = our_version(connection), found_revision(connection)
    programs = ClientPrograms.find(at_least=_server_version(engine))
    done = {
        record.study_name: f"{_done(engine, record.study_name)} of {record.budget} trials"
        for record in searches
    }
    with writing(path) as archive, _scratch() as scratch:
        # Checkpoints first: one that is older than the database costs epochs, a newer one
        # could belong to a trial that the database does not know.
        if checkpoint_folder is not None:
            for record in searches:
                _pack(
                    archive,
                    CheckpointStore(
                        folder=checkpoint_folder, study_name=record.study_name, salt=record.salt
                    ),
                    checkpoint_folder,
                )
        dump = scratch / "database.dump"
        with dump.open("wb") as out:
            programs.run(
                "pg_dump",
                "--format=custom",
                "--no-owner",
                "--no-privileges",
                engine=engine,
                out=out,
            )
        with dump.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        info = BackupInfo(
            made_at=made_at.astimezone(UTC).isoformat(timespec="seconds"),
            nkat_search=importlib.metadata.version("nkat-search"),
            optuna=importlib.metadata.version("optuna"),
            postgres=server,
            tables=tables,
            optuna_tables=str(revision),
            dump_version=programs.version,
            studies=done,
            checkpoints=archive.checkpoints,
            dump_sha256=digest,
        )
        archive.close(dump, info)
    return info


def restore_backup(
    engine: Engine, archive: Archive, *, checkpoint_folder: Path, force: bool = False
) -> Restored:
    """Put a backup into the database of `engine`: all of it, or nothing.

    Workers of the machine where it was made lose their leases without a failure, so the
    trials they had wait for a worker.  Checkpoints in `checkpoint_folder` of trials that
    the restored searches do not have under way are deleted, as a trial drawn later would
    take them for its own.

    Args:
        checkpoint_folder: where the backup's checkpoints go.
        force: replace what is in the database.

    Raises:
        BadInput: a damaged backup or one of a newer version; a database that is not empty
            (without `force`) or in use.
    """
    _require_known_versions(archive)
    programs = ClientPrograms.find(at_least=archive.info.dump_version)
    _require_free(engine, archive.path, force=force)
    with _scratch() as scratch:
        dump, script = scratch / "database.dump", scratch / "database.sql"
        archive.extract_dump(dump)
        programs.as_sql(dump, script)
        if _server_version(engine) < TRANSACTION_TIMEOUT_SINCE:
            _drop_line(script, TRANSACTION_TIMEOUT)
        checkpoints = archive.extract_checkpoints(checkpoint_folder)
        with (scratch / "output").open("wb") as out:
            programs.run(
                "psql",
                "--no-psqlrc",
                "--quiet",
                "--set=ON_ERROR_STOP=1",
                "--single-transaction",
                f"--file={script}",
                engine=engine,
                out=out,
            )
    ensure_schema(engine)
    released, strays = {}, 0
    for record in list_searches(engine):
        board = Board(engine=engine, study_name=record.study_name)
        try:
            released[record.study_name] = board.release_all(RELEASED)
            resumable = board.resumable_numbers()
        finally:
            board.close()
        store = CheckpointStore(
            folder=checkpoint_folder, study_name=record.study_name, salt=record.salt
        )
        strays += len(store.sweep([n for n in store.numbers() if n not in resumable]))
    return Restored(info=archive.info, released=released, checkpoints=checkpoints, strays=strays)


def _pack(archive: Writer, store: CheckpointStore, folder: Path) -> None:
    for path in store.files():
        archive.add_checkpoint(path, folder=folder)


def _done(engine: Engine, study_name: str) -> int:
    board = Board(engine=engine, study_name=study_name)
    try:
        return board.counts().done
    finally:
        board.close()


def _require_known_versions(archive: Archive) -> None:
    info = archive.info
    if info.tables > newest_version():
        raise BadInput(
            f"{archive.path} was made by a newer nkat-search ({info.nkat_search}, tables "
            f"{info.tables}; this one knows {newest_version()}): install the newer one"
        )
    if info.optuna_tables != expected_revision():
        raise BadInput(
            f"{archive.path} was made with Optuna {info.optuna} (tables {info.optuna_tables}; "
            f"the Optuna here needs {expected_revision()}): install that Optuna"
        )


def _require_free(engine: Engine, path: Path, *, force: bool) -> None:
    where = shown(engine.url)
    with engine.connect() as connection:
        relations = list(connection.execute(sql.RELATIONS).scalars())
        others = list(connection.execute(sql.OTHER_SESSIONS).scalars())
    if not relations:
        return
    if not force:
        raise BadInput(
            f"the database {where} is not empty: restore {path} into a new one, or replace what "
            "is there with --force"
        )
    check_versions(engine)
    if others:
        raise BadInput(
            f"the database {where} is in use ({', '.join(sorted(set(others)))}): stop these first"
        )


def _server_version(engine: Engine) -> int:
    with engine.connect() as connection:
        number = connection.execute(sa.text("SHOW server_version_num")).scalar_one()
    return int(number) // 10_000


def _drop_line(script: Path, line: bytes) -> None:
    """Remove the first `line`, which is in the settings at the beginning."""
    changed = script.with_suffix(".changed")
    with script.open("rb") as source, changed.open("wb") as target:
        for text in source:
            if text == line:
                break
            target.write(text)
        shutil.copyfileobj(source, target)
    changed.replace(script)


@contextmanager
def _scratch() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="nkat-backup-") as name:
        yield Path(name)
