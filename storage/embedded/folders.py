"""The server's folders: its data, and the folder of its socket."""

from __future__ import annotations

import hashlib
import os
import pwd
import tempfile
from pathlib import Path

from nkat_errors import BadInput
from storage.embedded.account import Account

SOCKET_NAME = ".s.PGSQL.5432"
MAX_SOCKET_PATH = 100  # bytes; the systems' limits are 104 (macOS) to 108 (Linux)
LIST_CHARACTERS = ',"'
"""Postgres and libpq take a socket folder's name for a list when it holds one of these."""


def make_data_dir(data_dir: Path, account: Account) -> None:
    """Make the data folder unless it is there, within the server's reach.

    Raises:
        BadInput: it cannot be made, or the server's user cannot enter it.
    """
    try:
        data_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
    except OSError as error:
        raise BadInput(
            f"the database folder {data_dir} cannot be made: {error.strerror}"
        ) from error
    if not (data_dir / "PG_VERSION").exists():
        account.own(data_dir)
    if account.stand_in is not None and not account.can_use(data_dir):
        raise BadInput(
            "Postgres refuses to run as root, and the user it runs as instead "
            f"({account.stand_in.pw_name}) cannot reach {data_dir}: "
            "choose a folder outside root's home, or run as an ordinary user"
        )


def holds_database(data_dir: Path) -> bool:
    """True when a server has been set up in `data_dir`.

    Raises:
        BadInput: it belongs to another user, and we may not look into it.
    """
    try:
        return (data_dir / "PG_VERSION").exists()
    except PermissionError:
        raise no_access(data_dir) from None


def no_access(data_dir: Path) -> BadInput:
    """The error for a data folder that belongs to another user."""
    try:
        owner = f"user {pwd.getpwuid(data_dir.stat().st_uid).pw_name}"
    except (KeyError, OSError):
        owner = "another user"
    return BadInput(
        f"the database folder {data_dir} belongs to {owner}, and you may not read it: run the "
        "command as the user who started the search, or give --storage URL"
    )


def choose_socket_dir(data_dir: Path, account: Account) -> Path:
    """The data folder when its path can hold a socket, else a private temporary folder."""
    short = len(os.fsencode(data_dir / SOCKET_NAME)) <= MAX_SOCKET_PATH
    if short and not any(character in str(data_dir) for character in LIST_CHARACTERS):
        return data_dir
    name = hashlib.sha256(os.fsencode(data_dir.resolve())).hexdigest()[:16]
    folder = Path(tempfile.gettempdir()) / f"nkat-postgres-{name}"
    folder.mkdir(mode=0o700, exist_ok=True)
    account.own(folder)
    found = folder.lstat()
    if folder.is_symlink() or found.st_uid != account.uid or found.st_mode & 0o077:
        raise BadInput(f"{folder} belongs to another user: remove it or choose a shorter path")
    return folder
