"""Opening a stored search: the database, the study, the file it was made from."""

from __future__ import annotations

import fcntl
import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

from sqlalchemy import Engine, make_url
from sqlalchemy.exc import ArgumentError

from nkat_errors import BadInput
from search.file.load import parse_search_text
from search.file.search_file import SearchFile
from storage.board import Board
from storage.checkpoints import CheckpointStore
from storage.embedded import EmbeddedPostgres
from storage.embedded.folders import holds_database
from storage.engine import EXAMPLE, idle_limit_s, limit_idle_transactions, make_engine
from storage.records import SearchRecord
from storage.schema import wait_for_schema
from storage.searches import load_search

STORAGE_VARIABLE = "NKAT_STORAGE"
PASSWORD_FILE_VARIABLE = "NKAT_STORAGE_PASSWORD_FILE"
STATE_DIR_VARIABLE = "NKAT_STATE_DIR"
CHECKPOINT_DIR_VARIABLE = "NKAT_CHECKPOINT_DIR"
DEFAULT_STATE_DIR = Path("runs")
"""Holds the embedded database, checkpoints and logs of `nkat-search run`."""


def state_dir(given: Path | None) -> Path:
    """--state-dir, else $NKAT_STATE_DIR, else ./runs."""
    return given or Path(os.environ.get(STATE_DIR_VARIABLE) or DEFAULT_STATE_DIR)


def checkpoint_dir(given: Path | None, state: Path | None) -> Path:
    """--checkpoint-dir, else $NKAT_CHECKPOINT_DIR, else STATE_DIR/checkpoints."""
    named = os.environ.get(CHECKPOINT_DIR_VARIABLE)
    return given or (Path(named) if named else state_dir(state) / "checkpoints")


def storage_url(given: str | None) -> str | None:
    """--storage or $NKAT_STORAGE, with the password of $NKAT_STORAGE_PASSWORD_FILE put in.

    Returns None when no database is named.

    Raises:
        BadInput: the URL cannot be read, or the password file cannot.
    """
    url = given or os.environ.get(STORAGE_VARIABLE)
    if not url:
        return None
    file = os.environ.get(PASSWORD_FILE_VARIABLE)
    if not file:
        return url
    try:
        password = Path(file).read_text(encoding="utf-8").rstrip("\r\n")
        parsed = make_url(url)
    except (OSError, UnicodeDecodeError) as error:
        raise BadInput(f"{PASSWORD_FILE_VARIABLE}: cannot read {file} ({error})") from error
    except ArgumentError as error:
        raise BadInput(f"the storage URL cannot be read: it must look like {EXAMPLE}") from error
    if parsed.password is None:
        parsed = parsed.set(password=password)
    return parsed.render_as_string(hide_password=False)


@contextmanager
def database(given: str | None, state: Path | None, *, make: bool = False) -> Iterator[str]:
    """The URL of the named database, or of the embedded one in the state folder.

    Args:
        given: --storage.
        state: --state-dir.
        make: start an embedded database where there is none yet (`run` does).

    Raises:
        BadInput: no database is named and the state folder has none, or one that belongs to
            another user.
    """
    url = storage_url(given)
    if url is not None:
        yield url
        return
    folder = state_dir(state) / "postgres"
    if not make and not holds_database(folder):
        raise BadInput(
            f"no database named and none in {state_dir(state)}: give --storage {EXAMPLE} (or set "
            "NKAT_STORAGE), or start a search with `nkat-search run` first"
        )
    with ended_by_signals(), EmbeddedPostgres(data_dir=folder) as server:
        yield server.url


@contextmanager
def ended_by_signals() -> Iterator[None]:
    """SIGTERM and SIGHUP end the block as an exception would, so that it is cleaned up.

    A signal that is ignored (nohup) or that the command handles itself is left alone.
    """
    if threading.current_thread() is not threading.main_thread():  # signals are not ours
        yield
        return

    def end(number: int, _frame: FrameType | None) -> None:
        raise SystemExit(128 + number)

    ours = [
        number
        for number in (signal.SIGTERM, signal.SIGHUP)
        if signal.getsignal(number) is signal.SIG_DFL
    ]
    for number in ours:
        signal.signal(number, end)
    try:
        yield
    finally:
        for number in ours:
            signal.signal(number, signal.SIG_DFL)


@contextmanager
def only_run(state: Path) -> Iterator[None]:
    """Keeps a second `nkat-search run` out of a state folder while the block lasts.

    Raises:
        BadInput: there is one already, or the folder cannot be written.
    """
    try:
        state.mkdir(parents=True, exist_ok=True)
        file = (state / "run.lock").open("a+")
    except OSError as error:
        raise BadInput(
            f"the state folder {state} cannot be written ({error.strerror}): give another "
            "--state-dir"
        ) from error
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)  # released when we are killed
        except BlockingIOError:
            file.seek(0)
            raise BadInput(
                f"another `nkat-search run` (pid {file.read().strip()}) is using {state}: watch "
                "it with `nkat-search status --watch`, or give this one another --state-dir"
            ) from None
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        yield


@dataclass(frozen=True, slots=True, kw_only=True)
class Session:
    """A stored search, opened.

    Args:
        engine: its database.
        record: the stored search.
        search: its file, parsed.
        board: its board.
    """

    engine: Engine
    record: SearchRecord
    search: SearchFile
    board: Board

    @property
    def checkpoint_salt(self) -> str:
        """Tells this study from an earlier one of the same name in the same folder."""
        return self.record.salt

    def checkpoints(self, folder: Path) -> CheckpointStore:
        """The study's checkpoints in a folder that may hold those of others."""
        return CheckpointStore(
            folder=folder, study_name=self.record.study_name, salt=self.checkpoint_salt
        )


@contextmanager
def opened(
    url: str,
    study: str | None,
    *,
    role: str,
    wait_s: float = 0.0,
    give_up: Callable[[], bool] | None = None,
) -> Iterator[Session]:
    """Opens the named study (None: the newest) and closes everything at the end.

    Args:
        url: the database.
        study: its name.
        role: shown in the database's list of connections.
        wait_s: how long to wait for the database and its tables, seconds.
        give_up: ends retries during an outage (a stop signal).
    """
    engine = make_engine(url, application_name=f"nkat-{role}", wait_s=wait_s)
    try:
        wait_for_schema(engine, wait_s)
        record = load_search(engine, study or os.environ.get("NKAT_STUDY") or None)
        search = parse_search_text(record.search_text, name=f"study {record.study_name}")
        limit_idle_transactions(engine, idle_limit_s(search.service.lease_s))
        board = Board(
            engine=engine,
            study_name=record.study_name,
            lease_s=search.service.lease_s,
            max_attempts=search.service.max_attempts,
            give_up=give_up,
        )
        try:
            yield Session(engine=engine, record=record, search=search, board=board)
        finally:
            board.close()
    finally:
        engine.dispose()
