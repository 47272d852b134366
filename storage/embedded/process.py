"""The server's process: found by its folder, and what a killed one leaves behind."""

from __future__ import annotations

import logging
import time
from pathlib import Path

import psutil

from nkat_errors import NkatError

_log = logging.getLogger(__name__)


def running_pid(data_dir: Path) -> int | None:
    """The pid in postmaster.pid, when that process is the server of this very folder.

    After a kill -9, or in a new container, the pid may belong to any other process.  A
    server's working directory is its data folder, so the two are compared.
    """
    try:
        pid = int((data_dir / "postmaster.pid").read_text().split("\n", 1)[0])
        process = psutil.Process(pid)
        if process.status() == psutil.STATUS_ZOMBIE:
            return None
        same = Path(process.cwd()).samefile(data_dir)
    except (FileNotFoundError, ValueError, psutil.NoSuchProcess, psutil.AccessDenied):
        return None
    return pid if same else None


def running_port(data_dir: Path) -> int:
    """The port in postmaster.pid of a running server (its socket's name has it as well)."""
    return int((data_dir / "postmaster.pid").read_text().splitlines()[3])


def remove_stale_locks(data_dir: Path, socket_lock: Path, *, timeout_s: float) -> None:
    """Remove the lock files of a killed server, and wait until its children have ended.

    Postgres removes them itself, unless another process now has the pid that is in them.
    Call it within a turn (`Users.turn`), so that no other process starts the server.

    Raises:
        NkatError: children of the killed server are still there after `timeout_s` seconds.
    """
    if running_pid(data_dir) is not None:
        return
    stale = data_dir / "postmaster.pid"
    if stale.exists():
        _log.warning("removing the lock file of a server that was killed: %s", stale)
        stale.unlink()
        deadline = time.monotonic() + timeout_s
        while any(_works_in(process, data_dir) for process in psutil.process_iter()):
            if time.monotonic() > deadline:
                raise NkatError(f"processes of a killed server still work in {data_dir}")
            time.sleep(0.05)
    socket_lock.unlink(missing_ok=True)


def _works_in(process: psutil.Process, folder: Path) -> bool:
    try:
        return process.name() == "postgres" and Path(process.cwd()) == folder.resolve()
    except (psutil.Error, OSError):
        return False
