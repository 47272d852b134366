"""Files that a command will write: looked at before its work, not after hours of it."""

from __future__ import annotations

import tempfile
from pathlib import Path

from nkat_errors import BadInput


def check_output(path: Path, *, option: str = "--out") -> None:
    """Refuses a path that cannot be written; leaves nothing behind.

    Only a real attempt tells: permission bits do not know of read-only mounts or /proc.

    Raises:
        BadInput: it is a folder, or it (or its first missing folder) cannot be made.
    """
    try:
        if path.is_dir():
            raise BadInput(f"{option} {path}: is a folder, name a file in it")
        if path.exists():
            with path.open("ab"):
                return
        folder = next(above for above in path.absolute().parents if above.exists())
        with tempfile.TemporaryFile(dir=folder):
            return
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise BadInput(f"{option} {path}: cannot be written ({reason})") from None
