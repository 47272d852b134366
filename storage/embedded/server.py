"""The server's life: set up, started, joined, stopped."""

from __future__ import annotations

import logging
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import psycopg2
from psycopg2 import sql
from sqlalchemy import URL

from nkat_errors import BadInput, NkatError
from storage.embedded import folders, programs
from storage.embedded.account import Account
from storage.embedded.process import remove_stale_locks, running_pid, running_port
from storage.embedded.signals import held_signals
from storage.embedded.users import Users
from storage.engine import DRIVER

_log = logging.getLogger(__name__)

START_TIMEOUT_S = 60  # a server that recovers from a crash replays its log first
DEFAULT_PORT = 5432
SUPERUSER = "postgres"  # the role inside the database
LOG_NAME = "server.log"

DEFAULT_SETTINGS = {
    "listen_addresses": "",
    "max_connections": "300",
    "shared_buffers": "64MB",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "logging_collector": "off",
    # Small containers give 64 MB of /dev/shm; parallel queries are of no use here.
    "max_parallel_workers_per_gather": "0",
}


class EmbeddedPostgres:
    """Starts the server of `data_dir`, or joins the one that runs there already.

        with EmbeddedPostgres(data_dir=Path("runs/postgres")) as server:
            engine = make_engine(server.url)

    No TCP port: a unix socket that only this user can reach.  The last process to leave
    stops the server; one that was killed does not count.  The data stay for the next start.

    Args:
        data_dir: made when missing; any length of path, any characters.
        settings: server settings beside the usual ones, for example {"fsync": "off"}.
        database: made when missing; `url` points to it.

    Raises (on entry):
        BadInput: no server for this platform, a folder that is no data folder, that the
            server's user cannot reach or that belongs to another user, or data of another
            server version.
        NkatError: the server did not start; the end of its log is in the message.
    """

    def __init__(
        self,
        *,
        data_dir: Path,
        settings: Mapping[str, str] | None = None,
        database: str = "nkat",
    ) -> None:
        self.data_dir = Path(data_dir).expanduser().absolute()
        self.database = database
        self._settings = {**DEFAULT_SETTINGS, **(settings or {})}
        self._users = Users(self.data_dir)
        self._bin = Path()
        self._socket_dir = Path()
        self._account = Account(None)
        self._port = DEFAULT_PORT

    # --- what callers use --------------------------------------------------------

    @property
    def url(self) -> str:
        """postgresql+psycopg2://... for `make_engine`."""
        return self.url_of(self.database)

    def url_of(self, database: str) -> str:
        """The address of another database of this server."""
        query = {"host": str(self._socket_dir)}
        if self._port != DEFAULT_PORT:  # it is in the socket's name, too
            query["port"] = str(self._port)
        return URL.create(
            DRIVER, username=SUPERUSER, database=database, query=query
        ).render_as_string(hide_password=False)

    @property
    def pid(self) -> int | None:
        """The server's process id, None when it does not run."""
        return running_pid(self.data_dir)

    def __enter__(self) -> Self:
        try:
            self._account = Account.of_server()
            found = programs.server_programs()
            folders.make_data_dir(self.data_dir, self._account)
            self._bin = programs.usable_programs(found, self._account, beside=self.data_dir)
            self._socket_dir = folders.choose_socket_dir(self.data_dir, self._account)
            self._join()
        except PermissionError as error:
            raise folders.no_access(self.data_dir) from error
        return self

    def _join(self) -> None:
        try:
            with self._users.turn(), held_signals():
                self._users.enter()
                if running_pid(self.data_dir) is None:
                    self._init_cluster()
                    self._start()
                self._port = running_port(self.data_dir)
                self.create_database(self.database)
        except BaseException:
            self._leave()
            raise

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._leave()

    def _leave(self) -> None:
        with self._users.turn(), held_signals():
            if self._users.leave() and running_pid(self.data_dir) is not None:
                self._stop("fast")

    def restart(self, *, mode: str = "fast", pause_s: float = 0.0) -> None:
        """Stop ("fast", "immediate") and start again, `pause_s` seconds later (tests)."""
        with self._users.turn(), held_signals():
            if running_pid(self.data_dir) is not None:
                self._stop(mode)
            time.sleep(pause_s)
            self._start()

    def create_database(self, name: str, *, template: str = "template1") -> None:
        """Make database `name` (a copy of `template`) unless it is there."""
        with self.admin() as cursor:
            cursor.execute("SELECT 1 FROM pg_database WHERE datname = %s", (name,))
            if cursor.fetchone() is None:
                cursor.execute(
                    sql.SQL("CREATE DATABASE {} TEMPLATE {}").format(
                        sql.Identifier(name), sql.Identifier(template)
                    )
                )

    def drop_database(self, name: str) -> None:
        """Drop database `name`, ending its connections."""
        with self.admin() as cursor:
            cursor.execute(
                sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name))
            )

    # --- the server --------------------------------------------------------------

    @contextmanager
    def admin(self) -> Iterator[Any]:
        """A cursor of the server's superuser, each statement a transaction."""
        connection = psycopg2.connect(
            host=str(self._socket_dir),
            port=self._port,
            user=SUPERUSER,
            dbname="postgres",
            connect_timeout=30,
        )
        try:
            connection.autocommit = True  # CREATE DATABASE refuses a transaction
            with connection.cursor() as cursor:
                yield cursor
        finally:
            connection.close()

    def _run(self, program: str, *arguments: str, data_dir: Path) -> None:
        # Within the data folder and with relative paths: pg_ctl passes them through a shell,
        # and does not quote what the folder's name may hold.
        # Files, not pipes: the server inherits them and would hold a pipe open for ever.
        # A new session: Ctrl-C in the terminal is for the workers, not for the database.
        with tempfile.TemporaryFile("w+") as output:
            done = subprocess.run(
                [str(self._bin / program), "-D", ".", *arguments],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                check=False,
                cwd=data_dir,
                start_new_session=True,
                env={**os.environ, "LC_ALL": "C"},
                **self._account.subprocess_arguments,
            )
            output.seek(0)
            text = output.read()
        if done.returncode != 0:
            raise NkatError(
                f"{program} failed for the database folder {self.data_dir}: "
                f"{_last_error(text + self._log_text())}"
            )

    def _init_cluster(self) -> None:
        version = self.data_dir / "PG_VERSION"
        if version.exists():
            found = version.read_text().strip()
            if found != programs.SERVER_VERSION:
                raise BadInput(
                    f"the database folder {self.data_dir} was made by Postgres {found}, this "
                    f"package brings {programs.SERVER_VERSION}: choose another folder"
                )
            return
        if any(self.data_dir.iterdir()):
            # Ours are made elsewhere and renamed (below), so this is not a killed start's.
            raise BadInput(
                f"{self.data_dir} is neither empty nor a database folder: choose another folder"
            )
        # Made beside and renamed, so that a killed initdb leaves nothing half-made here.
        half_made = self.data_dir.with_name(f"{self.data_dir.name}.new")
        shutil.rmtree(half_made, ignore_errors=True)
        half_made.mkdir(mode=0o700)
        self._account.own(half_made)
        sync = [] if self._settings.get("fsync") != "off" else ["--no-sync"]
        self._run(
            "initdb", "-U", SUPERUSER, "--auth=trust", "-E", "UTF8", "--no-locale", *sync,
            data_dir=half_made,
        )  # fmt: skip
        self.data_dir.rmdir()
        half_made.rename(self.data_dir)

    def _start(self) -> None:
        port = self._settings.get("port", str(DEFAULT_PORT))
        socket_lock = self._socket_dir / f"{folders.SOCKET_NAME.rpartition('.')[0]}.{port}.lock"
        remove_stale_locks(self.data_dir, socket_lock, timeout_s=START_TIMEOUT_S)
        settings = {**self._settings, "unix_socket_directories": str(self._socket_dir)}
        # In a file: pg_ctl would pass them through a shell, which needs quoting of its own.
        include = self.data_dir / "nkat.conf"
        include.write_text("".join(f"{k} = {_quote(v)}\n" for k, v in settings.items()))
        self._account.own(include)
        main = self.data_dir / "postgresql.conf"
        if "include 'nkat.conf'" not in main.read_text():
            with main.open("a") as file:
                file.write("\ninclude 'nkat.conf'\n")
        self._pg_ctl("start", "-l", LOG_NAME)
        _log.info("database server started", extra={"data_dir": str(self.data_dir)})

    def _stop(self, mode: str) -> None:
        self._pg_ctl("stop", "-m", mode)
        _log.info("database server stopped", extra={"data_dir": str(self.data_dir)})

    def _pg_ctl(self, action: str, *options: str) -> None:
        wait = ("-w", "-t", str(START_TIMEOUT_S))
        self._run("pg_ctl", *wait, *options, action, data_dir=self.data_dir)

    def _log_text(self) -> str:
        try:
            return (self.data_dir / LOG_NAME).read_text(errors="replace")
        except FileNotFoundError:
            return ""


def _quote(value: str) -> str:
    """A string of postgresql.conf, where a backslash begins an escape."""
    return "'" + value.replace("\\", "\\\\").replace("'", "''") + "'"


def _last_error(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    errors = [line for line in lines if "FATAL" in line or "error" in line.lower()]
    return (errors or lines or ["no message"])[-1]
