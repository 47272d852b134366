"""Checkpoints on a disk that may be full, read-only or torn: bytes in, bytes out.

Layout: FOLDER/<study>-<8 hex>/trial-000012/00000003.ckpt; the last two generations of each
living trial are kept, so disk use is at most (2 x living trials + 1 being written per
worker) x the size of one checkpoint.

A file is the payload followed by a trailer (magic, payload length, SHA-256).  A truncated or
damaged file is recognised by it, and the generation before it is used.
"""

from __future__ import annotations

import hashlib
import logging
import os
import re
import shutil
import struct
import uuid
from collections.abc import Callable, Collection
from pathlib import Path
from typing import BinaryIO, cast

_log = logging.getLogger(__name__)

GENERATIONS = 2  # one may be damaged
MAGIC = b"NKATCKPT"
TRAILER = struct.Struct(">8sQ32s")  # magic, payload length in bytes, SHA-256
SUFFIX = ".ckpt"


class CheckpointStore:
    """One study's checkpoints, keyed by trial number.

    Args:
        folder: made when missing; may be shared by all studies and workers.
        study_name: names the sub-folder.
        salt: tells studies of one name apart (another database, or deleted and remade);
            `SearchRecord.salt` is made for it.

    A full or read-only disk gives one warning, and `enabled` is False until a later save
    goes through, which is said once too; training goes on in between.
    """

    def __init__(self, *, folder: Path, study_name: str, salt: str = "") -> None:
        # The name is for people; the hash, because two names may be equal as file names.
        readable = re.sub(r"[^A-Za-z0-9._-]+", "_", study_name)[:60]
        digest = hashlib.sha256(f"{study_name}\n{salt}".encode()).hexdigest()[:8]
        self.folder = Path(folder) / f"{readable}-{digest}"
        self._disabled_because: str | None = None

    @property
    def enabled(self) -> bool:
        """False after the disk refused the last write."""
        return self._disabled_because is None

    @property
    def disabled_because(self) -> str | None:
        """One sentence, None while enabled."""
        return self._disabled_because

    def save(self, number: int, payload: bytes | Callable[[BinaryIO], object]) -> bool:
        """Write a checkpoint of trial `number` atomically; True when it is on the disk.

        Args:
            payload: the bytes, or a function that writes them to a file
                (`lambda file: torch.save(state, file)`); it may only write.
        """
        folder = self._trial_folder(number)
        # Unique, because a worker that lost its lease may still be writing here too.
        unfinished = folder / f"{uuid.uuid4().hex}.tmp"
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with unfinished.open("wb") as file:
                _write(file, payload)
            generations = self._generations(number)
            newest = generations[-1][0] if generations else 0
            os.replace(unfinished, folder / f"{newest + 1:08d}{SUFFIX}")
            _sync_folder(folder)
            for _, old in self._generations(number)[:-GENERATIONS]:
                old.unlink(missing_ok=True)
        except OSError as error:
            self._disable(error)
            return False
        finally:
            _remove_quietly(unfinished)  # renamed when all went well
        self._enable()
        return True

    def load(self, number: int) -> bytes | None:
        """The newest undamaged checkpoint of trial `number`, None when there is none."""
        for _, path in reversed(self._generations(number)):
            try:
                payload = _verified(path.read_bytes())
            except OSError as error:
                _log.warning("checkpoint %s cannot be read: %s", path, error.strerror)
                continue
            if payload is not None:
                return payload
            _log.warning("checkpoint %s is damaged, trying the one before it", path)
        return None

    def discard(self, number: int) -> None:
        """Delete the checkpoints of a trial that is over."""
        shutil.rmtree(self._trial_folder(number), ignore_errors=True)

    def delete(self) -> int:
        """Delete all checkpoints of the study; returns how many trials had some."""
        number = len(self.numbers())
        shutil.rmtree(self.folder, ignore_errors=True)
        return number

    def sweep(self, over: Collection[int]) -> list[int]:
        """Delete the checkpoints of finished trials; returns the numbers that had any.

        Args:
            over: `Board.over_numbers()`.  A finished trial never runs again, so workers may
                go on meanwhile.
        """
        left = [number for number in self.numbers() if number in over]
        for number in left:
            self.discard(number)
        return left

    def files(self) -> list[Path]:
        """All checkpoints, oldest generation first; workers may delete them meanwhile."""
        return [path for number in self.numbers() for _, path in self._generations(number)]

    def _trial_folder(self, number: int) -> Path:
        return self.folder / f"trial-{number:06d}"

    def numbers(self) -> list[int]:
        """Trials that have a folder here."""
        return sorted(
            int(path.name.removeprefix("trial-"))
            for path in self.folder.glob("trial-*")
            if path.name.removeprefix("trial-").isdigit()
        )

    def _generations(self, number: int) -> list[tuple[int, Path]]:
        """(generation, file) ascending."""
        return sorted(
            (int(path.stem), path)
            for path in self._trial_folder(number).glob(f"*{SUFFIX}")
            if path.stem.isdigit()
        )

    def _disable(self, error: OSError) -> None:
        first = self._disabled_because is None
        self._disabled_because = (
            f"checkpoints are off: {self.folder} cannot be written "
            f"({error.strerror or error}); training goes on without checkpoints, each save is "
            "tried again"
        )
        if first:
            about = {"action": "checkpoints_off", "errno": error.errno}
            _log.warning("%s", self._disabled_because, extra=about)

    def _enable(self) -> None:
        if self._disabled_because is not None:
            self._disabled_because = None
            about = {"action": "checkpoints_on"}
            _log.warning("checkpoints work again: %s", self.folder, extra=about)


class _Hashing:
    """A write-only file that keeps the length and hash of what was written."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.failure: OSError | None = None
        self.length = 0
        self.digest = hashlib.sha256()

    def write(self, data: bytes | bytearray | memoryview) -> int:
        view = memoryview(data).cast("B")
        try:
            self._file.write(view)
        except OSError as error:
            self.failure = error
            raise
        self.digest.update(view)
        self.length += len(view)
        return len(view)

    def flush(self) -> None:
        self._file.flush()


def _write(file: BinaryIO, payload: bytes | Callable[[BinaryIO], object]) -> None:
    hashing = _Hashing(file)
    try:
        if callable(payload):
            payload(cast(BinaryIO, hashing))
        else:
            hashing.write(payload)
    except Exception:
        # torch.save turns a full disk into a RuntimeError; the disk's own error is wanted.
        if hashing.failure is not None:
            raise hashing.failure from None
        raise
    file.write(TRAILER.pack(MAGIC, hashing.length, hashing.digest.digest()))
    file.flush()
    os.fsync(file.fileno())


def _verified(content: bytes) -> bytes | None:
    """The payload; None when the trailer does not match it."""
    if len(content) < TRAILER.size:
        return None
    magic, length, digest = TRAILER.unpack(content[-TRAILER.size :])
    payload = content[: -TRAILER.size]
    if magic != MAGIC or length != len(payload):
        return None
    return payload if hashlib.sha256(payload).digest() == digest else None


def _sync_folder(folder: Path) -> None:
    """The new name must survive a power cut too, not only the bytes."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _remove_quietly(path: Path) -> None:
    try:
        path.unlink(missing_ok=True)
    except OSError:
        return  # a read-only disk, so the file was never made
