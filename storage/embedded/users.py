"""Which processes use a server: the last one to leave stops it.

Both files are locked with flock, which the kernel releases when a process dies: a user
that was killed is no user any more, and the next one to leave stops the server.
"""

from __future__ import annotations

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO


class Users:
    """The users of the server of one data folder.

    Args:
        data_dir: the lock files are beside it, `NAME.lock` and `NAME.users`.
    """

    def __init__(self, data_dir: Path) -> None:
        self._turn_file = data_dir.with_name(f"{data_dir.name}.lock")
        self._users_file = data_dir.with_name(f"{data_dir.name}.users")
        self._entered: IO[str] | None = None

    @contextmanager
    def turn(self) -> Iterator[None]:
        """A block in which no other process looks, starts, stops, enters or leaves."""
        with self._turn_file.open("w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield

    def enter(self) -> None:
        """Become a user (within a turn)."""
        self._entered = self._users_file.open("w")
        fcntl.flock(self._entered, fcntl.LOCK_SH)

    def leave(self) -> bool:
        """Stop being a user (within a turn); True when there is no other."""
        if self._entered is None:
            return False
        with self._entered as file:
            self._entered = None
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return False
            return True
