"""Files that a command will write: looked at before its work, not after hours of it."""

from __future__ import annotations

import tempfile
from pathlib import Path

from nkat_errors import BadInput


def check_output(path: Path, *, option: str = "--out") -> None:
    """Refuses a path that cannot be written; makes its folder, changes no file.

    Only a real attempt tells: permission bits do not know of read-only mounts or /proc.

    Raises:
        BadInput: it is a folder, or its folder cannot be made or written.
    """
    if path.is_dir():
        raise BadInput(f"{option} {path}: is a folder, name a file in it")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.exists():
            with path.open("ab"):
                return
        with tempfile.TemporaryFile(dir=path.parent):
            return
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise BadInput(f"{option} {path}: cannot be written ({reason})") from None
