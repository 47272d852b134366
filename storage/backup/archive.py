"""The one file: a tar with the checkpoints, pg_dump's output and a summary at its end.

nkat-search-backup.json             says what the file is, and comes first
checkpoints/STUDY-HASH/trial-.../   where checkpoints were wanted
database.dump                       pg_dump's custom format
summary.json                        `BackupInfo`; its absence means a truncated file
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import re
import shutil
import tarfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

from nkat_errors import BadInput

FORMAT = 1
FIRST, DUMP, LAST = "nkat-search-backup.json", "database.dump", "summary.json"
CHECKPOINT = re.compile(r"checkpoints/([^/]+/trial-\d+/\d+\.ckpt)")


@dataclass(frozen=True, slots=True, kw_only=True)
class BackupInfo:
    """What a backup holds, and what it needs to be restored.

    Args:
        made_at: ISO 8601, UTC.
        nkat_search, optuna, postgres: versions that it was made with.
        tables: the version of this project's tables.
        optuna_tables: Alembic's revision of Optuna's tables.
        dump_version: pg_dump's major version.
        studies: study name -> "DONE of BUDGET trials".
        checkpoints: number of checkpoint files.
        dump_sha256: of database.dump.
    """

    made_at: str
    nkat_search: str
    optuna: str
    postgres: str
    tables: int
    optuna_tables: str
    dump_version: int
    studies: Mapping[str, str]
    checkpoints: int
    dump_sha256: str


class Writer:
    """An archive being written: checkpoints, then the dump and the summary."""

    def __init__(self, tar: tarfile.TarFile) -> None:
        self._tar = tar
        self.checkpoints = 0
        self._add_json(FIRST, {"format": FORMAT})

    def add_checkpoint(self, path: Path, *, folder: Path) -> None:
        """Add a checkpoint below `folder`; one that was deleted meanwhile is left out."""
        try:
            file = path.open("rb")
        except FileNotFoundError:
            return
        with file:
            self._add(f"checkpoints/{path.relative_to(folder)}", file)
        self.checkpoints += 1

    def close(self, dump: Path, info: BackupInfo) -> None:
        """Add the dump and the summary."""
        with dump.open("rb") as file:
            self._add(DUMP, file)
        self._add_json(LAST, asdict(info))

    def _add(self, name: str, file: IO[bytes]) -> None:
        member = tarfile.TarInfo(name)
        member.size = os.fstat(file.fileno()).st_size
        member.mode = 0o600
        member.mtime = int(time.time())
        self._tar.addfile(member, file)

    def _add_json(self, name: str, value: Any) -> None:
        content = json.dumps(value, indent=2).encode()
        member = tarfile.TarInfo(name)
        member.size = len(content)
        self._tar.addfile(member, io.BytesIO(content))


@contextmanager
def writing(path: Path) -> Iterator[Writer]:
    """An archive at `path`, which appears (or is replaced) only when it is whole.

    Raises:
        BadInput: it cannot be written there.
    """
    unfinished = path.with_name(f"{path.name}.unfinished")
    try:
        with tarfile.open(unfinished, "w") as tar:
            yield Writer(tar)
        with unfinished.open("rb") as file:
            os.fsync(file.fileno())
        unfinished.replace(path)
    except OSError as error:
        if error.filename is not None and Path(str(error.filename)) != unfinished:
            raise
        raise BadInput(f"{path} cannot be written: {error.strerror or error}") from error
    finally:
        unfinished.unlink(missing_ok=True)


class Archive:
    """A backup that is there to be read; its summary has been checked.

    Raises:
        BadInput: no such file, no backup of ours, a truncated one, one of a newer format.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        foreign = BadInput(f"{path} is not a backup of nkat-search (`nkat-search backup FILE`)")
        try:
            self._tar = tarfile.open(path, "r:")  # noqa: SIM115 - closed by `close`
        except OSError as error:
            raise BadInput(f"{path} cannot be read: {error.strerror or error}") from error
        except tarfile.TarError:
            raise foreign from None
        try:
            first = self._tar.next()
            if first is None or first.name != FIRST:
                raise foreign
            version = self._json(first)["format"]
            if version > FORMAT:
                raise BadInput(
                    f"{path} was made by a newer nkat-search (format {version}, this one knows "
                    f"{FORMAT}): install the newer one"
                )
            self.members = self._tar.getmembers()
            if self.members[-1].name != LAST:
                raise self._truncated()
            self.info = BackupInfo(**self._json(self.members[-1]))
        except (tarfile.TarError, OSError, EOFError, ValueError):
            self.close()
            raise self._truncated() from None
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the file."""
        self._tar.close()

    def extract_dump(self, target: Path) -> None:
        """Write database.dump to `target`.

        Raises:
            BadInput: it is not what was backed up.
        """
        digest = hashlib.sha256()
        with self._file(self._tar.getmember(DUMP)) as source, target.open("wb") as file:
            while block := source.read(1 << 20):
                digest.update(block)
                file.write(block)
        if digest.hexdigest() != self.info.dump_sha256:
            raise BadInput(
                f"{self.path} is damaged (its database has another checksum): use another copy"
            )

    def extract_checkpoints(self, folder: Path) -> int:
        """Write the checkpoints below `folder`; returns how many.

        Raises:
            BadInput: they cannot be written there.
        """
        count = 0
        try:
            for member in self.members:
                named = CHECKPOINT.fullmatch(member.name)
                if named is None or not member.isreg():
                    continue
                target = folder / named[1]
                target.parent.mkdir(parents=True, exist_ok=True)
                with self._file(member) as source, target.open("wb") as file:
                    shutil.copyfileobj(source, file)
                count += 1
        except OSError as error:
            raise BadInput(
                f"checkpoints cannot be written to {folder}: {error.strerror or error}"
            ) from error
        return count

    def _json(self, member: tarfile.TarInfo) -> Any:
        with self._file(member) as file:
            return json.load(file)

    def _file(self, member: tarfile.TarInfo) -> IO[bytes]:
        file = self._tar.extractfile(member)
        if file is None:
            raise self._truncated()
        return file

    def _truncated(self) -> BadInput:
        return BadInput(f"{self.path} is truncated or damaged: use another copy")
