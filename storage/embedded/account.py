"""The system user that the server runs as: Postgres refuses to run as root."""

from __future__ import annotations

import os
import pwd
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nkat_errors import BadInput

STAND_INS = ("postgres", "pgserver", "nobody")
"""Users to run as when we are root, in order of preference."""


@dataclass(frozen=True, slots=True)
class Account:
    """A user and group, or ourselves.

    Args:
        stand_in: the user to run as instead of root; None when we are not root.
    """

    stand_in: pwd.struct_passwd | None

    @classmethod
    def of_server(cls) -> Account:
        """Ourselves, or the first of `STAND_INS` that exists when we are root.

        Raises:
            BadInput: we are root and this system has none of them.
        """
        if os.geteuid() != 0:
            return cls(None)
        for name in STAND_INS:
            try:
                return cls(pwd.getpwnam(name))
            except KeyError:
                continue
        raise BadInput(
            "Postgres refuses to run as root and this system has none of the users "
            f"{', '.join(STAND_INS)}: run as an ordinary user, or give the URL of a server"
        )

    @property
    def uid(self) -> int:
        """The number of the user that the server runs as."""
        return os.geteuid() if self.stand_in is None else self.stand_in.pw_uid

    @property
    def subprocess_arguments(self) -> dict[str, Any]:
        """Keywords that make `subprocess` run a program as this user."""
        if self.stand_in is None:
            return {}
        return {
            "user": self.stand_in.pw_uid,
            "group": self.stand_in.pw_gid,
            "extra_groups": [],
        }

    def own(self, path: Path) -> None:
        """Make `path` belong to this user."""
        if self.stand_in is not None:
            os.chown(path, self.stand_in.pw_uid, self.stand_in.pw_gid)

    def can_use(self, path: Path) -> bool:
        """True when this user may enter the folder, or run the program, at `path`."""
        done = subprocess.run(
            ["/bin/sh", "-c", 'test -x "$0"', str(path)],
            check=False,
            **self.subprocess_arguments,
        )
        return done.returncode == 0
