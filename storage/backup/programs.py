"""pg_dump, pg_restore and psql: found, checked against the server, run."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from psycopg2.extensions import make_dsn
from sqlalchemy import Engine

from nkat_errors import BadInput, NkatError
from storage.embedded.programs import wheel_programs

NEEDED = ("pg_dump", "pg_restore", "psql")


@dataclass(frozen=True, slots=True)
class ClientPrograms:
    """A folder of Postgres' client programs of one major version."""

    folder: Path
    version: int

    @classmethod
    def find(cls, *, at_least: int) -> ClientPrograms:
        """The embedded server's own programs, else the system's, else those on the PATH.

        Args:
            at_least: major version of the server, or of the pg_dump that made a dump:
                older programs refuse both.

        Raises:
            BadInput: there are none of that version.
        """
        on_path = shutil.which("pg_dump")
        folders = [
            wheel_programs(),
            None if on_path is None else Path(on_path).resolve().parent,
            None if on_path is None else Path(on_path).parent,
            *sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True),
        ]
        found: list[int] = []
        for folder in folders:
            version = None if folder is None else _version(folder)
            if folder is not None and version is not None:
                if version >= at_least:
                    return cls(folder, version)
                found.append(version)
        here = f"here is {max(found)}" if found else "there is none here"
        raise BadInput(
            f"pg_dump and pg_restore of Postgres {at_least} or newer are needed ({here}): install "
            f"the package postgresql-client-{at_least}"
        )

    def run(self, program: str, *arguments: str, engine: Engine, out: IO[bytes]) -> None:
        """Run a program on `engine`'s database; its output goes to `out`.

        Raises:
            NkatError: it failed; the message holds its first error.
        """
        keywords = engine.dialect.create_connect_args(engine.url)[1]
        password = keywords.pop("password", None)  # not in the list of processes
        secret = {} if password is None else {"PGPASSWORD": str(password)}
        done = subprocess.run(
            [str(self.folder / program), *arguments, f"--dbname={make_dsn(**keywords)}"],
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=subprocess.PIPE,
            check=False,
            env={**os.environ, "LC_ALL": "C", "PGAPPNAME": f"nkat-{program}", **secret},
        )
        if done.returncode != 0:
            raise NkatError(f"{program} failed: {_first_error(done.stderr)}")

    def as_sql(self, dump: Path, target: Path) -> None:
        """Write a dump (pg_dump's custom format) as SQL that replaces what it holds.

        Raises:
            BadInput: it cannot be read.
        """
        done = subprocess.run(
            [
                str(self.folder / "pg_restore"),
                "--clean",
                "--if-exists",
                "--no-owner",
                "--no-privileges",
                f"--file={target}",
                str(dump),
            ],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            check=False,
            env={**os.environ, "LC_ALL": "C"},
        )
        if done.returncode != 0:
            raise BadInput(f"the database in the backup is damaged: {_first_error(done.stderr)}")


def _version(folder: Path) -> int | None:
    """The major version of the programs in a folder; None when one of them is missing."""
    if not all((folder / name).exists() for name in NEEDED):
        return None
    done = subprocess.run(
        [str(folder / "pg_dump"), "--version"], capture_output=True, text=True, check=False
    )
    found = re.search(r"(\d+)", done.stdout)
    return int(found[1]) if found else None


def _first_error(text: bytes) -> str:
    lines = [line.strip() for line in text.decode(errors="replace").splitlines() if line.strip()]
    errors = [line for line in lines if "error" in line.lower()]
    return (errors or lines or ["no message"])[0]
